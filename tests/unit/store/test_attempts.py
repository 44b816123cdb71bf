"""Notes of settlement attempts: one winner, one repetition, across restarts, until the payment expires."""

from __future__ import annotations

import asyncio

import httpx2
import pytest

from stablestudio.payments.facilitators.client import Facilitator
from stablestudio.payments.facilitators.line import Attempts, FacilitatorLine, MemoryAttempts
from stablestudio.payments.rail import Settled, Unknown
from stablestudio.payments.stored import StoredAttempts
from stablestudio.store.database import Database, connect
from tests.doubles import NOW_MS, ManualClock
from tests.unit.payments.test_facilitator_line import PAID, TX, Chain, Script, submission

pytestmark = pytest.mark.anyio
NOW = NOW_MS // 1000
END = NOW + 300
KEY = "0xpayer:0xnonce"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(params=["memory", "table"])
def attempts(request: pytest.FixtureRequest, database: Database, clock: ManualClock) -> Attempts:
    """Both kinds keep the same rules."""
    return MemoryAttempts(clock=clock) if request.param == "memory" else StoredAttempts(database, clock)


@pytest.fixture
def stored(database: Database, clock: ManualClock) -> StoredAttempts:
    return StoredAttempts(database, clock)


def keys(database: Database) -> list[str]:
    return [str(row[0]) for row in database.fetch("SELECT key FROM settlement_attempts ORDER BY key")]


async def test_the_first_to_begin_holds_the_payment_and_the_second_hears_who(attempts: Attempts) -> None:
    assert await attempts.begin(KEY, facilitator="a", expires_at=END) is None
    assert await attempts.begin(KEY, facilitator="b", expires_at=END + 60) == "a"
    assert await attempts.begin(KEY, facilitator="a", expires_at=END) == "a"
    assert await attempts.begin("other", facilitator="b", expires_at=END) is None


async def test_of_fifty_at_once_one_begins(attempts: Attempts) -> None:
    told = await asyncio.gather(
        *(attempts.begin(KEY, facilitator=f"f{number}", expires_at=END) for number in range(50))
    )
    [winner] = [number for number, holder in enumerate(told) if holder is None]
    assert {holder for holder in told if holder is not None} == {f"f{winner}"}


async def test_the_repetition_is_there_once_and_for_the_holder_alone(attempts: Attempts) -> None:
    await attempts.begin(KEY, facilitator="a", expires_at=END)
    assert not await attempts.spend(KEY, facilitator="b")
    assert not await attempts.spend("unknown", facilitator="a")
    taken = await asyncio.gather(*(attempts.spend(KEY, facilitator="a") for _ in range(20)))
    assert sorted(taken) == 19 * [False] + [True]


async def test_whoever_holds_it_is_meant_where_nobody_is_named(attempts: Attempts) -> None:
    assert await attempts.release(KEY)
    await attempts.begin(KEY, facilitator="a", expires_at=END)
    assert [await attempts.spend(KEY), await attempts.spend(KEY), await attempts.release(KEY)] == [True, False, False]
    await attempts.begin("other", facilitator="a", expires_at=END)
    assert await attempts.release("other")
    assert await attempts.begin("other", facilitator="b", expires_at=END) is None


async def test_a_holder_that_did_nothing_makes_place(attempts: Attempts) -> None:
    await attempts.begin(KEY, facilitator="a", expires_at=END)
    assert await attempts.release(KEY, facilitator="a")
    assert await attempts.begin(KEY, facilitator="b", expires_at=END) is None
    assert await attempts.release(KEY, facilitator="a"), "it holds nothing, so there is nothing to keep"
    assert await attempts.begin(KEY, facilitator="c", expires_at=END) == "b"


async def test_a_holder_whose_repetition_is_taken_stays(attempts: Attempts) -> None:
    await attempts.begin(KEY, facilitator="a", expires_at=END)
    await attempts.spend(KEY, facilitator="a")
    assert not await attempts.release(KEY, facilitator="a")
    assert await attempts.begin(KEY, facilitator="b", expires_at=END) == "a"


@pytest.mark.parametrize(("passed", "holder"), [(299, "a"), (300, None), (301, None)])
async def test_a_note_counts_until_its_payment_expires(
    attempts: Attempts, clock: ManualClock, passed: int, holder: str | None
) -> None:
    await attempts.begin(KEY, facilitator="a", expires_at=END)
    await attempts.spend(KEY, facilitator="a")
    clock.advance(passed)
    assert await attempts.begin(KEY, facilitator="b", expires_at=END + 600) == holder
    # What begins anew has its repetition again.
    assert await attempts.spend(KEY, facilitator="b") is (holder is None)


async def test_notes_survive_a_restart(store_url: str, clock: ManualClock) -> None:
    before = connect(store_url)
    await StoredAttempts(before, clock).begin(KEY, facilitator="a", expires_at=END)
    await StoredAttempts(before, clock).begin("spent", facilitator="a", expires_at=END)
    await StoredAttempts(before, clock).spend("spent", facilitator="a")
    before.close()
    after = connect(store_url)
    reopened = StoredAttempts(after, clock)
    assert await reopened.begin(KEY, facilitator="b", expires_at=END) == "a"
    assert [await reopened.spend(key, facilitator="a") for key in (KEY, "spent")] == [True, False]
    after.close()


async def test_two_processes_on_one_database_have_one_winner(store_url: str, clock: ManualClock) -> None:
    one, two = connect(store_url), connect(store_url)
    sides = [StoredAttempts(one, clock), StoredAttempts(two, clock)]
    for number in range(20):
        told = await asyncio.gather(
            *(side.begin(f"{number}", facilitator=name, expires_at=END) for side, name in zip(sides, "ab", strict=True))
        )
        assert sorted(map(str, told)) in (["None", "a"], ["None", "b"])
    one.close()
    two.close()


async def test_a_payment_sent_before_a_kill_is_finished_by_its_facilitator_alone(
    database: Database, clock: ManualClock
) -> None:
    """The next process has another order of facilitators, and still asks the one that may have the payment."""
    killed, first, second = Script(httpx2.ReadError), Script(), Script(PAID)

    def line(**scripts: Script) -> FacilitatorLine:
        made = [
            Facilitator(f"https://{name}.example", transport=httpx2.MockTransport(script.handle))
            for name, script in scripts.items()
        ]
        return FacilitatorLine(made, attempts=StoredAttempts(database, clock))

    await StoredAttempts(database, clock).begin(KEY, facilitator="b.example", expires_at=END)
    assert await line(a=first, b=second).settle(submission(), find=Chain().find) == Settled(transaction=TX)
    assert (first.settles, second.settles) == (0, 1)
    doubtful = submission(key="doubtful")
    assert isinstance(await line(c=killed).settle(doubtful, find=Chain().find), Unknown)
    assert await line(a=first, c=killed).settle(doubtful, find=Chain().find) == Unknown(reason="settlement_awaited")
    assert (first.settles, killed.settles) == (0, 1)


async def test_what_has_expired_is_dropped(database: Database, stored: StoredAttempts, clock: ManualClock) -> None:
    for key, end in (("old", END), ("edge", END + 1), ("new", END + 2)):
        await stored.begin(key, facilitator="a", expires_at=end)
    clock.advance(301)
    assert await stored.prune() == 2
    assert keys(database) == ["new"]


async def test_many_attempts_tidy_up_by_themselves(
    database: Database, stored: StoredAttempts, clock: ManualClock
) -> None:
    await asyncio.gather(*(stored.begin(f"old-{number}", facilitator="a", expires_at=END) for number in range(200)))
    clock.advance(301)
    await asyncio.gather(
        *(stored.begin(f"new-{number}", facilitator="a", expires_at=END + 600) for number in range(100))
    )
    assert {key.partition("-")[0] for key in keys(database)} == {"new"}
