from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from stablestudio.client import DownloadFailed, Job, Journal, KeyWallet, StudioClient
from stablestudio.client.fakes import PIXEL, FakeSeller
from stablestudio.client.jobs import job_of
from stablestudio.client.steps import Call, Reply

from .builders import WISH, buyer, journal_files

CLIP = job_of(
    {
        "jobId": "job_7",
        "status": "complete",
        "result": {"videoUrl": "https://files.test/a?sig=1", "thumbnailUrl": "https://files.test/b.jpg?sig=2"},
    }
)


class Broken(httpx2.SyncByteStream):
    def __iter__(self) -> Iterator[bytes]:
        yield b"half"
        raise httpx2.ReadError("the connection broke")


def files(request: httpx2.Request) -> httpx2.Response:
    kind = "image/jpeg" if request.url.path == "/b.jpg" else "video/mp4; codecs=avc1"
    return httpx2.Response(200, headers={"content-type": kind}, content=b"data of " + request.url.path.encode())


def client(handler: httpx2.MockTransport, folder: Path) -> StudioClient:
    return StudioClient(
        "http://seller.test", KeyWallet.generate(), journal=Journal(folder), transport=handler, sleep=lambda _: None
    )


def test_a_folder_takes_all_files_under_the_jobs_name(tmp_path: Path) -> None:
    paths = client(httpx2.MockTransport(files), tmp_path).download(CLIP, tmp_path / "new" / "folder")
    assert [path.name for path in paths] == ["job_7.mp4", "job_7-thumbnail.jpg"]
    assert paths[0].read_bytes() == b"data of /a"


def test_a_file_name_takes_the_main_file_alone(tmp_path: Path) -> None:
    (path,) = client(httpx2.MockTransport(files), tmp_path).download(CLIP, tmp_path / "mine.mp4")
    assert path == tmp_path / "mine.mp4"
    assert path.read_bytes() == b"data of /a"


def test_a_download_ends_the_order_in_the_journal(tmp_path: Path) -> None:
    seller = FakeSeller(states=("complete",))
    buying = buyer(seller, tmp_path)
    job = buying.run("nano-banana", "generate", WISH)
    assert len(journal_files(tmp_path)) == 1
    (path,) = buying.download(job, tmp_path)
    assert path.read_bytes() == PIXEL
    assert journal_files(tmp_path) == []
    assert list((tmp_path / "orders").iterdir()) == []


def test_an_old_link_is_renewed_by_reading_the_job(tmp_path: Path) -> None:
    seller = FakeSeller(states=("complete",))
    buying = buyer(seller, tmp_path)
    job = buying.run("nano-banana", "generate", WISH)
    buying.job(job.id)
    assert buying.download(job, tmp_path / "out.png") == [tmp_path / "out.png"]


def test_a_link_that_is_dead_for_good_is_told_and_the_order_kept(tmp_path: Path) -> None:
    class Gone(FakeSeller):
        def _asset(self, call: Call) -> Reply:
            return Reply(status=410)

    buying = buyer(Gone(states=("complete",)), tmp_path)
    job = buying.run("nano-banana", "generate", WISH)
    with pytest.raises(DownloadFailed):
        buying.download(job, tmp_path)
    assert len(journal_files(tmp_path)) == 1


def test_a_broken_download_leaves_no_file(tmp_path: Path) -> None:
    handler = httpx2.MockTransport(lambda _: httpx2.Response(200, stream=Broken()))
    with pytest.raises(DownloadFailed):
        client(handler, tmp_path).download(CLIP, tmp_path / "out.mp4")
    assert list(tmp_path.iterdir()) == []


def test_a_broken_download_is_tried_again(tmp_path: Path) -> None:
    answers = iter([httpx2.Response(200, stream=Broken()), httpx2.Response(200, content=b"whole")])
    (path,) = client(httpx2.MockTransport(lambda _: next(answers)), tmp_path).download(CLIP, tmp_path / "out.mp4")
    assert path.read_bytes() == b"whole"


def test_no_proof_and_no_payment_travels_to_where_files_are_kept(tmp_path: Path) -> None:
    seen: list[str] = []

    def keep(request: httpx2.Request) -> httpx2.Response:
        seen.extend(request.headers)
        return files(request)

    client(httpx2.MockTransport(keep), tmp_path).download(CLIP, tmp_path)
    assert seen
    assert not {"sign-in-with-x", "payment-signature", "authorization", "cookie"} & set(seen)


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://files.test/a"])
def test_only_http_links_are_followed(tmp_path: Path, url: str) -> None:
    job = Job.model_validate({"jobId": "j", "status": "complete", "result": {"imageUrl": url}})
    with pytest.raises(DownloadFailed):
        client(httpx2.MockTransport(files), tmp_path).download(job, tmp_path)


def test_a_job_without_files_is_told(tmp_path: Path) -> None:
    with pytest.raises(DownloadFailed):
        client(httpx2.MockTransport(files), tmp_path).download(Job(id="j", status="loading"), tmp_path)
