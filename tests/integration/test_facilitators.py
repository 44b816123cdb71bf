"""Settlement through facilitators on loopback that really move money on the ledger chain, and fail in all known ways."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from nacl.signing import SigningKey
from x402.mechanisms.evm.exact.facilitator import ExactEvmScheme
from x402.schemas.responses import SettleRequest

from stablestudio.payments.errors import InsufficientFunds, SettlementUnavailable
from stablestudio.payments.evm.facilitated import FacilitatedChain
from stablestudio.payments.facilitators.auth import CdpAuth
from stablestudio.payments.facilitators.client import Facilitator, FacilitatorUnusable, NetworkNotServed
from stablestudio.payments.rail import Outcome, Rejected, Settled, Unknown
from stablestudio.protocols import eip3009
from stablestudio.protocols.eip3009 import Authorization
from stablestudio.sales.order import Held, Sold
from stablestudio.sandbox.chain import LedgerTokenChain
from stablestudio.sandbox.ledger import LedgerChain, Reverted
from stablestudio.store.database import Database
from tests.doubles import BUYER, NOW_MS, PAY_TO, USDC, ManualClock, eventually, open_database
from tests.fakes.facilitator import (
    NETWORK,
    Behaviour,
    Call,
    FakeFacilitator,
    Line,
    answer,
    authorized,
    closed_port,
    drip,
    endless,
    facilitator,
    packed,
    reset_after_reading,
    reset_within_body,
    settled,
    silence,
)
from tests.unit.sales.shop import Shop

pytestmark = pytest.mark.anyio

AMOUNT = 45_000
TX = "0x" + "7a" * 32
AUTHORIZATION = Authorization(
    sender=BUYER.address.lower(),
    recipient=PAY_TO.lower(),
    value=AMOUNT,
    valid_after=0,
    valid_before=NOW_MS // 1000 + 300,
    nonce=bytes(range(32)),
)
SIGNATURE = BUYER.sign_digest(eip3009.digest(USDC, AUTHORIZATION))
PAID = {"success": True, "transaction": TX, "network": NETWORK, "payer": BUYER.address}
UNCONFIRMED = Unknown(reason=f"receipt_not_on_chain:{TX}")
SEED = bytes(range(1, 33))
SECRET = base64.b64encode(SEED + SigningKey(SEED).verify_key.encode()).decode()
QUICK = 1.2  # seconds that a call may take where a test waits for its end


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = open_database(tmp_path)
    yield opened
    opened.close()


@pytest.fixture
def ledger(database: Database, clock: ManualClock) -> LedgerChain:
    return LedgerChain(database, domain=USDC, clock=clock)


class Street:
    """Facilitators next to each other, and chains that use them."""

    def __init__(self, stack: AsyncExitStack, *, ledger: LedgerChain, clock: ManualClock) -> None:
        self._stack = stack
        self._ledger = ledger
        self._clock = clock

    async def open(self, *on_settle: Behaviour, **scripts: Any) -> FakeFacilitator:
        return await self._stack.enter_async_context(
            facilitator(**scripts, **({"on_settle": on_settle} if on_settle else {}))
        )

    def chain(self, *urls: str | FakeFacilitator, seconds: float = 5.0, **options: Any) -> FacilitatedChain:
        auth = options.pop("auth", None)
        chain = FacilitatedChain(
            USDC,
            [
                Facilitator(each if isinstance(each, str) else each.url, auth=auth, timeout_seconds=seconds)
                for each in urls
            ],
            reader=LedgerTokenChain(self._ledger, clock=self._clock),
            clock=self._clock,
            **{"patience": 0.3} | options,
        )
        self._stack.push_async_callback(chain.stop)
        return chain

    def paying(self, *, then: Behaviour | None = None, delay: float = 0.0) -> Behaviour:
        """Move the money as a facilitator does, then answer with the receipt, or misbehave."""

        async def behave(call: Call, line: Line) -> None:
            try:
                transaction = await self._ledger.transfer_with_authorization(*authorized(call.json))
            except Reverted as reverted:
                word = "insufficient_funds" if "balance" in reverted.reason else "transaction_failed"
                await answer(400, {"success": False, "errorReason": word, "transaction": ""})(call, line)
                return
            await asyncio.sleep(delay)
            await (then or settled(transaction))(call, line)

        return behave


@pytest.fixture
async def street(ledger: LedgerChain, clock: ManualClock) -> AsyncIterator[Street]:
    async with AsyncExitStack() as stack:
        yield Street(stack, ledger=ledger, clock=clock)


async def submit(chain: FacilitatedChain) -> Outcome:
    return await chain.submit(AUTHORIZATION, SIGNATURE)


class Node:
    """Enough of a chain for the SDK's local rules to decide."""

    def get_addresses(self) -> list[str]:
        return [PAY_TO]

    def get_code(self, address: str) -> bytes:
        return b"\x60" if address.lower() == USDC.contract.lower() else b""

    def read_contract(self, *args: Any) -> None:
        return None


async def test_what_is_sent_is_good_for_the_sdks_facilitator(street: Street, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = await street.open()
    await submit(street.chain(fake))

    monkeypatch.setattr("x402.mechanisms.evm.exact.facilitator.time.time", lambda: NOW_MS // 1000)
    body = fake.asked()[0].json
    request = SettleRequest.model_validate(body)
    verdict = ExactEvmScheme(cast(Any, Node())).verify(request.payment_payload, request.payment_requirements)
    assert (verdict.invalid_reason, verdict.is_valid, verdict.payer) == (None, True, BUYER.address)
    assert body["x402Version"] == body["paymentPayload"]["x402Version"] == 2
    assert body["paymentPayload"]["accepted"] == body["paymentRequirements"]
    assert body["paymentRequirements"] == {
        "scheme": "exact",
        "network": NETWORK,
        "amount": str(AMOUNT),
        "asset": USDC.contract,
        "payTo": PAY_TO,
        "maxTimeoutSeconds": 300,
        "extra": {"name": "USDC", "version": "2"},
    }


async def test_money_moves_once_and_the_receipt_is_the_chains(street: Street, ledger: LedgerChain) -> None:
    await ledger.mint(BUYER.address, AMOUNT)
    fake = await street.open(street.paying())
    chain = street.chain(fake)

    outcome = await submit(chain)

    assert isinstance(outcome, Settled)
    assert await chain.find(AUTHORIZATION) == outcome
    assert await ledger.balance_of(PAY_TO) == AMOUNT


# fault of the network, and the number of settle calls that it may cost
FAULTS: list[tuple[Behaviour, int, str]] = [
    (silence, 2, "facilitator_timed_out"),
    (drip, 2, "facilitator_timed_out"),
    (reset_after_reading, 1, "facilitator_broke_off"),
    (reset_within_body, 1, "facilitator_broke_off"),
    (endless, 1, "facilitator_broke_off"),
    (answer(200, PAID, "Content-Encoding: br"), 1, "facilitator_broke_off"),
    (answer(200, b"no gzip", "Content-Encoding: gzip"), 1, "facilitator_broke_off"),
    (packed({"padding": "x" * 2_000_000} | PAID), 1, "facilitator_broke_off"),
    (answer(200, json.dumps(PAID).encode()[:-20]), 1, "facilitator_answered_200"),
    (answer(307, b"", "Location: /x402/elsewhere"), 1, "facilitator_answered_307"),
    (answer(303, b"", "Location: https://elsewhere.example/"), 1, "facilitator_answered_303"),
    (answer(500, {"success": False, "errorReason": "settlement_pending", "transaction": TX}), 1, "settlement_pending"),
    (answer(502, b"<html>"), 1, "facilitator_answered_502"),
]


@pytest.mark.parametrize(("fault", "calls", "reason"), FAULTS)
async def test_doubt_stays_with_the_facilitator_that_made_it(
    street: Street, fault: Behaviour, calls: int, reason: str
) -> None:
    doubtful, second = await street.open(fault), await street.open()
    chain = street.chain(doubtful, second, seconds=QUICK if calls == 2 else 5.0)

    first = await submit(chain)
    later = [await submit(chain) for _ in range(3)]

    assert first == Unknown(reason=reason)
    assert all(isinstance(outcome, Unknown) for outcome in later)
    assert (doubtful.settles, second.settles) == (calls, 0)
    assert [call.path for call in doubtful.calls] == ["/x402/settle"] * calls
    assert len({call.body for call in doubtful.calls}) == 1


@pytest.mark.parametrize(("fault", "calls", "reason"), FAULTS)
async def test_payment_that_moved_before_the_fault_is_found_on_the_chain(
    street: Street, ledger: LedgerChain, fault: Behaviour, calls: int, reason: str
) -> None:
    await ledger.mint(BUYER.address, AMOUNT)
    doubtful, second = await street.open(street.paying(then=fault)), await street.open(street.paying())

    outcome = await submit(street.chain(doubtful, second, seconds=QUICK if calls == 2 else 5.0))

    assert isinstance(outcome, Settled)
    assert (doubtful.settles, second.settles) == (1, 0)
    assert await ledger.balance_of(PAY_TO) == AMOUNT


async def test_facilitator_that_is_down_is_passed_over(street: Street, ledger: LedgerChain) -> None:
    await ledger.mint(BUYER.address, AMOUNT)
    second = await street.open(street.paying())

    assert isinstance(await submit(street.chain(f"http://127.0.0.1:{closed_port()}/x402", second)), Settled)
    assert second.settles == 1


async def test_facilitator_without_tls_never_sees_the_payment(street: Street, ledger: LedgerChain) -> None:
    await ledger.mint(BUYER.address, AMOUNT)
    plain, second = await street.open(), await street.open(street.paying())

    chain = street.chain(plain.url.replace("http:", "https:"), second, seconds=3.0)

    assert isinstance(await submit(chain), Settled)
    assert (plain.calls, second.settles) == ([], 1)


async def test_packed_answer_is_read(street: Street) -> None:
    assert await submit(street.chain(await street.open(packed(PAID)))) == UNCONFIRMED


async def test_success_that_the_chain_does_not_know_is_no_payment_and_no_refusal(street: Street) -> None:
    liar, second = await street.open(settled()), await street.open(street.paying())
    chain = street.chain(liar, second)

    assert await submit(chain) == UNCONFIRMED
    assert isinstance(await submit(chain), Unknown)
    assert second.calls == []


async def test_retry_after_is_heeded_by_asking_another(street: Street, ledger: LedgerChain) -> None:
    await ledger.mint(BUYER.address, AMOUNT)
    busy, second = await street.open(answer(429, b"", "Retry-After: 60")), await street.open(street.paying())
    started = asyncio.get_running_loop().time()

    assert isinstance(await submit(street.chain(busy, second)), Settled)
    assert (busy.settles, second.settles) == (1, 1)
    assert asyncio.get_running_loop().time() - started < 5


async def test_connection_is_not_kept_for_a_later_settlement(street: Street) -> None:
    ends: list[bytes] = []

    async def staying(_call: Call, line: Line) -> None:
        body = json.dumps(PAID).encode()
        await line.send(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        ends.append(await asyncio.wait_for(line.reader.read(), timeout=2))

    fake = await street.open(staying)

    assert await submit(street.chain(fake)) == UNCONFIRMED
    await eventually(lambda: ends == [b""], seconds=2)


async def test_verify_goes_first_where_it_is_asked_for(street: Street) -> None:
    fake = await street.open()
    await submit(street.chain(fake, verify_first=True))

    assert [call.path for call in fake.calls] == ["/x402/verify", "/x402/settle"]
    assert fake.calls[0].body == fake.calls[1].body


async def test_check_asks_every_facilitator_for_the_chains_network(street: Street) -> None:
    first, second = await street.open(), await street.open()
    served = await street.chain(first, second).check()

    assert [each.network for each in served] == [NETWORK, NETWORK]
    assert [call.method for call in first.calls + second.calls] == ["GET", "GET"]


async def test_check_refuses_a_facilitator_of_other_networks(street: Street) -> None:
    other = await street.open(on_supported=[answer(200, {"kinds": [], "extensions": [], "signers": {}})])

    with pytest.raises(NetworkNotServed, match="eip155:84532"):
        await street.chain(await street.open(), other).check()


def test_reader_of_another_token_is_refused(ledger: LedgerChain, clock: ManualClock) -> None:
    with pytest.raises(FacilitatorUnusable):
        FacilitatedChain(
            replace(USDC, chain_id=8453),
            [Facilitator("https://a.example")],
            reader=LedgerTokenChain(ledger, clock=clock),
            clock=clock,
        )


async def test_balance_is_the_chains(street: Street, ledger: LedgerChain) -> None:
    await ledger.mint(BUYER.address, 7)

    assert await street.chain(await street.open()).balance(BUYER.address) == 7


async def test_strangers_earlier_transfer_of_the_payment_counts_as_paid(street: Street, ledger: LedgerChain) -> None:
    await ledger.mint(BUYER.address, AMOUNT)
    transaction = await ledger.transfer_with_authorization(AUTHORIZATION, SIGNATURE)
    fake = await street.open(
        answer(200, {"success": False, "errorReason": "invalid_exact_evm_nonce_already_used", "transaction": ""})
    )

    assert await submit(street.chain(fake)) == Settled(transaction=transaction)


async def test_doubt_outlives_the_authorization_until_the_chain_ends_it(street: Street, clock: ManualClock) -> None:
    expired = {"success": False, "errorReason": "invalid_exact_evm_payload_authorization_valid_before"}
    fake, second = await street.open(answer(500), answer(200, expired)), await street.open(answer(200, expired))
    chain = street.chain(fake, second)
    assert isinstance(await submit(chain), Unknown)

    clock.advance(300)
    assert isinstance(await submit(chain), Unknown)  # a transfer of the last second may not be visible yet
    clock.advance(3600)
    outcome = await submit(chain)

    assert isinstance(outcome, Rejected)
    assert outcome.reason == "payment_expired"
    assert (fake.settles, second.settles) == (1, 0)


async def test_secrets_and_signatures_are_in_no_log(street: Street, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    auth = CdpAuth(key_id="key-1", secret=SECRET, clock=ManualClock())
    behaviours = [settled(), answer(401, b"who are you"), answer(500), reset_after_reading]
    for behaviour in behaviours:
        fake = await street.open(behaviour)
        chain = street.chain(fake, auth=auth, verify_first=True)
        await chain.check()
        await submit(chain)
        tokens = [call.headers["authorization"].removeprefix("Bearer ") for call in fake.calls]
        assert len(set(tokens)) == 3
        for secret in (*tokens, SECRET, SEED.hex(), SIGNATURE.hex(), repr(SEED)):
            assert secret not in caplog.text
            assert secret not in str([vars(record) for record in caplog.records])
    assert "facilitator_called" in caplog.text


@pytest.fixture
def shop(database: Database, clock: ManualClock) -> Shop:
    return Shop(database=database, clock=clock)


async def sold_by(shop: Shop, chain: FacilitatedChain) -> tuple[Shop, Sold | Held]:
    opened = replace(shop, chain=chain)
    return opened, await opened.sell(opened.purchase())


async def test_sale_survives_an_answer_that_never_came(shop: Shop, street: Street, ledger: LedgerChain) -> None:
    await ledger.mint(BUYER.address, 1_000_000)
    fake, second = await street.open(street.paying(then=reset_after_reading)), await street.open(street.paying())
    opened, sold = await sold_by(shop, street.chain(fake, second))

    assert isinstance(sold, Sold)
    assert opened.jobs() == [sold.job_id]
    assert await ledger.balance_of(PAY_TO) == AMOUNT
    assert (fake.settles, second.settles) == (1, 0)


async def test_late_settlement_is_found_by_the_reconciler_and_sold_once(
    shop: Shop, street: Street, ledger: LedgerChain
) -> None:
    await ledger.mint(BUYER.address, 1_000_000)
    pending = answer(500, {"success": False, "errorReason": "settlement_pending", "transaction": TX})
    fake, second = await street.open(pending), await street.open(street.paying())
    opened, held = await sold_by(shop, street.chain(fake, second))
    assert isinstance(held, Held)
    await opened.reconcile()
    assert (opened.jobs(), opened.payments()[0][0]) == ([], "unknown")

    await ledger.transfer_with_authorization(*authorized(fake.asked()[0].json))
    await opened.reconcile()

    assert opened.jobs() == [held.job_id]
    assert await ledger.balance_of(PAY_TO) == AMOUNT
    assert (fake.settles, second.settles) == (1, 0)


async def test_poor_buyer_hears_at_once_that_nothing_moved(shop: Shop, street: Street) -> None:
    fake, second = await street.open(street.paying()), await street.open()

    with pytest.raises(InsufficientFunds):
        await sold_by(shop, street.chain(fake, second))
    assert second.settles == 0


async def test_buyer_is_refused_where_no_facilitator_is_there(shop: Shop, street: Street, ledger: LedgerChain) -> None:
    await ledger.mint(BUYER.address, 1_000_000)

    with pytest.raises(SettlementUnavailable):
        await sold_by(shop, street.chain(f"http://127.0.0.1:{closed_port()}"))


async def test_the_same_signature_is_taken_once_a_facilitator_is_back(
    shop: Shop, street: Street, ledger: LedgerChain
) -> None:
    """Who signs a second one because all facilitators were away would pay twice if the first were used after all."""
    await ledger.mint(BUYER.address, 1_000_000)
    fake = await street.open(answer(429), street.paying())
    opened = replace(shop, chain=street.chain(fake))
    purchase = opened.purchase()
    with pytest.raises(SettlementUnavailable):
        await opened.sell(purchase)

    assert isinstance(await opened.sell(purchase), Sold)
    assert (fake.settles, await ledger.balance_of(PAY_TO)) == (2, AMOUNT)


async def test_success_without_a_transfer_is_sold_when_the_chain_knows_it(
    shop: Shop, street: Street, ledger: LedgerChain
) -> None:
    await ledger.mint(BUYER.address, 1_000_000)
    fake = await street.open(settled())
    opened, held = await sold_by(shop, street.chain(fake))
    assert isinstance(held, Held)
    assert opened.jobs() == []

    await ledger.transfer_with_authorization(*authorized(fake.asked()[0].json))
    await opened.reconcile()

    assert opened.jobs() == [held.job_id]


async def test_parallel_copies_of_a_payment_make_one_call(shop: Shop, street: Street, ledger: LedgerChain) -> None:
    await ledger.mint(BUYER.address, 1_000_000)
    fake = await street.open(street.paying(delay=0.1))
    opened = replace(shop, chain=street.chain(fake))
    purchase = opened.purchase()

    answers = await asyncio.gather(*(opened.sell(purchase) for _ in range(20)))

    assert {answer.job_id for answer in answers} == set(opened.jobs())
    assert fake.settles == 1
    assert await ledger.balance_of(PAY_TO) == AMOUNT
