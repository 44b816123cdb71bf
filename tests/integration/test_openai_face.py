"""The routes in OpenAI's shape are paid as the native ones are: one payment, one body, one path, one job."""

from __future__ import annotations

import base64
from typing import Any

import httpx2
import pytest

from stablestudio.catalog import OFFERINGS, PriceTable
from stablestudio.media.probe import probe
from stablestudio.protocols import x402
from stablestudio.server.faces.openai import EDITS, FACES, IMAGES, VIDEOS, Face
from tests.doubles import png
from tests.integration.samples import data_uri
from tests.service import Buyer, Service

PICTURE = {"model": "flux-2-pro", "prompt": "a fox", "size": "1024x1024"}
CLIP = {"model": "veo-3.1-fast", "prompt": "a boat", "seconds": "4"}
NATIVE = "/api/generate/flux-2-pro/generate"
each_face = pytest.mark.parametrize("face", FACES.values(), ids=lambda face: face.path)


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def _amount(buyer: Buyer, path: str, body: dict[str, Any]) -> set[str]:
    return {offer.amount for offer in buyer.challenge(path, body).accepts}


def test_a_picture_costs_what_it_costs_on_its_own_route(buyer: Buyer) -> None:
    native = {"prompt": "a fox", "aspect_ratio": "1:1", "resolution": "1 MP"}
    assert _amount(buyer, IMAGES.path, PICTURE) == _amount(buyer, NATIVE, native)


def test_a_paid_request_is_answered_with_the_picture_and_its_receipt(buyer: Buyer) -> None:
    answer = buyer.pay(IMAGES.path, PICTURE, buyer.sign(IMAGES.path, PICTURE))
    told = answer.json()

    assert answer.status_code == 200, answer.text
    assert x402.decode_response(answer.headers["PAYMENT-RESPONSE"]).success
    seen = probe(httpx2.get(told["data"][0]["url"], trust_env=False).content)
    assert f"{seen.width}x{seen.height}" == told["size"] == "1024x1024"
    assert "b64_json" not in told["data"][0]
    assert told["payment"]["state"] == "charged"
    assert buyer.job(told["jobId"])["type"] == "flux-2-pro-generate"


def test_base64_is_the_very_file(buyer: Buyer) -> None:
    body = {**PICTURE, "response_format": "b64_json"}
    [picture] = buyer.pay(IMAGES.path, body, buyer.sign(IMAGES.path, body)).json()["data"]
    assert base64.b64decode(picture["b64_json"]) == httpx2.get(picture["url"], trust_env=False).content


def test_a_payment_buys_one_body_on_one_path(buyer: Buyer) -> None:
    native = {"prompt": "a fox", "resolution": "1 MP"}
    payment = buyer.sign(IMAGES.path, PICTURE)
    first = buyer.pay(IMAGES.path, PICTURE, payment).json()

    for path, body in ((IMAGES.path, {**PICTURE, "prompt": "a hen"}), (NATIVE, native)):
        refused = buyer.pay(path, body, payment)
        assert (refused.status_code, refused.json()["code"]) == (409, "payment_reused"), path
    again = buyer.pay(IMAGES.path, PICTURE, payment).json()
    assert again["jobId"] == first["jobId"]
    assert len(buyer.jobs()) == 1


def test_the_same_payment_again_shows_the_picture_to_whoever_has_the_poll_token(buyer: Buyer) -> None:
    payment = buyer.sign(IMAGES.path, PICTURE)
    paid = buyer.pay(IMAGES.path, PICTURE, payment)

    # A payment stands on its chain for everybody to read and send.
    stranger = buyer.pay(IMAGES.path, PICTURE, payment, Authorization="Bearer none")
    owner = buyer.pay(IMAGES.path, PICTURE, payment, **_bearer(paid.headers["poll-token"]))

    assert (stranger.status_code, stranger.json()["data"]) == (202, [])
    assert "poll-token" not in stranger.headers
    assert "/assets/" not in stranger.text
    assert owner.status_code == 200
    assert owner.json()["data"][0]["url"].startswith(f"{buyer.url}/assets/")


def test_a_picture_that_takes_longer_than_wanted_is_read_as_a_job(buyer: Buyer) -> None:
    body = {**PICTURE, "prompt": "[sandbox:delay=3] a fox"}
    payment = buyer.sign(IMAGES.path, body)
    late = buyer.pay(IMAGES.path, body, payment, Prefer="wait=0")
    told = late.json()

    assert (late.status_code, told["status"], told["data"]) == (202, "pending", [])
    assert int(late.headers["retry-after"]) >= 1
    assert "PAYMENT-RESPONSE" in late.headers
    # Sent again, it waits on for the same job.
    done = buyer.pay(IMAGES.path, body, payment, **_bearer(told["pollToken"]))
    assert (done.status_code, done.json()["jobId"]) == (200, told["jobId"])


@pytest.mark.parametrize(("mark", "status"), [("refuse", 422), ("fail", 502), ("reject", 502)])
def test_a_failed_order_is_an_error_that_tells_of_the_refund(buyer: Buyer, mark: str, status: int) -> None:
    body = {**PICTURE, "prompt": f"[sandbox:{mark}] a fox"}
    answer = buyer.pay(IMAGES.path, body, buyer.sign(IMAGES.path, body))
    told = answer.json()

    assert (answer.status_code, answer.headers["x-should-retry"]) == (status, "false")
    assert (told["success"], told["charged"], told["retryable"]) == (False, False, False)
    assert told["payment"]["state"] in ("refunded", "refund_pending")
    assert set(told["error"]) == {"message", "type", "code", "param"}
    assert told["error"]["code"] == told["errorCode"] == buyer.job(told["jobId"])["errorCode"]
    assert "PAYMENT-RESPONSE" in answer.headers


@pytest.mark.parametrize(("face", "body"), [(IMAGES, PICTURE), (VIDEOS, CLIP)])
def test_the_same_payment_again_tells_nobody_that_the_order_failed(
    buyer: Buyer, face: Face, body: dict[str, Any]
) -> None:
    body = {**body, "prompt": "[sandbox:refuse] a fox"}
    payment = buyer.sign(face.path, body)
    first = buyer.pay(face.path, body, payment)
    buyer.wait(first.json()["jobId"])

    again = buyer.pay(face.path, body, payment)
    assert again.status_code in (200, 202)
    assert again.json()["jobId"] == first.json()["jobId"]
    assert again.json()["status"] in ("queued", "pending")
    assert again.json().get("error") is None
    assert "moderation" not in again.text


def test_an_edit_is_the_same_order_as_json_and_as_a_form(buyer: Buyer) -> None:
    body = {"model": "flux-2-pro", "prompt": "at dawn", "image": [data_uri("image")]}
    sold = buyer.pay(EDITS.path, body, buyer.sign(EDITS.path, body))
    assert sold.status_code == 200, sold.text

    fields = {"model": "flux-2-pro", "prompt": "at dawn", "n": "1", "size": "auto"}
    asked = buyer.http.post(EDITS.path, data=fields, files=[("image[]", ("a.png", png((64, 48))))])
    assert asked.status_code == 402, asked.text
    required = x402.decode_required(asked.headers["PAYMENT-REQUIRED"])
    assert {offer.amount for offer in required.accepts} == _amount(buyer, EDITS.path, body)


def test_a_form_s_numbers_are_numbers_of_the_model_s_own_fields(buyer: Buyer) -> None:
    fields = {"model": "flux-2-pro", "prompt": "a fox", "output_quality": "70", "prompt_upsampling": "true"}
    asked = buyer.http.post(IMAGES.path, files=[(name, (None, value)) for name, value in fields.items()])
    assert asked.status_code == 402, asked.text


def test_a_video_is_read_with_a_signature_or_the_poll_token(buyer: Buyer) -> None:
    sold = buyer.pay(VIDEOS.path, CLIP, buyer.sign(VIDEOS.path, CLIP)).json()
    path = f"{VIDEOS.path}/{sold['id']}"
    assert (sold["object"], sold["status"], sold["seconds"], sold["size"]) == ("video", "queued", "4", "1280x720")
    early = buyer.http.get(f"{path}/content", headers=_bearer(sold["pollToken"]))
    assert early.status_code in (302, 409)
    buyer.wait(sold["id"])

    by_token = buyer.http.get(path, headers=_bearer(sold["pollToken"])).json()
    by_proof = buyer.http.get(path, headers=buyer.proof(path)).json()
    assert by_token["status"] == by_proof["status"] == "completed"
    assert "pollToken" in by_proof
    assert "pollToken" not in by_token
    for variant, kind in (("", "video"), ("?variant=video", "video"), ("?variant=thumbnail", "image")):
        answer = buyer.http.get(f"{path}/content{variant}", headers=_bearer(sold["pollToken"]))
        assert answer.status_code == 302
        assert probe(httpx2.get(answer.headers["location"], trust_env=False).content).kind == kind
    wrong = buyer.http.get(f"{path}/content?variant=spritesheet", headers=_bearer(sold["pollToken"]))
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "variant")
    assert buyer.http.head(path, headers=_bearer(sold["pollToken"])).status_code == 200


def test_a_video_that_failed_says_so_and_has_no_content(buyer: Buyer) -> None:
    body = {**CLIP, "prompt": "[sandbox:refuse] a boat"}
    sold = buyer.pay(VIDEOS.path, body, buyer.sign(VIDEOS.path, body)).json()
    assert buyer.wait(sold["id"])["payment"]["state"] == "refunded"

    path, token = f"{VIDEOS.path}/{sold['id']}", _bearer(sold["pollToken"])
    assert buyer.http.get(path, headers=token).json()["error"]["code"] == "moderation"
    assert buyer.http.get(f"{path}/content", headers=token).status_code == 404


def test_nobody_else_reads_a_video(studio: Service, buyer: Buyer) -> None:
    sold = buyer.pay(VIDEOS.path, CLIP, buyer.sign(VIDEOS.path, CLIP)).json()
    path = f"{VIDEOS.path}/{sold['id']}"
    with Buyer(studio.url) as other:
        for below in ("", "/content"):
            assert other.http.get(path + below).status_code == 402
            assert other.http.get(path + below, headers=_bearer("none")).status_code == 401
            assert other.http.get(path + below, headers=other.proof(path + below)).status_code == 403


def test_a_picture_is_no_video(buyer: Buyer) -> None:
    sold = buyer.pay(IMAGES.path, PICTURE, buyer.sign(IMAGES.path, PICTURE)).json()
    path = f"{VIDEOS.path}/{sold['jobId']}"
    assert buyer.http.get(path, headers=buyer.proof(path)).status_code == 404


@each_face
def test_an_empty_body_is_quoted_the_highest_price_there(pauper: Buyer, face: Face) -> None:
    answer = pauper.http.post(face.path)
    required = x402.decode_required(answer.headers["PAYMENT-REQUIRED"])
    dearest = max(PriceTable(OFFERINGS).ceiling(offering) for offering in face.offerings)

    assert (answer.status_code, answer.content) == (402, b"{}")
    assert {offer.amount for offer in required.accepts} == {str(dearest.base_units(decimals=6))}
    assert required.resource is not None
    assert required.resource.url == pauper.url + face.path


@each_face
def test_each_challenge_of_a_face_is_short_and_describes_its_own_body(pauper: Buyer, face: Face) -> None:
    for offering in face.offerings:
        answer = pauper.http.post(face.path, json={"model": offering.model, **offering.input.example})
        assert answer.status_code == 402, answer.text
        assert sum(len(name) + len(value) + 4 for name, value in answer.headers.raw) < 12_000
        example = x402.decode_required(answer.headers["PAYMENT-REQUIRED"]).extensions["bazaar"]["info"]["input"]["body"]
        assert example["model"] == offering.model
        assert answer.headers["x-request-id"].startswith("req_")


@each_face
def test_a_face_has_the_manners_of_a_route_that_sells(pauper: Buyer, face: Face) -> None:
    for method in ("GET", "HEAD", "PUT", "DELETE"):
        answer = pauper.http.request(method, face.path)
        assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    asked = pauper.http.options(face.path, headers={"origin": "https://shop.example"})
    assert (asked.status_code, asked.headers["access-control-allow-origin"]) == (204, "*")
    assert "POST" in asked.headers["access-control-allow-methods"]


@pytest.mark.parametrize("below", ["", "/content"])
def test_a_video_s_address_has_the_manners_of_one_that_is_read(pauper: Buyer, below: str) -> None:
    path = f"{VIDEOS.path}/job_x{below}"
    assert pauper.http.post(path).headers["allow"] == "GET, HEAD"
    assert pauper.http.options(path).headers["access-control-allow-methods"] == "GET, HEAD, OPTIONS"
    asked = pauper.http.get(path)
    assert (asked.status_code, asked.json()["error"]["type"]) == (402, "payment_required")
    assert "extensions" in asked.json()


@pytest.mark.parametrize(
    ("path", "content", "status"),
    [
        (IMAGES.path, b"{", 400),
        (IMAGES.path, b'{"model": "flux-2-pro"}', 400),
        (VIDEOS.path, b'{"model": "veo-3.1", "prompt": "a", "seconds": 5}', 400),
        ("/v1/images/variations", b"{}", 404),
        ("/v1/videos/job_x/remix/more", b"{}", 404),
    ],
)
def test_errors_there_have_our_shape_and_openai_s_object(pauper: Buyer, path: str, content: bytes, status: int) -> None:
    answer = pauper.http.post(path, content=content)
    told = answer.json()
    assert (answer.status_code, told["status"], told["charged"]) == (status, status, False)
    assert told["error"]["type"] == "invalid_request_error"
    assert told["error"]["code"] == told["code"]
    assert answer.headers["x-should-retry"] == "false"
