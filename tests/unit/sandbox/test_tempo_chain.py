"""The Tempo ledger as rails see it."""

from __future__ import annotations

import pytest

from stablestudio.payments.tempo.chain import (
    TempoChain,
    TempoReceipt,
    TempoRefused,
    TempoTransfer,
    WrongTempoChain,
)
from stablestudio.sandbox.tempo_chain import LedgerTempoChain
from stablestudio.sandbox.tempo_ledger import USDC_E, TempoLedger
from stablestudio.store.database import Database
from tests.doubles import BUYER, PAY_TO, ManualClock
from tests.unit.sandbox.test_tempo_ledger import FUNDS, NOW, signed

pytestmark = pytest.mark.anyio


@pytest.fixture
async def chain(database: Database, clock: ManualClock) -> TempoChain:
    ledger = TempoLedger(database, clock=clock)
    await ledger.mint(USDC_E.address, BUYER.address, FUNDS)
    return LedgerTempoChain(ledger)


async def test_a_mined_transaction_has_its_receipt_at_once_and_later(chain: TempoChain) -> None:
    made = signed()
    moved = TempoTransfer(token=USDC_E.address, sender=BUYER.address.lower(), recipient=PAY_TO.lower(), amount=45_000)
    wanted = TempoReceipt(transaction=made.hash, succeeded=True, transfers=(moved,))

    assert await chain.receipt(made.hash) is None
    assert await chain.send(made.raw) == wanted == await chain.send(made.raw) == await chain.receipt(made.hash)
    assert await chain.balance(USDC_E.address, PAY_TO) == 45_000


async def test_a_failed_transaction_has_moved_nothing(chain: TempoChain) -> None:
    made = signed(amount=FUNDS + 1)
    wanted = TempoReceipt(transaction=made.hash, succeeded=False, transfers=())
    assert await chain.send(made.raw) == wanted == await chain.receipt(made.hash)


async def test_a_refused_transaction_is_told_with_the_reason(chain: TempoChain) -> None:
    with pytest.raises(TempoRefused, match="valid_before"):
        await chain.send(signed(valid_before=NOW + 3).raw)


async def test_time_is_the_clocks(chain: TempoChain, clock: ManualClock) -> None:
    clock.advance(7.9)
    assert await chain.now() == NOW + 7
    assert chain.chain_id == 42431


async def test_a_rail_of_another_token_does_not_start(chain: TempoChain) -> None:
    await chain.start(USDC_E.address.upper().replace("0X", "0x"))
    with pytest.raises(WrongTempoChain):
        await chain.start("0x20c0000000000000000000000000000000000001")
    await chain.stop()
