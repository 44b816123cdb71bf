"""A facilitator's success counts when the chain says so: looked up at once, then for a while, and never called rejected."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from typing import Any

import httpx2
import pytest

from stablestudio.payments.evm import facilitated as facilitated_chain
from stablestudio.payments.evm.chain import TokenChain
from stablestudio.payments.evm.facilitated import FacilitatedChain
from stablestudio.payments.evm.rail import WalletJudge
from stablestudio.payments.evm.reverts import NONCE_SPENT, UNAVAILABLE
from stablestudio.payments.facilitators.client import Facilitator, FacilitatorUnreachable
from stablestudio.payments.facilitators.line import MemoryAttempts
from stablestudio.payments.rail import Outcome, Rejected, Settled, Unknown
from stablestudio.protocols.contract_wallets import Counterfactual, wrap
from stablestudio.protocols.eip3009 import Authorization, TokenDomain
from tests.doubles import BUYER, NOW_MS, PAY_TO, USDC, ManualClock

from .test_facilitator_line import PAID, TX, Script, Step

pytestmark = pytest.mark.anyio
UNSEEN = Unknown(reason="not_seen_on_chain")
MADE = Authorization(
    sender=BUYER.address.lower(),
    recipient=PAY_TO.lower(),
    value=45_000,
    valid_after=0,
    valid_before=NOW_MS // 1000 + 300,
    nonce=bytes(range(32)),
)
SIGNATURE = bytes(64) + b"\x1b"


class Reader:
    """A chain that tells its outcomes one by one; the last one stays."""

    def __init__(self, *finds: Outcome, domain: TokenDomain = USDC) -> None:
        self.domain = domain
        self._finds = list(finds) or [UNSEEN]
        self.asked = 0
        self.open: bool | None = None

    async def find(self, authorization: Authorization) -> Outcome:
        self.asked += 1
        return self._finds.pop(0) if len(self._finds) > 1 else self._finds[0]

    async def balance(self, owner: str) -> int | None:
        return None

    async def start(self) -> None:
        self.open = True

    async def stop(self) -> None:
        self.open = False


class AskingReader(Reader):
    """One that can ask contract wallets."""

    judges_contract_wallets = True

    async def judge_wallet(self, authorization: Authorization, signature: bytes) -> Rejected | None:
        self.judged = (authorization, signature)
        return None


def _chain(reader: Reader, *scripts: Script, **options: Any) -> FacilitatedChain:
    facilitators = [
        Facilitator(f"https://{name}.example", transport=httpx2.MockTransport(script.handle))
        for name, script in zip("abc", scripts or (Script(),), strict=False)
    ]
    given: dict[str, Any] = {"patience": 0.5, "clock": ManualClock()} | options
    return FacilitatedChain(reader.domain, facilitators, reader=reader, **given)


async def _submit(chain: TokenChain) -> Outcome:
    return await chain.submit(MADE, SIGNATURE)


async def test_a_receipt_that_the_chain_confirms_costs_one_look() -> None:
    reader = Reader(Settled(transaction=TX))
    assert await _submit(_chain(reader)) == Settled(transaction=TX)
    assert reader.asked == 1


async def test_a_receipt_ahead_of_the_reader_is_waited_for() -> None:
    reader = Reader(UNSEEN, Unknown(reason=f"awaiting_confirmations:{TX}"), Settled(transaction=TX))
    assert await _submit(_chain(reader)) == Settled(transaction=TX)
    assert reader.asked == 3


async def test_a_receipt_that_stays_unseen_is_unknown_and_never_rejected(caplog: pytest.LogCaptureFixture) -> None:
    reader, second = Reader(UNSEEN), Script()
    outcome = await _submit(_chain(reader, Script(), second))
    assert outcome == Unknown(reason=f"receipt_not_on_chain:{TX}")
    assert reader.asked > 2
    assert second.calls == [], "doubt stays with the facilitator that made it"
    assert [record.message for record in caplog.records] == ["receipt_not_on_chain"]


async def test_without_patience_there_is_still_one_look() -> None:
    reader = Reader(Settled(transaction=TX))
    assert await _submit(_chain(reader, patience=0)) == Settled(transaction=TX)


async def test_the_look_up_ends_before_the_reconciler_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Facilitators that took long leave less time for their receipt."""
    monkeypatch.setattr(facilitated_chain, "_LONGEST", 0.0)
    reader = Reader(UNSEEN)
    assert isinstance(await _submit(_chain(reader, patience=60)), Unknown)
    assert reader.asked == 1


async def test_the_chains_transaction_counts_and_not_the_facilitators(caplog: pytest.LogCaptureFixture) -> None:
    theirs = Settled(transaction="0x" + "22" * 32)
    assert await _submit(_chain(Reader(theirs))) == theirs
    assert [(record.message, record.levelno) for record in caplog.records] == [("receipt_is_wrong", logging.ERROR)]


async def test_a_nonce_that_the_chain_saw_spent_elsewhere_is_the_chains_refusal() -> None:
    assert await _submit(_chain(Reader(NONCE_SPENT))) == NONCE_SPENT


async def test_what_the_chain_told_already_is_not_asked_twice() -> None:
    reader = Reader(Settled(transaction=TX))
    assert await _submit(_chain(reader, Script((500, b"")))) == Settled(transaction=TX)
    assert reader.asked == 1


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"amount": "45001"}, "receipt_of_another_payment"),
        ({"payer": PAY_TO}, "receipt_of_another_payment"),
        ({"network": "eip155:8453"}, "receipt_of_another_payment"),
        ({"transaction": "0x12"}, "receipt_without_transaction"),
        ({"transaction": ""}, "receipt_without_transaction"),
        ({"transaction": 7}, "receipt_unreadable"),
    ],
)
async def test_a_receipt_of_something_else_is_unknown_and_an_error_in_the_log(
    caplog: pytest.LogCaptureFixture, fields: dict[str, Any], reason: str
) -> None:
    step: Step = (200, PAID[1] | fields)
    assert await _submit(_chain(Reader(UNSEEN), Script(step))) == Unknown(reason=reason)
    assert [record.levelno for record in caplog.records if record.message == reason] == [logging.ERROR]


async def test_equal_nonces_of_two_tokens_do_not_hold_each_other_up() -> None:
    attempts, first, second = MemoryAttempts(clock=ManualClock()), Script((500, b"")), Script()
    settled = Reader(UNSEEN, Settled(transaction=TX), domain=replace(USDC, contract="0x" + "70" * 20))
    assert isinstance(await _submit(_chain(Reader(), first, attempts=attempts)), Unknown)
    assert await _submit(_chain(settled, second, attempts=attempts)) == Settled(transaction=TX)
    assert (first.settles, second.settles) == (1, 1)


async def test_start_checks_node_and_facilitators_and_stop_closes_both() -> None:
    reader, seen = Reader(), list[bool | None]()
    chain: TokenChain = _chain(reader)
    for step in (chain.start, chain.stop):
        await step()
        seen.append(reader.open)
    assert seen == [True, False]
    with pytest.raises(FacilitatorUnreachable):
        await _chain(reader, Script(supported=httpx2.ConnectError)).start()


async def test_a_wallets_signature_goes_to_the_facilitator_as_it_came() -> None:
    wrapped = wrap(Counterfactual(factory="0x" + "fa" * 20, call=b"\x01", signature=b"owner"))
    script = Script()
    await _chain(Reader(Settled(transaction=TX)), script).submit(MADE, wrapped)
    sent = json.loads(script.bodies[0])["paymentPayload"]["payload"]["signature"]
    assert sent == "0x" + wrapped.hex()


async def test_wallets_are_asked_where_the_reader_can() -> None:
    reader = AskingReader()
    asking, silent = _chain(reader), _chain(Reader())
    assert isinstance(asking, WalletJudge)
    assert (asking.judges_contract_wallets, silent.judges_contract_wallets) == (True, False)
    assert await asking.judge_wallet(MADE, b"owner") is None
    assert reader.judged == (MADE, b"owner")
    assert await silent.judge_wallet(MADE, b"owner") == UNAVAILABLE
