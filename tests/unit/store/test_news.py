"""News among processes: what is long goes in several messages, and none is longer than PostgreSQL takes."""

from __future__ import annotations

from typing import cast

import pytest
import sqlalchemy as sa

from stablestudio.store.database import Database, connect, tell
from stablestudio.store.news import Connection, News, _messages
from stablestudio.store.postgres import PostgresDatabase
from tests.doubles import eventually, only_postgres


class _AtLast:
    """Connects at the third try: before that, SQLAlchemy's own first queries find no server any more."""

    def __init__(self, database: Database) -> None:
        self._database = cast("PostgresDatabase", database)
        self._left = 2

    def __call__(self) -> Connection:
        if self._left:
            self._left -= 1
            raise sa.exc.OperationalError("select pg_catalog.version()", None, OSError("the server went away"))
        return self._database._connect_news()


def test_many_words_go_in_several_messages() -> None:
    words = {f"job_{number:026d}" for number in range(1000)}
    messages = list(_messages("me", words))
    assert all(len(message) < 8_000 for message in messages)
    heard = [message.split(" ") for message in messages]
    assert {sender for sender, *_ in heard} == {"me"}
    assert sorted(word for _, *told in heard for word in told) == sorted(words)


@only_postgres
@pytest.mark.anyio
async def test_others_hear_it_and_whoever_told_it_hears_it_once(database: Database) -> None:
    here: list[frozenset[str]] = []
    there: list[frozenset[str]] = []
    other = connect(database.url)
    database.listen(here.append)
    other.listen(there.append)

    async def told() -> bool:
        await database.write(lambda connection: tell(connection, f"news{len(here)}"))
        return len(there) >= 2

    await eventually(told)
    other.close()
    assert len(here) == len(set(here))
    assert set(there) <= set(here)


@only_postgres
@pytest.mark.anyio
async def test_a_server_that_goes_away_right_after_the_login_ends_no_news(database: Database) -> None:
    heard: list[frozenset[str]] = []
    here = News(_AtLast(database), lambda _: None)
    there = News(_AtLast(database), heard.append)
    there.listen()

    def told() -> bool:
        here.send(frozenset(("news",)))
        return frozenset(("news",)) in heard

    try:
        await eventually(told)
    finally:
        here.close()
        there.close()
