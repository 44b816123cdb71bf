"""News among processes: what is long goes in several messages, and none is longer than PostgreSQL takes."""

from __future__ import annotations

import pytest

from stablestudio.store.database import Database, connect, tell
from stablestudio.store.news import _messages
from tests.doubles import eventually, only_postgres


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
