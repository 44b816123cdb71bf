"""The jobs of a wallet over HTTP: who may read, what is listed, what is deleted, and where the links lead."""

from __future__ import annotations

import base64
import json
import re
import time
from typing import Any

import httpx2
import pytest

from stablestudio.protocols import siwx
from stablestudio.protocols.solana import SolanaKey
from tests.service import Buyer, Service

PATH = "/api/generate/nano-banana/generate"
SMALL = {"prompt": "a cat", "imageSize": "512"}
DOOMED = {"prompt": "a cat [sandbox:refuse]", "imageSize": "512"}
_NOBODY = "/api/jobs/job_00000000000000000000000000"


def _challenge(answer: httpx2.Response) -> dict[str, Any]:
    extension: dict[str, Any] = answer.json()["extensions"]["sign-in-with-x"]
    return extension


@pytest.mark.parametrize("path", ["/api/jobs", "/api/jobs?limit=1", _NOBODY])
def test_without_a_proof_there_is_a_challenge_in_header_and_body(pauper: Buyer, path: str) -> None:
    answer = pauper.http.get(path)
    body = answer.json()
    assert (answer.status_code, body["code"], body["accepts"]) == (402, "siwx_missing", [])
    assert (body["success"], body["charged"], body["x402Version"]) == (False, False, 2)
    info = _challenge(answer)["info"]
    assert re.fullmatch(r"[0-9a-f]{32}", info["nonce"])
    uri = pauper.url + path.partition("?")[0]
    assert (info["domain"], info["uri"], info["version"]) == (pauper.url.removeprefix("http://"), uri, "1")
    assert _challenge(answer)["supportedChains"] == [
        {"chainId": "eip155:84532", "type": "eip191"},
        {"chainId": "solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1", "type": "ed25519"},
        {"chainId": "eip155:42431", "type": "eip191"},
    ]
    header = json.loads(base64.b64decode(answer.headers["PAYMENT-REQUIRED"], validate=True))
    assert header == {name: body[name] for name in ("x402Version", "error", "resource", "accepts", "extensions")}
    assert answer.headers["cache-control"] == "no-store"


def test_every_challenge_has_a_nonce_of_its_own(pauper: Buyer) -> None:
    assert len({_challenge(pauper.http.get("/api/jobs"))["info"]["nonce"] for _ in range(20)}) == 20


def test_a_read_proof_holds_for_its_path_and_for_no_other(buyer: Buyer) -> None:
    mine, other = (f"/api/jobs/{buyer.buy(PATH, SMALL)}" for _ in range(2))
    proof = buyer.proof(mine)
    assert {buyer.http.get(mine, headers=proof).status_code for _ in range(3)} == {200}
    for path in (other, "/api/jobs"):
        answer = buyer.http.get(path, headers=proof)
        assert (answer.status_code, answer.json()["code"]) == (402, "siwx_uri_mismatch")
        assert _challenge(answer)["info"]["uri"] == buyer.url + path
    assert buyer.http.get(mine, headers=proof).status_code == 200


def test_a_list_proof_holds_for_any_filter(buyer: Buyer) -> None:
    proof = buyer.proof("/api/jobs")
    assert buyer.http.get("/api/jobs?limit=3&status=failed", headers=proof).status_code == 200


def test_a_tampered_proof_is_refused_with_its_own_code(buyer: Buyer) -> None:
    path = f"/api/jobs/{buyer.buy(PATH, SMALL)}"
    fields = json.loads(base64.b64decode(buyer.proof(path)["SIGN-IN-WITH-X"]))
    with Buyer(buyer.url) as stranger:
        for change, code in (
            ({"address": stranger.key.address}, "siwx_invalid_signature"),
            ({"nonce": "0" * 32}, "siwx_unknown_nonce"),
            ({"domain": "evil.example"}, "siwx_domain_mismatch"),
            ({"chainId": "eip155:8453"}, "siwx_unsupported_chain"),
            ({"statement": "Sign in to give everything away"}, "siwx_invalid_signature"),
            ({"signature": "0x" + "00" * 65}, "siwx_invalid_signature"),
        ):
            header = base64.b64encode(json.dumps(fields | change).encode()).decode()
            answer = buyer.http.get(path, headers={"SIGN-IN-WITH-X": header})
            assert (answer.status_code, answer.json()["code"]) == (402, code), change
            assert _challenge(answer)["info"]["nonce"] != fields["nonce"]


def test_two_proofs_in_one_request_are_refused(buyer: Buyer) -> None:
    proofs = [("SIGN-IN-WITH-X", buyer.proof("/api/jobs", fresh=True)["SIGN-IN-WITH-X"]) for _ in range(2)]
    assert buyer.http.get("/api/jobs", headers=proofs).json()["code"] == "repeated_header"


def test_somebody_elses_job_is_forbidden_and_an_unknown_one_not_found(buyer: Buyer, studio: Service) -> None:
    job_id = buyer.buy(PATH, SMALL)
    with Buyer(studio.url) as stranger:
        for path, status, code in ((f"/api/jobs/{job_id}", 403, "not_your_job"), (_NOBODY, 404, "job_not_found")):
            for method in ("GET", "DELETE"):
                answer = stranger.http.request(method, path, headers=stranger.proof(path, fresh=True))
                assert (answer.status_code, answer.json()["code"]) == (status, code)
                assert job_id not in answer.text
        assert stranger.jobs() == []


def test_the_list_is_paged_newest_first(buyer: Buyer) -> None:
    bought = [buyer.buy(PATH, SMALL) for _ in range(5)]
    assert [job["jobId"] for job in buyer.jobs()] == bought[::-1]
    pages: list[list[str]] = []
    before: dict[str, str] = {}
    for _ in range(3):
        answer = buyer.http.get("/api/jobs", params={"limit": 2, **before}, headers=buyer.proof("/api/jobs")).json()
        pages.append([job["jobId"] for job in answer["jobs"]])
        before = {"before": answer["next"]}
    assert pages == [bought[:2:-1], bought[2:0:-1], bought[:1]]
    assert answer["next"] is None


def test_the_list_is_filtered_by_state(buyer: Buyer) -> None:
    good, doomed = buyer.buy(PATH, SMALL), buyer.buy(PATH, DOOMED)
    slow = buyer.buy(PATH, SMALL | {"prompt": "a cat [sandbox:delay=5]"})
    buyer.wait(good)
    buyer.wait(doomed)
    listed = {state: [job["jobId"] for job in buyer.jobs(status=state)] for state in ("complete", "failed", "loading")}
    assert listed == {"complete": [good], "failed": [doomed], "loading": [slow]}
    assert all(job["status"] == "complete" for job in buyer.jobs(status="complete"))


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=two", "limit"),
        ("limit=-1", "limit"),
        ("limit=", "limit"),
        ("limit=٣", "limit"),
        ("status=done", "status"),
        ("page=2", "page"),
    ],
)
def test_a_wrong_filter_is_named(pauper: Buyer, query: str, field: str) -> None:
    answer = pauper.http.get(f"/api/jobs?{query}", headers=pauper.proof("/api/jobs"))
    told = answer.json()
    assert (answer.status_code, told["code"], [issue["path"] for issue in told["issues"]]) == (
        400,
        "invalid_input",
        [[field]],
    )


def test_a_failed_job_is_deleted_from_the_list_once(buyer: Buyer) -> None:
    doomed, kept = buyer.buy(PATH, DOOMED), buyer.buy(PATH, DOOMED)
    buyer.wait(doomed)
    buyer.wait(kept)
    path = f"/api/jobs/{doomed}"
    proof = buyer.proof(path, fresh=True)
    answer = buyer.http.delete(path, headers=proof)
    assert (answer.status_code, answer.json()) == (200, {"success": True, "jobId": doomed, "deleted": True})
    again = buyer.http.delete(path, headers=proof)
    assert (again.status_code, again.json()["code"]) == (404, "job_not_found")
    assert buyer.http.delete(path, headers=buyer.proof(path, fresh=True)).json()["code"] == "job_not_found"
    assert buyer.http.get(path, headers=buyer.proof(path)).json()["code"] == "job_not_found"
    assert [job["jobId"] for job in buyer.jobs()] == [kept]
    assert buyer.balance() == 100_000_000


def test_a_delete_with_a_refused_proof_burns_nothing(buyer: Buyer) -> None:
    job_id = buyer.buy(PATH, DOOMED)
    buyer.wait(job_id)
    path = f"/api/jobs/{job_id}"
    proof = buyer.proof(path, fresh=True)
    assert buyer.http.delete("/api/jobs/other", headers=proof).json()["code"] == "siwx_uri_mismatch"
    assert buyer.http.delete(path, headers=proof).status_code == 200


def test_a_job_under_way_is_not_deleted(buyer: Buyer) -> None:
    running = buyer.buy(PATH, SMALL | {"prompt": "a cat [sandbox:delay=5]"})
    path = f"/api/jobs/{running}"
    answer = buyer.http.delete(path, headers=buyer.proof(path, fresh=True))
    assert (answer.status_code, answer.json()["code"]) == (409, "job_not_ended")
    assert len(buyer.jobs()) == 1


def test_a_solana_wallet_signs_in_and_has_no_jobs(pauper: Buyer) -> None:
    key = SolanaKey.generate()
    extension = _challenge(pauper.http.get("/api/jobs"))
    proof = siwx.sign(extension, key, origin=pauper.url)
    answer = pauper.http.get("/api/jobs", headers={"SIGN-IN-WITH-X": proof})
    assert (answer.status_code, answer.json()) == (200, {"success": True, "jobs": [], "next": None})


def test_a_running_job_shows_its_state_and_its_pace(buyer: Buyer) -> None:
    body = SMALL | {"prompt": "a cat [sandbox:delay=5]"}
    job = buyer.job(buyer.buy(PATH, body))
    assert job["status"] in ("pending", "loading")
    assert (job["input"], job["payment"]["state"]) == (body, "charged")
    assert 1 <= job["pollAfter"] <= 5  # by what such jobs took in this service, if there were enough of them
    assert "result" not in job
    assert "finishedAt" not in job


def test_a_link_serves_the_file_whole_in_ranges_and_by_head(buyer: Buyer) -> None:
    result = buyer.wait(buyer.buy(PATH, SMALL))["result"]
    whole = buyer.http.get(result["imageUrl"])
    assert (whole.status_code, whole.headers["content-type"], len(whole.content)) == (200, "image/png", result["size"])
    part = buyer.http.get(result["imageUrl"], headers={"Range": "bytes=8-15"})
    assert (part.status_code, part.content) == (206, whole.content[8:16])
    assert part.headers["content-range"] == f"bytes 8-15/{result['size']}"
    head = buyer.http.head(result["imageUrl"])
    assert (head.status_code, head.headers["content-length"], head.content) == (200, str(result["size"]), b"")


@pytest.mark.parametrize("change", [("sig=", "sig=A"), ("exp=", "exp=9"), ("/0.png", "/0.jpg"), ("&sig=", "&nope=")])
def test_a_tampered_link_is_forbidden(buyer: Buyer, change: tuple[str, str]) -> None:
    link = buyer.wait(buyer.buy(PATH, SMALL))["result"]["imageUrl"]
    answer = buyer.http.get(link.replace(*change))
    assert (answer.status_code, answer.json()["code"]) == (403, "link_invalid")


def test_a_link_of_one_job_opens_no_other(buyer: Buyer) -> None:
    first, second = (buyer.wait(buyer.buy(PATH, SMALL))["jobId"] for _ in range(2))
    link = buyer.job(first)["result"]["imageUrl"].replace(first, second)
    assert buyer.http.get(link).status_code == 403


def test_links_are_signed_at_each_read_for_about_twenty_minutes(buyer: Buyer, studio: Service) -> None:
    job = buyer.wait(buyer.buy(PATH, SMALL))
    link = httpx2.URL(job["result"]["imageUrl"])
    assert f"{link.scheme}://{link.host}:{link.port}" == studio.url
    assert 19 * 60 <= int(link.params["exp"]) - time.time() <= 21 * 60


def test_a_list_leaves_long_inputs_to_the_reads_of_each_job(buyer: Buyer) -> None:
    long, short = (buyer.buy(PATH, SMALL | {"prompt": prompt}) for prompt in ("é" * 3_000, "é" * 100))
    listed = {job["jobId"]: job for job in buyer.jobs()}
    assert "input" not in listed[long]
    assert listed[short]["input"]["prompt"] == "é" * 100
    assert buyer.job(long)["input"]["prompt"] == "é" * 3_000
