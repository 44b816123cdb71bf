"""OpenAI's images from order to file: kept at once, asked for once, refused in words that mean one thing."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import openai
import pytest

from stablestudio.media.fetch import FetchFailed
from stablestudio.media.probe import probe
from stablestudio.media.storage import Storage
from stablestudio.providers.faults import VendorUnusable
from stablestudio.providers.http import Ambiguous, VendorHttp
from stablestudio.providers.kept import KeptResults
from stablestudio.providers.openai_images import OpenAIImages
from stablestudio.providers.provider import Accepted, Failed, FailureKind, Made, NotAccepted, Output, Work
from tests import media_samples as samples
from tests.providers.fakes.openai_images import KEY, MODERATED, FakeOpenAIImages, error
from tests.providers.forms import parts
from tests.providers.loopback import Answer, Loopback, Silence, serving
from tests.providers.troubles import QUICK, REFUSALS, SUBMISSIONS, quick
from tests.providers.works import Files, end_user, work

pytestmark = pytest.mark.anyio

KEYS = sorted(OpenAIImages.models)


@dataclass
class World:
    """The adapter against its fake vendor."""

    adapter: OpenAIImages
    fake: FakeOpenAIImages
    vendor: Loopback
    kept: KeptResults


@asynccontextmanager
async def world(*script: Answer | Silence, files: Files | None = None, **options: Any) -> AsyncIterator[World]:
    fake = FakeOpenAIImages(*script)
    kept = KeptResults(Storage.at("memory:///"))
    async with serving(fake) as vendor:
        http = quick("openai", vendor.url + "/v1", KEY)
        adapter = OpenAIImages(http, source=files or Files(), kept=kept, user=end_user, **options)
        yield World(adapter, fake, vendor, kept)
        await adapter.close()


def ordered(key: str, **changes: Any) -> Work:
    return work(key, model=OpenAIImages.models[key], **changes)


@pytest.mark.parametrize("key", KEYS)
async def test_an_order_becomes_a_file(key: str) -> None:
    async with world() as w:
        order = ordered(key)
        accepted = await w.adapter.submit(order)

        assert accepted == Accepted(task="kept", upstream_model=OpenAIImages.models[key])
        assert await w.adapter.poll(order, "kept") == Made()
        output = await w.adapter.fetch(order, "kept")
        assert isinstance(output, Output)
        assert probe(output.data).content_type == output.content_type == "image/png"
        assert w.vendor.submits() == 1
        assert w.fake.bodies[0]["safety_identifier"] == end_user(order.wallet)


@pytest.mark.parametrize(
    ("ordered_format", "type_"), [("png", "image/png"), ("jpeg", "image/jpeg"), ("webp", "image/webp")]
)
async def test_the_file_has_the_format_that_was_ordered(ordered_format: str, type_: str) -> None:
    async with world() as w:
        order = ordered("gpt-image-2/generate", output_format=ordered_format)
        await w.adapter.submit(order)
        output = await w.adapter.fetch(order, "kept")

        assert isinstance(output, Output)
        assert output.content_type == type_


async def test_images_go_along_as_the_vendor_takes_them() -> None:
    files = Files(samples.image("JPEG"), samples.image("GIF"))
    async with world(files=files) as w:
        order = ordered("gpt-image-2/edit", images=["https://example.com/a.jpg", "job:job_1"])
        assert isinstance(await w.adapter.submit(order), Accepted)

        first, second = (image["image_url"] for image in w.fake.bodies[0]["images"])
        assert first == "data:image/jpeg;base64," + base64.b64encode(samples.image("JPEG")).decode()
        assert second.startswith("data:image/jpeg;base64,")


async def test_a_server_without_json_edits_gets_a_form() -> None:
    async with world(edits="form") as w:
        assert isinstance(await w.adapter.submit(ordered("gpt-image-2/edit")), Accepted)

        asked = w.vendor.asked[0]
        assert asked.headers["content-type"].startswith("multipart/form-data; boundary=")
        assert asked.body.count(b'name="image[]"') == 1
        assert b'name="safety_identifier"' in asked.body


async def test_azure_takes_its_key_in_another_header() -> None:
    def azure(request: Any) -> Answer:
        assert request.headers["api-key"] == "azure"
        return Answer(json={"data": [{"b64_json": base64.b64encode(samples.usual_image()).decode()}]})

    async with serving(azure) as vendor:
        http = VendorHttp(name="azure", base_url=vendor.url + "/openai/v1", auth={"api-key": "azure"}, **QUICK)
        kept = KeptResults(Storage.at("memory:///"))
        adapter = OpenAIImages(http, source=Files(), kept=kept, user=end_user)
        assert isinstance(await adapter.submit(ordered("gpt-image-2/generate")), Accepted)
        await adapter.close()

    assert vendor.asked[0].path == "/openai/v1/images/generations"


async def test_a_compatible_servers_address_is_kept_and_copied_without_the_key() -> None:
    """It is paid for: a store that is down may not make it forgotten."""
    turns: list[Answer | Silence] = [Silence.RESET, Answer(status=503), Answer(body=samples.usual_image())]
    async with serving(lambda _: turns.pop(0)) as store:
        answer = Answer(json={"data": [{"url": store.url + "/1.png"}]})
        async with world(answer) as w:
            order = ordered("gpt-image-2/generate")
            assert isinstance(await w.adapter.submit(order), Accepted)
            assert store.asked == [], "an acceptance waits for no store"
            assert isinstance(await w.adapter.find(order), Accepted)
            assert isinstance(await w.adapter.fetch(order, "kept"), Output)
            assert w.vendor.submits() == 1

    assert all("authorization" not in request.headers for request in store.asked)


@pytest.mark.parametrize("url", ["https://10.0.0.1/1.png", "https://169.254.169.254/1.png", "file:///etc/passwd"])
async def test_a_picture_at_a_private_address_is_a_failure(url: str) -> None:
    async with world(Answer(json={"data": [{"url": url}]})) as w:
        order = ordered("gpt-image-2/generate")
        assert isinstance(await w.adapter.submit(order), Accepted)
        failure = await w.adapter.fetch(order, "kept")

        assert isinstance(failure, Failed)
        assert failure.kind is FailureKind.UPSTREAM_ERROR


# What is known after a submission


@pytest.mark.parametrize(("trouble", "raised", "pause"), SUBMISSIONS)
async def test_a_troubled_submission_is_sent_once(
    trouble: Answer | Silence, raised: type[Exception], pause: float | None
) -> None:
    async with world(trouble) as w:
        with pytest.raises(raised) as caught:
            await w.adapter.submit(ordered("gpt-image-2/generate"))

        assert w.vendor.submits() == 1
        if isinstance(caught.value, NotAccepted):
            assert (caught.value.kind, caught.value.retry_after) == (FailureKind.RATE_LIMITED, pause)


async def test_after_an_unclear_answer_nobody_knows() -> None:
    async with world(Silence.RESET) as w:
        order = ordered("gpt-image-2/generate")
        with pytest.raises(Ambiguous):
            await w.adapter.submit(order)

        assert await w.adapter.find(order) is None
        assert w.vendor.submits() == 1


async def test_what_was_kept_before_a_crash_is_found_after_it() -> None:
    async with world() as w:
        order = ordered("gpt-image-2/generate")
        accepted = await w.adapter.submit(order)

        assert await w.adapter.find(order) == accepted
        assert w.vendor.submits() == 1


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        *REFUSALS,
        (error(429, code="insufficient_quota", type="insufficient_quota"), FailureKind.UPSTREAM_QUOTA),
        (error(400, code="billing_hard_limit_reached"), FailureKind.UPSTREAM_QUOTA),
        (error(403, "Your organization must be verified to use the model"), FailureKind.UPSTREAM_AUTH),
        (error(404, code="model_not_found"), FailureKind.UPSTREAM_RETIRED),
    ],
)
async def test_a_refusal_of_the_operator_leaves_the_work_to_another_vendor(answer: Answer, kind: FailureKind) -> None:
    async with world(answer) as w:
        with pytest.raises(NotAccepted) as caught:
            await w.adapter.submit(ordered("gpt-image-2/generate"))

        assert caught.value.kind is kind
        assert w.vendor.submits() == 1


async def test_without_a_vendor_nothing_was_accepted() -> None:
    async with world() as w:
        pass
    with pytest.raises(NotAccepted) as caught:
        await w.adapter.submit(ordered("gpt-image-2/generate"))

    assert caught.value.kind is FailureKind.UPSTREAM_ERROR
    await w.adapter.close()


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (MODERATED, FailureKind.MODERATION),
        (error(400, code="content_policy_violation"), FailureKind.MODERATION),
        (error(400, code="invalid_image_file"), FailureKind.INVALID_INPUT),
        (error(422), FailureKind.INVALID_INPUT),
    ],
)
async def test_a_refusal_of_the_work_fails_it_with_a_clean_sentence(answer: Answer, kind: FailureKind) -> None:
    async with world(answer) as w:
        failure = await w.adapter.submit(ordered("gpt-image-2/generate"))

        assert isinstance(failure, Failed)
        assert failure.kind is kind
        assert failure.request_id == "req_err"
        assert "safety_violations" not in failure.message
        assert w.vendor.submits() == 1


@pytest.mark.parametrize(
    "answer",
    [
        Answer(body=b"<html>sorry</html>"),
        Answer(json=[]),
        Answer(json={"data": []}),
        Answer(json={"data": [{"b64_json": "not base64!"}]}),
        Answer(json={"data": [{"b64_json": base64.b64encode(b"no picture").decode()}]}),
        Answer(json={"data": [{"b64_json": base64.b64encode(samples.clip()).decode()}]}),
        Answer(body=b""),
    ],
)
async def test_an_answer_without_the_picture_is_a_failure_and_not_asked_for_again(answer: Answer) -> None:
    async with world(answer) as w:
        order = ordered("gpt-image-2/generate")
        failure = await w.adapter.submit(order)

        assert isinstance(failure, Failed)
        assert failure.kind is FailureKind.UPSTREAM_ERROR
        assert await w.kept.get(order.job_id) is None
        assert w.vendor.submits() == 1


async def test_an_answer_without_end_is_unclear(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stablestudio.providers.http.MAX_ANSWER_BYTES", 1000)
    async with world(Answer(body=b" " * 5000)) as w:
        with pytest.raises(Ambiguous):
            await w.adapter.submit(ordered("gpt-image-2/generate"))

        assert w.vendor.submits() == 1


async def test_an_input_that_cannot_be_read_costs_no_question() -> None:
    async with world(files=Files(FetchFailed("example.com answered with status 404."))) as w:
        failure = await w.adapter.submit(ordered("gpt-image-2/edit"))

        assert failure == Failed(kind=FailureKind.INVALID_INPUT, message="example.com answered with status 404.")
        assert w.vendor.asked == []


# Before selling


async def test_a_good_key_is_proved_for_free_and_endings_are_told() -> None:
    async with world() as w:
        await w.adapter.check()

        assert [request.method for request in w.vendor.asked] == ["GET"]
        assert len(w.adapter.notices) == 1
        assert "gpt-image-1.5" in w.adapter.notices[0]
        assert "2026-12-01" in w.adapter.notices[0]


async def test_only_the_models_that_are_served_matter() -> None:
    async with world(served={"gpt-image-2/edit": "gpt-image-2"}) as w:
        await w.adapter.check()

        assert w.adapter.notices == ()


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        (error(401, code="invalid_api_key"), "key"),
        (error(403), "key"),
        (error(404), "address"),
        (Answer(body=b"<html>"), "unexpectedly"),
        (Answer(json={"data": "x"}), "unexpectedly"),
    ],
)
async def test_a_vendor_that_cannot_be_used_says_why(answer: Answer, word: str) -> None:
    async with world(answer) as w:
        with pytest.raises(VendorUnusable, match=word):
            await w.adapter.check()


# The fake


def sdk(vendor: Loopback) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(api_key=KEY, base_url=vendor.url + "/v1", max_retries=0)


async def test_the_vendors_own_client_understands_the_fake() -> None:
    async with serving(FakeOpenAIImages()) as vendor, sdk(vendor) as client:
        made = await client.images.generate(model="gpt-image-2", prompt="x", output_format="webp")
        models = [model async for model in client.models.list()]

    assert made.data is not None
    assert probe(base64.b64decode(made.data[0].b64_json or "")).content_type == "image/webp"
    assert made.usage is not None
    assert {model.id: model.shutdown_date for model in models}["gpt-image-1.5"] == "2026-12-01"


async def test_the_vendors_own_client_reads_the_fakes_refusals() -> None:
    fake = FakeOpenAIImages(MODERATED, error(429, code="insufficient_quota"))
    async with serving(fake) as vendor, sdk(vendor) as client:
        with pytest.raises(openai.BadRequestError) as refused:
            await client.images.generate(model="gpt-image-2", prompt="x")
        with pytest.raises(openai.RateLimitError) as broke:
            await client.images.generate(model="gpt-image-2", prompt="x")

    assert (refused.value.code, refused.value.type) == ("moderation_blocked", "image_generation_user_error")
    assert broke.value.code == "insufficient_quota"


async def test_a_form_is_the_one_that_the_vendors_own_client_sends() -> None:
    picture = samples.image()
    async with world(edits="form", files=Files(picture)) as w, sdk(w.vendor) as client:
        order = ordered("gpt-image-2/edit", prompt="x", images=["job:job_1", "job:job_2"])
        await w.adapter.submit(order)
        files = [("0.png", picture, "image/png"), ("1.png", picture, "image/png")]
        await client.images.edit(model="gpt-image-2", prompt="x", image=files)
        ours, theirs = (parts(request.body, request.headers["content-type"]) for request in w.vendor.asked)

    assert set(theirs) <= set(ours)
    assert [part for part in ours if part[0] == "image[]"] == [part for part in theirs if part[0] == "image[]"]
