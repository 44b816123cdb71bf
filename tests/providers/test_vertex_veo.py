"""Veo from work to output, signed in as a service account, and everything that an operation may come to."""

from __future__ import annotations

import base64
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from PIL import Image

from stablestudio.media.storage import Storage
from stablestudio.providers.faults import SENTENCES, VendorUnusable
from stablestudio.providers.google_token import GoogleToken, ServiceAccount
from stablestudio.providers.http import Ambiguous, Unreadable, VendorHttp
from stablestudio.providers.inputs import MediaSource
from stablestudio.providers.kept import KeptResults
from stablestudio.providers.provider import Accepted, Failed, FailureKind, Made, NotAccepted, Output, Running
from stablestudio.providers.vertex_veo import VertexVeo, base_url, connect
from tests.doubles import ManualClock, png
from tests.media_samples import image
from tests.providers.fakes.gemini import error, retry_info
from tests.providers.fakes.vertex import HOME, LOCATION, PROJECT, UNAUTHENTICATED, FakeVertex, key_file, sample_clip
from tests.providers.loopback import Answer, Loopback, Silence, serving
from tests.providers.works import Files, work

pytestmark = pytest.mark.anyio

LINK = "https://example.com/a.png"
CLIP = work("veo-3.1/generate")
TASK = f"{HOME.removeprefix('/v1beta1/')}/veo-3.1-generate-001/operations/1"


@dataclass(frozen=True)
class Desk:
    veo: VertexVeo
    vendor: Loopback
    fake: FakeVertex
    clock: ManualClock

    @property
    def submits(self) -> int:
        return sum(request.path.endswith(":predictLongRunning") for request in self.vendor.asked)

    @property
    def polls(self) -> int:
        return sum(request.path.endswith(":fetchPredictOperation") for request in self.vendor.asked)


@asynccontextmanager
async def opened(
    *instead: Answer | Silence,
    source: MediaSource | None = None,
    patience: float = 5.0,
    **behaviour: Any,
) -> AsyncIterator[Desk]:
    fake, clock = FakeVertex(*instead, **behaviour), ManualClock()
    async with serving(fake) as vendor:
        token = GoogleToken(ServiceAccount.parse(key_file(), token_url=vendor.url + "/token"), clock=clock)
        http = VendorHttp(
            name="vertex-veo",
            base_url=vendor.url + "/v1beta1",
            auth=token.headers,
            timeout_seconds=patience,
            connect_seconds=0.3,
            first_pause=0.005,
            longest_pause=0.02,
        )
        veo = VertexVeo(
            http,
            source=source or Files(),
            kept=KeptResults(Storage.at("memory:///")),
            project=PROJECT,
            location=LOCATION,
            clock=clock,
        )
        yield Desk(veo, vendor, fake, clock)
        await veo.close()
        await token.close()


@pytest.mark.parametrize(
    ("key", "model"),
    [("veo-3.1/generate", "veo-3.1-generate-001"), ("veo-3.1-fast/generate", "veo-3.1-fast-generate-001")],
)
async def test_each_offering_becomes_a_clip(key: str, model: str) -> None:
    ordered = work(key)
    async with opened(model=model) as desk:
        accepted = await desk.veo.submit(ordered)
        assert isinstance(accepted, Accepted)
        assert accepted.upstream_model == model
        assert [await desk.veo.poll(ordered, accepted.task) for _ in range(2)] == [Running(), Made()]
        output = await desk.veo.fetch(ordered, accepted.task)

    assert output == Output(data=sample_clip(), content_type="video/mp4")
    assert (desk.submits, desk.fake.tokens) == (1, 1)


async def test_a_clip_is_kept_at_the_first_answer_that_brings_it() -> None:
    async with opened(running=0) as desk:
        await desk.veo.submit(CLIP)
        for _ in range(3):
            assert await desk.veo.poll(CLIP, TASK) == Made()
            assert isinstance(await desk.veo.fetch(CLIP, TASK), Output)

    assert desk.polls == 1


async def test_an_operation_is_asked_about_where_it_runs_even_after_the_binding_changed() -> None:
    async with opened(running=0) as desk:
        await desk.veo.submit(CLIP)
        assert await desk.veo.poll(work("veo-3.1/generate", model="veo-4"), TASK) == Made()

    assert desk.vendor.asked[-1].path == f"{HOME}/veo-3.1-generate-001:fetchPredictOperation"


async def test_frames_are_cut_to_the_clips_shape_and_references_are_not() -> None:
    async with opened(source=Files(png((400, 400)))) as desk:
        await desk.veo.submit(work("veo-3.1/generate", image=LINK, lastFrame=LINK, resolution="1080p"))
        await desk.veo.submit(work("veo-3.1/generate", referenceImages=[LINK]))

    framed, referring = (body["instances"][0] for body in desk.fake.bodies.values())
    assert _size(framed["image"]) == _size(framed["lastFrame"]) == (1920, 1080)
    assert _size(referring["referenceImages"][0]["image"]) == (400, 400)


async def test_a_frame_of_the_right_shape_goes_as_it_is() -> None:
    frame = png((320, 180))
    async with opened(source=Files(frame)) as desk:
        await desk.veo.submit(work("veo-3.1/generate", image=LINK, resolution="720p"))

    sent = next(iter(desk.fake.bodies.values()))["instances"][0]["image"]
    assert base64.b64decode(sent["bytesBase64Encoded"]) == frame


async def test_a_type_that_the_vendor_does_not_take_is_written_anew() -> None:
    async with opened(source=Files(image("WEBP", size=(320, 180)))) as desk:
        await desk.veo.submit(work("veo-3.1/generate", image=LINK, resolution="720p"))

    sent = next(iter(desk.fake.bodies.values()))["instances"][0]["image"]
    assert sent["mimeType"] in {"image/png", "image/jpeg"}


def _size(part: dict[str, str]) -> tuple[int, int]:
    return Image.open(io.BytesIO(base64.b64decode(part["bytesBase64Encoded"]))).size


# Signing in


async def test_a_token_serves_many_requests_and_is_renewed_before_it_ends() -> None:
    async with opened(running=9) as desk:
        await desk.veo.submit(CLIP)
        await desk.veo.poll(CLIP, TASK)
        assert desk.fake.tokens == 1
        desk.clock.advance(3540)
        await desk.veo.poll(CLIP, TASK)
        assert desk.fake.tokens == 2


async def test_without_a_token_the_work_was_not_asked_for() -> None:
    async with opened() as desk:
        desk.fake.sign_in = Answer(status=400, json={"error": "invalid_grant"})
        with pytest.raises(NotAccepted) as refusal:
            await desk.veo.submit(CLIP)

    assert refusal.value.kind is FailureKind.UPSTREAM_AUTH
    assert desk.submits == 0


async def test_a_poll_without_a_token_decides_nothing() -> None:
    async with opened(running=0) as desk:
        await desk.veo.submit(CLIP)
        desk.clock.advance(4000)
        desk.fake.sign_in = Answer(status=500)
        with pytest.raises(NotAccepted):
            await desk.veo.poll(CLIP, TASK)
        desk.fake.sign_in = None
        assert await desk.veo.poll(CLIP, TASK) == Made()


# Ends without a clip


FILTERED = ["Veo could not generate videos because of safety. Support codes: 15236754"]


@pytest.mark.parametrize(
    ("ends", "kind"),
    [
        ({"response": {"raiMediaFilteredCount": 1, "raiMediaFilteredReasons": FILTERED}}, FailureKind.MODERATION),
        ({"error": {"code": 3, "message": "The image violates Vertex AI's usage guidelines."}}, FailureKind.MODERATION),
        ({"error": {"code": 3, "message": "Bad image."}}, FailureKind.INVALID_INPUT),
        ({"error": {"code": 8, "message": "Resource exhausted."}}, FailureKind.RATE_LIMITED),
        ({"error": {"code": 13, "message": "Internal."}}, FailureKind.UPSTREAM_ERROR),
        ({"response": {}}, FailureKind.UPSTREAM_ERROR),
        ({"response": {"videos": [{"gcsUri": "gs://b/a.mp4"}]}}, FailureKind.UPSTREAM_ERROR),
        ({"response": {"videos": [{"bytesBase64Encoded": "aGVsbG8="}]}}, FailureKind.UPSTREAM_ERROR),
    ],
)
async def test_every_end_without_a_clip_is_a_failure_in_clean_words(ends: dict[str, Any], kind: FailureKind) -> None:
    async with opened(running=0, ends=ends) as desk:
        await desk.veo.submit(CLIP)
        found = await desk.veo.poll(CLIP, TASK)

    assert isinstance(found, Failed)
    assert (found.kind, found.message) == (kind, SENTENCES[kind])


async def test_a_picture_in_place_of_the_clip_is_the_vendors_failure() -> None:
    picture = base64.b64encode(png()).decode()
    async with opened(running=0, ends={"response": {"videos": [{"bytesBase64Encoded": picture}]}}) as desk:
        await desk.veo.submit(CLIP)
        assert await desk.veo.poll(CLIP, TASK) == Made()
        found = await desk.veo.fetch(CLIP, TASK)

    assert isinstance(found, Failed)
    assert found.kind is FailureKind.UPSTREAM_ERROR


async def test_a_huge_answer_fails_the_work_and_is_not_asked_for_again_and_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("stablestudio.providers.vertex_veo._MAX_ANSWER_BYTES", 500)
    async with opened(running=0) as desk:
        await desk.veo.submit(CLIP)
        found = await desk.veo.poll(CLIP, TASK)

    assert isinstance(found, Failed)
    assert found.kind is FailureKind.UPSTREAM_ERROR


async def test_one_server_that_does_not_know_an_operation_does_not_fail_it() -> None:
    stray = error(404, "NOT_FOUND", "The operation was not found.")
    async with opened(running=5) as desk:
        await desk.veo.submit(CLIP)
        desk.fake.polls = [stray]
        for _ in range(4):
            assert await desk.veo.poll(CLIP, TASK) == Running()
            desk.clock.advance(60)
        desk.fake.polls = [stray]
        assert await desk.veo.poll(CLIP, TASK) == Running()


async def test_an_operation_that_the_vendor_does_not_know_is_lost_after_a_while() -> None:
    async with opened() as desk:
        assert await desk.veo.poll(CLIP, TASK) == Running()
        desk.clock.advance(300)
        found = await desk.veo.poll(CLIP, TASK)

    assert isinstance(found, Failed)
    assert found.kind is FailureKind.UPSTREAM_UNKNOWN


# What decides nothing


@pytest.mark.parametrize(
    "answer", [Answer(body=b"<html>"), Answer(json=[]), UNAUTHENTICATED, Answer(status=400, json={})]
)
async def test_an_answer_that_is_not_about_the_operation_is_asked_for_again_later(answer: Answer) -> None:
    async with opened(running=0) as desk:
        await desk.veo.submit(CLIP)
        desk.fake.polls = [answer]
        with pytest.raises(Unreadable):
            await desk.veo.poll(CLIP, TASK)
        assert await desk.veo.poll(CLIP, TASK) == Made()


async def test_a_poll_is_patient_with_a_busy_vendor() -> None:
    async with opened(running=0) as desk:
        await desk.veo.submit(CLIP)
        desk.fake.polls = [Answer(status=503), Answer(status=429), Answer(status=500)]
        assert await desk.veo.poll(CLIP, TASK) == Made()


# Submissions


@pytest.mark.parametrize(
    "how", [Silence.HANG, Silence.RESET, Silence.CUT, Answer(status=503), Answer(json={}), Answer(body=b"<html>")]
)
async def test_after_an_answer_without_a_name_nobody_knows_and_nothing_is_repeated(how: Answer | Silence) -> None:
    async with opened(how, patience=0.2) as desk:
        with pytest.raises(Ambiguous):
            await desk.veo.submit(CLIP)
        assert await desk.veo.find(CLIP) is None

    assert desk.submits == 1


@pytest.mark.parametrize(
    ("answer", "kind", "pause"),
    [
        (error(429, "RESOURCE_EXHAUSTED", "Slow down.", retry_info("9s")), FailureKind.RATE_LIMITED, 9.0),
        (Answer(status=429, headers={"retry-after": "3"}), FailureKind.RATE_LIMITED, 3.0),
        (UNAUTHENTICATED, FailureKind.UPSTREAM_AUTH, None),
        (error(403, "PERMISSION_DENIED", "Enable billing."), FailureKind.UPSTREAM_QUOTA, None),
        (error(404, "NOT_FOUND", "Publisher Model was not found"), FailureKind.UPSTREAM_RETIRED, None),
    ],
)
async def test_what_is_the_operators_lets_another_vendor_be_asked(
    answer: Answer, kind: FailureKind, pause: float | None
) -> None:
    async with opened(answer) as desk:
        with pytest.raises(NotAccepted) as refusal:
            await desk.veo.submit(CLIP)

    assert (refusal.value.kind, refusal.value.retry_after) == (kind, pause)
    assert desk.submits == 1


async def test_a_definite_no_is_final() -> None:
    async with opened(error(400, "INVALID_ARGUMENT", "The prompt violates our usage guidelines.")) as desk:
        found = await desk.veo.submit(CLIP)

    assert isinstance(found, Failed)
    assert found.kind is FailureKind.MODERATION


async def test_an_input_that_cannot_be_read_is_the_buyers_and_nobody_is_asked() -> None:
    async with opened(source=Files(VendorUnusable("a.png is gone."))) as desk:
        found = await desk.veo.submit(work("veo-3.1/generate", image=LINK))

    assert isinstance(found, Failed)
    assert found.kind is FailureKind.INVALID_INPUT
    assert desk.vendor.asked == []


# The check and the address


async def test_a_good_account_passes_the_check_without_cost() -> None:
    async with opened() as desk:
        await desk.veo.check()

    assert desk.submits == 0


@pytest.mark.parametrize(
    ("sign_in", "poll", "words"),
    [
        (Answer(status=400, json={"error": "invalid_grant"}), None, "cannot sign in"),
        (None, UNAUTHENTICATED, "refuses the configured key"),
        (None, error(403, "PERMISSION_DENIED", "Enable billing."), "no credit"),
        (None, Answer(status=404, body=b"<html>nothing here</html>"), "is its address right"),
        (None, Answer(body=b"<html>hello</html>"), "unexpectedly"),
    ],
)
async def test_an_account_without_rights_does_not_pass_the_check(
    sign_in: Answer | None, poll: Answer | None, words: str
) -> None:
    async with opened() as desk:
        desk.fake.sign_in = sign_in
        desk.fake.polls = [poll] if poll else []
        with pytest.raises(VendorUnusable, match=words):
            await desk.veo.check()


def test_a_location_has_an_address_of_its_own() -> None:
    assert base_url("us-central1") == "https://us-central1-aiplatform.googleapis.com/v1beta1"
    assert base_url("global") == "https://aiplatform.googleapis.com/v1beta1"
    token = GoogleToken(ServiceAccount.parse(key_file()), clock=ManualClock())
    assert connect(token, location="europe-west4").base_url == base_url("europe-west4")
