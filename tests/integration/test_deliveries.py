"""Every offering is sold and delivered: the file has the size, the format and the length that the input asked for."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from stablestudio.catalog import OFFERINGS, ImageOutput, Kind, Offering, VideoOutput
from stablestudio.media.probe import probe
from tests.acceptance.vendors import sample
from tests.service import Buyer, Service

from .samples import CHEAPEST, cheapest

_SOLD = [offering for offering in OFFERINGS if offering.kind is not Kind.UPLOAD]
IMAGE = "/api/generate/nano-banana/generate"
EDIT = "/api/generate/nano-banana/edit"
SMALL = {"prompt": "a cat", "imageSize": "512"}


def test_every_offering_is_delivered_below() -> None:
    assert CHEAPEST.keys() == {offering.key for offering in _SOLD}


@pytest.mark.parametrize("offering", _SOLD, ids=lambda offering: offering.key)
def test_an_offering_delivers_what_was_ordered(buyer: Buyer, offering: Offering) -> None:
    body = cheapest(offering)
    job = buyer.wait(buyer.buy(offering.path, body))
    assert (job["status"], job["type"], job["progress"]) == ("complete", offering.type, 100), job
    assert job["payment"]["state"] == "charged"
    assert job["input"].keys() == body.keys()
    assert all(_is_told(job["input"][name], value) for name, value in body.items())
    assert job["upstreamModel"] == f"sandbox/{offering.model}"
    wanted = offering.read(json.dumps(body).encode()).output()
    if isinstance(wanted, ImageOutput):
        _expect_image(buyer, job["result"], wanted)
    else:
        _expect_clip(buyer, job["result"], wanted)


def _is_told(shown: Any, given: Any) -> bool:
    """Tell whether a job shows what was given, or of a long inline file the beginning."""
    if isinstance(given, list):
        return len(shown) == len(given) and all(map(_is_told, shown, given))
    return bool(shown == given or shown == f"{str(given)[:40]}... ({len(str(given))} characters)")


def _expect_image(buyer: Buyer, result: dict[str, object], wanted: ImageOutput) -> None:
    file = buyer.http.get(str(result["imageUrl"]))
    seen = probe(file.content)
    assert (seen.kind, seen.width, seen.height) == ("image", wanted.width, wanted.height)
    assert file.headers["content-type"] == seen.content_type == f"image/{wanted.format}" == result["contentType"]
    assert (result["width"], result["height"], result["size"]) == (seen.width, seen.height, len(file.content))
    assert result["sha256"] == hashlib.sha256(file.content).hexdigest()
    assert not {"videoUrl", "posterUrl", "durationSeconds"} & result.keys()
    _expect_previews(buyer, result, (wanted.width, wanted.height))


def _expect_clip(buyer: Buyer, result: dict[str, object], wanted: VideoOutput) -> None:
    file = buyer.http.get(str(result["videoUrl"]))
    seen = probe(file.content)
    assert (seen.kind, seen.width, seen.height) == ("video", wanted.width, wanted.height)
    assert seen.seconds == pytest.approx(wanted.seconds, abs=0.1)
    assert seen.has_audio is wanted.audio
    assert file.headers["content-type"] == seen.content_type == "video/mp4" == result["contentType"]
    assert result["durationSeconds"] == pytest.approx(wanted.seconds, abs=0.1)
    assert result["sha256"] == hashlib.sha256(file.content).hexdigest()
    assert "imageUrl" not in result
    poster = probe(buyer.http.get(str(result["posterUrl"])).content)
    assert (poster.content_type, poster.width, poster.height) == ("image/jpeg", wanted.width, wanted.height)
    _expect_previews(buyer, result, (wanted.width, wanted.height))


def _expect_previews(buyer: Buyer, result: dict[str, object], size: tuple[int, int]) -> None:
    small = probe(buyer.http.get(str(result["thumbnailUrl"])).content)
    assert (small.content_type, max(small.width, small.height)) == ("image/jpeg", min(512, max(size)))
    assert small.width * size[1] == pytest.approx(small.height * size[0], rel=0.02)
    assert len(str(result["blurhash"])) == 28
    assert datetime.fromisoformat(str(result["expiresAt"])) > datetime.now(UTC) + timedelta(days=29)


def test_an_earlier_result_is_an_input_of_its_own_wallet(buyer: Buyer) -> None:
    earlier = buyer.buy(IMAGE, SMALL)
    buyer.wait(earlier)
    job = buyer.wait(buyer.buy(EDIT, SMALL | {"images": [f"job:{earlier}"]}))
    assert job["status"] == "complete"


def test_a_result_link_is_an_input(buyer: Buyer) -> None:
    earlier = buyer.wait(buyer.buy(IMAGE, SMALL))
    job = buyer.wait(buyer.buy(EDIT, SMALL | {"images": [earlier["result"]["imageUrl"]]}))
    assert job["status"] == "complete"


def test_somebody_elses_result_is_refused_before_the_money_moves(buyer: Buyer, studio: Service) -> None:
    with Buyer(studio.url) as stranger:
        secret = stranger.fund().buy(IMAGE, SMALL)
        stranger.wait(secret)
    _refused_unpaid(buyer, f"job:{secret}")


@pytest.mark.parametrize("url", ["job:job_unknown", "{studio}/assets/jobs/job_x/0.png?exp=9999999999&sig=AAAA"])
def test_an_input_known_to_be_wrong_is_refused_before_the_money_moves(buyer: Buyer, url: str) -> None:
    _refused_unpaid(buyer, url.replace("{studio}", buyer.url))


def _refused_unpaid(buyer: Buyer, url: str) -> None:
    body = SMALL | {"images": [url]}
    answer = buyer.pay(EDIT, body, buyer.sign(EDIT, body))
    told = answer.json()
    assert (answer.status_code, told["charged"], told["issues"][0]["path"]) == (400, False, ["images", 0])
    assert (buyer.jobs(), buyer.balance()) == ([], 100_000_000)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1/a.png", "http://localhost/a.png", "data:image/png;base64,iVBORw0KGgo="]
)
def test_an_input_that_cannot_be_read_is_refused_before_the_money_moves(buyer: Buyer, url: str) -> None:
    body = SMALL | {"images": [url]}
    payment = buyer.sign(EDIT, body)
    refused = buyer.pay(EDIT, body, payment)
    told = refused.json()
    assert (refused.status_code, told["charged"], told["issues"][0]["path"]) == (400, False, ["images", 0])
    assert (buyer.jobs(), buyer.balance()) == ([], 100_000_000)


def test_a_file_of_another_kind_than_its_field_takes_is_refused_before_the_money_moves(buyer: Buyer) -> None:
    body = SMALL | {"images": [sample("video").replace("video/mp4", "image/png")]}
    told = buyer.pay(EDIT, body, buyer.sign(EDIT, body)).json()
    (issue,) = told["issues"]
    assert (told["status"], told["charged"], issue["code"]) == (400, False, "wrong_kind_of_media")
    assert (issue["path"], issue["allowed"]) == (["images", 0], ["image"])
    assert buyer.balance() == 100_000_000
