"""Stand-ins for the world outside: a clock moved by hand, a chain, a vendor and an engine that do as they are told."""

from __future__ import annotations

import asyncio
import io
import sqlite3
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from PIL import Image

from stablestudio.catalog import OfferingInput
from stablestudio.jobs.engine import EngineState
from stablestudio.media.intake import Checked
from stablestudio.money import Money
from stablestudio.payments.evm.rail import ExactEvmRail
from stablestudio.payments.rail import Asked, Outcome, Settled, Unknown
from stablestudio.protocols import x402
from stablestudio.protocols.eip3009 import Authorization, TokenDomain
from stablestudio.protocols.evm import EvmKey
from stablestudio.providers.provider import Accepted, Failed, Made, Output, Running, Work
from stablestudio.store import jobs, payments
from stablestudio.store.database import Database, connect, is_file
from stablestudio.store.tables import metadata

# For tests of what one of the stores alone has.
only_sqlite = pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
only_postgres = pytest.mark.parametrize("store_url", ["postgres"], indirect=True)

NOW_MS = 1_795_204_441_000
USDC = TokenDomain(name="USDC", version="2", chain_id=84532, contract="0x036CbD53842c5426634e7929541eC2318f3dCF7e")
PAY_TO = "0x209693Bc6afc0C5328bA36FaF03C514EF312287C"
BUYER = EvmKey.from_hex("0x" + "4c" * 32)
REFUNDS = EvmKey.from_hex("0x" + "7e" * 32)


class ManualClock:
    """Time that passes when it is told to."""

    def __init__(self, now_ms: int = NOW_MS) -> None:
        self._now_ms = now_ms

    def now_ms(self) -> int:
        return self._now_ms

    @property
    def now_s(self) -> int:
        return self._now_ms // 1000

    def advance(self, seconds: float) -> None:
        self._now_ms += int(seconds * 1000)


def open_database(folder: Path) -> Database:
    """Return an empty database of today's schema, in a file."""
    database = connect(f"sqlite:///{folder / 'test.db'}")
    with database.engine.connect() as connection:
        metadata.create_all(connection)
        connection.commit()
    return database


def tamper(database: Database, script: str) -> None:
    """Change the books from outside, against the rules if need be."""
    if is_file(database.url):
        with closing(sqlite3.connect(database.url.removeprefix("sqlite:///"), timeout=30)) as file:
            file.executescript(script)
        return
    with psycopg.connect(database.url) as connection:
        connection.execute("SET LOCAL session_replication_role = replica")
        connection.execute(script.encode())


async def eventually(holds: Callable[[], bool | Awaitable[bool]], *, seconds: float = 60.0) -> None:
    """Wait until something holds."""
    for _ in range(int(seconds / 0.02)):
        told = holds()
        if told if isinstance(told, bool) else await told:
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it never came to hold")


Answer = Outcome | Exception | Callable[[Authorization], Awaitable[Outcome]]


class ScriptedChain:
    """A token chain that answers from a list; the last answer holds for ever."""

    def __init__(
        self,
        *submits: Answer,
        finds: Sequence[Answer] = (Unknown(reason="not_seen"),),
        domain: TokenDomain = USDC,
        balance: int | None = 10**12,
    ) -> None:
        self.domain = domain
        self.funds = balance
        self.submits = list(submits) or [Settled(transaction="0x01")]
        self.finds = list(finds)
        self.submitted: list[Authorization] = []

    async def submit(self, authorization: Authorization, signature: bytes) -> Outcome:
        self.submitted.append(authorization)
        return await _next(self.submits, authorization)

    async def find(self, authorization: Authorization) -> Outcome:
        return await _next(self.finds, authorization)

    async def balance(self, owner: str) -> int | None:
        return self.funds

    async def start(self) -> None:
        return None

    async def stop(self) -> None:
        return None


async def _next(answers: list[Answer], authorization: Authorization) -> Outcome:
    answer = answers.pop(0) if len(answers) > 1 else answers[0]
    if isinstance(answer, Exception):
        raise answer
    return await answer(authorization) if callable(answer) else answer


def rail_on(chain: Any) -> ExactEvmRail:
    return ExactEvmRail(chain, pay_to=PAY_TO, refund_key=REFUNDS)


def payment_of(
    rail: ExactEvmRail, price: Money, *, clock: ManualClock, key: EvmKey = BUYER, hold_s: int = 0
) -> x402.PaymentPayload:
    """Sign a payment of this price."""
    offer = rail.offer(Asked(path="/", body=b"", price=price, now_s=clock.now_s, hold_s=hold_s))
    return x402.sign_exact(x402.PaymentRequired(accepts=[offer]), offer, key, now_s=clock.now_s)


class AnyFiles:
    """Takes every file for good."""

    async def check(self, given: OfferingInput, *, wallet: str) -> Checked:
        return Checked(input=given)

    async def forget(self, checked: Checked, *, wallet: str) -> None:
        return None


class FakeEngine:
    """Remembers what it was asked; its states are set by the test."""

    def __init__(self) -> None:
        self.enqueued: list[str] = []
        self.restarted: list[str] = []
        self.dropped: list[str] = []
        self.known: dict[str, EngineState] = {}
        self.faults: dict[str, Exception] = {}

    def enqueue(self, connection: sa.Connection, job_id: str, *, queue: str = "make") -> None:
        if fault := self.faults.get("enqueue"):
            raise fault
        self.enqueued.append(job_id)

    async def states(self, job_ids: Sequence[str]) -> Mapping[str, EngineState]:
        return {job_id: self.known[job_id] for job_id in job_ids if job_id in self.known}

    async def restart(self, job_id: str, *, queue: str = "make") -> None:
        if fault := self.faults.get(job_id):
            raise fault
        self.restarted.append(job_id)

    async def take_up_dropped(self) -> Sequence[str]:
        taken, self.dropped = self.dropped, []
        return taken


def png(size: tuple[int, int] = (8, 8), colour: str = "red") -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size, colour).save(out, "PNG")
    return out.getvalue()


class FakeVendor:
    """A provider whose answers are lists; an exception in one is raised, the last answer holds for ever."""

    name = "fake"

    def __init__(self, **answers: Sequence[Any]) -> None:
        usual: dict[str, list[Any]] = {
            "submit": [Accepted(task="task_1", upstream_model="fake/1")],
            "find": [None],
            "poll": [Made()],
            "fetch": [Output(data=png(), content_type="image/png")],
            "cancel": [True],
        }
        self._answers = usual | {verb: list(given) for verb, given in answers.items()}
        self.asked: list[str] = []
        self.on_submit: Callable[[Work], None] | None = None
        self.pause = 0.0  # seconds that a submission takes

    async def submit(self, work: Work) -> Accepted | Failed:
        if self.on_submit is not None:
            self.on_submit(work)
        answer: Accepted | Failed = self._next("submit")
        await asyncio.sleep(self.pause)
        return answer

    async def find(self, work: Work) -> Accepted | None:
        found: Accepted | None = self._next("find")
        return found

    async def poll(self, work: Work, task: str) -> Running | Made | Failed:
        state: Running | Made | Failed = self._next("poll")
        return state

    async def fetch(self, work: Work, task: str) -> Output | Failed:
        fetched: Output | Failed = self._next("fetch")
        return fetched

    async def cancel(self, work: Work, task: str) -> bool:
        agreed: bool = self._next("cancel")
        return agreed

    def _next(self, verb: str) -> Any:
        self.asked.append(verb)
        answers = self._answers[verb]
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


WALLET = f"eip155:{BUYER.address.lower()}"
INPUT = '{"prompt":"a cat","imageSize":"512"}'


def order(number: int, *, now: int = NOW_MS, **changes: Any) -> payments.Order:
    """Return order number so-and-so of the buyer."""
    values: dict[str, Any] = {
        "id": f"job_{number:026d}",
        "wallet": WALLET,
        "model": "nano-banana",
        "operation": "generate",
        "input": INPUT,
        "price_micros": 45_000,
        "idempotency_key": None,
        "created_at": now,
    }
    return payments.Order(**(values | changes))


def payment(number: int, *, now: int = NOW_MS, **changes: Any) -> payments.Payment:
    """Return the payment of that order, claimed."""
    values: dict[str, Any] = {
        "id": f"pay_{number:026d}",
        "order_id": f"job_{number:026d}",
        "rail": f"x402:eip155:84532:{USDC.contract.lower()}",
        "key": f"{BUYER.address.lower()}:0x{number:064x}",
        "fingerprint": "f" * 64,
        "credential": "{}",
        "state": "claimed",
        "network": "eip155:84532",
        "asset": USDC.contract,
        "amount": 45_000,
        "payer": BUYER.address,
        "transaction": None,
        "reason": None,
        "claimed_at": now,
        "updated_at": now,
    }
    return payments.Payment(**(values | changes))


def sell(connection: sa.Connection, number: int, *, now: int = NOW_MS, **changes: Any) -> str:
    """Write down a paid order with its pending job; return the id."""
    made, paid = order(number, now=now, **changes), payment(number, now=now)
    payments.claim(connection, order=made, payment=paid)
    payments.settle(connection, payment=paid, transaction=f"0x{number:02x}", now=now)
    jobs.insert(connection, order_id=made.id, wallet=made.wallet, type_="nano-banana-generate", now=now)
    return made.id


def fail(connection: sa.Connection, number: int, *, now: int = NOW_MS) -> str:
    """Write down a paid order whose job has failed, so that money is owed; return the id."""
    job_id = sell(connection, number, now=now)
    jobs.fail(connection, job_id=job_id, code="upstream_error", message="no", now=now)
    return job_id
