"""The files of a job over HTTP: how long they are kept, who deletes them, and what is told when they are gone."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import httpx2
import pytest

from stablestudio.client import KeyWallet, StudioClient
from stablestudio.client.errors import FilesGone
from stablestudio.client.journal import Journal
from stablestudio.media.probe import probe
from tests.fakes.s3 import S3
from tests.service import Buyer, Service

PATH = "/api/generate/nano-banana/generate"
EDIT = "/api/generate/nano-banana/edit"
CLIP = "/api/generate/grok-video/generate"
SMALL = {"prompt": "a cat", "imageSize": "512"}
SHORT = {"prompt": "a cat", "duration": "3", "resolution": "480p", "aspect_ratio": "1:1"}


def delete(buyer: Buyer, job_id: str) -> httpx2.Response:
    path = f"/api/jobs/{job_id}"
    return buyer.http.delete(path, headers=buyer.proof(path, fresh=True))


def expire(studio: Service, job_id: str, *, before_s: int = 0) -> None:
    """Let a job's files have expired so many seconds ago."""
    moment = (int(time.time()) - before_s) // 60 * 60_000
    studio.sql("UPDATE assets SET expires_at = :moment WHERE job_id = :job", moment=moment, job=job_id)
    studio.sql("UPDATE orders SET revision = revision + 1 WHERE id = :job", job=job_id)


def purge(studio: Service, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "stablestudio", "purge", "--data", str(studio.data), *arguments]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("STABLESTUDIO_")}
    return subprocess.run(
        command, env=clean | studio.environment, capture_output=True, text=True, timeout=120, check=False
    )


def files(studio: Service, job_id: str) -> list[str]:
    folder = studio.data / "assets" / "jobs" / job_id
    return sorted(path.name for path in folder.glob("*"))


def test_a_job_tells_until_when_its_files_are_kept(buyer: Buyer) -> None:
    job = buyer.wait(buyer.buy(PATH, SMALL))
    assert job["expiresAt"] == job["result"]["expiresAt"]
    kept = datetime.fromisoformat(job["expiresAt"]) - datetime.fromisoformat(job["finishedAt"])
    assert timedelta(days=30) <= kept <= timedelta(days=30, minutes=1)


def test_an_expired_job_stays_complete_and_its_links_are_gone(buyer: Buyer, studio: Service) -> None:
    job = buyer.wait(buyer.buy(CLIP, SHORT))
    expire(studio, job["jobId"])
    told = buyer.job(job["jobId"])
    assert (told["status"], told["result"]["expired"]) == ("complete", True)
    assert not [name for name in told["result"] if name.endswith("Url")]
    assert told["result"]["sha256"] == job["result"]["sha256"]
    for name in ("videoUrl", "thumbnailUrl", "posterUrl"):
        answer = buyer.http.get(job["result"][name])
        assert (answer.status_code, answer.json()["code"]) == (410, "asset_expired")


def test_a_link_never_outlives_its_file(buyer: Buyer, studio: Service) -> None:
    job_id = buyer.wait(buyer.buy(PATH, SMALL))["jobId"]
    expire(studio, job_id, before_s=-300)
    result = buyer.job(job_id)["result"]
    ends = {httpx2.URL(result[name]).params["exp"] for name in ("imageUrl", "thumbnailUrl")}
    assert len(ends) == 1
    assert int(ends.pop()) - time.time() <= 300


def test_an_owner_deletes_a_complete_job_s_files(buyer: Buyer, studio: Service) -> None:
    job = buyer.wait(buyer.buy(CLIP, SHORT))
    job_id = job["jobId"]
    assert files(studio, job_id) == ["0.mp4", "0.poster.jpg", "0.thumb.jpg"]
    answer = delete(buyer, job_id)
    assert (answer.status_code, answer.json()) == (200, {"success": True, "jobId": job_id, "deleted": True})
    assert files(studio, job_id) == []
    told = buyer.job(job_id)
    assert (told["status"], told["result"].keys()) == ("complete", {"deleted", "deletedAt"})
    assert "expiresAt" not in told
    assert [each["jobId"] for each in buyer.jobs()] == [job_id]
    for name in ("videoUrl", "thumbnailUrl", "posterUrl"):
        gone = buyer.http.get(job["result"][name])
        assert (gone.status_code, gone.json()["code"]) == (410, "asset_deleted")
    assert delete(buyer, job_id).status_code == 200


def test_a_proof_deletes_once_and_nobody_else_deletes(buyer: Buyer, studio: Service) -> None:
    first, second = (buyer.wait(buyer.buy(PATH, SMALL))["jobId"] for _ in range(2))
    path = f"/api/jobs/{first}"
    proof = buyer.proof(path, fresh=True)
    assert buyer.http.delete(f"/api/jobs/{second}", headers=proof).json()["code"] == "siwx_uri_mismatch"
    assert buyer.http.delete(path, headers=proof).status_code == 200
    assert buyer.http.delete(path, headers=proof).json()["code"] == "siwx_nonce_used"
    assert buyer.http.delete(path).status_code == 402
    with Buyer(studio.url) as stranger:
        assert delete(stranger, second).json()["code"] == "not_your_job"
    assert files(studio, second) == ["0.png", "0.thumb.jpg"]


def test_what_an_order_is_being_made_from_is_not_deleted_under_it(buyer: Buyer) -> None:
    first = buyer.wait(buyer.buy(PATH, SMALL))["jobId"]
    slow = SMALL | {"prompt": "a cat [sandbox:delay=3]", "images": [f"job:{first}"]}
    second = buyer.buy(EDIT, slow)
    answer = delete(buyer, first)
    assert (answer.status_code, answer.json()["code"]) == (409, "job_in_use")
    assert buyer.wait(second)["status"] == "complete"
    assert delete(buyer, first).status_code == 200


@pytest.mark.parametrize("reference", ["job", "link"])
def test_a_deleted_result_is_no_input_and_nothing_is_charged(buyer: Buyer, reference: str) -> None:
    job = buyer.wait(buyer.buy(PATH, SMALL))
    image = f"job:{job['jobId']}" if reference == "job" else job["result"]["imageUrl"]
    delete(buyer, job["jobId"])
    before = buyer.balance()
    body = SMALL | {"images": [image]}
    answer = buyer.pay(EDIT, body, buyer.sign(EDIT, body))
    assert (answer.status_code, answer.json()["issues"][0]["code"]) == (400, "media_not_kept")
    assert buyer.balance() == before


def test_the_command_tells_what_would_go_and_then_what_went(buyer: Buyer, studio: Service) -> None:
    job = buyer.wait(buyer.buy(PATH, SMALL))
    expire(studio, job["jobId"], before_s=3600)
    dry = purge(studio, "--dry-run", "--json")
    assert (dry.returncode, '"dryRun": true' in dry.stdout) == (0, True), dry.stdout + dry.stderr
    assert files(studio, job["jobId"]) == ["0.png", "0.thumb.jpg"]
    assert purge(studio).returncode == 0
    assert files(studio, job["jobId"]) == []
    assert buyer.job(job["jobId"])["result"]["expired"] is True


def test_reads_in_a_race_with_deletion_get_the_file_or_a_clear_no(buyer: Buyer) -> None:
    job = buyer.wait(buyer.buy(PATH, SMALL))
    seen: list[tuple[int, int]] = []
    begun = threading.Event()

    def read() -> None:
        with httpx2.Client(trust_env=False, timeout=30) as http:
            for _ in range(60):
                answer = http.get(job["result"]["imageUrl"])
                seen.append((answer.status_code, len(answer.content)))
                begun.set()

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    assert begun.wait(30)
    assert delete(buyer, job["jobId"]).status_code == 200
    for reader in readers:
        reader.join()
    whole = (200, job["result"]["size"])
    assert whole in seen
    # Between the mark and the erasure a reader that was let in may find the file missing.
    assert {status for status, size in seen if (status, size) != whole} <= {404, 410}


def test_polls_in_a_race_with_purge_and_deletion_show_one_state_after_the_other(buyer: Buyer, studio: Service) -> None:
    job_id = buyer.wait(buyer.buy(PATH, SMALL))["jobId"]
    expire(studio, job_id, before_s=3600)
    purges = [threading.Thread(target=purge, args=(studio,)) for _ in range(2)]
    for each in purges:
        each.start()
    assert delete(buyer, job_id).status_code == 200
    for each in purges:
        each.join()
    result = buyer.job(job_id)["result"]
    assert (result.get("expired"), result.get("deleted")) in ((True, None), (None, True))
    assert files(studio, job_id) == []


@pytest.fixture(scope="module")
def cloud(s3: S3, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that keeps its files in a bucket."""
    environment = {"STABLESTUDIO_SANDBOX_DELAY": "0.1", **s3.environment}
    with Service(tmp_path_factory.mktemp("cloud"), environment=environment) as service:
        yield service


@pytest.fixture
def patron(cloud: Service) -> Iterator[Buyer]:
    with Buyer(cloud.url) as buyer:
        yield buyer.fund()


@pytest.mark.parametrize(("path", "body", "kind"), [(PATH, SMALL, "image"), (CLIP, SHORT, "video")])
def test_a_sale_with_its_files_in_a_bucket(
    patron: Buyer, cloud: Service, s3: S3, path: str, body: dict[str, Any], kind: str
) -> None:
    job = patron.wait(patron.buy(path, body))
    result = job["result"]
    links = {name: link for name, link in result.items() if name.endswith("Url")}
    assert len(links) == (2 if kind == "image" else 3)
    for link in links.values():
        assert link.startswith(f"{s3.endpoint}/studio/files/jobs/{job['jobId']}/")
    main = httpx2.get(links[f"{kind}Url"], trust_env=False)
    assert (main.status_code, main.headers["content-type"]) == (200, result["contentType"])
    assert (len(main.content), probe(main.content).kind) == (result["size"], kind)
    part = httpx2.get(links[f"{kind}Url"], headers={"Range": "bytes=8-15"}, trust_env=False)
    assert (part.status_code, part.content) == (206, main.content[8:16])
    assert not (cloud.data / "assets").exists()


def test_a_bucket_s_link_opens_no_other_job(patron: Buyer) -> None:
    first, second = (patron.wait(patron.buy(PATH, SMALL)) for _ in range(2))
    link = first["result"]["imageUrl"].replace(first["jobId"], second["jobId"])
    assert httpx2.get(link, trust_env=False).status_code == 403


@pytest.mark.parametrize("reference", ["job", "link"])
def test_a_result_in_a_bucket_is_an_input(patron: Buyer, reference: str) -> None:
    earlier = patron.wait(patron.buy(PATH, SMALL))
    image = f"job:{earlier['jobId']}" if reference == "job" else earlier["result"]["imageUrl"]
    assert patron.wait(patron.buy(EDIT, SMALL | {"images": [image]}))["status"] == "complete"


def test_deleting_empties_the_bucket_too(patron: Buyer) -> None:
    job = patron.wait(patron.buy(PATH, SMALL))
    assert delete(patron, job["jobId"]).status_code == 200
    assert httpx2.get(job["result"]["imageUrl"], trust_env=False).status_code in (403, 404)
    assert patron.job(job["jobId"])["result"]["deleted"] is True


def test_the_command_purges_a_bucket(patron: Buyer, cloud: Service) -> None:
    job = patron.wait(patron.buy(PATH, SMALL))
    expire(cloud, job["jobId"], before_s=3600)
    done = purge(cloud, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert httpx2.get(job["result"]["imageUrl"], trust_env=False).status_code in (403, 404)


def test_links_may_lead_through_the_service_as_well(s3: S3, tmp_path: Any) -> None:
    environment = {"STABLESTUDIO_SANDBOX_DELAY": "0.1", "STABLESTUDIO_S3_LINKS": "false", **s3.environment}
    with Service(tmp_path / "data", environment=environment) as service, Buyer(service.url) as buyer:
        result = buyer.fund().wait(buyer.buy(PATH, SMALL))["result"]
        assert result["imageUrl"].startswith(f"{service.url}/assets/jobs/")
        assert len(buyer.http.get(result["imageUrl"]).content) == result["size"]
        assert buyer.http.get(result["imageUrl"], headers={"Range": "bytes=1-3"}).content == b"PNG"


def test_a_service_whose_bucket_does_not_exist_does_not_start(s3: S3, tmp_path: Any) -> None:
    environment = s3.environment | {"STABLESTUDIO_STORAGE": "s3://nobody"}
    service = Service(tmp_path / "data", environment=environment)
    service.start(wait=False)
    assert service.wait_dead(60) == 2
    assert "storage: The bucket cannot be used: The specified bucket does not exist" in service.log.read_text()


def test_the_client_says_that_files_are_gone(studio: Service, tmp_path: Any) -> None:
    wallet = KeyWallet.generate()
    studio.fund(wallet.address)
    with StudioClient(studio.url, wallet, journal=Journal(tmp_path / "orders")) as client:
        job = client.run("nano-banana", "generate", SMALL)
        assert [path.suffix for path in client.download(job, tmp_path)] == [".png"]
        client.delete(job.id)
        with pytest.raises(FilesGone, match="are deleted"):
            client.download(job, tmp_path)
