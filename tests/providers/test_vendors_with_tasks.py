"""What holds for every vendor with tasks: one submission, honest doubt, and a kind for every way to fail."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.utils import formatdate
from typing import Any

import pytest

from stablestudio.catalog import OFFERINGS
from stablestudio.media.fetch import FetchFailed
from stablestudio.providers.answers import Ambiguous, Unreadable
from stablestudio.providers.faults import SENTENCES, VendorUnusable
from stablestudio.providers.provider import Accepted, Failed, FailureKind, Made, NotAccepted, Output, Running
from tests.doubles import ManualClock
from tests.providers.fakes.tasks import TaskVendor
from tests.providers.loopback import Answer, Silence
from tests.providers.vendors_with_tasks import VENDORS, Adapter, Vendor, made
from tests.providers.works import Files, work

pytestmark = pytest.mark.anyio

KEYS = {offering.key for offering in OFFERINGS}


@pytest.fixture(params=sorted(VENDORS))
def vendor(request: pytest.FixtureRequest) -> Vendor:
    return VENDORS[request.param]


@asynccontextmanager
async def running(vendor: Vendor, **options: Any) -> AsyncIterator[tuple[TaskVendor, Adapter]]:
    """Run a fake and an adapter that speaks to it; options of the adapter begin with `adapter_`."""
    own = {name.removeprefix("adapter_"): options.pop(name) for name in list(options) if name.startswith("adapter_")}
    fake = vendor.fake(**options)
    async with fake.serving() as server:
        adapter = vendor.at(server.url, **own)
        try:
            yield fake, adapter
        finally:
            await adapter.close()


# From work to output


async def test_work_becomes_the_file_that_the_vendor_made(vendor: Vendor) -> None:
    async with running(vendor) as (fake, adapter):
        output = await made(adapter, work(vendor.key))

    assert output == Output(data=fake.file, content_type="video/mp4")
    assert len(fake.orders) == 1


async def test_the_key_never_goes_to_the_store_of_files(vendor: Vendor) -> None:
    async with running(vendor) as (fake, adapter):
        await made(adapter, work(vendor.key))

    assert all("authorization" not in request.headers for request in fake.downloads)


async def test_an_acceptance_names_the_model_that_really_makes_it(vendor: Vendor) -> None:
    async with running(vendor) as (_, adapter):
        accepted = await adapter.submit(work(vendor.key))
        renamed = await adapter.submit(work(vendor.key, model="acme/other"))

    assert isinstance(accepted, Accepted)
    assert isinstance(renamed, Accepted)
    assert renamed.upstream_model.startswith("acme/other")
    assert accepted.upstream_model


async def test_a_task_runs_until_it_is_made(vendor: Vendor) -> None:
    async with running(vendor, states=[vendor.running, vendor.running, vendor.done]) as (_, adapter):
        order = work(vendor.key)
        accepted = await adapter.submit(order)
        assert isinstance(accepted, Accepted)
        seen = [await adapter.poll(order, accepted.task) for _ in range(3)]

    assert [type(each) for each in seen] == [Running, Running, Made]


async def test_the_verbs_after_the_submission_may_be_repeated_by_another_process(vendor: Vendor) -> None:
    order = work(vendor.key)
    async with running(vendor, states=[vendor.done]) as (fake, adapter):
        accepted = await adapter.submit(order)
        assert isinstance(accepted, Accepted)
        for _ in range(2):
            another = vendor.at(fake.url)
            assert await another.poll(order, accepted.task) == Made()
            assert await another.fetch(order, accepted.task) == Output(data=fake.file, content_type="video/mp4")
            await another.close()

    assert len(fake.orders) == 1


async def test_an_adapter_works_on_more_than_one_event_loop(vendor: Vendor) -> None:
    async def elsewhere() -> Output | Failed:
        try:
            return await made(adapter, work(vendor.key))
        finally:
            await adapter.close()

    async with running(vendor, states=[vendor.done]) as (fake, adapter):
        await adapter.check()
        output = await asyncio.to_thread(lambda: asyncio.run(elsewhere()))

    assert isinstance(output, Output)
    assert len(fake.orders) == 1


async def test_a_vendor_offers_only_what_the_catalog_has(vendor: Vendor) -> None:
    adapter: Any = vendor.at("https://vendor.example")

    assert adapter.models
    assert adapter.models.keys() <= KEYS


# Nobody knows


@pytest.mark.parametrize(
    "after",
    [Silence.RESET, Silence.CUT, Answer(status=500), Answer(status=502, body=b"<html>"), Answer(status=504)],
    ids=["reset", "cut", "500", "502", "504"],
)
async def test_a_lost_answer_is_doubt_and_no_second_submission(vendor: Vendor, after: Answer | Silence) -> None:
    async with running(vendor, after=[after]) as (fake, adapter):
        with pytest.raises(Ambiguous):
            await adapter.submit(work(vendor.key))

    assert len(fake.orders) == 1


async def test_a_read_time_out_is_doubt_and_no_second_submission(
    vendor: Vendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(vendor, after=[Silence.HANG]) as (fake, adapter):
        monkeypatch.setattr(sys.modules[type(adapter).__module__], "_ANSWER_SECONDS", 0.2)
        with pytest.raises(Ambiguous):
            await adapter.submit(work(vendor.key))

    assert len(fake.orders) == 1


async def test_an_acceptance_that_names_no_task_is_doubt(vendor: Vendor) -> None:
    for nonsense in (vendor.without_id, Answer(body=b"<html>nope"), Answer(json=[1]), Answer(json=None)):
        async with running(vendor, after=[nonsense]) as (fake, adapter):
            with pytest.raises(Ambiguous):
                await adapter.submit(work(vendor.key))

        assert len(fake.orders) == 1


# Certainly not taken


async def test_a_vendor_that_is_not_there_did_not_take_the_work(vendor: Vendor) -> None:
    adapter = vendor.at("http://127.0.0.1:1")
    with pytest.raises(NotAccepted) as refused:
        await adapter.submit(work(vendor.key))
    await adapter.close()

    assert refused.value.kind is FailureKind.UPSTREAM_ERROR


@pytest.mark.parametrize(
    ("hint", "least", "most"),
    [
        ({}, None, None),
        ({"retry-after": "7"}, 7, 7),
        ({"retry-after-ms": "1500"}, 1.5, 1.5),
        ({"retry-after": formatdate(usegmt=True)}, 0, 0),
        ({"retry-after": "86400"}, 120, 120),
    ],
    ids=["none", "seconds", "milliseconds", "date", "long"],
)
async def test_a_busy_vendor_did_not_take_the_work_and_says_how_long(
    vendor: Vendor, hint: dict[str, str], least: float | None, most: float | None
) -> None:
    async with running(vendor, instead=[vendor.busy(**hint)]) as (fake, adapter):
        with pytest.raises(NotAccepted) as refused:
            await adapter.submit(work(vendor.key))

    assert refused.value.kind is FailureKind.RATE_LIMITED
    assert len(fake.orders) == 1
    if least is None or most is None:
        assert refused.value.retry_after is None
    else:
        assert refused.value.retry_after is not None
        assert least <= refused.value.retry_after <= most


@pytest.mark.parametrize(
    ("what", "kind"),
    [("broke", FailureKind.UPSTREAM_QUOTA), ("retired", FailureKind.UPSTREAM_RETIRED)],
)
async def test_trouble_of_the_operator_leaves_the_work_to_another_vendor(
    vendor: Vendor, what: str, kind: FailureKind
) -> None:
    async with running(vendor, instead=[getattr(vendor, what)]) as (fake, adapter):
        with pytest.raises(NotAccepted) as refused:
            await adapter.submit(work(vendor.key))

    assert refused.value.kind is kind
    assert len(fake.orders) == 1


async def test_a_wrong_key_leaves_the_work_to_another_vendor(vendor: Vendor) -> None:
    async with running(vendor, adapter_auth={"Authorization": "Bearer wrong"}) as (fake, adapter):
        with pytest.raises(NotAccepted) as refused:
            await adapter.submit(work(vendor.key))

    assert refused.value.kind is FailureKind.UPSTREAM_AUTH
    assert fake.orders == []


# The work is at fault


async def test_a_refusal_by_content_rules_is_definitive_before_and_after_acceptance(vendor: Vendor) -> None:
    async with running(vendor, instead=[vendor.moderated], states=[vendor.running, vendor.refused]) as (fake, adapter):
        before = await adapter.submit(work(vendor.key))
        after = await made(adapter, work(vendor.key))

    for failure in (before, after):
        assert isinstance(failure, Failed)
        assert failure.kind is FailureKind.MODERATION
        assert failure.message == SENTENCES[FailureKind.MODERATION]
        assert failure.detail
    assert len(fake.orders) == 2


async def test_a_file_of_the_buyer_that_cannot_be_read_fails_before_anybody_is_asked(vendor: Vendor) -> None:
    keys: dict[str, dict[str, Any]] = {
        "seedance/t2v": {"seedance/i2v": {}},
        "seedance-fast/t2v": {"seedance-fast/i2v": {}},
        "wan-2.6/t2v": {"wan-2.6/i2v": {}},
        "veo-3.1/generate": {"veo-3.1/generate": {"image": "https://e.com/a.png"}},
    }
    key, changes = next(iter(keys[vendor.key].items()))
    source = Files(FetchFailed("e.com answered with status 404."))
    async with running(vendor, adapter_source=source) as (fake, adapter):
        failure = await adapter.submit(work(key, **changes))

    assert isinstance(failure, Failed)
    assert (failure.kind, failure.message) == (FailureKind.INVALID_INPUT, "e.com answered with status 404.")
    assert fake.orders == []


# Polls are total


async def test_an_unknown_state_and_nonsense_are_no_verdict(vendor: Vendor) -> None:
    polls = [
        Answer(body=b"<html>"),
        Answer(json=[]),
        Answer(json={"status": {"a": 1}, "output": "?"}),
        Answer(json=None),
    ]
    async with running(vendor, polls=polls) as (_, adapter):
        order = work(vendor.key)
        accepted = await adapter.submit(order)
        assert isinstance(accepted, Accepted)
        seen = [await adapter.poll(order, accepted.task) for _ in range(4)]

    assert seen == [Running()] * 4


async def test_polls_are_patient_with_trouble_on_the_way(vendor: Vendor) -> None:
    polls = [Answer(status=503), Silence.RESET, Answer(status=429)]
    async with running(vendor, polls=polls, states=[vendor.done]) as (fake, adapter):
        order = work(vendor.key)
        accepted = await adapter.submit(order)
        assert isinstance(accepted, Accepted)

        assert await adapter.poll(order, accepted.task) == Made()
    assert len(fake.orders) == 1


async def test_a_key_that_stops_working_does_not_fail_the_work_under_way(vendor: Vendor) -> None:
    async with running(vendor, polls=[Answer(status=401), Answer(status=403)]) as (_, adapter):
        order = work(vendor.key)
        accepted = await adapter.submit(order)
        assert isinstance(accepted, Accepted)
        for _ in range(2):
            with pytest.raises(Unreadable):
                await adapter.poll(order, accepted.task)


async def test_a_task_that_stays_unknown_to_the_vendor_has_failed(vendor: Vendor) -> None:
    strange = "0385dc79-0000-0000-0000-000000000000"
    clock = ManualClock()
    async with running(vendor, adapter_clock=clock) as (fake, adapter):
        order = work(vendor.key)
        if vendor is VENDORS["fal"]:
            place = f"{fake.url}/a/b/requests/{strange}"
            strange = f'{{"status_url": "{place}/status", "response_url": "{place}", "cancel_url": "{place}/cancel"}}'
        early = await adapter.poll(order, strange)
        clock.advance(121)
        late = await adapter.poll(order, strange)

    assert early == Running()
    assert isinstance(late, Failed)
    assert late.kind is FailureKind.UPSTREAM_UNKNOWN


# Results


@pytest.mark.parametrize(
    "place",
    [
        "http://10.0.0.1/a.mp4",
        "https://169.254.169.254/latest/meta-data",
        "file:///etc/passwd",
        "http://localhost.example/a.mp4",
    ],
)
async def test_a_result_on_a_private_address_is_never_fetched(vendor: Vendor, place: str) -> None:
    async with running(vendor, states=[vendor.done], result_url=place) as (_, adapter):
        failure = await made(adapter, work(vendor.key))

    assert isinstance(failure, Failed)
    assert failure.kind is FailureKind.UPSTREAM_ERROR


async def test_a_result_that_is_too_large_is_not_kept(vendor: Vendor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stablestudio.providers.finish.MAX_CLIP_BYTES", 1000)
    async with running(vendor, states=[vendor.done], file=bytes(1_000_000)) as (_, adapter):
        failure = await made(adapter, work(vendor.key))

    assert isinstance(failure, Failed)
    assert failure.kind is FailureKind.UPSTREAM_ERROR


@pytest.mark.parametrize("file", [b"", b"<html>gone</html>", b"\x89PNG\r\n\x1a\n"])
async def test_a_result_that_is_no_clip_is_a_failure(vendor: Vendor, file: bytes) -> None:
    async with running(vendor, states=[vendor.done], file=file or b" ") as (_, adapter):
        failure = await made(adapter, work(vendor.key))

    assert isinstance(failure, Failed)
    assert failure.kind is FailureKind.UPSTREAM_ERROR


# The rest


async def test_a_check_passes_with_the_key_and_asks_for_no_work(vendor: Vendor) -> None:
    async with running(vendor) as (fake, adapter):
        await adapter.check()

    assert fake.orders == []


async def test_a_check_says_that_the_key_is_wrong_or_nobody_answers(vendor: Vendor) -> None:
    async with running(vendor, adapter_auth={"Authorization": "wrong"}) as (_, adapter):
        with pytest.raises(VendorUnusable, match="refuses the configured key"):
            await adapter.check()


async def test_only_a_search_that_finds_the_task_is_an_answer(vendor: Vendor) -> None:
    async with running(vendor) as (fake, adapter):
        assert await adapter.find(work(vendor.key)) is None

    assert fake.orders == []
