"""FLUX.2 from work to output: polled at the vendor's own hosts only, fetched at once, written in the format ordered."""

from __future__ import annotations

import base64
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from PIL import Image

from stablestudio.media.probe import probe
from stablestudio.media.storage import Storage
from stablestudio.providers.bfl import KEY_HEADER, OWN_HOSTS, Bfl
from stablestudio.providers.faults import SENTENCES, VendorUnusable
from stablestudio.providers.finish import MAX_IMAGE_BYTES
from stablestudio.providers.http import Ambiguous, Unreadable, VendorHttp
from stablestudio.providers.inputs import MediaSource
from stablestudio.providers.kept import KeptResults
from stablestudio.providers.provider import Accepted, Failed, FailureKind, Made, NotAccepted, Output, Running
from tests.doubles import ManualClock, png
from tests.providers.fakes.bfl import KEY, FakeBfl, FakeStore
from tests.providers.loopback import Answer, Loopback, Silence, serving
from tests.providers.troubles import public_loopback
from tests.providers.works import Files, work

pytestmark = pytest.mark.anyio

LINK = "https://example.com/a.png"
GENERATE = work("flux-2-pro/generate")


@dataclass(frozen=True)
class Desk:
    bfl: Bfl
    vendor: Loopback
    store: Loopback
    fake: FakeBfl
    clock: ManualClock


@asynccontextmanager
async def opened(
    *instead: Answer | Silence,
    source: MediaSource | None = None,
    store: FakeStore | None = None,
    key: str = KEY,
    patience: float = 5.0,
    **behaviour: Any,
) -> AsyncIterator[Desk]:
    fake, clock = FakeBfl(*instead, **behaviour), ManualClock()
    async with serving(fake) as vendor, serving(store or FakeStore()) as files:
        fake.home, fake.store = vendor.url, files.url
        http = VendorHttp(
            name="bfl",
            base_url=vendor.url + "/v1",
            auth={KEY_HEADER: key},
            own_hosts=OWN_HOSTS,
            timeout_seconds=patience,
            connect_seconds=0.3,
            first_pause=0.005,
            longest_pause=0.02,
            fetcher=public_loopback(),
        )
        kept = KeptResults(Storage.at("memory:///"))
        bfl = Bfl(http, source=source or Files(), kept=kept, clock=clock)
        yield Desk(bfl, vendor, files, fake, clock)
        await bfl.close()


async def made(desk: Desk, ordered: Any = GENERATE) -> Output:
    """Carry work from its submission to its output."""
    accepted = await desk.bfl.submit(ordered)
    assert isinstance(accepted, Accepted)
    while (state := await desk.bfl.poll(ordered, accepted.task)) != Made():
        assert isinstance(state, Running)
    output = await desk.bfl.fetch(ordered, accepted.task)
    assert isinstance(output, Output)
    return output


async def task_of(desk: Desk) -> str:
    accepted = await desk.bfl.submit(GENERATE)
    assert isinstance(accepted, Accepted)
    return accepted.task


@pytest.mark.parametrize(
    ("key", "model"),
    [
        ("flux-2-pro/generate", "flux-2-pro"),
        ("flux-2-pro/edit", "flux-2-pro"),
        ("flux-2-max/generate", "flux-2-max"),
        ("flux-2-max/edit", "flux-2-max"),
    ],
)
async def test_each_offering_becomes_an_image(key: str, model: str) -> None:
    ordered = work(key)
    async with opened() as desk:
        output = await made(desk, ordered)

    assert (probe(output.data).content_type, output.content_type) == ("image/webp", "image/webp")
    assert desk.vendor.asked[0].path == f"/v1/{model}"
    assert desk.vendor.submits() == 1


@pytest.mark.parametrize(("form", "kind"), [("webp", "image/webp"), ("jpg", "image/jpeg"), ("png", "image/png")])
async def test_the_file_has_the_format_that_was_ordered(form: str, kind: str) -> None:
    async with opened() as desk:
        output = await made(desk, work("flux-2-pro/generate", output_format=form))

    assert (probe(output.data).content_type, output.content_type) == (kind, kind)


async def test_a_lower_quality_makes_a_smaller_file() -> None:
    sizes = []
    picture = Image.effect_noise((640, 640), 60).convert("RGB")
    out = io.BytesIO()
    picture.save(out, "PNG")
    for quality in (5, 95):
        async with opened(store=FakeStore(Answer(body=out.getvalue()))) as desk:
            sizes.append(len((await made(desk, work("flux-2-pro/generate", output_quality=quality))).data))

    assert sizes[0] < sizes[1]


async def test_a_task_is_asked_about_where_the_vendor_says() -> None:
    async with opened() as desk:
        task = await task_of(desk)
        assert task == f"{desk.vendor.url}/v1/get_result_of_cluster?id=task-1"
        assert await desk.bfl.poll(GENERATE, task) == Running(progress=50)

    assert desk.vendor.asked[-1].path == "/v1/get_result_of_cluster"


@pytest.mark.parametrize(
    "home", ["https://bfl.ai.evil.example", "http://169.254.169.254", "http://api.us1.bfl.ai", "7"]
)
async def test_a_task_is_never_asked_about_at_a_foreign_address(home: str) -> None:
    async with opened() as desk:
        desk.fake.home = home
        assert await task_of(desk) == "/get_result?id=task-1"


async def test_the_vendors_clusters_are_its_own() -> None:
    async with opened() as desk:
        desk.fake.home = "https://api.us1.bfl.ai"
        assert await task_of(desk) == "https://api.us1.bfl.ai/v1/get_result_of_cluster?id=task-1"


async def test_a_task_without_an_address_is_asked_about_by_its_id() -> None:
    async with opened() as desk:
        desk.fake.home = None
        await made(desk)

    assert [request.path for request in desk.vendor.asked] == ["/v1/flux-2-pro", "/v1/get_result", "/v1/get_result"]


async def test_the_file_is_fetched_once_and_at_once_without_the_key() -> None:
    async with opened(running=0) as desk:
        task = await task_of(desk)
        for _ in range(3):
            assert await desk.bfl.poll(GENERATE, task) == Made()
        desk.clock.advance(3600)
        assert isinstance(await desk.bfl.fetch(GENERATE, task), Output)

    assert len(desk.store.asked) == 1
    assert "x-key" not in desk.store.asked[0].headers


# Inputs


async def test_images_are_no_larger_than_the_result_will_be() -> None:
    async with opened(source=Files(png((3000, 1500)))) as desk:
        await desk.bfl.submit(work("flux-2-pro/edit", images=[LINK], resolution="1 MP"))

    body = desk.fake.bodies["task-1"]
    assert Image.open(io.BytesIO(base64.b64decode(body["input_image"]))).size == (1024, 512)
    assert body["width"] / body["height"] == pytest.approx(2, rel=0.02)


async def test_more_images_than_the_vendor_takes_are_for_another_vendor() -> None:
    ordered = work("flux-2-max/edit", images=[LINK] * 9)
    async with opened() as desk:
        with pytest.raises(NotAccepted) as refusal:
            await desk.bfl.submit(ordered)
        assert refusal.value.kind is FailureKind.INVALID_INPUT
        assert desk.vendor.asked == []


async def test_an_input_that_cannot_be_read_is_the_buyers_and_nobody_is_asked() -> None:
    async with opened(source=Files(VendorUnusable("a.png is gone."))) as desk:
        found = await desk.bfl.submit(work("flux-2-pro/edit"))

    assert isinstance(found, Failed)
    assert found.kind is FailureKind.INVALID_INPUT
    assert desk.vendor.asked == []


# Ends without an image


@pytest.mark.parametrize(
    ("ends", "kind"),
    [
        ({"status": "Request Moderated", "details": {"Moderation Reasons": ["x"]}}, FailureKind.MODERATION),
        ({"status": "Content Moderated"}, FailureKind.MODERATION),
        ({"status": "Error", "details": {"error": "boom"}}, FailureKind.UPSTREAM_ERROR),
        ({"status": "Failed"}, FailureKind.UPSTREAM_ERROR),
        ({"status": "Ready", "result": None}, FailureKind.UPSTREAM_ERROR),
    ],
)
async def test_every_end_without_an_image_is_a_failure_in_clean_words(ends: dict[str, Any], kind: FailureKind) -> None:
    async with opened(running=0, ends=ends) as desk:
        found = await desk.bfl.poll(GENERATE, await task_of(desk))

    assert isinstance(found, Failed)
    assert (found.kind, found.message) == (kind, SENTENCES[kind])


@pytest.mark.parametrize(
    "sample",
    ["http://10.0.0.1/a.png", "http://169.254.169.254/latest", "ftp://example.com/a.png", "data:image/png;base64,AAAA"],
)
async def test_a_result_on_a_private_address_is_not_fetched(sample: str) -> None:
    async with opened(running=0, ends={"status": "Ready", "result": {"sample": sample}}) as desk:
        found = await desk.bfl.poll(GENERATE, await task_of(desk))

    assert isinstance(found, Failed)
    assert found.kind is FailureKind.UPSTREAM_ERROR


@pytest.mark.parametrize("answer", [Answer(body=b"<html>"), Answer(body=b"\x89PNG\r\n\x1a\ncut"), Answer(status=403)])
async def test_a_file_that_is_no_image_is_the_vendors_failure(answer: Answer) -> None:
    async with opened(running=0, store=FakeStore(*[answer] * 5)) as desk:
        found = await desk.bfl.poll(GENERATE, await task_of(desk))

    assert isinstance(found, Failed)
    assert found.kind is FailureKind.UPSTREAM_ERROR


async def test_a_huge_file_is_the_vendors_failure() -> None:
    async with opened(running=0, store=FakeStore(Answer(body=bytes(MAX_IMAGE_BYTES + 1)))) as desk:
        found = await desk.bfl.poll(GENERATE, await task_of(desk))

    assert isinstance(found, Failed)
    assert found.kind is FailureKind.UPSTREAM_ERROR
    assert len(desk.store.asked) == 1


async def test_a_store_that_stumbles_is_asked_again() -> None:
    async with opened(running=0, store=FakeStore(Answer(status=503), Silence.RESET)) as desk:
        assert await desk.bfl.poll(GENERATE, await task_of(desk)) == Made()


async def test_a_task_that_the_vendor_does_not_know_is_lost_after_a_while() -> None:
    async with opened() as desk:
        task = "/get_result?id=task-404"
        assert await desk.bfl.poll(GENERATE, task) == Running()
        desk.clock.advance(300)
        desk.fake.polls = [Answer(json={"id": "x", "status": "Task not found"})]
        found = await desk.bfl.poll(GENERATE, task)
        assert isinstance(found, Failed)
        assert found.kind is FailureKind.UPSTREAM_UNKNOWN


@pytest.mark.parametrize("stray", [Answer(status=404), Answer(json={"status": "Task not found"})])
async def test_one_server_that_does_not_know_a_task_does_not_fail_it(stray: Answer) -> None:
    async with opened(running=5) as desk:
        task = await task_of(desk)
        desk.fake.polls = [stray]
        assert await desk.bfl.poll(GENERATE, task) == Running()
        for _ in range(3):
            desk.clock.advance(60)
            assert await desk.bfl.poll(GENERATE, task) == Running(progress=50)
        desk.fake.polls = [stray]
        assert await desk.bfl.poll(GENERATE, task) == Running()


# What decides nothing


@pytest.mark.parametrize("answer", [Answer(json={"status": "Dreaming"}), Answer(body=b"<html>"), Answer(json=[])])
async def test_an_undocumented_state_decides_nothing(answer: Answer) -> None:
    async with opened(running=0) as desk:
        task = await task_of(desk)
        desk.fake.polls = [answer]
        assert await desk.bfl.poll(GENERATE, task) == Running()
        assert await desk.bfl.poll(GENERATE, task) == Made()


@pytest.mark.parametrize("status", [401, 402, 403, 422])
async def test_an_answer_that_is_not_about_the_task_is_asked_for_again_later(status: int) -> None:
    async with opened(running=0) as desk:
        task = await task_of(desk)
        desk.fake.polls = [Answer(status=status, json={"detail": "x"})]
        with pytest.raises(Unreadable):
            await desk.bfl.poll(GENERATE, task)
        assert await desk.bfl.poll(GENERATE, task) == Made()


async def test_a_poll_is_patient_with_a_busy_vendor() -> None:
    async with opened(running=0) as desk:
        task = await task_of(desk)
        desk.fake.polls = [Answer(status=503), Answer(status=429), Answer(status=500)]
        assert await desk.bfl.poll(GENERATE, task) == Made()


# Submissions


@pytest.mark.parametrize(
    "how", [Silence.HANG, Silence.RESET, Silence.CUT, Answer(status=502), Answer(json={}), Answer(body=b"<html>")]
)
async def test_after_an_answer_without_an_id_nobody_knows_and_nothing_is_repeated(how: Answer | Silence) -> None:
    async with opened(how, patience=0.2) as desk:
        with pytest.raises(Ambiguous):
            await desk.bfl.submit(GENERATE)
        assert await desk.bfl.find(GENERATE) is None

    assert desk.vendor.submits() == 1


@pytest.mark.parametrize(
    ("answer", "kind", "pause"),
    [
        (Answer(status=429, headers={"retry-after": "4"}), FailureKind.RATE_LIMITED, 4.0),
        (Answer(status=429, headers={"retry-after-ms": "250"}), FailureKind.RATE_LIMITED, 0.25),
        (Answer(status=429, json={"detail": "24 tasks"}), FailureKind.RATE_LIMITED, None),
        (Answer(status=402, json={"detail": "Insufficient credits"}), FailureKind.UPSTREAM_QUOTA, None),
        (Answer(status=403, json={"detail": "Not authenticated"}), FailureKind.UPSTREAM_AUTH, None),
        (Answer(status=404, json={"detail": "Not Found"}), FailureKind.UPSTREAM_RETIRED, None),
    ],
)
async def test_what_is_the_operators_lets_another_vendor_be_asked(
    answer: Answer, kind: FailureKind, pause: float | None
) -> None:
    async with opened(answer) as desk:
        with pytest.raises(NotAccepted) as refusal:
            await desk.bfl.submit(GENERATE)

    assert (refusal.value.kind, refusal.value.retry_after) == (kind, pause)
    assert desk.vendor.submits() == 1


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (Answer(status=422, json={"detail": [{"loc": ["body"], "msg": "x", "type": "y"}]}), FailureKind.INVALID_INPUT),
        (Answer(status=400, json={"detail": "Request Moderated"}), FailureKind.MODERATION),
    ],
)
async def test_a_definite_no_is_final(answer: Answer, kind: FailureKind) -> None:
    async with opened(answer) as desk:
        found = await desk.bfl.submit(GENERATE)

    assert isinstance(found, Failed)
    assert (found.kind, found.message) == (kind, SENTENCES[kind])


# The check


async def test_the_check_asks_for_the_balance() -> None:
    async with opened() as desk:
        await desk.bfl.check()

    assert [request.path for request in desk.vendor.asked] == ["/v1/credits"]


@pytest.mark.parametrize(
    ("options", "words"), [({"key": "other"}, "refuses the configured key"), ({"credit": 0.0}, "no credit left")]
)
async def test_a_wrong_key_or_an_empty_account_does_not_pass_the_check(options: dict[str, Any], words: str) -> None:
    async with opened(**options) as desk:
        with pytest.raises(VendorUnusable, match=words):
            await desk.bfl.check()
