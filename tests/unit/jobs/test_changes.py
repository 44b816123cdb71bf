"""Waiting for orders: nothing is missed, nobody is woken for another's order, and waiters share one look."""

from __future__ import annotations

import asyncio
import time
from contextlib import ExitStack
from typing import Any

import pytest
import sqlalchemy as sa

from stablestudio.jobs.changes import Changes, Waiter
from stablestudio.store import payments, views
from stablestudio.store.database import Database, connect
from stablestudio.store.views import OrderView
from tests.doubles import only_postgres, only_sqlite, order, payment, tamper

pytestmark = pytest.mark.anyio
_LONG = 60.0  # no wait in these tests ends by itself


@pytest.fixture(autouse=True)
async def two_orders(database: Database) -> None:
    for number in (1, 2):
        await database.write(
            lambda connection: payments.claim(connection, order=order(number), payment=payment(number))  # noqa: B023
        )


@pytest.fixture
async def changes(database: Database) -> Changes:
    changes = Changes(database)
    changes.start()
    return changes


def _touch(number: int) -> Any:
    return lambda connection: payments.touch(connection, order(number).id)


async def _next(waiter: Waiter) -> OrderView | None:
    await waiter.wait(await waiter.look(), seconds=_LONG)
    return await waiter.look()


async def test_a_change_wakes_the_waiters_of_its_order_alone(database: Database, changes: Changes) -> None:
    with changes.waiter(order(1).id) as one, changes.waiter(order(2).id) as other:
        await one.look()
        await other.look()
        woken, sleeping = asyncio.create_task(_next(one)), asyncio.create_task(_next(other))
        await asyncio.sleep(0)
        await database.write(_touch(1))
        seen = await woken
        assert seen is not None
        assert seen.revision == 2
        assert not sleeping.done()
        sleeping.cancel()


async def test_a_change_from_another_thread_wakes(database: Database, changes: Changes) -> None:
    with changes.waiter(order(1).id) as waiter:
        await waiter.look()
        woken = asyncio.create_task(_next(waiter))
        await asyncio.sleep(0)
        await asyncio.to_thread(lambda: asyncio.run(database.write(_touch(1))))
        assert (await woken) is not None


async def test_a_change_between_the_look_and_the_wait_is_not_missed(database: Database, changes: Changes) -> None:
    with changes.waiter(order(1).id) as waiter:
        seen = await waiter.look()
        await database.write(_touch(1))
        await waiter.wait(seen, seconds=_LONG)
        found = await waiter.look()
        assert found is not None
        assert found.revision == 2


async def test_what_was_undone_is_not_seen(database: Database, changes: Changes) -> None:
    def touch_and_break(connection: sa.Connection) -> None:
        payments.touch(connection, order(1).id)
        raise LookupError

    with changes.waiter(order(1).id) as waiter:
        seen = await waiter.look()
        with pytest.raises(LookupError):
            await database.write(touch_and_break)
        await waiter.wait(seen, seconds=0.01)
        found = await waiter.look()
        assert (found and found.revision, seen and seen.revision) == (1, 1)


@only_sqlite  # elsewhere a look takes a while, and a change that is heard meanwhile asks for another one
async def test_thousand_waiters_of_one_order_ask_the_database_once_a_change(
    database: Database, changes: Changes, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    async def count(books: Database, order_id: str) -> OrderView | None:
        asked.append(order_id)
        return await find(books, order_id)

    find = views.find
    monkeypatch.setattr(views, "find", count)

    async def follow() -> None:
        with changes.waiter(order(1).id) as waiter:
            for _ in range(3):
                await _next(waiter)

    followers = [asyncio.create_task(follow()) for _ in range(1000)]
    for _ in range(3):
        await asyncio.sleep(0.05)
        await database.write(_touch(1))
    await asyncio.gather(*followers)
    assert len(asked) == 4  # as they came, and once for each change


async def test_a_change_of_another_process_is_found_by_one_look_around(database: Database, changes: Changes) -> None:
    with changes.waiter(order(1).id) as one, changes.waiter(order(2).id) as other:
        await one.look()
        await other.look()
        woken, sleeping = asyncio.create_task(_next(one)), asyncio.create_task(_next(other))
        await asyncio.sleep(0)
        tamper(database, f"UPDATE orders SET revision = 7 WHERE id = '{order(1).id}'")
        await changes.look_around()
        seen = await woken
        assert seen is not None
        assert seen.revision == 7
        assert not sleeping.done()
        sleeping.cancel()


@only_postgres
async def test_a_change_of_another_process_is_heard(database: Database, changes: Changes) -> None:
    other = connect(database.url)
    with changes.waiter(order(1).id) as waiter:
        async with asyncio.timeout(_LONG):
            while (seen := await waiter.look()) is not None and seen.revision == 1:
                await other.write(_touch(1))  # again, because we may not listen yet
                await waiter.wait(seen, seconds=1.0)
    other.close()
    assert seen is not None


async def test_a_wait_ends_with_its_time_and_at_a_stop(database: Database, changes: Changes) -> None:
    with changes.waiter(order(1).id) as waiter:
        started = time.monotonic()
        await waiter.wait(await waiter.look(), seconds=0.05)
        assert time.monotonic() - started >= 0.04
        await waiter.look()
        woken = asyncio.create_task(_next(waiter))
        await asyncio.sleep(0)
        changes.close()
        await woken
    with changes.waiter(order(2).id) as late:
        await late.wait(await late.look(), seconds=_LONG)  # a stopping service keeps nobody


async def test_nobody_is_remembered_who_has_left(changes: Changes) -> None:
    with changes.waiter(order(1).id), changes.waiter(order(1).id):
        pass
    await changes.look_around()
    assert changes.waited_for == 0


async def test_a_change_that_a_waiter_does_not_heed_lets_it_sleep_on(database: Database, changes: Changes) -> None:
    with changes.waiter(order(1).id) as deaf, changes.waiter(order(1).id) as other:
        seen = await deaf.look()
        asleep = asyncio.create_task(deaf.wait(seen, seconds=_LONG, heeds=lambda seen: seen is None))
        woken = asyncio.create_task(_next(other))
        await asyncio.sleep(0)
        await database.write(_touch(1))
        await woken
        assert not asleep.done()
        deaf.wake()
        await asleep


async def test_one_order_and_all_together_have_room_for_so_many_waiters(
    changes: Changes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stablestudio.jobs.changes.MOST_EACH", 2)
    monkeypatch.setattr("stablestudio.jobs.changes.MOST", 3)
    with ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(changes.waiter(order(1).id))
        assert not changes.has_room(order(1).id)
        assert changes.has_room(order(2).id)
        stack.enter_context(changes.waiter(order(2).id))
        assert not changes.has_room(order(2).id)
    assert changes.has_room(order(1).id)
