"""Settlement on Solana through facilitators: whose fee payer is offered, and that only the chain's word counts."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import httpx2
import pytest

from stablestudio.payments.facilitators.client import Facilitator, FacilitatorUnusable
from stablestudio.payments.rail import Rejected, Settled, Unknown
from stablestudio.payments.solana import facilitated as solana_facilitated
from stablestudio.payments.solana import facts as solana_facts
from stablestudio.payments.solana.facilitated import FacilitatedSolanaChain
from stablestudio.payments.solana.rail import ExactSvmRail
from stablestudio.payments.stored import StoredAttempts
from stablestudio.protocols.solana import SolanaKey, b58encode
from stablestudio.protocols.solana_transaction import decode
from stablestudio.store.database import Database
from tests.chain.solana_world import (
    BUYER,
    DEVNET,
    FEES,
    FUNDS,
    PRICE,
    SHOP,
    THIEF,
    THIRD,
    SolanaWorld,
    lost,
    rail_on,
    told,
    x402_sign,
)
from tests.doubles import ManualClock, eventually

pytest.importorskip("solders")
pytestmark = pytest.mark.anyio
Step = Callable[["Service", dict[str, Any]], Any]


@dataclass(slots=True)
class Service:
    """A facilitator: it completes what is asked with its own key, or does whatever a test says."""

    world: SolanaWorld
    key: SolanaKey
    name: str = "one.example"
    settle: Callable[..., Any] | None = None
    away: bool = False
    signers: list[str] = field(default_factory=list)
    offered: str | None = None
    bodies: list[dict[str, Any]] = field(default_factory=list)

    def facilitator(self) -> Facilitator:
        return Facilitator(f"https://{self.name}", transport=httpx2.MockTransport(self._serve))

    async def _serve(self, request: httpx2.Request) -> httpx2.Response:
        if self.away:
            raise httpx2.ConnectError("away")
        if request.url.path == "/supported":
            return _json(self._supported())
        body = json.loads(request.content)
        self.bodies.append(body)
        answer = await (self.settle or complete)(self, body)
        return answer if isinstance(answer, httpx2.Response) else _json(answer)

    def _supported(self) -> dict[str, Any]:
        extra = {"feePayer": self.offered or self.key.address}
        kind = {"x402Version": 2, "scheme": "exact", "network": DEVNET, "extra": extra}
        return {"kinds": [kind], "extensions": [], "signers": {"solana:*": [self.key.address, *self.signers]}}


def _json(body: Any) -> httpx2.Response:
    return httpx2.Response(200, stream=httpx2.ByteStream(json.dumps(body).encode()))


def _transaction(service: Service, body: dict[str, Any]) -> bytes:
    transaction = decode(base64.b64decode(body["paymentPayload"]["payload"]["transaction"]))
    return transaction.signed(0, service.key.sign(transaction.message.raw)).raw()


async def complete(service: Service, body: dict[str, Any]) -> dict[str, Any]:
    """Settle as a good facilitator does."""
    required = body["paymentRequirements"]
    if required["extra"]["feePayer"] != service.key.address:
        return {"success": False, "errorReason": "fee_payer_not_managed_by_facilitator", "transaction": ""}
    executed = await service.world.ledger.execute(_transaction(service, body))
    return {"success": True, "transaction": executed.signature, "network": DEVNET, "payer": service.key.address}


async def complete_in_silence(service: Service, body: dict[str, Any]) -> Any:
    await complete(service, body)
    raise httpx2.ReadError("lost")


async def lie(service: Service, body: dict[str, Any]) -> dict[str, Any]:
    raw = _transaction(service, body)
    return {"success": True, "transaction": b58encode(decode(raw).signatures[0]), "network": DEVNET}


@pytest.fixture
async def world(database: Database, clock: ManualClock) -> AsyncIterator[SolanaWorld]:
    opened = await SolanaWorld(database, clock).open()
    yield opened
    await opened.chain.stop()


class Stage:
    """A rail that settles through facilitators."""

    def __init__(self, world: SolanaWorld, *services: Service) -> None:
        self.world = world
        self.chain = FacilitatedSolanaChain(
            world.facts,
            [service.facilitator() for service in services],
            network=DEVNET,
            clock=world.clock,
            attempts=StoredAttempts(world.database, world.clock),
        )
        self.rail: ExactSvmRail = rail_on(self.chain, world.clock)

    def claim(self) -> str:
        world = self.world
        offer = self.rail.offer(world.asked)
        payment = world.payment(x402_sign(offer, b58encode(world.blockhash)))
        self.rail.check(payment, world.asked)
        return self.rail.identify(payment).saved


@pytest.fixture
def one(world: SolanaWorld) -> Service:
    return Service(world, FEES)


@pytest.fixture
def two(world: SolanaWorld) -> Service:
    return Service(world, THIRD, "two.example")


@pytest.fixture
async def stage(world: SolanaWorld, one: Service, two: Service) -> AsyncIterator[Stage]:
    opened = Stage(world, one, two)
    await opened.rail.start()
    yield opened
    await opened.rail.stop()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(solana_facilitated, "_PAUSE", 0.01)


async def test_a_payment_is_settled_by_the_facilitator_whose_fee_payer_it_names(
    stage: Stage, one: Service, two: Service
) -> None:
    saved = stage.claim()

    assert isinstance(await stage.rail.settle(saved), Settled)
    assert isinstance(await stage.rail.find(saved), Settled)
    assert isinstance(await stage.rail.settle(saved), Settled)
    assert (len(one.bodies), len(two.bodies)) == (1, 0)
    assert await stage.world.paid() == PRICE


async def test_a_facilitator_gets_the_terms_that_the_buyer_signed(stage: Stage, one: Service) -> None:
    await stage.rail.settle(stage.claim())

    required = one.bodies[0]["paymentRequirements"]
    assert required == one.bodies[0]["paymentPayload"]["accepted"]
    assert (required["payTo"], required["amount"]) == (SHOP.address, str(PRICE))
    assert set(required["extra"]) == {"feePayer", "memo"}


@pytest.mark.parametrize("settle", [complete_in_silence, lie], ids=["silent", "lying"])
async def test_only_the_chain_says_that_a_payment_is_settled(stage: Stage, one: Service, settle: Step) -> None:
    one.settle = settle
    outcome = await stage.rail.settle(stage.claim())

    landed = await stage.world.paid() == PRICE
    assert isinstance(outcome, Settled) if landed else isinstance(outcome, Unknown)
    assert landed is (settle is complete_in_silence)


async def test_a_failed_transaction_reported_as_a_success_is_not_paid(stage: Stage, one: Service) -> None:
    async def fail(service: Service, body: dict[str, Any]) -> Any:
        await stage.world.move(BUYER, THIEF, FUNDS)
        return await complete(service, body)

    one.settle = fail
    saved = stage.claim()

    assert told(await stage.rail.settle(saved)) == "transaction_reverted"
    assert told(await stage.rail.find(saved)) == "transaction_reverted"
    assert await stage.world.paid() == 0


async def test_a_receipt_that_cannot_be_looked_up_is_unknown(stage: Stage, one: Service) -> None:
    saved = stage.claim()
    stage.world.wire.before["getSignatureStatuses"] = lost

    outcome = await stage.rail.settle(saved)

    assert isinstance(outcome, Unknown)
    assert outcome.reason.startswith("reported_settled:")
    stage.world.wire.before.clear()
    assert isinstance(await stage.rail.find(saved), Settled)


@pytest.mark.parametrize("reason", ["settlement_pending", "transaction_failed", "unexpected_settle_error"])
async def test_an_unclear_answer_asks_nobody_else(stage: Stage, one: Service, two: Service, reason: str) -> None:
    async def unclear(service: Service, body: dict[str, Any]) -> Any:
        return {"success": False, "errorReason": reason, "transaction": ""}

    one.settle = unclear
    saved = stage.claim()

    assert isinstance(await stage.rail.settle(saved), Unknown)
    assert isinstance(await stage.rail.settle(saved), Unknown)
    assert len(two.bodies) == 0


async def test_what_no_facilitator_completed_expires_by_the_chain(stage: Stage, one: Service) -> None:
    async def forget(service: Service, body: dict[str, Any]) -> Any:
        return {"success": False, "errorReason": "settlement_pending", "transaction": "x"}

    one.settle = forget
    saved = stage.claim()
    assert isinstance(await stage.rail.settle(saved), Unknown)
    stage.world.clock.advance(61)

    assert told(await stage.rail.find(saved)) == "payment_expired"


async def test_a_facilitators_refusal_is_passed_on(stage: Stage, one: Service) -> None:
    async def poor(service: Service, body: dict[str, Any]) -> Any:
        return {"success": False, "errorReason": "insufficient_funds", "transaction": ""}

    one.settle = poor

    assert told(await stage.rail.settle(stage.claim())) == "insufficient_funds"


async def test_where_one_goes_away_the_next_ones_fee_payer_is_offered(stage: Stage, one: Service, two: Service) -> None:
    saved = stage.claim()
    one.away = True

    outcome = await stage.rail.settle(saved)

    assert isinstance(outcome, Rejected)
    assert outcome.reason == "settlement_unavailable"
    await eventually(lambda: stage.rail.fee_payer == THIRD.address)
    assert isinstance(await stage.rail.settle(stage.claim()), Settled)
    assert len(two.bodies) == 2  # the first one named the other's fee payer
    assert stage.chain.pays_fees(FEES.address)


async def test_nobody_is_asked_to_complete_what_names_anothers_fee_payer(
    stage: Stage, one: Service, two: Service
) -> None:
    stage.chain._offered = THIRD.address  # as after the first one was away for a while

    assert isinstance(await stage.rail.settle(stage.claim()), Settled)
    assert (len(one.bodies), len(two.bodies)) == (0, 1)


async def test_one_fee_payer_is_offered_for_as_long_as_it_works(stage: Stage, one: Service) -> None:
    one.offered, one.signers = THIEF.address, [THIEF.address]
    await stage.chain._refresh()

    assert stage.rail.fee_payer == FEES.address
    assert stage.chain.pays_fees(THIEF.address)


async def test_without_a_facilitator_that_is_there_the_rail_does_not_start(
    world: SolanaWorld, one: Service, two: Service
) -> None:
    one.away = two.away = True

    with pytest.raises(FacilitatorUnusable):
        await Stage(world, one, two).rail.start()


async def test_a_facilitator_that_names_no_fee_payer_is_of_no_use(world: SolanaWorld, one: Service) -> None:
    one.offered = "nobody"

    with pytest.raises(FacilitatorUnusable, match="fee payer"):
        await Stage(world, one).rail.start()


async def test_a_refund_needs_no_facilitator(stage: Stage, one: Service, two: Service) -> None:
    one.away = two.away = True
    signed = await stage.rail.sign_refund(
        order_id="job_1", recipient=BUYER.address, amount=PRICE, now_s=stage.world.clock.now_s
    )

    assert isinstance(await stage.rail.send_refund(signed), Settled)


def _without_memos(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [entry | {"memo": None} for entry in entries]


async def test_a_node_that_keeps_no_memos_finds_it_too(stage: Stage) -> None:
    saved = stage.claim()
    await stage.rail.settle(saved)
    for _ in range(3):
        await stage.world.move(BUYER, THIEF, 1)
        stage.world.clock.advance(1)
    stage.world.wire.results["getSignaturesForAddress"] = _without_memos

    assert isinstance(await stage.rail.find(saved), Settled)


async def test_the_same_memo_in_another_transaction_is_not_this_payment(stage: Stage) -> None:
    offer = stage.rail.offer(stage.world.asked)
    world = stage.world
    first = world.payment(x402_sign(offer, b58encode(world.blockhash)))
    world.clock.advance(5)
    second = world.payment(x402_sign(offer, b58encode(world.blockhash)))
    saved = [stage.rail.identify(payment).saved for payment in (first, second)]
    assert isinstance(await stage.rail.settle(saved[0]), Settled)

    assert isinstance(await stage.rail.find(saved[1]), Unknown)


async def test_a_history_without_an_end_is_no_proof_that_nothing_is_in_it(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(solana_facts, "_PAGE", 2)
    monkeypatch.setattr(solana_facts, "_PAGES", 2)
    saved = stage.claim()
    await stage.rail.settle(saved)
    for _ in range(2):
        await stage.world.move(BUYER, THIEF, 1)
        stage.world.clock.advance(1)
    assert isinstance(await stage.rail.find(saved), Settled)
    for _ in range(3):
        await stage.world.move(BUYER, THIEF, 1)
        stage.world.clock.advance(1)

    assert await stage.rail.find(saved) == Unknown(reason="chain_not_readable")


async def test_what_happened_long_before_or_after_is_not_read(stage: Stage) -> None:
    await stage.world.move(BUYER, THIEF, 1)
    stage.world.clock.advance(3600)
    saved = stage.claim()
    stage.world.clock.advance(3600)
    await stage.world.move(BUYER, THIEF, 2)
    stage.world.wire.results["getSignaturesForAddress"] = _without_memos

    assert isinstance(await stage.rail.find(saved), Unknown)
    assert "getTransaction" not in stage.world.wire.asked
