"""Interactions from work to output: clips by Omni, images in the background, and every end that they may come to."""

from __future__ import annotations

import base64
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from PIL import Image

from stablestudio.media.probe import probe
from stablestudio.providers.faults import SENTENCES, VendorUnusable
from stablestudio.providers.gemini import KEY_HEADER
from stablestudio.providers.http import Ambiguous, Unreadable, VendorHttp
from stablestudio.providers.inputs import MediaSource
from stablestudio.providers.interactions import Interactions
from stablestudio.providers.provider import Accepted, Failed, FailureKind, Made, NotAccepted, Output, Running
from tests.doubles import ManualClock, png
from tests.providers.fakes.gemini import BAD_KEY, KEY, error, error_info, retry_info
from tests.providers.fakes.interactions import INLINE_SIDE, FakeInteractions, sample_clip
from tests.providers.loopback import Answer, Loopback, Silence, serving
from tests.providers.troubles import public_loopback
from tests.providers.works import JOB, Files, work

pytestmark = pytest.mark.anyio

LINK = "https://example.com/a.png"
CLIP = work("veo-3.1/generate")


@dataclass(frozen=True)
class Desk:
    google: Interactions
    vendor: Loopback
    fake: FakeInteractions
    clock: ManualClock


@asynccontextmanager
async def opened(
    *instead: Answer | Silence,
    source: MediaSource | None = None,
    key: str = KEY,
    patience: float = 5.0,
    **behaviour: Any,
) -> AsyncIterator[Desk]:
    fake, clock = FakeInteractions(*instead, **behaviour), ManualClock()
    async with serving(fake) as vendor:
        http = VendorHttp(
            name="google-interactions",
            base_url=vendor.url + "/v1",
            auth={KEY_HEADER: key},
            timeout_seconds=patience,
            connect_seconds=0.3,
            first_pause=0.005,
            longest_pause=0.02,
            fetcher=public_loopback(),
        )
        google = Interactions(http, source=source or Files(), clock=clock)
        yield Desk(google, vendor, fake, clock)
        await google.close()


@pytest.mark.parametrize(
    ("key", "model"),
    [("veo-3.1/generate", "gemini-omni-1.1-flash"), ("veo-3.1-fast/generate", "gemini-omni-1.1-flash")],
)
async def test_each_clip_is_made_in_the_background_and_fetched_as_a_file(key: str, model: str) -> None:
    ordered = work(key)
    async with opened() as desk:
        accepted = await desk.google.submit(ordered)
        assert accepted == Accepted(task="v1_1", upstream_model=model)
        assert [await desk.google.poll(ordered, "v1_1") for _ in range(3)] == [Running(), Running(), Made()]
        output = await desk.google.fetch(ordered, "v1_1")

    assert output == Output(data=sample_clip(), content_type="video/mp4")
    assert desk.fake.bodies["v1_1"]["labels"] == {"stablestudio_job": JOB}
    assert desk.vendor.submits() == 1


@pytest.mark.parametrize(
    ("key", "changes"),
    [
        ("nano-banana/generate", {}),
        ("nano-banana/edit", {}),
        ("nano-banana-pro/generate", {"imageSize": "1K", "aspectRatio": "1:1"}),
        ("nano-banana-pro/edit", {"imageSize": "1K"}),
    ],
)
async def test_each_image_can_be_made_in_the_background_too(key: str, changes: dict[str, Any]) -> None:
    ordered = work(key, **changes)
    async with opened() as desk:
        await desk.google.submit(ordered)
        assert [await desk.google.poll(ordered, "v1_1") for _ in range(2)] == [Running(), Made()]
        output = await desk.google.fetch(ordered, "v1_1")

    assert isinstance(output, Output)
    assert (probe(output.data).width, output.content_type) == (INLINE_SIDE, "image/png")


async def test_half_of_1k_is_what_the_buyer_of_512_gets() -> None:
    ordered = work("nano-banana/generate", imageSize="512", aspectRatio=None, model="gemini-nano-banana-2.1")
    async with opened(running=0) as desk:
        await desk.google.submit(ordered)
        output = await desk.google.fetch(ordered, "v1_1")

    assert isinstance(output, Output)
    assert probe(output.data).width == INLINE_SIDE // 2
    assert desk.fake.bodies["v1_1"]["response_format"]["image_size"] == "1K"


async def test_a_clip_may_come_inline_as_well() -> None:
    async with opened(running=0, inline=True) as desk:
        await desk.google.submit(CLIP)
        assert await desk.google.poll(CLIP, "v1_1") == Made()
        assert await desk.google.fetch(CLIP, "v1_1") == Output(data=sample_clip(), content_type="video/mp4")


async def test_frames_are_cut_to_the_clips_shape_and_references_are_not() -> None:
    async with opened(source=Files(png((400, 400)))) as desk:
        await desk.google.submit(work("veo-3.1/generate", image=LINK, resolution="720p", aspectRatio="9:16"))
        await desk.google.submit(work("veo-3.1/generate", referenceImages=[LINK]))

    sizes = [Image.open(io.BytesIO(base64.b64decode(_first_image(body)))).size for body in desk.fake.bodies.values()]
    assert sizes == [(720, 1280), (400, 400)]


def _first_image(body: dict[str, Any]) -> str:
    data: str = body["input"][0]["content"][0]["data"]
    return data


async def test_the_key_goes_to_our_own_address_even_if_the_file_is_said_to_be_elsewhere() -> None:
    async with opened(running=0) as desk:
        await desk.google.submit(CLIP)
        await desk.google.fetch(CLIP, "v1_1")

    assert [request.path for request in desk.vendor.asked][-1] == "/v1/files/f-1:download"


async def test_a_redirect_to_the_store_is_followed_without_the_key() -> None:
    async with serving(lambda _: Answer(body=sample_clip())) as store, opened(running=0) as desk:
        await desk.google.submit(CLIP)
        desk.fake.file = Answer(status=302, headers={"location": store.url + "/clip.mp4"})
        output = await desk.google.fetch(CLIP, "v1_1")

    assert isinstance(output, Output)
    assert "x-goog-api-key" not in store.asked[0].headers


# Cancelling


async def test_an_interaction_can_be_stopped() -> None:
    async with opened() as desk:
        await desk.google.submit(CLIP)
        assert await desk.google.cancel(CLIP, "v1_1")
        assert desk.fake.cancelled == {"v1_1"}
        assert not await desk.google.cancel(CLIP, "v1_404")


# Ends without a result


@pytest.mark.parametrize(
    ("ends", "kind"),
    [
        ({"status": "failed"}, FailureKind.UPSTREAM_ERROR),
        ({"status": "cancelled"}, FailureKind.UPSTREAM_ERROR),
        ({"status": "requires_action"}, FailureKind.UPSTREAM_ERROR),
        ({"status": "requires_continuation"}, FailureKind.UPSTREAM_ERROR),
        ({"status": "incomplete", "steps": []}, FailureKind.UPSTREAM_ERROR),
        ({"status": "budget_exceeded"}, FailureKind.UPSTREAM_QUOTA),
        ({"status": "completed", "steps": []}, FailureKind.UPSTREAM_ERROR),
        (
            {"steps": [{"type": "model_output", "content": [{"type": "text", "text": "I cannot."}]}]},
            FailureKind.MODERATION,
        ),
        (
            {
                "status": "failed",
                "steps": [{"type": "model_output", "error": {"code": 3, "message": "Blocked by safety."}}],
            },
            FailureKind.MODERATION,
        ),
    ],
)
async def test_every_end_without_a_result_is_a_failure_in_clean_words(ends: dict[str, Any], kind: FailureKind) -> None:
    async with opened(running=0, ends=ends) as desk:
        await desk.google.submit(CLIP)
        found = await desk.google.poll(CLIP, "v1_1")
        assert await desk.google.fetch(CLIP, "v1_1") == found

    assert isinstance(found, Failed)
    assert (found.kind, found.message) == (kind, SENTENCES[kind])


async def test_a_file_that_fails_fails_the_work() -> None:
    async with opened(running=0, file_states=("FAILED",)) as desk:
        await desk.google.submit(CLIP)
        found = await desk.google.poll(CLIP, "v1_1")

    assert isinstance(found, Failed)
    assert found.kind is FailureKind.UPSTREAM_ERROR


@pytest.mark.parametrize(
    "file",
    [Answer(status=404, json={}), Answer(body=b"<html>not a clip"), Answer(body=png())],
)
async def test_a_file_that_is_not_to_be_had_is_the_vendors_failure(file: Answer) -> None:
    async with opened(running=0) as desk:
        await desk.google.submit(CLIP)
        desk.fake.file = file
        found = await desk.google.fetch(CLIP, "v1_1")

    assert isinstance(found, Failed)
    assert found.kind is FailureKind.UPSTREAM_ERROR


@pytest.mark.parametrize(
    "uri", ["http://169.254.169.254/latest/meta-data", "gs://bucket/clip.mp4", "file:///etc/passwd"]
)
async def test_a_result_on_a_private_address_is_not_fetched(uri: str) -> None:
    content = [{"type": "video", "mime_type": "video/mp4", "uri": uri}]
    async with opened(running=0, ends={"steps": [{"type": "model_output", "content": content}]}) as desk:
        await desk.google.submit(CLIP)
        assert await desk.google.poll(CLIP, "v1_1") == Made()
        found = await desk.google.fetch(CLIP, "v1_1")

    assert isinstance(found, Failed)
    assert found.kind is FailureKind.UPSTREAM_ERROR


async def test_a_huge_answer_fails_the_work_and_is_not_asked_for_again_and_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("stablestudio.providers.interactions._MAX_ANSWER_BYTES", 500)
    async with opened(running=0, inline=True) as desk:
        await desk.google.submit(CLIP)
        found = await desk.google.poll(CLIP, "v1_1")

    assert isinstance(found, Failed)
    assert found.kind is FailureKind.UPSTREAM_ERROR


# What decides nothing


async def test_an_undocumented_state_decides_nothing() -> None:
    async with opened(running=0, ends={"status": "dreaming"}) as desk:
        await desk.google.submit(CLIP)
        assert await desk.google.poll(CLIP, "v1_1") == Running()


@pytest.mark.parametrize(
    "answer",
    [
        Answer(body=b"<html>"),
        Answer(json=[1]),
        Answer(status=401, json={}),
        error(403, "PERMISSION_DENIED", "No."),
        error(400, "INVALID_ARGUMENT", "Request had an invalid header."),
    ],
)
async def test_an_answer_that_is_not_about_the_interaction_is_asked_for_again_later(answer: Answer) -> None:
    async with opened(running=0) as desk:
        await desk.google.submit(CLIP)
        desk.fake.polls = [answer]
        with pytest.raises(Unreadable):
            await desk.google.poll(CLIP, "v1_1")
        assert isinstance(await desk.google.poll(CLIP, "v1_1"), Running | Made)


async def test_a_poll_is_patient_with_a_busy_vendor() -> None:
    async with opened(running=0, file_states=("ACTIVE",)) as desk:
        await desk.google.submit(CLIP)
        desk.fake.polls = [Answer(status=503), Answer(status=429), Answer(status=500)]
        assert await desk.google.poll(CLIP, "v1_1") == Made()


async def test_an_interaction_that_the_vendor_does_not_know_yet_may_come() -> None:
    async with opened() as desk:
        assert await desk.google.poll(CLIP, "v1_404") == Running()
        desk.clock.advance(300)
        found = await desk.google.poll(CLIP, "v1_404")

    assert isinstance(found, Failed)
    assert found.kind is FailureKind.UPSTREAM_UNKNOWN


async def test_one_server_that_does_not_know_an_interaction_does_not_fail_it() -> None:
    stray = error(400, "INVALID_ARGUMENT", "Invalid interaction name.")
    async with opened(running=5) as desk:
        await desk.google.submit(CLIP)
        desk.fake.polls = [stray]
        for _ in range(4):
            assert await desk.google.poll(CLIP, "v1_1") == Running()
            desk.clock.advance(60)
        desk.fake.polls = [stray]
        assert await desk.google.poll(CLIP, "v1_1") == Running()


# Submissions


@pytest.mark.parametrize(
    "how", [Silence.HANG, Silence.RESET, Silence.CUT, Answer(status=500), Answer(json={}), Answer(body=b"<html>")]
)
async def test_after_an_answer_without_an_id_nobody_knows_and_nothing_is_repeated(how: Answer | Silence) -> None:
    async with opened(how, patience=0.2) as desk:
        with pytest.raises(Ambiguous):
            await desk.google.submit(CLIP)
        assert await desk.google.find(CLIP) is None

    assert desk.vendor.submits() == 1


@pytest.mark.parametrize(
    ("answer", "kind", "pause"),
    [
        (error(429, "RESOURCE_EXHAUSTED", "Slow down.", retry_info("22s")), FailureKind.RATE_LIMITED, 22.0),
        (Answer(status=429, headers={"retry-after": "3"}), FailureKind.RATE_LIMITED, 3.0),
        (BAD_KEY, FailureKind.UPSTREAM_AUTH, None),
        (error(403, "PERMISSION_DENIED", "x", error_info("BILLING_DISABLED")), FailureKind.UPSTREAM_QUOTA, None),
        (error(404, "NOT_FOUND", "model not found"), FailureKind.UPSTREAM_RETIRED, None),
    ],
)
async def test_what_is_the_operators_lets_another_vendor_be_asked(
    answer: Answer, kind: FailureKind, pause: float | None
) -> None:
    async with opened(answer) as desk:
        with pytest.raises(NotAccepted) as refusal:
            await desk.google.submit(CLIP)

    assert (refusal.value.kind, refusal.value.retry_after) == (kind, pause)
    assert desk.vendor.submits() == 1


@pytest.mark.parametrize(
    ("message", "kind"),
    [("The prompt was blocked for safety.", FailureKind.MODERATION), ("Bad duration.", FailureKind.INVALID_INPUT)],
)
async def test_a_definite_no_is_final(message: str, kind: FailureKind) -> None:
    async with opened(error(400, "INVALID_ARGUMENT", message)) as desk:
        found = await desk.google.submit(CLIP)

    assert isinstance(found, Failed)
    assert found.kind is kind
    assert desk.vendor.submits() == 1


async def test_an_input_that_cannot_be_read_is_the_buyers_and_nobody_is_asked() -> None:
    async with opened(source=Files(VendorUnusable("a.png is gone."))) as desk:
        for ordered in (work("veo-3.1/generate", image=LINK), work("nano-banana/edit")):
            found = await desk.google.submit(ordered)
            assert isinstance(found, Failed)
            assert found.kind is FailureKind.INVALID_INPUT

    assert desk.vendor.submits() == 0


async def test_the_check_needs_the_right_key() -> None:
    async with opened() as desk:
        await desk.google.check()
    async with opened(key="other") as desk:
        with pytest.raises(VendorUnusable):
            await desk.google.check()
