"""A form is another way to write the same order: files as parts, text as fields, the same price, payment and answer."""

from __future__ import annotations

import time
from typing import Any

import httpx2
import pytest

from stablestudio.protocols import x402
from tests.doubles import png
from tests.integration.samples import data_uri
from tests.media_samples import image
from tests.service import Buyer

EDIT = "/api/generate/nano-banana/edit"
FLUX = "/api/generate/flux-2-pro/generate"
FIELDS = {"prompt": "the same cat", "imageSize": "512"}
CAT = png((64, 48))
_FIELD = b'--x\r\nContent-Disposition: form-data; name="prompt"\r\n\r\na fox\r\n'


def _send(
    buyer: Buyer, path: str, fields: dict[str, Any], files: Any = (), payment: str | None = None
) -> httpx2.Response:
    headers = {} if payment is None else {"PAYMENT-SIGNATURE": payment}
    # Without a file the client would send no multipart form: a part without a file name is text.
    parts = [(name, (None, value)) for name, value in fields.items()] + list(files)
    return buyer.http.post(path, files=parts, headers=headers)


def _sign(buyer: Buyer, challenge: httpx2.Response) -> str:
    assert challenge.status_code == 402, challenge.text
    required = x402.decode_required(challenge.headers["PAYMENT-REQUIRED"])
    return x402.encode_payment(x402.sign_exact(required, required.accepts[0], buyer.key, now_s=int(time.time())))


@pytest.mark.parametrize("name", ["images", "images[]"])
def test_files_are_handed_over_as_parts_of_the_paid_request(buyer: Buyer, name: str) -> None:
    files = [(name, ("cat.png", CAT, "image/png")), (name, ("dog.jpg", image("JPEG"), "application/octet-stream"))]
    payment = _sign(buyer, _send(buyer, EDIT, FIELDS, files))
    answer = _send(buyer, EDIT, FIELDS, files, payment)
    assert answer.status_code == 200, answer.text
    job = buyer.wait(answer.json()["jobId"])
    assert (job["status"], job["payment"]["state"]) == ("complete", "charged")
    assert [given[:16] for given in job["input"]["images"]] == ["data:image/png;b", "data:image/jpeg;"]


def test_the_same_form_with_another_boundary_is_the_same_request(buyer: Buyer) -> None:
    files = [("images", ("cat.png", CAT, "image/png"))]
    payment = _sign(buyer, _send(buyer, EDIT, FIELDS, files))
    answers = [_send(buyer, EDIT, FIELDS, files, payment) for _ in range(2)]
    assert len({answer.json()["jobId"] for answer in answers}) == 1
    other = _send(buyer, EDIT, FIELDS, [("images", ("dog.png", png((64, 48), "blue"), "image/png"))], payment)
    assert (other.status_code, other.json()["code"]) == (409, "payment_reused")


def test_a_file_may_stand_beside_an_address(buyer: Buyer) -> None:
    files = [("images", (None, data_uri("image"))), ("images", ("cat.png", CAT, "image/png"))]
    assert _send(buyer, EDIT, FIELDS, files).status_code == 402


def test_numbers_and_truth_are_read_from_their_text(buyer: Buyer) -> None:
    fields = {"prompt": "a fox", "output_quality": "80", "safety_tolerance": "2", "prompt_upsampling": "true"}
    payment = _sign(buyer, _send(buyer, FLUX, fields))
    job = buyer.job(_send(buyer, FLUX, fields, payment=payment).json()["jobId"])
    assert job["input"] == fields | {"output_quality": 80, "safety_tolerance": 2, "prompt_upsampling": True}


@pytest.mark.parametrize(
    ("path", "fields", "files", "place", "code"),
    [
        (FLUX, {"prompt": "a", "output_quality": "much"}, [], ["output_quality"], "wrong_type"),
        (FLUX, {"prompt": "a", "output_quality": "1" * 5000}, [], ["output_quality"], "wrong_type"),
        (FLUX, {"prompt": "a", "prompt_upsampling": "yes"}, [], ["prompt_upsampling"], "wrong_type"),
        (FLUX, {"promt": "a"}, [], ["promt"], "unknown_field"),
        (FLUX, {}, [("prompt", ("words.txt", b"a fox", "text/plain"))], ["prompt"], "not_a_file"),
        (FLUX, {"prompt": "a"}, [("prompt", (None, "b"))], ["prompt"], "duplicate_key"),
        (EDIT, FIELDS, [("images", ("page.html", b"<html>", "text/html"))], ["images"], "wrong_kind_of_media"),
        (EDIT, FIELDS, [("images", ("empty.png", b"", "image/png"))], ["images"], "wrong_kind_of_media"),
        (EDIT, FIELDS, [("images", ("big.png", CAT + bytes(4_000_000), "image/png"))], ["images"], "file_out_of_limits"),
        (EDIT, FIELDS, [("pictures", ("cat.png", CAT, "image/png"))], ["pictures"], "unknown_field"),
    ],
)  # fmt: skip
def test_a_form_that_is_wrong_is_told_the_field(
    buyer: Buyer, path: str, fields: dict[str, str], files: Any, place: list[str | int], code: str
) -> None:
    answer = _send(buyer, path, fields, files)
    told = answer.json()
    assert (answer.status_code, told["charged"]) == (400, False)
    assert (place, code) in [(issue["path"], issue["code"]) for issue in told["issues"]]


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("multipart/form-data", b"--x\r\n"),
        ("multipart/form-data; boundary=x", b"--x"),
        ("multipart/form-data; boundary=x", b"--y\r\n\r\nabc\r\n--y--"),
        ("multipart/form-data; boundary=x", b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\nabc'),
        ("multipart/form-data; boundary=x", b"--x\r\nContent-Disposition: nothing\r\n\r\nabc\r\n--x--"),
        ("multipart/form-data; boundary=x; charset=nonsense", b'--x\r\nContent-Disposition: form-data; name="\xff"\r\n\r\na\r\n--x--'),
        ("multipart/form-data; boundary=x", b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n\xed\xa0\x80\r\n--x--'),
        ("multipart/form-data; boundary=x", b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n\r\n' * 500 + b"--x--"),
        ("multipart/form-data; boundary=" + "x" * 5000, b"--x"),
        ("multipart/form-data; boundary=\xff", b"--x"),
        ("multipart/form-data; boundary=x; charset=punycode", _FIELD + b"--x--"),
        ("multipart/form-data; boundary=x; charset=utf-7", _FIELD + b"--x--"),
        ("multipart/form-data; boundary=x", _FIELD),  # cut short
        ("multipart/form-data; boundary=x", _FIELD + b"--x\r\n"),
        ("multipart/form-data; boundary=x", _FIELD * 101 + b"--x--"),
        ("multipart/form-data; boundary=x", b"--x\r\nA: " + b"a" * 100_000 + b"\r\n\r\n\r\n--x--"),
        ("multipart/form-data; boundary=x", _FIELD + _FIELD.rstrip(b"\r\n") + b"\r\n--xX" * 20_000 + b"\r\n--x--"),
        ("application/json", b"--x\r\n"),
    ],
)  # fmt: skip
def test_a_body_that_is_no_form_is_refused(pauper: Buyer, content_type: str, body: bytes) -> None:
    head = {"Content-Type": content_type.encode("latin-1")}
    answer = pauper.http.post(EDIT, content=body, headers=head)  # type: ignore[arg-type] # raw bytes, as anyone may send
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_input")
