"""Clips by the protocol of OpenAI's videos: one task, followed to its end, its frame cropped as the vendor demands."""

from __future__ import annotations

import base64
import io
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import openai
import pytest
from PIL import Image

from stablestudio.media.fetch import FetchFailed
from stablestudio.media.probe import probe
from stablestudio.providers.faults import VendorUnusable
from stablestudio.providers.http import Ambiguous, Unanswered, Unreadable
from stablestudio.providers.openai_videos import OpenAIVideos
from stablestudio.providers.provider import Accepted, Failed, FailureKind, Made, NotAccepted, Output, Running, Work
from tests import media_samples as samples
from tests.doubles import ManualClock
from tests.providers.fakes.openai_images import KEY, error
from tests.providers.fakes.openai_videos import FakeOpenAIVideos
from tests.providers.loopback import Answer, Loopback, Silence, serving
from tests.providers.troubles import REFUSALS, SUBMISSIONS, quick
from tests.providers.works import Files, end_user, work

pytestmark = pytest.mark.anyio


@dataclass
class World:
    """The adapter against its fake vendor."""

    adapter: OpenAIVideos
    fake: FakeOpenAIVideos
    vendor: Loopback
    clock: ManualClock


@asynccontextmanager
async def world(
    *script: Answer | Silence, files: Files | None = None, outcome: dict[str, Any] | None = None, **options: Any
) -> AsyncIterator[World]:
    fake = FakeOpenAIVideos(*script, outcome=outcome)
    clock = ManualClock()
    async with serving(fake) as vendor:
        http = quick("gateway", vendor.url + "/v1", KEY)
        adapter = OpenAIVideos(http, source=files or Files(), clock=clock, user=end_user, **options)
        yield World(adapter, fake, vendor, clock)
        await adapter.close()


def ordered(key: str = "sora-2/generate", **changes: Any) -> Work:
    return work(key, model=OpenAIVideos.models[key], **changes)


async def submitted(w: World, order: Work) -> str:
    accepted = await w.adapter.submit(order)
    assert isinstance(accepted, Accepted)
    return accepted.task


@pytest.mark.parametrize("key", sorted(OpenAIVideos.models))
async def test_an_order_becomes_a_file(key: str) -> None:
    async with world() as w:
        order = ordered(key)
        accepted = await w.adapter.submit(order)

        assert accepted == Accepted(task="video_1", upstream_model=OpenAIVideos.models[key])
        states = [await w.adapter.poll(order, "video_1") for _ in range(3)]
        assert states == [Running(progress=0), Running(progress=45), Made()]
        output = await w.adapter.fetch(order, "video_1")
        assert isinstance(output, Output)
        assert (probe(output.data).kind, output.content_type) == ("video", "video/mp4")
        assert w.vendor.submits() == 1


@pytest.mark.parametrize("size", ["1280x720", "720x1280"])
async def test_a_first_frame_is_cropped_to_the_clips_size(size: str) -> None:
    async with world(files=Files(samples.image(size=(1000, 1000)))) as w:
        await submitted(w, ordered(size=size))

        frame = base64.b64decode(w.fake.bodies[0]["input_reference"]["image_url"].partition(",")[2])
        assert "x".join(map(str, Image.open(io.BytesIO(frame)).size)) == size


async def test_a_frame_of_another_size_is_refused_where_cropping_is_off() -> None:
    async with world(files=Files(samples.image(size=(1000, 1000)))) as w:
        failure = await w.adapter.submit(ordered(autoCrop=False))

        assert isinstance(failure, Failed)
        assert failure.kind is FailureKind.INVALID_INPUT
        assert "1000x1000" in failure.message
        assert "1280x720" in failure.message
        assert w.vendor.asked == []


async def test_a_frame_of_the_right_size_goes_as_it_is() -> None:
    frame = samples.image("JPEG", size=(1280, 720))
    async with world(files=Files(frame)) as w:
        await submitted(w, ordered(autoCrop=False))

        sent = w.fake.bodies[0]["input_reference"]["image_url"]
        assert sent == "data:image/jpeg;base64," + base64.b64encode(frame).decode()


async def test_a_server_without_json_gets_a_form_as_the_vendors_own_client_sends_it() -> None:
    async with world(bodies="form") as w:
        await submitted(w, ordered())

        assert w.vendor.asked[0].headers["content-type"].startswith("multipart/form-data; boundary=")
        assert w.fake.bodies[0].keys() == {"model", "prompt", "seconds", "size", "input_reference"}


# What is known after a submission


@pytest.mark.parametrize(("trouble", "raised", "pause"), SUBMISSIONS)
async def test_a_troubled_submission_is_sent_once(
    trouble: Answer | Silence, raised: type[Exception], pause: float | None
) -> None:
    async with world(trouble) as w:
        with pytest.raises(raised) as caught:
            await w.adapter.submit(ordered())

        assert w.vendor.submits() == 1
        if isinstance(caught.value, NotAccepted):
            assert (caught.value.kind, caught.value.retry_after) == (FailureKind.RATE_LIMITED, pause)


@pytest.mark.parametrize(
    "answer", [Answer(body=b"<html>"), Answer(json=[]), Answer(json={"id": ""}), Answer(json={"id": 7}), Answer()]
)
async def test_an_acceptance_without_a_task_is_unclear(answer: Answer) -> None:
    async with world(answer) as w:
        order = ordered()
        with pytest.raises(Ambiguous):
            await w.adapter.submit(order)

        assert await w.adapter.find(order) is None
        assert w.vendor.submits() == 1


@pytest.mark.parametrize(
    ("answer", "kind"), [*REFUSALS, (error(429, code="insufficient_quota"), FailureKind.UPSTREAM_QUOTA)]
)
async def test_a_refusal_of_the_operator_leaves_the_work_to_another_vendor(answer: Answer, kind: FailureKind) -> None:
    async with world(answer) as w:
        with pytest.raises(NotAccepted) as caught:
            await w.adapter.submit(ordered())

        assert caught.value.kind is kind
        assert w.vendor.submits() == 1


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (error(400, code="moderation_blocked"), FailureKind.MODERATION),
        (error(400, code="content_policy_violation"), FailureKind.MODERATION),
        (error(400, "Invalid size", param="size"), FailureKind.INVALID_INPUT),
    ],
)
async def test_a_refusal_of_the_work_fails_it(answer: Answer, kind: FailureKind) -> None:
    async with world(answer) as w:
        failure = await w.adapter.submit(ordered())

        assert isinstance(failure, Failed)
        assert failure.kind is kind


async def test_an_input_that_cannot_be_read_costs_no_question() -> None:
    async with world(files=Files(FetchFailed("gone."))) as w:
        assert await w.adapter.submit(ordered()) == Failed(kind=FailureKind.INVALID_INPUT, message="gone.")
        assert w.vendor.asked == []


# The way to the result


@pytest.mark.parametrize(
    ("outcome", "kind"),
    [
        ({"status": "failed", "error": {"code": "moderation_blocked", "message": "no"}}, FailureKind.MODERATION),
        ({"status": "failed", "error": {"code": "video_failed", "message": "no"}}, FailureKind.UPSTREAM_ERROR),
        ({"status": "cancelled", "error": None}, FailureKind.UPSTREAM_ERROR),
    ],
)
async def test_a_task_that_ends_badly_is_a_failure(outcome: dict[str, Any], kind: FailureKind) -> None:
    async with world(outcome=outcome) as w:
        order = ordered()
        task = await submitted(w, order)
        answers = [await w.adapter.poll(order, task) for _ in range(3)]

        assert isinstance(answers[-1], Failed)
        assert answers[-1].kind is kind


async def test_polls_outlast_a_bad_line() -> None:
    async with world() as w:
        order = ordered()
        task = await submitted(w, order)
        w.fake.script = [Silence.RESET, Answer(status=502), Answer(status=429, headers={"retry-after-ms": "5"})]

        assert await w.adapter.poll(order, task) == Running(progress=0)
        assert w.vendor.submits() == 1


@pytest.mark.parametrize("answer", [error(401), error(403), error(402)])
async def test_a_key_refused_while_a_clip_is_made_does_not_end_the_job(answer: Answer) -> None:
    async with world() as w:
        order = ordered()
        task = await submitted(w, order)
        w.fake.script = [answer]

        with pytest.raises((Unreadable, Unanswered)):
            await w.adapter.poll(order, task)
        assert await w.adapter.poll(order, task) == Running(progress=0)


async def test_a_state_that_is_no_json_is_not_the_end() -> None:
    async with world() as w:
        order = ordered()
        task = await submitted(w, order)
        w.fake.script = [Answer(body=b"<html>")]

        assert await w.adapter.poll(order, task) == Running()


async def test_a_task_that_the_vendor_forgot_fails_once_it_must_be_known() -> None:
    async with world() as w:
        order = ordered()
        assert await w.adapter.poll(order, "video_9") == Running()
        w.clock.advance(300)
        failure = await w.adapter.poll(order, "video_9")

        assert isinstance(failure, Failed)
        assert failure.kind is FailureKind.UPSTREAM_UNKNOWN


async def test_a_tasks_name_cannot_lead_elsewhere() -> None:
    async with world() as w:
        await w.adapter.poll(ordered(), "../models?x=1")

        assert [request.path for request in w.vendor.asked] == ["/v1/videos/../models?x=1"]


@pytest.mark.parametrize(
    "content", [error(404), Answer(body=b"<html>expired</html>"), Answer(body=samples.image()), Answer(body=b"")]
)
async def test_a_result_that_cannot_be_had_is_a_failure(content: Answer) -> None:
    async with world() as w:
        order = ordered()
        task = await submitted(w, order)
        w.fake.content = content

        failure = await w.adapter.fetch(order, task)

        assert isinstance(failure, Failed)
        assert failure.kind is FailureKind.UPSTREAM_ERROR


async def test_a_result_too_large_to_keep_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stablestudio.providers.finish.MAX_CLIP_BYTES", 100)
    async with world() as w:
        order = ordered()
        task = await submitted(w, order)

        assert isinstance(await w.adapter.fetch(order, task), Failed)


async def test_a_result_on_a_private_address_is_a_failure() -> None:
    async with world() as w:
        order = ordered()
        task = await submitted(w, order)
        w.fake.content = Answer(status=302, headers={"location": "https://169.254.169.254/clip.mp4"})

        assert isinstance(await w.adapter.fetch(order, task), Failed)


async def test_a_result_in_another_store_is_fetched_without_the_key() -> None:
    async with serving(lambda _: Answer(body=samples.usual_clip())) as store, world() as w:
        order = ordered()
        task = await submitted(w, order)
        w.fake.content = Answer(status=307, headers={"location": store.url + "/signed"})

        assert isinstance(await w.adapter.fetch(order, task), Output)

    assert "authorization" not in store.asked[0].headers


# Before selling, and the fake


async def test_a_good_key_is_proved_for_free() -> None:
    async with world() as w:
        await w.adapter.check()
        assert w.adapter.notices == ("sora-2-pro is not among the models that this key may use.",)
        assert w.vendor.submits() == 0
        w.fake.script = [error(401)]
        with pytest.raises(VendorUnusable, match="key"):
            await w.adapter.check()


async def test_the_vendors_own_client_understands_the_fake() -> None:
    fake = FakeOpenAIVideos()
    async with (
        serving(fake) as vendor,
        openai.AsyncOpenAI(api_key=KEY, base_url=vendor.url + "/v1", max_retries=0) as client,
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # the vendor has ended these calls
            made = await client.videos.create(model="sora-2", prompt="x", seconds="4", size="1280x720")
            states = [(await client.videos.retrieve(made.id)).status for _ in range(3)]
            content = await client.videos.download_content(made.id)

    assert states == ["queued", "in_progress", "completed"]
    assert probe(content.content).kind == "video"
