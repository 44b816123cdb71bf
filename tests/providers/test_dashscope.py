"""DashScope from work to clip, and what the vendor's own client makes of it."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from stablestudio.media.probe import probe
from stablestudio.providers.dashscope_requests import MODELS
from stablestudio.providers.provider import Accepted, Failed, FailureKind, Output
from tests.media_samples import image
from tests.providers.fakes.dashscope import FakeDashScope
from tests.providers.given import Samples
from tests.providers.loopback import Request
from tests.providers.vendors_with_tasks import dashscope_at, made
from tests.providers.works import work

pytestmark = pytest.mark.anyio

_DONE = [{"task_status": "SUCCEEDED"}]


@pytest.mark.parametrize("key", sorted(MODELS))
async def test_every_offering_is_made(key: str) -> None:
    fake = FakeDashScope(states=_DONE)
    async with fake.serving() as server:
        adapter = dashscope_at(server.url)
        output = await made(adapter, work(key))
        await adapter.close()

    assert output == Output(data=fake.file, content_type="video/mp4")
    assert fake.orders[0].headers["x-dashscope-async"] == "enable"
    assert fake.orders[0].json["model"] == MODELS[key]


async def test_a_picture_is_sent_opaque_and_no_larger_than_the_vendor_takes() -> None:
    fake = FakeDashScope()
    picture = image(size=(2400, 1200), mode="RGBA", colour=(9, 9, 9, 128))
    async with fake.serving() as server:
        adapter = dashscope_at(server.url, source=Samples({"image": picture}))
        await adapter.submit(work("wan-2.6/i2v"))
        await adapter.close()

    head, _, text = fake.orders[0].json["input"]["img_url"].partition(",")
    seen = probe(base64.b64decode(text))
    assert head.startswith("data:image/")
    assert (seen.width, seen.height) == (2000, 1000)


async def test_a_sound_without_a_public_address_fails_before_anybody_is_asked() -> None:
    fake = FakeDashScope()
    async with fake.serving() as server:
        adapter = dashscope_at(server.url, source=Samples(without_urls=True))
        failure = await adapter.submit(work("wan-2.6/t2v", audioUrl="https://example.com/a.mp3"))
        await adapter.close()

    assert isinstance(failure, Failed)
    assert failure.kind is FailureKind.INVALID_INPUT
    assert failure.message.startswith("'audioUrl': ")
    assert fake.orders == []


@pytest.mark.parametrize(("state", "taken_back"), [("PENDING", True), ("RUNNING", False)])
async def test_only_a_task_that_waits_is_taken_back(state: str, taken_back: bool) -> None:  # noqa: FBT001
    fake = FakeDashScope(states=[{"task_status": state}])
    async with fake.serving() as server:
        adapter = dashscope_at(server.url)
        order = work("wan-2.6/t2v")
        accepted = await adapter.submit(order)
        assert isinstance(accepted, Accepted)
        assert await adapter.cancel(order, accepted.task) is taken_back
        await adapter.close()

    assert bool(fake.cancelled) is taken_back


async def test_a_cancelled_task_has_failed() -> None:
    fake = FakeDashScope(states=[{"task_status": "CANCELED"}])
    async with fake.serving() as server:
        adapter = dashscope_at(server.url)
        failure = await made(adapter, work("wan-2.6/t2v"))
        await adapter.close()

    assert isinstance(failure, Failed)
    assert failure.kind is FailureKind.UPSTREAM_ERROR


# The vendor's own client


def sent_by_its_client(ask: Any) -> tuple[str, Any, Any]:
    """Return the path, the body and the headers that dashscope's client sends."""
    client_module = pytest.importorskip("dashscope.v2")
    httpx = pytest.importorskip("httpx")
    seen: list[Any] = []

    def answer(request: Any) -> Any:
        seen.append(request)
        return httpx.Response(200, json={"output": {"task_id": "t", "task_status": "PENDING"}, "request_id": "r"})

    base = "https://dashscope.example/api/v1"
    with httpx.Client(transport=httpx.MockTransport(answer), base_url=base) as transport:
        ask(client_module.Client(api_key="k", base_url=base, http_client=transport))
    return seen[0].url.path, json.loads(seen[0].content), seen[0].headers


async def ours(key: str, **changes: Any) -> Any:
    fake = FakeDashScope()
    async with fake.serving() as server:
        adapter = dashscope_at(server.url)
        await adapter.submit(work(key, **changes))
        await adapter.close()
    return fake.orders[0]


async def test_text_to_video_is_what_the_vendors_client_would_send() -> None:
    changes = {
        "prompt": "x",
        "negativePrompt": "rain",
        "multiShots": True,
        "audioUrl": "https://example.com/a.mp3",
        "seed": 7,
        "size": "1920*1080",
        "duration": "10",
    }
    mine = await ours("wan-2.6/t2v", **changes)
    path, body, headers = sent_by_its_client(
        lambda client: client.videos.jobs.create(
            model="wan2.6-t2v",
            prompt="x",
            extra_input={"negative_prompt": "rain", "audio_url": "https://example.com/a.mp3"},
            size="1920*1080",
            duration=10,
            prompt_extend=True,
            watermark=False,
            seed=7,
            parameters={"shot_type": "multi"},
        )
    )

    assert mine.json == body
    assert path.endswith(mine.path)
    assert headers["x-dashscope-async"] == mine.headers["x-dashscope-async"] == "enable"


async def test_image_to_video_is_what_the_vendors_client_would_send() -> None:
    mine = await ours("wan-2.6/i2v", resolution="1080p", enablePromptExpansion=False)
    picture = mine.json["input"]["img_url"]
    _, body, _ = sent_by_its_client(
        lambda client: client.videos.jobs.create(
            model="wan2.6-i2v",
            prompt=work("wan-2.6/i2v").input.prompt,  # type: ignore[attr-defined] # Wan's input has words
            image_url=picture,
            resolution="1080P",
            duration=5,
            prompt_extend=False,
            watermark=False,
            parameters={"shot_type": "single"},
        )
    )

    assert mine.json == body


async def test_the_vendors_client_reads_what_our_fake_says() -> None:
    jobs = pytest.importorskip("dashscope.v2.resources._jobs")
    fake = FakeDashScope(states=_DONE)
    async with fake.serving() as server:
        adapter = dashscope_at(server.url)
        accepted = await adapter.submit(work("wan-2.6/t2v"))
        assert isinstance(accepted, Accepted)
        await adapter.close()
        told: Any = fake.tell(Request(method="GET", path=f"/tasks/{accepted.task}", query={}, headers={}, body=b""))

    job = jobs.Job.from_payload(told.json)
    assert job.succeeded
    assert (job.task_id, job.video_url) == (accepted.task, fake.result_url)
