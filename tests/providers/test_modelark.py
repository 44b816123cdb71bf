"""ModelArk from work to clip: both forms of inputs, a lost task found again, exact pixels, a task taken back."""

from __future__ import annotations

import contextlib
import json

import pytest

from stablestudio.media.probe import probe
from stablestudio.providers.answers import Ambiguous
from stablestudio.providers.modelark_requests import MODELS, marker
from stablestudio.providers.provider import Accepted, Failed, FailureKind, Output
from tests.doubles import NOW_MS
from tests.media_samples import clip, image, wav
from tests.providers.fakes.modelark import FakeModelArk
from tests.providers.given import Samples
from tests.providers.loopback import Answer, Silence
from tests.providers.vendors_with_tasks import made, modelark_at
from tests.providers.works import end_user, of_body, work

pytestmark = pytest.mark.anyio

_DONE = [{"status": "succeeded"}]


@pytest.mark.parametrize("key", sorted(MODELS))
async def test_every_offering_is_made(key: str) -> None:
    fake = FakeModelArk(states=_DONE)
    async with fake.serving() as server:
        adapter = modelark_at(server.url)
        output = await made(adapter, work(key))
        await adapter.close()

    assert output == Output(data=fake.file, content_type="video/mp4")
    assert [request.json["model"] for request in fake.orders] == [MODELS[key]]


async def test_the_older_form_with_a_seed_is_made_by_the_older_model_and_says_so() -> None:
    fake = FakeModelArk(states=_DONE)
    body = {"prompt": "x", "image": "https://e.com/a.png", "seed": 5}
    async with fake.serving() as server:
        adapter = modelark_at(server.url)
        accepted = await adapter.submit(of_body("seedance/i2v", body))
        await adapter.close()

    assert isinstance(accepted, Accepted)
    assert accepted.upstream_model == fake.orders[0].json["model"] == "seedance-1-5-pro-251215"
    assert fake.orders[0].json["seed"] == 5


async def test_a_task_whose_acceptance_was_lost_is_found_by_its_marker() -> None:
    fake = FakeModelArk(after=[Answer(json={"id": "x"}), Silence.RESET, Answer(json={"id": "x"})])
    async with fake.serving() as server:
        adapter = modelark_at(server.url)
        orders = [work("seedance/t2v", job_id=f"job_{n}") for n in range(3)]
        for order in orders:
            with contextlib.suppress(Ambiguous):
                await adapter.submit(order)
        found = [await adapter.find(order) for order in orders]
        output = await adapter.find(work("seedance/t2v", job_id="job_never_sent"))
        await adapter.close()

    tasks = {task["safety_identifier"]: name for name, task in fake.tasks.items()}
    for order, accepted in zip(orders, found, strict=True):
        assert accepted is not None
        assert accepted.task == tasks[marker(end_user(order.wallet), order.job_id)]
    assert output is None
    assert len(fake.orders) == 3


async def test_a_search_reads_page_after_page_but_not_beyond_the_order() -> None:
    fake = FakeModelArk()
    for number in range(350):
        seconds = NOW_MS // 1000 + (100 - number) * 60
        fake.tasks[f"cgt-{number}"] = {"id": f"cgt-{number}", "model": "m", "created_at": seconds}
    async with fake.serving() as server:
        adapter = modelark_at(server.url)
        assert await adapter.find(work("seedance/t2v")) is None
        await adapter.close()

    assert fake.lists == 2 * 3  # the third page is wholly older; there are two looks


async def test_exact_pixels_are_delivered_whatever_the_models_own_size_is() -> None:
    fake = FakeModelArk(states=_DONE, file=clip(size=(882, 378), seconds=4, sound="aac"))
    order = work("seedance/t2v", resolution="1280x540", aspectRatio=None, outputResolution=None)
    async with fake.serving() as server:
        adapter = modelark_at(server.url)
        output = await made(adapter, order)
        await adapter.close()

    assert isinstance(output, Output)
    seen = probe(output.data)
    assert (seen.width, seen.height, seen.has_audio) == (1280, 540, True)
    assert fake.orders[0].json["ratio"] == "21:9"


async def test_pictures_are_made_small_enough_for_one_request() -> None:
    large = image(size=(2600, 2600)) + bytes(9_000_000)
    urls = [f"https://example.com/{number}.png" for number in range(9)]
    body = {"prompt": "x", "mode": "reference", "urls": urls}
    fake = FakeModelArk()
    async with fake.serving() as server:
        adapter = modelark_at(server.url, source=Samples({"image": large}))
        await adapter.submit(of_body("seedance/i2v", body))
        await adapter.close()

    assert len(fake.orders[0].json["content"]) == 10
    assert len(fake.orders[0].body) < 50_000_000


async def test_a_clip_without_a_public_address_fails_before_anybody_is_asked() -> None:
    fake = FakeModelArk()
    async with fake.serving() as server:
        adapter = modelark_at(server.url, source=Samples(without_urls=True))
        failure = await adapter.submit(work("seedance/i2v"))
        await adapter.close()

    assert isinstance(failure, Failed)
    assert failure.kind is FailureKind.INVALID_INPUT
    assert "urls[1]" in failure.message
    assert fake.orders == []


async def test_a_large_sound_goes_by_its_public_address() -> None:
    sound = Samples({"audio": wav(seconds=220)})
    fake = FakeModelArk()
    async with fake.serving() as server:
        adapter = modelark_at(server.url, source=sound)
        await adapter.submit(work("seedance/i2v"))
        await adapter.close()

    assert fake.orders[0].json["content"][3]["audio_url"]["url"] == "https://example.com/beat.mp3"


@pytest.mark.parametrize(("state", "taken_back"), [("queued", True), ("running", False), ("succeeded", False)])
async def test_only_a_task_that_waits_is_taken_back(state: str, taken_back: bool) -> None:  # noqa: FBT001
    fake = FakeModelArk(states=[{"status": state}])
    async with fake.serving() as server:
        adapter = modelark_at(server.url)
        order = work("seedance/t2v")
        accepted = await adapter.submit(order)
        assert isinstance(accepted, Accepted)
        assert await adapter.cancel(order, accepted.task) is taken_back
        await adapter.close()

    assert bool(fake.cancelled) is taken_back


async def test_an_expired_task_is_late() -> None:
    fake = FakeModelArk(states=[{"status": "expired"}])
    async with fake.serving() as server:
        adapter = modelark_at(server.url)
        failure = await made(adapter, work("seedance/t2v"))
        await adapter.close()

    assert isinstance(failure, Failed)
    assert failure.kind is FailureKind.UPSTREAM_TIMEOUT
    assert fake.orders[0].json["execution_expires_after"] == 3600


async def test_nothing_about_the_buyer_is_told_but_a_name_that_says_nothing() -> None:
    fake = FakeModelArk()
    order = work("seedance/t2v", callBackUrl="https://example.com/hook")
    async with fake.serving() as server:
        adapter = modelark_at(server.url)
        await adapter.submit(order)
        await adapter.close()

    told = json.dumps(fake.orders[0].json)
    assert order.wallet not in told
    assert order.job_id not in told
    assert "hook" not in told
