"""OpenRouter from work to clip."""

from __future__ import annotations

from typing import Any

import pytest

from stablestudio.providers.openrouter_requests import MODELS
from stablestudio.providers.provider import Failed, FailureKind, NotAccepted, Output
from tests.providers.fakes.openrouter import FakeOpenRouter
from tests.providers.given import Samples
from tests.providers.vendors_with_tasks import made, openrouter_at
from tests.providers.works import end_user, work

pytestmark = pytest.mark.anyio

_DONE = [{"status": "completed"}]


@pytest.mark.parametrize("key", sorted(MODELS))
async def test_every_offering_is_made(key: str) -> None:
    fake = FakeOpenRouter(states=_DONE)
    order = work(key)
    async with fake.serving() as server:
        adapter = openrouter_at(server.url)
        output = await made(adapter, order)
        await adapter.close()

    assert output == Output(data=fake.file, content_type="video/mp4")
    assert fake.orders[0].json["model"] == MODELS[key]
    assert fake.orders[0].json["user"] == end_user(order.wallet)


async def test_a_file_that_moved_to_a_store_is_fetched_without_the_key() -> None:
    fake = FakeOpenRouter(states=_DONE)
    async with fake.serving() as server:
        fake._result_url = f"{fake._store}/result"
        adapter = openrouter_at(server.url)
        output = await made(adapter, work("veo-3.1/generate"))
        await adapter.close()

    assert isinstance(output, Output)
    assert len(fake.downloads) == 1
    assert "authorization" not in fake.downloads[0].headers


@pytest.mark.parametrize(
    ("key", "changes"),
    [
        ("wan-2.6/t2v", {"audioUrl": "https://example.com/a.mp3"}),
        ("seedance/i2v", {}),
    ],
)
async def test_what_the_interface_cannot_say_is_left_to_another_vendor(key: str, changes: dict[str, Any]) -> None:
    fake = FakeOpenRouter()
    async with fake.serving() as server:
        adapter = openrouter_at(server.url, source=Samples(without_urls=True))
        with pytest.raises(NotAccepted) as refused:
            await adapter.submit(work(key, **changes))
        await adapter.close()

    assert refused.value.kind is FailureKind.INVALID_INPUT
    assert fake.orders == []


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        ({"status": "failed", "error": "provider returned an error"}, FailureKind.UPSTREAM_ERROR),
        ({"status": "expired"}, FailureKind.UPSTREAM_TIMEOUT),
        ({"status": "cancelled"}, FailureKind.UPSTREAM_ERROR),
    ],
)
async def test_each_end_without_a_clip_has_its_kind(state: dict[str, Any], kind: FailureKind) -> None:
    fake = FakeOpenRouter(states=[state])
    async with fake.serving() as server:
        adapter = openrouter_at(server.url)
        failure = await made(adapter, work("veo-3.1/generate"))
        await adapter.close()

    assert isinstance(failure, Failed)
    assert failure.kind is kind
