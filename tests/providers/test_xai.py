"""xAI from order to file: images kept at once, clips followed to their end and copied, refusals heard in every place."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from stablestudio.media.fetch import FetchFailed
from stablestudio.media.probe import probe
from stablestudio.media.storage import Storage
from stablestudio.providers.faults import VendorUnusable
from stablestudio.providers.http import Ambiguous, Unanswered, Unreadable
from stablestudio.providers.kept import KeptResults
from stablestudio.providers.provider import Accepted, Failed, FailureKind, Made, NotAccepted, Output, Running, Work
from stablestudio.providers.xai import Xai
from tests import media_samples as samples
from tests.doubles import ManualClock
from tests.providers.fakes.xai import KEY, FakeXai, error
from tests.providers.loopback import Answer, Loopback, Silence, serving
from tests.providers.troubles import REFUSALS, SUBMISSIONS, quick
from tests.providers.works import Files, end_user, work

pytestmark = pytest.mark.anyio

KEYS = sorted(Xai.models)
IMAGES = ["grok/edit", "grok/generate"]
CLIP = "grok-video/generate"


@dataclass
class World:
    """The adapter against its fake vendor."""

    adapter: Xai
    fake: FakeXai
    vendor: Loopback
    kept: KeptResults
    clock: ManualClock


@asynccontextmanager
async def world(*script: Answer | Silence, files: Files | None = None, key: str = KEY) -> AsyncIterator[World]:
    fake, clock, kept = FakeXai(*script), ManualClock(), KeptResults(Storage.at("memory:///"))
    async with serving(fake) as vendor:
        http = quick("xai", vendor.url + "/v1", key)
        adapter = Xai(http, source=files or Files(), kept=kept, clock=clock, user=end_user)
        yield World(adapter, fake, vendor, kept, clock)
        await adapter.close()


def ordered(key: str, **changes: Any) -> Work:
    return work(key, model=Xai.models[key], **changes)


@pytest.mark.parametrize("key", IMAGES)
async def test_an_image_is_kept_before_it_is_accepted(key: str) -> None:
    async with world() as w:
        order = ordered(key)
        accepted = await w.adapter.submit(order)

        assert accepted == Accepted(task="kept", upstream_model="grok-imagine-image")
        assert await w.adapter.find(order) == accepted
        assert await w.adapter.poll(order, "kept") == Made()
        output = await w.adapter.fetch(order, "kept")
        assert isinstance(output, Output)
        assert probe(output.data).content_type == output.content_type == "image/jpeg"
        assert w.vendor.submits() == 1
        assert w.fake.bodies[0]["user"] == end_user(order.wallet)
        assert w.fake.bodies[0]["response_format"] == "b64_json"


async def test_a_clip_is_followed_to_its_end_and_copied() -> None:
    async with world() as w:
        order = ordered(CLIP, image="https://example.com/tram.png")
        accepted = await w.adapter.submit(order)

        assert accepted == Accepted(task="req-1", upstream_model="grok-imagine-video")
        states = [await w.adapter.poll(order, "req-1") for _ in range(3)]
        assert states == [Running(), Running(progress=40), Made()]
        output = await w.adapter.fetch(order, "req-1")
        assert isinstance(output, Output)
        assert (probe(output.data).kind, output.content_type) == ("video", "video/mp4")
        assert w.vendor.submits() == 1
        assert w.fake.bodies[0]["image"]["url"].startswith("data:image/png;base64,")


async def test_an_image_that_comes_as_an_address_is_copied_without_the_key() -> None:
    async with serving(lambda _: Answer(body=samples.usual_image("PNG"))) as store, world() as w:
        w.fake.picture = {"url": store.url + "/1.png", "respect_moderation": True}
        order = ordered("grok/generate")
        assert isinstance(await w.adapter.submit(order), Accepted)

        output = await w.adapter.fetch(order, "kept")
        assert isinstance(output, Output)
        assert output.content_type == "image/jpeg", "as the order says"

    assert "authorization" not in store.asked[0].headers


async def test_a_paid_image_is_not_forgotten_while_its_store_is_down() -> None:
    turns: list[Answer | Silence] = [Silence.RESET] * 3 + [Answer(body=samples.image("JPEG"))]
    async with serving(lambda _: turns.pop(0)) as store, world() as w:
        w.fake.picture = {"url": store.url + "/1.png", "respect_moderation": True}
        order = ordered("grok/generate")
        accepted = await w.adapter.submit(order)
        assert store.asked == [], "an acceptance waits for no store"

        assert accepted == await w.adapter.find(order) == Accepted(task="kept", upstream_model="grok-imagine-image")
        assert await w.adapter.poll(order, "kept") == Made()
        assert isinstance(await w.adapter.fetch(order, "kept"), Output)
        assert w.vendor.submits() == 1


async def test_an_image_at_a_private_address_is_a_failure() -> None:
    async with world(Answer(json={"data": [{"url": "https://192.168.1.1/1.jpg"}]})) as w:
        order = ordered("grok/generate")
        assert isinstance(await w.adapter.submit(order), Accepted)
        failure = await w.adapter.fetch(order, "kept")

        assert isinstance(failure, Failed)
        assert failure.kind is FailureKind.UPSTREAM_ERROR


async def test_three_images_go_along_and_one_goes_alone() -> None:
    async with world() as w:
        await w.adapter.submit(ordered("grok/edit", images=["job:job_1", "job:job_2", "job:job_3"]))
        await w.adapter.submit(ordered("grok/edit", images=["job:job_1"]))

        assert len(w.fake.bodies[0]["images"]) == 3
        assert w.fake.bodies[1]["image"]["type"] == "image_url"


# What is known after a submission


@pytest.mark.parametrize("key", ["grok/generate", CLIP])
@pytest.mark.parametrize(("trouble", "raised", "pause"), SUBMISSIONS)
async def test_a_troubled_submission_is_sent_once(
    key: str, trouble: Answer | Silence, raised: type[Exception], pause: float | None
) -> None:
    async with world(trouble) as w:
        order = ordered(key)
        with pytest.raises(raised) as caught:
            await w.adapter.submit(order)

        assert await w.adapter.find(order) is None
        assert w.vendor.submits() == 1
        if isinstance(caught.value, NotAccepted):
            assert (caught.value.kind, caught.value.retry_after) == (FailureKind.RATE_LIMITED, pause)


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        *REFUSALS,
        (error(429, "used all available credits or reached its monthly spending limit"), FailureKind.UPSTREAM_QUOTA),
        (error(403, "used all available credits or reached its monthly spending limit"), FailureKind.UPSTREAM_QUOTA),
        (error(400, "Zero Data Retention teams must provide output.upload_url"), FailureKind.UPSTREAM_AUTH),
    ],
)
async def test_a_refusal_of_the_operator_leaves_the_work_to_another_vendor(
    key: str, answer: Answer, kind: FailureKind
) -> None:
    async with world(answer) as w:
        with pytest.raises(NotAccepted) as caught:
            await w.adapter.submit(ordered(key))

        assert caught.value.kind is kind
        assert w.vendor.submits() == 1


async def test_a_wrong_key_is_told_as_a_bad_request_and_heard_as_what_it_is() -> None:
    async with world(key="wrong") as w:
        with pytest.raises(NotAccepted) as caught:
            await w.adapter.submit(ordered("grok/generate"))

        assert caught.value.kind is FailureKind.UPSTREAM_AUTH


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (error(400, "Generated image rejected by content moderation."), FailureKind.MODERATION),
        (error(403, "Content violates usage guidelines. Failed check: SAFETY_CHECK_TYPE"), FailureKind.MODERATION),
        (error(422, "prompt is too long"), FailureKind.INVALID_INPUT),
    ],
)
async def test_a_refusal_of_the_work_fails_it(key: str, answer: Answer, kind: FailureKind) -> None:
    async with world(answer) as w:
        failure = await w.adapter.submit(ordered(key))

        assert isinstance(failure, Failed)
        assert (failure.kind, failure.request_id) == (kind, "req_err")
        assert w.vendor.submits() == 1


@pytest.mark.parametrize("data", [[], [{"respect_moderation": False}]])
async def test_a_blocked_image_told_as_success_is_a_refusal(data: list[Any]) -> None:
    async with world(Answer(json={"data": data, "usage": {"cost_in_usd_ticks": 1}})) as w:
        order = ordered("grok/generate")
        failure = await w.adapter.submit(order)

        assert isinstance(failure, Failed)
        assert failure.kind is FailureKind.MODERATION
        assert await w.kept.get(order.job_id) is None


@pytest.mark.parametrize(
    "answer",
    [
        Answer(body=b"<html>"),
        Answer(json=[]),
        Answer(json={"data": [{"b64_json": "?"}]}),
        Answer(json={"data": [{"b64_json": base64.b64encode(b"no picture").decode()}]}),
    ],
)
async def test_an_answer_without_the_picture_is_a_failure_and_not_asked_for_again(answer: Answer) -> None:
    async with world(answer) as w:
        failure = await w.adapter.submit(ordered("grok/generate"))

        assert isinstance(failure, Failed)
        assert failure.kind is FailureKind.UPSTREAM_ERROR
        assert w.vendor.submits() == 1


@pytest.mark.parametrize("answer", [Answer(body=b"<html>"), Answer(json={}), Answer(json={"request_id": None})])
async def test_an_acceptance_without_a_task_is_unclear(answer: Answer) -> None:
    async with world(answer) as w:
        with pytest.raises(Ambiguous):
            await w.adapter.submit(ordered(CLIP))

        assert w.vendor.submits() == 1


async def test_an_input_that_cannot_be_read_costs_no_question() -> None:
    async with world(files=Files(FetchFailed("gone."))) as w:
        assert await w.adapter.submit(ordered("grok/edit")) == Failed(kind=FailureKind.INVALID_INPUT, message="gone.")
        assert w.vendor.asked == []


# The way to a clip


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        (Answer(json={"status": "expired"}), FailureKind.UPSTREAM_TIMEOUT),
        (Answer(json={"status": "failed", "error": {"code": "x", "message": "y"}}), FailureKind.UPSTREAM_ERROR),
        (Answer(json={"status": "done", "video": {"url": "https://a.example", "respect_moderation": False}}),
         FailureKind.MODERATION),
        (error(400, "Generated video rejected by content moderation."), FailureKind.MODERATION),
    ],
)  # fmt: skip
async def test_a_clip_that_ends_badly_is_a_failure(state: Answer, kind: FailureKind) -> None:
    async with world() as w:
        w.fake.states = [state] * 2
        for answer in (await w.adapter.poll(ordered(CLIP), "req-1"), await w.adapter.fetch(ordered(CLIP), "req-1")):
            assert isinstance(answer, Failed)
            assert answer.kind is kind


async def test_polls_outlast_a_bad_line() -> None:
    async with world() as w:
        w.fake.states = [Silence.RESET, Answer(status=502), Answer(status=429), Answer(status=202)]

        assert await w.adapter.poll(ordered(CLIP), "req-1") == Running()
        assert w.vendor.submits() == 0


async def test_a_task_that_the_vendor_forgot_fails_once_it_must_be_known() -> None:
    async with world() as w:
        order = ordered(CLIP)
        assert await w.adapter.poll(order, "req-9") == Running()
        w.clock.advance(300)
        failure = await w.adapter.poll(order, "req-9")

        assert isinstance(failure, Failed)
        assert failure.kind is FailureKind.UPSTREAM_UNKNOWN


async def test_a_finished_clip_that_the_vendor_forgot_is_lost() -> None:
    async with world() as w:
        with pytest.raises(Unanswered):
            await w.adapter.fetch(ordered(CLIP), "req-9")
        w.clock.advance(300)
        failure = await w.adapter.fetch(ordered(CLIP), "req-9")

        assert isinstance(failure, Failed)
        assert failure.kind is FailureKind.UPSTREAM_UNKNOWN


async def test_a_clip_that_is_not_there_yet_is_asked_for_again_later() -> None:
    async with world() as w:
        with pytest.raises(Unreadable):
            await w.adapter.fetch(ordered(CLIP), "req-1")


@pytest.mark.parametrize(
    "url",
    ["https://169.254.169.254/clip.mp4", "https://10.1.2.3/clip.mp4", "http://files.example.com/clip.mp4", "ftp://x/y"],
)
async def test_a_clip_on_a_private_or_unsafe_address_is_not_fetched(url: str) -> None:
    async with world() as w:
        w.fake.states = []
        w.fake.done = {"status": "done", "video": {"url": url, "respect_moderation": True}}
        failure = await w.adapter.fetch(ordered(CLIP), "req-1")

        assert isinstance(failure, Failed)
        assert failure.kind is FailureKind.UPSTREAM_ERROR


@pytest.mark.parametrize("content", [Answer(status=404), Answer(body=b"<html>"), Answer(body=samples.image())])
async def test_a_result_that_cannot_be_had_is_a_failure(content: Answer) -> None:
    async with world() as w:
        w.fake.states = []
        w.fake.content = content

        assert isinstance(await w.adapter.fetch(ordered(CLIP), "req-1"), Failed)


async def test_a_result_too_large_to_keep_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stablestudio.providers.finish.MAX_CLIP_BYTES", 100)
    async with world() as w:
        w.fake.states = []

        assert isinstance(await w.adapter.fetch(ordered(CLIP), "req-1"), Failed)


# Before selling


async def test_a_good_key_is_proved_for_free() -> None:
    async with world() as w:
        await w.adapter.check()

        assert w.adapter.notices == ()
        assert w.vendor.submits() == 0


async def test_a_missing_model_is_told() -> None:
    async with world(Answer(json={"models": []})) as w:
        await w.adapter.check()

        assert w.adapter.notices == ("grok-imagine-image is not among the models that this key may use.",)


@pytest.mark.parametrize("models", [[{"id": "a", "aliases": 5}], [5], [{"aliases": [None, {}]}]])
async def test_a_list_in_another_form_is_read_as_far_as_it_can_be(models: list[Any]) -> None:
    async with world(Answer(json={"models": models})) as w:
        await w.adapter.check()


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        (error(400, "Incorrect API key provided"), "key"),
        (error(403, "used all available credits"), "credit"),
        (error(404, "no"), "address"),
        (Answer(body=b"<html>"), "unexpectedly"),
    ],
)
async def test_a_vendor_that_cannot_be_used_says_why(answer: Answer, word: str) -> None:
    async with world(answer) as w:
        with pytest.raises(VendorUnusable, match=word):
            await w.adapter.check()
