from __future__ import annotations

import base64
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stablestudio.catalog.links import media_problem
from stablestudio.client import FileUnusable, Upload, UploadExpired, UploadInterrupted, UploadRefused
from stablestudio.client.errors import UploadError
from stablestudio.client.fakes import PIXEL, FakeSeller, error_reply
from stablestudio.client.files import INLINE_BYTES, MediaFile, inline, open_file, sources_in, with_links
from stablestudio.client.offers import Wish
from stablestudio.client.orders import Order, Sending
from stablestudio.client.sending import PART_BYTES, Carrier, Place, read_place
from stablestudio.client.steps import Call, Lost, Outcome, Reply, drive

from .builders import buyer, order

A, B = Path("a.png"), Path("b.mp4")
PLACE = Place.model_validate(
    {
        "uploadId": "u1",
        "clientToken": "secret",
        "pathname": "uploads/u1/a.png",
        "uploadUrl": "http://seller.test/api/blob",
        "blobUrl": "http://seller.test/blob/uploads/u1/a.png",
    }
)


def file(size: int) -> MediaFile:
    return MediaFile(source=bytes(size), name=f"{size}.png", content_type="image/png", size=size)


def upload_order() -> Order:
    return order(sending=Sending(path=None, sha256="00"))


@given(st.lists(st.integers(1, 2 * INLINE_BYTES), max_size=6))
def test_what_goes_inside_an_order_fits_and_nothing_that_would_fit_is_left_out(sizes: list[int]) -> None:
    files = [MediaFile(source=b"", name=f"{index}", content_type="image/png", size=s) for index, s in enumerate(sizes)]
    inside = inline(files)
    room = INLINE_BYTES
    for each in files:
        assert (each in inside) == (each.size <= room)
        room -= each.size if each in inside else 0


def test_a_file_that_is_named_twice_takes_its_room_twice() -> None:
    most, half = file(INLINE_BYTES), file(INLINE_BYTES // 2)
    assert [inline([most]), inline([most, most]), inline([half, half])] == [{most}, set(), {half}]


def test_a_file_that_goes_inside_fits_a_data_uri_of_the_catalog() -> None:
    assert media_problem(file(INLINE_BYTES).data_uri(), kinds=["image"]) is None


def test_paths_and_uploads_are_found_and_replaced_however_deep() -> None:
    there = Upload(id="u", blob_url="https://s/u")
    given = {"prompt": "p", "image": A, "urls": [A, "job:1", B, there], "more": {"list": (B,)}, "n": 3}
    assert list(sources_in(given)) == [A, A, B, B]
    assert with_links(given, {A: "x", B: "y"}) == {
        "prompt": "p",
        "image": "x",
        "urls": ["x", "job:1", "y", "https://s/u"],
        "more": {"list": ["y"]},
        "n": 3,
    }


def test_the_first_bytes_tell_the_type_and_not_the_name(tmp_path: Path) -> None:
    path = tmp_path / "holiday.jpg"
    path.write_bytes(PIXEL)
    opened = open_file(path)
    assert (opened.content_type, opened.name, opened.size) == ("image/png", "holiday.jpg", len(PIXEL))
    assert opened.data_uri() == f"data:image/png;base64,{base64.b64encode(PIXEL).decode()}"
    assert open_file(PIXEL).name == "file.png"
    assert open_file(b"x", content_type="audio/ogg").content_type == "audio/ogg"


@pytest.mark.parametrize("name", ["missing.png", ".", "empty.png", "page.png", "\udcff.png"])
def test_what_cannot_be_handed_over_costs_nothing(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "page.png").write_text("<html>")
    with pytest.raises(FileUnusable) as caught:
        open_file(tmp_path / name)
    assert caught.value.money_moved is False


def test_a_small_file_goes_inside_the_order(tmp_path: Path) -> None:
    seller = FakeSeller()
    (tmp_path / "a.png").write_bytes(PIXEL)
    buyer(seller, tmp_path).submit("nano-banana", "edit", {"prompt": "x", "images": [tmp_path / "a.png"]})
    assert b'"images":["data:image/png;base64,iVBOR' in seller.bodies[0]


def send(answers: list[Outcome], *, size: int = 10) -> tuple[list[Call], list[Order]]:
    """Send a file against scripted answers; return the requests and what was written down."""
    calls: list[Call] = []
    kept: list[Order] = []

    def perform(call: Call) -> Outcome:
        calls.append(call)
        return answers.pop(0)

    carrier = Carrier(place=PLACE, file=file(size), keep=kept.append)
    drive(carrier.send(upload_order()), perform=perform, sleep=lambda _: None)
    return calls, kept


def blob_error(status: int, code: str) -> Reply:
    body = f'{{"error": {{"code": "{code}", "message": "because"}}}}'
    return Reply(status=status, body=body.encode())


@pytest.mark.parametrize(
    ("trouble", "kind"),
    [
        (blob_error(403, "client_token_expired"), UploadExpired),
        (blob_error(404, "not_found"), UploadExpired),
        (blob_error(413, "file_too_large"), UploadRefused),
        (blob_error(403, "forbidden"), UploadRefused),
        (Reply(status=400, body=b"<html>"), UploadRefused),
    ],
)
def test_a_last_word_of_the_service_is_not_asked_for_again(trouble: Reply, kind: type[UploadError]) -> None:
    with pytest.raises(kind) as caught:
        send([trouble])
    assert caught.value.money_moved is True


@pytest.mark.parametrize(
    "trouble",
    [
        Lost(reason="reset", sent=True),
        blob_error(400, "unknown_error"),
        blob_error(408, "unknown_error"),
        blob_error(503, "service_unavailable"),
        error_reply(429, "too_many"),
    ],
)
def test_what_may_pass_is_tried_again_and_told_as_paid_in_the_end(trouble: Outcome) -> None:
    assert len(send([trouble, trouble, Reply(status=200, body=b"{}")])[0]) == 3
    with pytest.raises(UploadInterrupted) as caught:
        send([trouble] * 6)
    assert (caught.value.money_moved, caught.value.retryable) == (True, True)


def test_each_part_is_written_down_when_it_has_arrived() -> None:
    told = [Reply(status=200, body=b'{"uploadId": "s", "key": "k"}')]
    told += [Reply(status=200, body=f'{{"etag": "e{number}"}}'.encode()) for number in (1, 2)]
    calls, kept = send([*told, Reply(status=200, body=b"{}")], size=PART_BYTES + 1)
    notes = [each.sending for each in kept if each.sending is not None]
    assert [(each.session, each.etags) for each in notes] == [("s", {}), ("s", {1: "e1"}), ("s", {1: "e1", 2: "e2"})]
    assert [len(call.body or b"") for call in calls[1:3]] == [PART_BYTES, 1]
    assert calls[3].body == b'[{"partNumber": 1, "etag": "e1"}, {"partNumber": 2, "etag": "e2"}]'


def test_an_answer_that_cannot_be_read_does_not_hide_that_it_was_paid() -> None:
    for body in (b"<html>", b"{}", PLACE.model_dump_json(by_alias=True).replace("http:", "file:").encode()):
        with pytest.raises(UploadInterrupted):
            read_place(Reply(status=200, body=body), order=upload_order())
    assert "secret" not in repr(PLACE)


def test_an_upload_serves_the_same_file_and_once_it_was_refused_any_of_its_name_and_type() -> None:
    ours = upload_order()
    free = ours.model_copy(update={"sending": Sending(path=None, sha256=None)})
    same, other = (
        Wish(model="upload", operation="upload", url=ours.url, body=b"{}", sending=Sending(path="/x", sha256=sha256))
        for sha256 in ("00", "11")
    )
    assert [each.serves(wish) for each in (ours, free) for wish in (same, other)] == [True, False, True, True]
    assert not free.serves(replace(same, body=b"[]"))
    assert [ours.open, free.open] == [True, False]
