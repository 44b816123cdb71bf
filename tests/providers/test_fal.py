"""fal from work to file: every offering, errors in place of results, and what the vendor's own client makes of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from stablestudio.catalog.values import ImageOutput
from stablestudio.media.probe import probe
from stablestudio.providers.answers import Ambiguous, Unanswered, Unreadable
from stablestudio.providers.fal_models import OFFERS
from stablestudio.providers.faults import VendorUnusable
from stablestudio.providers.provider import Accepted, Failed, FailureKind, NotAccepted, Output, Work
from tests.media_samples import clip, image
from tests.providers.fakes.fal import FakeFal, fault
from tests.providers.fakes.tasks import KEY
from tests.providers.given import Samples
from tests.providers.loopback import Answer, Request, Silence
from tests.providers.vendors_with_tasks import fal_at, made
from tests.providers.works import work

pytestmark = pytest.mark.anyio

_DONE = [{"status": "COMPLETED", "logs": None}]


def fake_for(order: Work, **options: Any) -> FakeFal:
    """Return a fake that makes the kind of file that is ordered, at once."""
    if isinstance(wanted := order.input.output(), ImageOutput):
        options = {"file": image(size=(wanted.width, wanted.height)), "content_type": "image/png", **options}
    return FakeFal(**{"states": _DONE, **options})


@pytest.mark.parametrize("key", sorted(OFFERS))
async def test_every_offering_is_made_in_the_format_that_was_ordered(key: str) -> None:
    order = work(key)
    fake = fake_for(order)
    async with fake.serving() as server:
        adapter = fal_at(server.url)
        output = await made(adapter, order)
        await adapter.close()

    assert isinstance(output, Output)
    wanted = order.input.output()
    expected = f"image/{wanted.format}" if isinstance(wanted, ImageOutput) else "video/mp4"
    assert output.content_type == probe(output.data).content_type == expected
    assert len(fake.orders) == 1


async def test_the_addresses_of_the_acceptance_are_used_whatever_the_application_is_called() -> None:
    fake = FakeFal()
    async with fake.serving() as server:
        adapter = fal_at(server.url)
        output = await made(adapter, work("veo-3.1-fast/generate"))
        await adapter.close()

    assert isinstance(output, Output)
    assert fake.orders[0].path == "/fal-ai/veo3.1/fast"
    assert fake.orders[0].headers["x-fal-request-timeout"] == "3600"
    assert json.loads(fake.orders[0].headers["x-fal-object-lifecycle-preference"]) == {
        "expiration_duration_seconds": 86400
    }


async def test_an_address_on_another_host_is_never_asked_with_the_key() -> None:
    elsewhere = FakeFal()
    async with elsewhere.serving() as other:
        fake = FakeFal(
            states=_DONE,
            acceptance={
                "response_url": f"{other.url}/a/b/requests/r",
                "status_url": f"{other.url}/a/b/requests/r/status",
            },
        )
        async with fake.serving() as server:
            adapter = fal_at(server.url)
            output = await made(adapter, work("seedance/t2v"))
            stolen = json.dumps({"status_url": f"{other.url}/status"})
            with pytest.raises(Unreadable):
                await adapter.poll(work("seedance/t2v"), stolen)
            await adapter.close()

        assert isinstance(output, Output)
        assert other.asked == []


@pytest.mark.parametrize(
    ("result", "kind"),
    [
        (fault(422, "content_policy_violation"), FailureKind.MODERATION),
        (fault(422, "image_too_small", where=("body", "image_url")), FailureKind.INVALID_INPUT),
        (fault(500, "internal_server_error"), FailureKind.UPSTREAM_ERROR),
        (fault(504, "generation_timeout"), FailureKind.UPSTREAM_TIMEOUT),
        (Answer(json={"video": None}), FailureKind.UPSTREAM_ERROR),
        (Answer(body=b"<html>"), FailureKind.UPSTREAM_ERROR),
    ],
)
async def test_an_error_in_place_of_the_result_is_definitive(result: Answer, kind: FailureKind) -> None:
    fake = FakeFal(states=_DONE, result=result)
    async with fake.serving() as server:
        adapter = fal_at(server.url)
        failure = await made(adapter, work("seedance/t2v"))
        await adapter.close()

    assert isinstance(failure, Failed)
    assert failure.kind is kind
    assert len(fake.orders) == 1


@pytest.mark.parametrize(
    ("result", "doubt"),
    [
        (Answer(status=502, body=b"nginx"), Ambiguous),
        (Answer(status=503), Ambiguous),
        (Answer(status=404, json={"detail": "Request not found"}), Unanswered),
        (Answer(status=401, json={"detail": "no"}), Unreadable),
        (Answer(status=429), NotAccepted),
        (Answer(status=400, json={"detail": "Request is still in progress"}), Unreadable),
    ],
)
async def test_trouble_on_the_way_to_the_result_is_tried_again_later(result: Answer, doubt: type[Exception]) -> None:
    fake = FakeFal(states=_DONE, result=result)
    async with fake.serving() as server:
        adapter = fal_at(server.url)
        with pytest.raises(doubt):
            await made(adapter, work("seedance/t2v"))
        await adapter.close()


async def test_a_picture_that_a_filter_blackened_is_refused_not_delivered() -> None:
    order = work("flux-2-pro/generate")
    result = Answer(json={"images": [{"url": "https://e.com/black.png"}], "has_nsfw_concepts": [True]})
    fake = fake_for(order, result=result)
    async with fake.serving() as server:
        adapter = fal_at(server.url)
        failure = await made(adapter, order)
        await adapter.close()

    assert isinstance(failure, Failed)
    assert failure.kind is FailureKind.MODERATION


async def test_an_image_larger_than_any_is_not_kept() -> None:
    order = work("grok/generate")
    fake = fake_for(order, file=bytes(65 * 1024 * 1024))
    async with fake.serving() as server:
        adapter = fal_at(server.url)
        failure = await made(adapter, order)
        await adapter.close()

    assert isinstance(failure, Failed)
    assert failure.kind is FailureKind.UPSTREAM_ERROR


async def test_pictures_go_as_bytes_and_clips_by_their_public_address() -> None:
    fake = FakeFal()
    async with fake.serving() as server:
        for source in (Samples(), Samples(without_urls=True)):
            adapter = fal_at(server.url, source=source)
            await adapter.submit(work("seedance/i2v"))
            await adapter.close()

    public, private = (request.json for request in fake.orders)
    assert public["image_urls"][0].startswith("data:image/png;base64,")
    assert (public["video_urls"], public["audio_urls"]) == (
        ["https://example.com/move.mp4"],
        ["https://example.com/beat.mp3"],
    )
    assert private["video_urls"][0].startswith("data:video/mp4;base64,")


async def test_exact_pixels_are_delivered_by_fal_too() -> None:
    order = work("seedance-fast/t2v", resolution="720x960", aspectRatio=None, outputResolution=None)
    fake = FakeFal(states=_DONE, file=clip(size=(834, 1112), seconds=4))
    async with fake.serving() as server:
        adapter = fal_at(server.url)
        output = await made(adapter, order)
        await adapter.close()

    assert isinstance(output, Output)
    seen = probe(output.data)
    assert (seen.width, seen.height) == (720, 960)


async def test_work_that_no_endpoint_makes_is_left_to_another_vendor() -> None:
    fake = FakeFal()
    async with fake.serving() as server:
        adapter = fal_at(server.url)
        with pytest.raises(NotAccepted) as refused:
            await adapter.submit(work("veo-3.1-fast/generate", referenceImages=["https://e.com/a.png"]))
        await adapter.close()

    assert refused.value.kind is FailureKind.INVALID_INPUT
    assert fake.orders == []


@pytest.mark.parametrize(("state", "taken_back"), [("IN_QUEUE", True), ("COMPLETED", False)])
async def test_a_completed_request_cannot_be_taken_back(state: str, taken_back: bool) -> None:  # noqa: FBT001
    fake = FakeFal(states=[{"status": state, "queue_position": 1}])
    async with fake.serving() as server:
        adapter = fal_at(server.url)
        order = work("seedance/t2v")
        accepted = await adapter.submit(order)
        assert isinstance(accepted, Accepted)
        assert await adapter.cancel(order, accepted.task) is taken_back
        await adapter.close()

    assert bool(fake.cancelled) is taken_back


async def test_a_lost_result_is_asked_for_again_and_never_made_again() -> None:
    fake = FakeFal(states=_DONE)
    async with fake.serving() as server:
        adapter = fal_at(server.url)
        order = work("seedance/t2v")
        accepted = await adapter.submit(order)
        assert isinstance(accepted, Accepted)
        fake.polls = [Silence.RESET]
        with pytest.raises(Ambiguous):
            await adapter.fetch(order, accepted.task)
        output = await adapter.fetch(order, accepted.task)
        await adapter.close()

    assert isinstance(output, Output)
    assert len(fake.orders) == 1


# The vendor's own client


async def test_fals_client_reads_every_state_of_our_fake_and_sends_what_we_send() -> None:
    client_module = pytest.importorskip("fal_client.client")
    httpx = pytest.importorskip("httpx")
    fake = FakeFal()
    fake.url = "https://queue.fal.run"
    seen: list[Request] = []

    def answer(request: Any) -> Any:
        asked = Request(
            method=request.method,
            path=request.url.path,
            query=dict(request.url.params),
            headers=dict(request.headers),
            body=request.content,
        )
        seen.append(asked)
        told = fake.answer(asked)
        assert isinstance(told, Answer)
        return httpx.Response(told.status, json=told.json, headers=dict(told.headers))

    class Client(client_module.SyncClient):  # type: ignore[misc, name-defined] # its module is found at run time
        _client = httpx.Client(transport=httpx.MockTransport(answer), headers={"Authorization": f"Key {KEY}"})

    handle = Client(key=KEY).submit("bytedance/seedance-2.0/text-to-video", {"prompt": "x"}, start_timeout=3600)
    states = [type(handle.status()).__name__ for _ in range(3)]

    assert states == ["Queued", "InProgress", "Completed"]
    assert handle.response_url == f"https://queue.fal.run/bytedance/seedance-2.0/requests/{handle.request_id}"
    assert seen[0].path == "/bytedance/seedance-2.0/text-to-video"
    assert float(seen[0].headers["x-fal-request-timeout"]) == 3600
    assert handle.get()["video"]["url"]
    Client._client.close()


@pytest.mark.parametrize(
    "page", [Answer(status=404, body=b"<html>nothing here</html>"), Answer(body=b"<html>hello</html>")]
)
async def test_a_web_page_is_no_proof_of_the_key(page: Answer) -> None:
    fake = FakeFal(polls=[page])
    async with fake.serving() as server:
        adapter = fal_at(server.url)
        with pytest.raises(VendorUnusable):
            await adapter.check()
        await adapter.close()
