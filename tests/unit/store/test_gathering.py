"""Questions for one row each: who asks alone waits for nobody, and who asks beside others is asked for with them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence

import pytest

from stablestudio.store.database import Database
from stablestudio.store.gathering import Gathering, Row
from tests.doubles import eventually, order, sell

pytestmark = pytest.mark.anyio
SQL = "SELECT id FROM orders WHERE id = ?"


class Books:
    """Answers with the key and its length, when it is let; knows nothing of keys that begin with a question mark."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.faults: list[Exception] = []
        self.open = threading.Event()
        self.open.set()

    def fetch(self, sql: str, keys: Sequence[str]) -> list[Row]:
        assert sql == SQL
        self.asked.append(list(keys))
        assert self.open.wait(30)
        if self.faults:
            raise self.faults.pop()
        return [(key, len(key)) for key in sorted(keys) if not key.startswith("?")]


@pytest.fixture
def books() -> Books:
    return Books()


@pytest.fixture
def gathering(books: Books) -> Iterator[Gathering]:
    gathering = Gathering(books.fetch)
    yield gathering
    gathering.close()


async def _held(books: Books, gathering: Gathering, keys: Sequence[str]) -> list[asyncio.Task[Row | None]]:
    """Ask for "first", which is held, and for these keys meanwhile."""
    books.open.clear()
    tasks = [asyncio.create_task(gathering.find(SQL, "first"))]
    await eventually(lambda: len(books.asked) == 1)
    tasks += [asyncio.create_task(gathering.find(SQL, key)) for key in keys]
    await asyncio.sleep(0)
    return tasks


async def test_who_asks_while_a_query_is_under_way_is_in_the_next_one(books: Books, gathering: Gathering) -> None:
    tasks = await _held(books, gathering, ["a", "bb", "?", "a"])
    books.open.set()
    assert await asyncio.gather(*tasks) == [("first", 5), ("a", 1), ("bb", 2), None, ("a", 1)]
    assert books.asked == [["first"], ["a", "bb", "?", "a"]]
    assert await gathering.find(SQL, "later") == ("later", 5)


async def test_a_crowd_is_asked_for_in_parts(books: Books, gathering: Gathering) -> None:
    keys = [str(number) for number in range(450)]
    tasks = await _held(books, gathering, keys)
    books.open.set()
    assert [row and row[0] for row in await asyncio.gather(*tasks)] == ["first", *keys]
    assert [len(some) for some in books.asked] == [1, 200, 200, 50]


async def test_a_fault_is_told_to_those_who_asked_and_the_next_are_asked_for(
    books: Books, gathering: Gathering
) -> None:
    tasks = await _held(books, gathering, ["a", "b"])
    books.faults.append(OSError("away"))
    books.open.set()
    told = await asyncio.gather(*tasks, return_exceptions=True)
    assert [isinstance(each, OSError) for each in told] == [True, False, False]
    assert told[1:] == [("a", 1), ("b", 1)]


async def test_who_does_not_wait_any_more_is_no_trouble_to_others(books: Books, gathering: Gathering) -> None:
    tasks = await _held(books, gathering, ["a", "a"])
    tasks[1].cancel()
    await asyncio.sleep(0)
    books.open.set()
    assert (await tasks[0], await tasks[2]) == (("first", 5), ("a", 1))
    assert tasks[1].cancelled()


async def test_loops_that_ask_beside_each_other_get_their_own_answers(books: Books, gathering: Gathering) -> None:

    async def ask() -> list[Row | None]:
        return list(await asyncio.gather(*(gathering.find(SQL, str(number)) for number in range(300))))

    both = await asyncio.gather(ask(), asyncio.to_thread(lambda: asyncio.run(ask())))
    assert list(both) == [[(str(number), len(str(number))) for number in range(300)]] * 2


async def test_who_has_patience_is_asked_for_with_those_who_come_meanwhile(books: Books, gathering: Gathering) -> None:
    tasks = [asyncio.create_task(gathering.find(SQL, str(number), patience=1.0)) for number in range(2)]
    await asyncio.sleep(0.1)
    tasks.append(asyncio.create_task(gathering.find(SQL, "late", patience=1.0)))
    assert await asyncio.gather(*tasks) == [("0", 1), ("1", 1), ("late", 4)]
    assert books.asked == [["0", "1", "late"]]


async def test_a_connection_that_is_held_up_holds_up_those_alone_who_ask_on_it(
    books: Books, gathering: Gathering
) -> None:
    tasks = await _held(books, gathering, [])
    stuck, books.open = books.open, threading.Event()
    books.open.set()
    await asyncio.sleep(1.5)
    assert await asyncio.wait_for(gathering.find(SQL, "later"), 15) == ("later", 5)
    assert not tasks[0].done()
    stuck.set()
    assert await asyncio.gather(*tasks) == [("first", 5)]


async def test_nothing_is_asked_of_what_is_closed(gathering: Gathering) -> None:
    gathering.close()
    for _ in range(2):
        with pytest.raises(RuntimeError):
            await gathering.find(SQL, "a")


async def test_many_ask_the_database_for_one_row_each_and_get_their_own(database: Database) -> None:
    for number in range(1, 41):
        await database.write(lambda connection, number=number: sell(connection, number))  # type: ignore[misc]
    keys = [order(number).id for number in range(1, 61)]
    sql = "SELECT id, price_micros FROM orders WHERE id = ?"
    rows = await asyncio.gather(*(database.fetch_one(sql, key) for key in keys))
    assert [row and row[0] for row in rows] == [*keys[:40], *[None] * 20]
    odd = ["no\0thing' OR 1 = ?", "\ud800"] if database.engine.dialect.name == "postgresql" else ["no\0thing' OR 1 = ?"]
    answers = await asyncio.gather(*(database.fetch_one(sql, key) for key in [*odd, keys[0]]))
    assert [row and row[0] for row in answers] == [*[None] * len(odd), keys[0]]
