"""A claim whose commit got no answer: unknown is not failed, and nobody hears that nothing was charged."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from stablestudio.payments.errors import StoreUnavailable
from stablestudio.sales.order import Held, Sold
from stablestudio.store.database import CommitUnknown
from tests.doubles import only_postgres

from .shop import Shop

pytestmark = [pytest.mark.anyio, only_postgres]
POLICIES = pytest.mark.parametrize(("hold_s", "state"), [(0, "settled"), (3600, "held")])
_COMMIT = psycopg.Connection.commit


def _lose(
    monkeypatch: pytest.MonkeyPatch,
    *,
    takes_effect: bool,
    which: Callable[[int], bool] = lambda n: n == 0,
    then: Callable[[], object] = lambda: None,
) -> None:
    """Break the connection at those commits in which something was written: after they took effect, or before."""
    count = itertools.count()

    def commit(connection: psycopg.Connection[Any]) -> None:
        writes = connection.execute("SELECT pg_current_xact_id_if_assigned() IS NOT NULL").fetchone() == (True,)
        if not writes or not which(next(count)):
            return _COMMIT(connection)
        if takes_effect:
            _COMMIT(connection)
        connection.close()
        then()
        raise psycopg.OperationalError("server closed the connection unexpectedly")

    monkeypatch.setattr(psycopg.Connection, "commit", commit)


@POLICIES
@pytest.mark.parametrize("takes_effect", [True, False])
async def test_a_claim_whose_commit_got_no_answer_is_sold_once(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, hold_s: int, state: str, *, takes_effect: bool
) -> None:
    purchase = shop.purchase(hold_s=hold_s, session="run")
    _lose(monkeypatch, takes_effect=takes_effect)
    answer = await shop.sell(purchase)
    monkeypatch.undo()
    assert isinstance(answer, Sold)
    assert [payment[0] for payment in shop.payments()] == [state]
    assert shop.jobs() == [answer.job_id]
    assert len(shop.chain.submitted) == (state == "settled")
    again = await shop.sell(purchase)
    assert again.job_id == answer.job_id


@POLICIES
@pytest.mark.parametrize("takes_effect", [True, False])
async def test_a_claim_of_which_nobody_can_tell_is_held_and_the_same_request_finds_out(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, hold_s: int, state: str, *, takes_effect: bool
) -> None:
    async def read_never(_: Any) -> Any:
        raise sa.exc.OperationalError("SELECT", None, OSError("the server is away"))

    purchase = shop.purchase(hold_s=hold_s)
    _lose(monkeypatch, takes_effect=takes_effect, which=lambda n: takes_effect <= (n == 0))
    if takes_effect:
        monkeypatch.setattr(shop.database, "read", read_never)
    answer = await shop.sell(purchase)
    monkeypatch.undo()
    assert isinstance(answer, Held)
    assert shop.chain.submitted == []
    assert len(shop.payments()) == takes_effect
    await shop.reconcile()
    later = await shop.sell(purchase)
    assert isinstance(later, Sold)
    assert (later.job_id == answer.job_id) == takes_effect
    assert [payment[0] for payment in shop.payments()] == [state]
    assert shop.jobs() == [later.job_id]


async def test_a_claim_that_took_long_to_come_to_nothing_is_not_written_again(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reconciler would take it for left behind, and settle it beside the seller."""
    _lose(monkeypatch, takes_effect=False, then=lambda: shop.clock.advance(20))
    answer = await shop.sell(shop.purchase())
    monkeypatch.undo()
    assert isinstance(answer, Held)
    assert (shop.payments(), shop.chain.submitted) == ([], [])


async def test_a_claim_that_another_transaction_keeps_waiting_is_held_and_not_waited_for_without_end(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the server has not noticed yet that whoever sent the commit is gone."""
    with psycopg.connect(shop.database.url) as other:
        _lose(monkeypatch, takes_effect=False, then=lambda: other.execute("LOCK TABLE payments"))
        answer = await shop.sell(shop.purchase())
        monkeypatch.undo()
        assert isinstance(answer, Held)
        other.rollback()
    assert shop.payments() == []


async def test_a_payment_that_was_taken_and_cannot_be_read_is_held(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    purchase = shop.purchase(key="k")
    sold = await shop.sell(purchase)
    assert isinstance(sold, Sold)
    read = shop.database.read
    count = itertools.count()

    async def read_once(work: Any) -> Any:
        if next(count):
            raise sa.exc.OperationalError("SELECT", None, OSError("the server is away"))
        return await read(work)

    monkeypatch.setattr(shop.database, "read", read_once)
    assert await shop.sell(purchase) == Held(job_id=sold.job_id)


async def test_a_claim_that_was_certainly_not_written_is_refused(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(connection: psycopg.Connection[Any]) -> None:
        connection.rollback()
        raise psycopg.errors.DiskFull("could not extend file")

    monkeypatch.setattr(psycopg.Connection, "commit", refuse)
    with pytest.raises(StoreUnavailable) as refused:
        await shop.sell(shop.purchase())
    monkeypatch.undo()
    assert not refused.value.charged
    assert (shop.payments(), shop.chain.submitted) == ([], [])


async def test_a_commit_without_an_answer_is_told_apart(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    def note(connection: sa.Connection) -> None:
        connection.execute(sa.text("INSERT INTO used_nonces (nonce, expires_at) VALUES ('a', 0)"))

    _lose(monkeypatch, takes_effect=True)
    with pytest.raises(CommitUnknown):
        await shop.database.write(note)
    assert shop.database.fetch("SELECT nonce FROM used_nonces") == [("a",)]
