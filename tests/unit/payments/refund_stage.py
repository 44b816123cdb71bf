"""A ledger with a full refund purse, a rail that a test may interrupt, and workers on it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any

import pytest

from stablestudio.payments.evm.rail import ExactEvmRail
from stablestudio.payments.rail import Outcome, Rejected, Unknown
from stablestudio.payments.refund_policy import RefundLimits
from stablestudio.payments.refunds import RefundWorker
from stablestudio.sandbox.chain import LedgerTokenChain
from stablestudio.sandbox.ledger import LedgerChain
from stablestudio.store import refunds as store
from stablestudio.store.database import Database
from tests.doubles import BUYER, USDC, ManualClock, fail, rail_on

OWED = 45_000
Answer = Callable[[str], Awaitable[Outcome]]
Row = tuple[Any, ...]


class Died(BaseException):
    """Stands for the end of the process."""


class SpiedRail:
    """A rail that a test may interrupt where refunds are signed, sent and looked up."""

    def __init__(self, rail: ExactEvmRail) -> None:
        self._rail = rail
        self.signed: list[str] = []
        self.sent: list[str] = []
        self.found: list[str] = []
        self.send: Answer = rail.send_refund
        self.find: Answer = rail.find_refund

    def __getattr__(self, name: str) -> Any:
        return getattr(self._rail, name)

    async def sign_refund(self, **terms: Any) -> str:
        self.signed.append(await self._rail.sign_refund(**terms))
        return self.signed[-1]

    async def send_refund(self, signed: str) -> Outcome:
        self.sent.append(signed)
        return await self.send(signed)

    async def find_refund(self, signed: str) -> Outcome:
        self.found.append(signed)
        return await self.find(signed)


class Stage:
    """One rail, and a worker without limits."""

    def __init__(self, database: Database, clock: ManualClock) -> None:
        self.database = database
        self.clock = clock
        self.ledger = LedgerChain(database, domain=USDC, clock=clock)
        self.rail = SpiedRail(rail_on(LedgerTokenChain(self.ledger, clock=clock)))
        self.send, self.find = self.rail.send, self.rail.find
        self.worker = self.hire()

    def hire(
        self, limits: RefundLimits | None = None, *, rail: SpiedRail | None = None, forgetful: Collection[str] = ()
    ) -> RefundWorker:
        """Return another worker, as of another process or of the next one."""
        rail = rail or self.rail
        named: Mapping[str, RefundLimits] = {rail.name: limits} if limits else {}
        return RefundWorker(
            self.database,
            rails={rail.name: rail},  # type: ignore[dict-item]
            limits=named,
            forgetful=forgetful,
            clock=self.clock,
        )

    def second_rail(self) -> SpiedRail:
        """Return the same rail as another process has it."""
        return SpiedRail(rail_on(LedgerTokenChain(self.ledger, clock=self.clock)))

    async def owe(self, number: int = 1, *, amount: int = OWED) -> str:
        order = await self.database.write(lambda connection: fail(connection, number, now=self.clock.now_ms()))
        for table in ("payments", "refunds"):
            await self.sql(f"UPDATE {table} SET amount = {amount} WHERE order_id = '{order}'")
        return order

    async def sql(self, statement: str) -> None:
        await self.database.write(lambda connection: connection.exec_driver_sql(statement).close())

    async def approve(self, order: str) -> bool:
        now = self.clock.now_ms()
        return await self.database.write(lambda connection: store.approve(connection, order_id=order, now=now))

    async def retry(self, order: str) -> bool:
        return await self.database.write(lambda connection: store.retry(connection, order_id=order))

    async def find_row(self, order: str) -> store.Refund:
        found = await self.database.read(lambda connection: store.find(connection, order))
        assert found is not None
        return found

    def state(self) -> list[Row]:
        return self.database.fetch("SELECT state, signed IS NOT NULL FROM refunds ORDER BY order_id")

    def reasons(self) -> list[Row]:
        return self.database.fetch("SELECT state, reason FROM refunds ORDER BY order_id")

    async def paid_back(self) -> int:
        return await self.ledger.balance_of(BUYER.address)

    def restore(self) -> None:
        """Let the rail do what it does by itself again."""
        self.rail.send, self.rail.find = self.send, self.find


def always(outcome: Outcome) -> Answer:
    """Return a rail's answer that is ever the same."""

    async def answer(signed: str) -> Outcome:
        return outcome

    return answer


def rejected(reason: str) -> Rejected:
    return Rejected(reason=reason, message="so the rail says")


LOST = always(Unknown(reason="timeout"))


async def die(signed: str) -> Outcome:
    raise Died


async def hang_up(signed: str) -> Outcome:
    raise ConnectionError("the node hung up")


def levels(caplog: pytest.LogCaptureFixture, event: str) -> list[str]:
    return [record.levelname for record in caplog.records if record.getMessage() == event]
