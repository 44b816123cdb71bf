"""The worker on a real socket, asked by the service's own adapters and by strangers."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest
from openai.types import ImagesResponse
from openai.types.video import Video

from stablestudio.clock import SystemClock
from stablestudio.media.probe import probe
from stablestudio.media.storage import Storage
from stablestudio.providers.faults import VendorUnusable
from stablestudio.providers.http import VendorHttp
from stablestudio.providers.kept import KeptResults
from stablestudio.providers.openai_images import OpenAIImages
from stablestudio.providers.openai_videos import OpenAIVideos
from stablestudio.providers.provider import Accepted, Failed, FailureKind, Made, NotAccepted, Output, Running, Work
from tests.doubles import png
from tests.local.stand_in import LIMITS, MODEL, Filmer, Painter, complete, reached, until, working
from tests.providers.works import Files, end_user, work

pytestmark = pytest.mark.anyio

ASKED = {"model": MODEL, "prompt": "a cat", "size": "64x48"}


def line(client: httpx2.AsyncClient, key: str = "any") -> VendorHttp:
    auth = {"Authorization": f"Bearer {key}"}
    return VendorHttp(name="own", base_url=str(client.base_url), auth=auth, timeout_seconds=10, first_pause=0.01)


@asynccontextmanager
async def images(client: httpx2.AsyncClient, *, files: Files | None = None, key: str = "any") -> AsyncIterator[Any]:
    kept = KeptResults(Storage.at("memory:///"))
    served = {"gpt-image-2/generate": MODEL}
    adapter = OpenAIImages(line(client, key), source=files or Files(), kept=kept, user=end_user, served=served)
    yield adapter
    await adapter.close()


@asynccontextmanager
async def videos(client: httpx2.AsyncClient) -> AsyncIterator[OpenAIVideos]:
    adapter = OpenAIVideos(line(client), source=Files(), clock=SystemClock(), user=end_user)
    yield adapter
    await adapter.close()


async def filmed(adapter: OpenAIVideos, order: Work, task: str) -> Made | Failed:
    seen: Running | Made | Failed = Running()

    async def ended() -> bool:
        nonlocal seen
        seen = await adapter.poll(order, task)
        return not isinstance(seen, Running)

    await until(ended)
    assert not isinstance(seen, Running)
    return seen


# As the service asks


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
async def test_our_adapter_gets_its_picture(kind: str) -> None:
    painter = Painter()
    async with working(painter) as client, images(client) as adapter:
        order = work("gpt-image-2/generate", model=MODEL, output_format=kind)
        assert await adapter.submit(order) == Accepted(task="kept", upstream_model=MODEL)
        output = await adapter.fetch(order, "kept")

    assert isinstance(output, Output)
    seen = probe(output.data)
    assert (seen.content_type, seen.width, seen.height) == (f"image/{kind}", 1536, 1024)
    assert painter.calls[0]["prompt"] == order.offering.input.example["prompt"]


async def test_our_adapters_images_reach_the_pipeline() -> None:
    painter = Painter()
    async with working(painter) as client, images(client, files=Files(png((90, 70)), png((64, 64)))) as adapter:
        order = work("gpt-image-2/edit", model=MODEL, images=["https://example.com/a.png", "https://example.com/b.png"])
        assert isinstance(await adapter.submit(order), Accepted)

    assert [each.size for each in painter.calls[0]["image"]] == [(90, 70), (64, 64)]


async def test_our_adapter_gets_its_clip_and_hears_of_its_progress() -> None:
    filmer = Filmer()
    async with working(filmer) as client, videos(client) as adapter:
        order = work("sora-2/generate", model=MODEL, seconds="4", input_reference=None)
        filmer.hold()
        accepted = await adapter.submit(order)
        assert isinstance(accepted, Accepted)
        await reached(filmer)
        assert await adapter.poll(order, accepted.task) == Running(progress=0)
        filmer.go.set()
        assert await filmed(adapter, order, accepted.task) == Made()
        output = await adapter.fetch(order, accepted.task)

    assert isinstance(output, Output)
    seen = probe(output.data)
    assert (seen.content_type, seen.width, seen.height, seen.seconds) == ("video/mp4", 1280, 720, 4.0)


async def test_progress_is_the_share_of_steps() -> None:
    filmer = Filmer()
    async with working(filmer) as client:
        asked = ASKED | {"seconds": "1", "steps": 2}
        clip = (await client.post("/videos", json=asked)).json()["id"]
        await complete(client, clip)
        assert (await client.get(f"/videos/{clip}")).json()["progress"] == 100
        filmer.hold()
        filmer.hold_at = 1
        clip = (await client.post("/videos", json=asked)).json()["id"]
        for _ in range(4):
            await reached(filmer)
        seen = (await client.get(f"/videos/{clip}")).json()

    assert (seen["status"], seen["progress"]) == ("in_progress", 50)


async def test_our_check_knows_the_model() -> None:
    async with working(Painter()) as client, images(client) as adapter:
        await adapter.check()
        assert adapter.notices == ()


async def test_a_wrong_key_is_the_operators_matter() -> None:
    async with working(Painter(), key="secret") as client:
        async with images(client, key="other") as adapter:
            with pytest.raises(VendorUnusable, match="refuses the configured key"):
                await adapter.check()
            with pytest.raises(NotAccepted) as caught:
                await adapter.submit(work("gpt-image-2/generate", model=MODEL))
        async with images(client, key="secret") as adapter:
            await adapter.check()

    assert caught.value.kind is FailureKind.UPSTREAM_AUTH


async def test_a_full_queue_sends_our_adapter_elsewhere_or_back_later() -> None:
    painter = Painter()
    painter.hold()
    async with working(painter, waiting=0) as client, images(client) as adapter:
        first = asyncio.create_task(client.post("/images/generations", json=ASKED))
        await reached(painter)
        with pytest.raises(NotAccepted) as caught:
            await adapter.submit(work("gpt-image-2/generate", model=MODEL))
        painter.go.set()
        assert (await first).status_code == 200

    assert caught.value.kind is FailureKind.RATE_LIMITED
    assert caught.value.retry_after is not None
    assert 1 <= caught.value.retry_after <= 120


async def test_an_input_that_the_model_cannot_take_is_the_buyers_matter() -> None:
    painter = Painter()
    painter.error = ValueError("Image too small")
    async with working(painter) as client, images(client) as adapter:
        answer = await adapter.submit(work("gpt-image-2/edit", model=MODEL))

    assert isinstance(answer, Failed)
    assert answer.kind is FailureKind.INVALID_INPUT


async def test_a_clip_whose_pipeline_breaks_has_failed_and_the_next_is_made() -> None:
    filmer = Filmer()
    filmer.error = RuntimeError("out of memory")
    async with working(filmer) as client, videos(client) as adapter:
        order = work("sora-2/generate", model=MODEL, seconds="4", input_reference=None)
        accepted = await adapter.submit(order)
        assert isinstance(accepted, Accepted)
        failed = await filmed(adapter, order, accepted.task)
        assert isinstance(failed, Failed)
        assert failed.kind is FailureKind.UPSTREAM_ERROR
        filmer.error = None
        again = await adapter.submit(order)
        assert isinstance(again, Accepted)
        assert await filmed(adapter, order, again.task) == Made()


# The protocol


async def test_answers_are_of_the_protocols_published_types() -> None:
    async with working(Painter()) as client:
        answer = (await client.post("/images/generations", json=ASKED)).json()
    async with working(Filmer()) as client:
        clip = (await client.post("/videos", json=ASKED | {"seconds": "4", "size": "1280x720"})).json()

    picture = ImagesResponse.model_validate(answer)
    assert picture.data is not None
    assert probe(base64.b64decode(picture.data[0].b64_json or "")).width == 64
    assert Video.model_validate(clip).status in ("queued", "in_progress")


async def test_one_job_at_a_time_is_on_the_device() -> None:
    painter = Painter()
    async with working(painter) as client:
        answers = await asyncio.gather(*(client.post("/images/generations", json=ASKED) for _ in range(5)))

    assert [answer.status_code for answer in answers] == [200] * 5
    assert painter.most_at_work == 1


async def test_the_worker_answers_while_its_device_is_busy() -> None:
    painter = Painter()
    painter.hold()
    async with working(painter) as client:
        job = asyncio.create_task(client.post("/images/generations", json=ASKED))
        await reached(painter)
        assert (await client.get("/models")).json()["data"][0]["id"] == MODEL
        painter.go.set()
        assert (await job).status_code == 200


async def test_whoever_hangs_up_frees_the_device() -> None:
    painter = Painter()
    painter.hold()
    async with working(painter, waiting=0) as client:
        with pytest.raises(httpx2.ReadTimeout):
            await client.post("/images/generations", json=ASKED, timeout=0.1)
        await reached(painter)
        await asyncio.sleep(3)  # it looks once a second whether anybody still listens
        painter.go.set()
        await asyncio.sleep(0.5)
        assert (await client.post("/images/generations", json=ASKED)).status_code == 200

    assert painter.freed == 1


@pytest.mark.parametrize("running", [True, False])
async def test_a_deleted_clip_is_not_made(running: bool) -> None:  # noqa: FBT001 - the case
    filmer = Filmer()
    filmer.hold()
    async with working(filmer) as client:
        clips = [(await client.post("/videos", json=ASKED | {"seconds": "1"})).json()["id"] for _ in range(2)]
        await reached(filmer)
        gone, other = clips if running else reversed(clips)
        told = await client.delete(f"/videos/{gone}")
        assert told.json() == {"id": gone, "object": "video.deleted", "deleted": True}
        filmer.go.set()
        await complete(client, other)
        seen = (await client.get(f"/videos/{gone}")).json()
        assert (seen["status"], seen["error"]["code"]) == ("cancelled", "cancelled")
        assert (await client.get(f"/videos/{gone}/content")).status_code == 409
        assert (await client.delete(f"/videos/{gone}")).status_code == 200
        assert (await client.get(f"/videos/{gone}")).status_code == 404

    assert len(filmer.calls) == (2 if running else 1)


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/videos/none"), ("DELETE", "/videos/none"), ("GET", "/videos/none/content")]
)
async def test_an_unknown_clip_is_not_found(method: str, path: str) -> None:
    async with working(Filmer()) as client:
        answer = await client.request(method, path)

    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")


async def test_a_clip_that_is_not_finished_has_no_content_yet() -> None:
    filmer = Filmer()
    filmer.hold()
    async with working(filmer) as client:
        clip = (await client.post("/videos", json=ASKED | {"seconds": "1"})).json()["id"]
        answer = await client.get(f"/videos/{clip}/content")

    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "not_ready")


ROUTES = [
    ("GET", "/models"),
    ("POST", "/images/generations"),
    ("POST", "/images/edits"),
    ("POST", "/videos"),
    ("GET", "/videos/x"),
    ("DELETE", "/videos/x"),
    ("GET", "/videos/x/content"),
]


@pytest.mark.parametrize("given", [None, "Bearer wrong", "secret", "Bearer", "Bearer s\u00e9cret"])
async def test_every_route_wants_the_key(given: str | None) -> None:
    headers = {} if given is None else {b"authorization": given.encode()}
    async with working(Painter(), key="secret") as client:
        answers = [await client.request(method, path, headers=headers) for method, path in ROUTES]

    assert {(each.status_code, each.json()["error"]["code"]) for each in answers} == {(401, "invalid_api_key")}


async def test_the_oldest_finished_clips_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stablestudio.local.clips._MOST_KEPT", 2)
    made = []
    async with working(Filmer()) as client:
        for _ in range(4):
            made.append((await client.post("/videos", json=ASKED | {"seconds": "1"})).json()["id"])
            await complete(client, made[-1])
        known = [(await client.get(f"/videos/{each}")).status_code for each in made]

    assert known == [404, 404, 200, 200]
    assert LIMITS.model == MODEL
