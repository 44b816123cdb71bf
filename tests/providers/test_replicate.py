"""Replicate from work to file: every offering, uploads, a lost prediction found again, and the vendor's own client."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest

from stablestudio.catalog.values import ImageOutput
from stablestudio.media.probe import probe
from stablestudio.providers.answers import Ambiguous
from stablestudio.providers.provider import (
    Accepted,
    Failed,
    FailureKind,
    Made,
    NotAccepted,
    Output,
    Running,
    Work,
)
from stablestudio.providers.replicate_models import OFFERS
from stablestudio.providers.routes import marking_seed
from tests.media_samples import clip, image
from tests.providers.fakes.replicate import FakeReplicate, fault
from tests.providers.given import Samples
from tests.providers.loopback import Answer, Request, Silence
from tests.providers.vendors_with_tasks import made, replicate_at
from tests.providers.works import work

pytestmark = pytest.mark.anyio

_DONE = [{"status": "succeeded"}]


def fake_for(order: Work, **options: Any) -> FakeReplicate:
    """Return a fake that makes the kind of file that is ordered, at once."""
    if isinstance(wanted := order.input.output(), ImageOutput):
        options = {"file": image(size=(wanted.width, wanted.height)), "content_type": "image/png", **options}
    return FakeReplicate(**{"states": _DONE, **options})


@pytest.mark.parametrize("as_list", [False, True])
@pytest.mark.parametrize("key", sorted(OFFERS))
async def test_every_offering_is_made_in_the_format_that_was_ordered(key: str, as_list: bool) -> None:  # noqa: FBT001
    order = work(key)
    fake = fake_for(order, as_list=as_list)
    async with fake.serving() as server:
        adapter = replicate_at(server.url)
        output = await made(adapter, order)
        await adapter.close()

    assert isinstance(output, Output)
    wanted = order.input.output()
    expected = f"image/{wanted.format}" if isinstance(wanted, ImageOutput) else "video/mp4"
    assert output.content_type == probe(output.data).content_type == expected
    assert [request.path for request in fake.orders] == [f"/models/{OFFERS[key].model}/predictions"]
    assert fake.orders[0].headers["prefer"] == "respond-async"


async def test_the_progress_in_the_logs_is_told() -> None:
    fake = FakeReplicate()
    order = work("seedance/t2v")
    async with fake.serving() as server:
        adapter = replicate_at(server.url)
        accepted = await adapter.submit(order)
        assert isinstance(accepted, Accepted)
        seen = [await adapter.poll(order, accepted.task) for _ in range(3)]
        await adapter.close()

    assert seen == [Running(), Running(progress=50), Made()]


async def test_a_small_file_goes_inside_the_request_and_a_larger_one_through_the_vendors_store() -> None:
    large = clip(size=(64, 48)) + b"\0\0\0\x08free" + (300_000).to_bytes(4) + b"free" + bytes(299_992)
    fake = FakeReplicate()
    async with fake.serving() as server:
        adapter = replicate_at(server.url, source=Samples({"video": large}))
        await adapter.submit(work("seedance/i2v"))
        await adapter.close()

    sent = fake.orders[0].json["input"]
    assert sent["reference_images"][0].startswith("data:image/png;base64,")
    assert sent["reference_videos"] == [f"{fake.url}/files/f1"]
    assert large in fake.files[0].body
    assert fake.files[0].headers["content-type"].startswith("multipart/form-data; boundary=")


@pytest.mark.parametrize(
    ("upload", "kind"),
    [
        (Silence.RESET, FailureKind.UPSTREAM_ERROR),
        (Answer(status=500), FailureKind.UPSTREAM_ERROR),
        (fault(401), FailureKind.UPSTREAM_AUTH),
        (Answer(status=201, json={"id": "f"}), FailureKind.UPSTREAM_ERROR),
    ],
)
async def test_an_upload_that_fails_leaves_the_work_untaken(upload: Answer | Silence, kind: FailureKind) -> None:
    fake = FakeReplicate(uploads=[upload])
    large = image(size=(64, 48)) + bytes(300_000)
    async with fake.serving() as server:
        adapter = replicate_at(server.url, source=Samples({"image": large}))
        with pytest.raises(NotAccepted) as refused:
            await adapter.submit(work("wan-2.6/i2v"))
        await adapter.close()

    assert refused.value.kind is kind
    assert fake.orders == []


async def test_a_prediction_whose_acceptance_was_lost_is_found_by_its_seed() -> None:
    fake = FakeReplicate(after=[Silence.RESET] * 4)
    orders = [work("seedance/t2v", job_id=f"job_{n}") for n in range(4)]
    async with fake.serving() as server:
        adapter = replicate_at(server.url)
        for order in orders:
            with contextlib.suppress(Ambiguous):
                await adapter.submit(order)
        found = [await adapter.find(order) for order in orders]
        nobodys = await adapter.find(work("seedance/t2v", job_id="job_never_sent"))
        await adapter.close()

    for order, accepted in zip(orders, found, strict=True):
        assert accepted is not None
        assert fake.predictions[accepted.task]["input"]["seed"] == marking_seed(order.job_id)
    assert nobodys is None
    assert len(fake.orders) == 4


@pytest.mark.parametrize("order", [work("wan-2.6/t2v", seed=7), work("gpt-image-2/generate")])
async def test_without_a_seed_of_its_own_a_lost_prediction_cannot_be_told_from_others(order: Work) -> None:
    fake = FakeReplicate()
    async with fake.serving() as server:
        adapter = replicate_at(server.url)
        await adapter.submit(order)
        assert await adapter.find(order) is None
        await adapter.close()


async def test_the_smallest_tier_is_delivered_small() -> None:
    order = work("nano-banana/generate", imageSize="512", aspectRatio="1:1")
    fake = fake_for(order, file=image(size=(1024, 1024)))
    async with fake.serving() as server:
        adapter = replicate_at(server.url)
        output = await made(adapter, order)
        await adapter.close()

    assert isinstance(output, Output)
    assert (probe(output.data).width, probe(output.data).height) == (512, 512)


async def test_a_result_that_is_no_longer_kept_is_lost() -> None:
    fake = FakeReplicate(states=[{"status": "succeeded", "output": None}])
    order = work("seedance/t2v")
    async with fake.serving() as server:
        adapter = replicate_at(server.url)
        accepted = await adapter.submit(order)
        assert isinstance(accepted, Accepted)
        failure = await adapter.fetch(order, accepted.task)
        await adapter.close()

    assert isinstance(failure, Failed)
    assert failure.kind is FailureKind.UPSTREAM_UNKNOWN


async def test_a_prediction_can_be_taken_back() -> None:
    fake = FakeReplicate()
    order = work("seedance/t2v")
    async with fake.serving() as server:
        adapter = replicate_at(server.url)
        accepted = await adapter.submit(order)
        assert isinstance(accepted, Accepted)
        assert await adapter.cancel(order, accepted.task)
        await adapter.close()

    assert fake.cancelled == [accepted.task]


# The vendor's own client


async def test_what_we_send_is_what_replicates_client_sends_and_reads() -> None:
    replicate = pytest.importorskip("replicate")
    httpx = pytest.importorskip("httpx")
    fake = FakeReplicate()
    order = work("flux-2-pro/generate")
    async with fake.serving() as server:
        adapter = replicate_at(server.url)
        await adapter.submit(order)
        await adapter.close()
    mine = fake.orders[0]
    theirs: list[Any] = []

    def answer(request: Any) -> Any:
        theirs.append(request)
        told = fake.answer(
            Request(
                method=request.method,
                path=request.url.path.removeprefix("/v1"),
                query={},
                headers={**dict(request.headers), "authorization": mine.headers["authorization"]},
                body=request.content,
            )
        )
        assert isinstance(told, Answer)
        return httpx.Response(told.status, json=told.json)

    client = replicate.Client(api_token="t", transport=httpx.MockTransport(answer))
    prediction = client.models.predictions.create("black-forest-labs/flux-2-pro", input=mine.json["input"], wait=False)
    seen = [prediction.status]
    for _ in range(3):
        prediction.reload()
        seen.append(prediction.status)

    assert theirs[0].url.path == "/v1" + mine.path
    assert Request(method="POST", path="", query={}, headers={}, body=theirs[0].content).json == mine.json
    assert seen == ["starting", "starting", "processing", "succeeded"]
    assert prediction.output == fake.result_url
    assert client.predictions.list().results[0].id == "gm3qorzdhgbfurvjtvhg6dckhu2"
