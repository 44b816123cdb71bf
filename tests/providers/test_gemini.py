"""Gemini's images from work to output, and what is certain after each way of failing."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from PIL import Image

from stablestudio.media.probe import probe
from stablestudio.media.storage import Storage
from stablestudio.providers.faults import SENTENCES, VendorUnusable
from stablestudio.providers.gemini import KEY_HEADER, Gemini
from stablestudio.providers.gemini_images import MAX_IMAGE_BYTES
from stablestudio.providers.http import Ambiguous, VendorHttp
from stablestudio.providers.inputs import MediaSource
from stablestudio.providers.kept import KeptResults
from stablestudio.providers.provider import Accepted, Failed, FailureKind, Made, NotAccepted, Output
from tests.media_samples import image
from tests.providers.fakes.gemini import BAD_KEY, KEY, FakeGemini, error, error_info, image_answer, retry_info
from tests.providers.loopback import Answer, Loopback, Request, Silence, serving
from tests.providers.works import Files, work

pytestmark = pytest.mark.anyio

LINK = "https://example.com/a.png"
GENERATE = work("nano-banana/generate")


@dataclass(frozen=True)
class Desk:
    gemini: Gemini
    vendor: Loopback
    fake: FakeGemini


@asynccontextmanager
async def opened(
    *instead: Answer | Silence, source: MediaSource | None = None, key: str = KEY, patience: float = 5.0
) -> AsyncIterator[Desk]:
    fake = FakeGemini(*instead)
    async with serving(fake) as vendor:
        http = VendorHttp(
            name="gemini",
            base_url=vendor.url + "/v1",
            auth={KEY_HEADER: key},
            timeout_seconds=patience,
            connect_seconds=0.3,
            first_pause=0.005,
            longest_pause=0.02,
        )
        gemini = Gemini(http, source=source or Files(), kept=KeptResults(Storage.at("memory:///")))
        yield Desk(gemini, vendor, fake)
        await gemini.close()


async def refused(desk: Desk) -> NotAccepted:
    with pytest.raises(NotAccepted) as refusal:
        await desk.gemini.submit(GENERATE)
    assert desk.vendor.submits() == 1
    return refusal.value


@pytest.mark.parametrize(
    ("key", "changes", "pixels", "model"),
    [
        ("nano-banana/generate", {"aspectRatio": None, "imageSize": "512"}, (512, 512), "gemini-3.1-flash-image"),
        ("nano-banana/edit", {"imageSize": "1K"}, (1024, 1024), "gemini-3.1-flash-image"),
        ("nano-banana-pro/generate", {"aspectRatio": "1:1"}, (2048, 2048), "gemini-3-pro-image"),
        ("nano-banana-pro/edit", {"imageSize": "1K"}, (1024, 1024), "gemini-3-pro-image"),
    ],
)
async def test_each_offering_becomes_an_image(
    key: str, changes: dict[str, Any], pixels: tuple[int, int], model: str
) -> None:
    ordered = work(key, **changes)
    async with opened() as desk:
        assert await desk.gemini.find(ordered) is None
        accepted = await desk.gemini.submit(ordered)
        assert accepted == Accepted(task="kept", upstream_model=model)
        assert await desk.gemini.find(ordered) == accepted
        assert await desk.gemini.poll(ordered, "kept") == Made()
        output = await desk.gemini.fetch(ordered, "kept")

    assert isinstance(output, Output)
    seen = probe(output.data)
    assert (seen.content_type, output.content_type) == ("image/png", "image/png")
    assert (seen.width, seen.height) == pixels
    assert desk.vendor.submits() == 1
    assert len(desk.fake.bodies[0]["contents"][0]["parts"]) == len(ordered.input.media()) + 1


async def test_the_model_of_the_binding_is_the_one_that_is_asked() -> None:
    async with opened() as desk:
        accepted = await desk.gemini.submit(work("nano-banana/generate", model="gemini-nano-banana-2.1"))

    assert accepted == Accepted(task="kept", upstream_model="gemini-nano-banana-2.1")
    assert desk.vendor.asked[0].path == "/v1/models/gemini-nano-banana-2.1:generateContent"


@pytest.mark.parametrize(("ratio", "pixels"), [(None, (512, 512)), ("4:1", (1024, 256)), ("1:4", (256, 1024))])
async def test_half_of_1k_is_what_the_buyer_of_512_gets_of_a_model_without_that_tier(
    ratio: str | None, pixels: tuple[int, int]
) -> None:
    ordered = work("nano-banana/generate", model="gemini-nano-banana-2.1", imageSize="512", aspectRatio=ratio)
    async with opened() as desk:
        await desk.gemini.submit(ordered)
        output = await desk.gemini.fetch(ordered, "kept")

    assert isinstance(output, Output)
    assert (probe(output.data).width, probe(output.data).height) == pixels


async def test_a_jpeg_becomes_the_png_that_is_sold() -> None:
    async with opened(image_answer(image("JPEG", size=(800, 600)), "image/jpeg")) as desk:
        await desk.gemini.submit(GENERATE)
        output = await desk.gemini.fetch(GENERATE, "kept")

    assert isinstance(output, Output)
    assert Image.open(io.BytesIO(output.data)).format == "PNG"


def noise(side: int) -> bytes:
    """Return a PNG that cannot be packed."""
    out = io.BytesIO()
    Image.frombytes("RGB", (side, side), os.urandom(3 * side * side)).save(out, "PNG", compress_level=0)
    return out.getvalue()


async def test_a_larger_image_than_the_vendor_takes_is_made_smaller() -> None:
    large = noise(1600)
    assert len(large) > MAX_IMAGE_BYTES
    async with opened(source=Files(large)) as desk:
        await desk.gemini.submit(work("nano-banana-pro/edit", images=[LINK], imageSize="1K"))

    sent = desk.fake.bodies[0]["contents"][0]["parts"][0]["inlineData"]
    assert sent["mimeType"] == "image/jpeg"
    assert len(base64.b64decode(sent["data"])) <= MAX_IMAGE_BYTES


async def test_a_type_that_the_vendor_does_not_take_is_written_anew() -> None:
    async with opened(source=Files(image("GIF", mode="P", colour=3))) as desk:
        await desk.gemini.submit(work("nano-banana-pro/edit", images=[LINK], imageSize="1K"))

    assert desk.fake.bodies[0]["contents"][0]["parts"][0]["inlineData"]["mimeType"] in {"image/png", "image/jpeg"}


async def test_an_input_that_cannot_be_read_is_the_buyers_and_nobody_is_asked() -> None:
    async with opened(source=Files(VendorUnusable("a.png is gone."))) as desk:
        found = await desk.gemini.submit(work("nano-banana/edit"))

    assert isinstance(found, Failed)
    assert (found.kind, found.message) == (FailureKind.INVALID_INPUT, "a.png is gone.")
    assert desk.vendor.submits() == 0


# Ways to fail


@pytest.mark.parametrize("how", [Silence.HANG, Silence.RESET, Silence.CUT, Answer(status=500), Answer(status=503)])
async def test_after_an_answer_that_never_came_nobody_knows_and_nothing_is_repeated(how: Answer | Silence) -> None:
    async with opened(how, patience=0.2) as desk:
        with pytest.raises(Ambiguous):
            await desk.gemini.submit(GENERATE)
        assert await desk.gemini.find(GENERATE) is None

    assert desk.vendor.submits() == 1


LIMITED = (429, "RESOURCE_EXHAUSTED", "You exceeded your current quota.")


@pytest.mark.parametrize(
    ("answer", "pause"),
    [
        (error(*LIMITED, retry_info("34.4s")), 34.4),
        (Answer(status=429, headers={"retry-after": "7"}), 7.0),
        (Answer(status=429, headers={"retry-after-ms": "1500"}), 1.5),
        (error(*LIMITED, retry_info("3600s")), 120.0),
        (error(*LIMITED), None),
    ],
)
async def test_too_many_requests_are_said_to_be_with_the_vendors_own_pause(answer: Answer, pause: float | None) -> None:
    async with opened(answer) as desk:
        refusal = await refused(desk)

    assert (refusal.kind, refusal.retry_after) == (FailureKind.RATE_LIMITED, pause)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (BAD_KEY, FailureKind.UPSTREAM_AUTH),
        (error(403, "PERMISSION_DENIED", "No."), FailureKind.UPSTREAM_AUTH),
        (error(403, "PERMISSION_DENIED", "Off.", error_info("BILLING_DISABLED")), FailureKind.UPSTREAM_QUOTA),
        (error(404, "NOT_FOUND", "models/gemini-3.1-flash-image is not found"), FailureKind.UPSTREAM_RETIRED),
        (error(429, "RESOURCE_EXHAUSTED", "Your prepayment credits are depleted."), FailureKind.UPSTREAM_QUOTA),
    ],
)
async def test_what_is_the_operators_lets_another_vendor_be_asked(answer: Answer, kind: FailureKind) -> None:
    async with opened(answer) as desk:
        assert (await refused(desk)).kind is kind


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (Answer(json={"promptFeedback": {"blockReason": "SAFETY"}}), FailureKind.MODERATION),
        (Answer(json={"candidates": [{"finishReason": "IMAGE_SAFETY"}]}), FailureKind.MODERATION),
        (error(400, "INVALID_ARGUMENT", "The prompt was blocked by our safety filter."), FailureKind.MODERATION),
        (error(400, "INVALID_ARGUMENT", "Unable to process input image."), FailureKind.INVALID_INPUT),
        (Answer(json={"candidates": [{"finishReason": "NO_IMAGE"}]}), FailureKind.UPSTREAM_ERROR),
        (Answer(body=b"<html>"), FailureKind.UPSTREAM_ERROR),
        (image_answer(b"no image at all"), FailureKind.UPSTREAM_ERROR),
    ],
)
async def test_a_definite_no_is_final_and_said_in_clean_words(answer: Answer, kind: FailureKind) -> None:
    async with opened(answer) as desk:
        found = await desk.gemini.submit(GENERATE)
        assert await desk.gemini.find(GENERATE) is None

    assert isinstance(found, Failed)
    assert (found.kind, found.message) == (kind, SENTENCES[kind])
    assert desk.vendor.submits() == 1


async def test_a_vendor_that_is_not_there_was_not_asked() -> None:
    async with opened() as desk:
        pass
    with pytest.raises(NotAccepted) as refusal:
        await desk.gemini.submit(GENERATE)

    assert refusal.value.kind is FailureKind.UPSTREAM_ERROR


async def test_a_kept_result_that_is_gone_is_no_result() -> None:
    async with opened() as desk:
        found = await desk.gemini.poll(GENERATE, "kept")

    assert isinstance(found, Failed)
    assert found.kind is FailureKind.UPSTREAM_UNKNOWN


# The check


async def test_a_good_key_passes_the_check_without_cost() -> None:
    async with opened() as desk:
        await desk.gemini.check()

    assert desk.vendor.submits() == 0


async def test_a_wrong_key_does_not_pass_the_check() -> None:
    async with opened(key="AIza-other") as desk:
        with pytest.raises(VendorUnusable, match="refuses the configured key"):
            await desk.gemini.check()


def sometimes(*statuses: int) -> Callable[[Request], Answer]:
    left = list(statuses)
    return lambda _: Answer(status=left.pop(0) if len(left) > 1 else left[0], json={})


async def test_the_check_is_patient_with_a_busy_vendor() -> None:
    async with serving(sometimes(503, 429, 200)) as vendor:
        http = VendorHttp(name="gemini", base_url=vendor.url, auth={}, first_pause=0.005, longest_pause=0.02)
        gemini = Gemini(http, source=Files(), kept=KeptResults(Storage.at("memory:///")))
        await gemini.check()
        await gemini.close()

    assert len(vendor.asked) == 3
