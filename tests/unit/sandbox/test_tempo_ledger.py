"""The Tempo ledger keeps the chain's books; how it judges each kind of transaction is compared with a real chain elsewhere."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from stablestudio.protocols import rlp, tempo
from stablestudio.protocols.evm import EvmKey
from stablestudio.protocols.tempo import EXPIRING_NONCE_KEY, TempoCall, TempoTransaction
from stablestudio.sandbox.ledger import LedgerChain
from stablestudio.sandbox.tempo_ledger import PATH_USD, USDC_E, Refused, Reverted, TempoLedger
from stablestudio.store.database import Database
from tests.doubles import BUYER, NOW_MS, PAY_TO, USDC, ManualClock

pytestmark = pytest.mark.anyio

NOW = NOW_MS // 1000
FUNDS = 1_000_000
MEMO = bytes(range(32))
STRANGER = EvmKey.from_hex("0x" + "5d" * 32)


def signed(
    *, key: EvmKey = BUYER, to: str = PAY_TO, amount: int = 45_000, memo: bytes = MEMO, **fields: Any
) -> TempoTransaction:
    token = fields.pop("token", USDC_E.address)
    call = TempoCall(to=token, data=tempo.transfer_with_memo(to, amount, memo))
    made: dict[str, Any] = {
        "chain_id": 42431,
        "gas_limit": 1_000_000,
        "max_fee_per_gas": 0,
        "max_priority_fee_per_gas": 0,
        "valid_before": NOW + 25,
        "fee_token": token,
    }
    return tempo.sign(key, calls=[call], **(made | fields))


@pytest.fixture
async def ledger(database: Database, clock: ManualClock) -> TempoLedger:
    """A chain on which the buyer holds a dollar of one token."""
    made = TempoLedger(database, clock=clock)
    await made.mint(USDC_E.address, BUYER.address, FUNDS)
    return made


async def held(ledger: TempoLedger, owner: str, token: str = USDC_E.address) -> int:
    return await ledger.balance_of(token, owner)


async def test_a_mined_transfer_is_in_the_books(ledger: TempoLedger) -> None:
    made = signed()
    assert await ledger.send(made.raw) == made.hash

    entry = await ledger.find(made.hash.upper().replace("0X", "0x"))
    assert entry is not None
    assert (entry.hash, entry.block, entry.token) == (made.hash, 2, USDC_E.address)
    assert (entry.sender, entry.recipient) == (BUYER.address.lower(), PAY_TO.lower())
    assert (entry.amount, entry.memo, entry.failure) == (45_000, MEMO, None)
    assert (entry.nonce_key, entry.nonce, entry.mined_at) == (EXPIRING_NONCE_KEY, 0, NOW_MS)
    assert [await held(ledger, owner) for owner in (BUYER.address, PAY_TO)] == [FUNDS - 45_000, 45_000]


async def test_a_token_is_not_another(ledger: TempoLedger) -> None:
    with pytest.raises(Reverted, match="InsufficientBalance"):
        await ledger.send(signed(token=PATH_USD.address).raw)
    await ledger.mint(PATH_USD.address, BUYER.address, 45_000)
    await ledger.send(signed(token=PATH_USD.address, memo=bytes(32)).raw)
    assert await held(ledger, BUYER.address) == FUNDS
    assert await held(ledger, PAY_TO, PATH_USD.address) == 45_000
    assert await ledger.books.supply_of(USDC_E.address) == FUNDS


async def test_a_failed_transaction_is_mined_and_stays_failed(ledger: TempoLedger, clock: ManualClock) -> None:
    made = signed(amount=FUNDS + 1)
    for _ in range(2):
        with pytest.raises(Reverted) as reverted:
            await ledger.send(made.raw)
        assert (reverted.value.reason, reverted.value.transaction) == ("InsufficientBalance", made.hash)
        await ledger.mint(USDC_E.address, BUYER.address, FUNDS)  # too late
        clock.advance(100)
    entry = await ledger.find(made.hash)
    assert entry is not None
    assert (entry.failure, entry.amount, entry.memo) == ("InsufficientBalance", 0, None)
    assert [await held(ledger, owner) for owner in (BUYER.address, PAY_TO)] == [3 * FUNDS, 0]


async def test_what_is_refused_is_not_written_down_and_may_come_again(ledger: TempoLedger) -> None:
    made = signed(key=STRANGER, max_fee_per_gas=10**6)
    height = await ledger.books.height()
    with pytest.raises(Refused, match="insufficient fee token balance: have 0, need 1"):
        await ledger.send(made.raw)
    assert (await ledger.find(made.hash), await ledger.books.height()) == (None, height)
    await ledger.mint(USDC_E.address, STRANGER.address, 45_000)
    assert await ledger.send(made.raw) == made.hash


async def test_copies_at_once_move_the_money_once(ledger: TempoLedger) -> None:
    made = signed()
    told = await asyncio.gather(*(ledger.send(made.raw) for _ in range(20)))
    assert set(told) == {made.hash}
    assert await held(ledger, PAY_TO) == 45_000


async def test_transfers_at_once_never_overdraw(ledger: TempoLedger) -> None:
    made = [signed(amount=300_000, memo=bytes([index]) * 32) for index in range(20)]
    told = await asyncio.gather(*(ledger.send(each.raw) for each in made), return_exceptions=True)
    assert sorted(type(each).__name__ for each in told) == ["Reverted"] * 17 + ["str"] * 3
    assert [await held(ledger, owner) for owner in (BUYER.address, PAY_TO)] == [100_000, 900_000]
    assert await ledger.books.height() == 21


async def test_one_nonce_at_once_is_spent_once(ledger: TempoLedger) -> None:
    made = [signed(amount=1 + index, nonce_key=5, nonce=0, valid_before=None) for index in range(10)]
    told = await asyncio.gather(*(ledger.send(each.raw) for each in made), return_exceptions=True)
    assert sorted(type(each).__name__ for each in told) == ["Refused"] * 9 + ["str"]
    assert await ledger.books.nonce_of(BUYER.address, 5) == 1


async def test_a_nonce_counts_for_all_tokens_of_its_sender_and_for_nobody_else(ledger: TempoLedger) -> None:
    await ledger.mint(PATH_USD.address, BUYER.address, FUNDS)
    await ledger.mint(USDC_E.address, STRANGER.address, FUNDS)
    counted: dict[str, Any] = {"nonce_key": 5, "valid_before": None}
    await ledger.send(signed(nonce=0, **counted).raw)
    with pytest.raises(Refused, match="nonce too low"):
        await ledger.send(signed(nonce=0, token=PATH_USD.address, **counted).raw)
    await ledger.send(signed(nonce=1, token=PATH_USD.address, **counted).raw)
    await ledger.send(signed(nonce=0, key=STRANGER, **counted).raw)
    assert [await ledger.books.nonce_of(BUYER.address, key) for key in (5, 0x50, 4, 0)] == [2, 0, 0, 0]


@pytest.mark.parametrize(("ahead", "taken"), [(4, True), (25, True), (60, True), (300, True), (3, False), (301, False)])
async def test_the_clients_of_today_sign_ends_that_the_chain_takes(
    ledger: TempoLedger, *, ahead: int, taken: bool
) -> None:
    made = signed(valid_before=NOW + ahead)
    if taken:
        assert await ledger.send(made.raw) == made.hash
        return
    with pytest.raises(Refused, match="valid_before"):
        await ledger.send(made.raw)


async def test_a_signature_that_only_a_chain_could_check_is_refused(ledger: TempoLedger) -> None:
    fields = rlp.decode(signed().raw[1:])
    assert isinstance(fields, list)
    for signature in (b"\x04" + bytes.fromhex(BUYER.address[2:]) + bytes(65), b"\x01" + bytes(129)):
        with pytest.raises(Refused, match="secp256k1"):
            await ledger.send(b"\x76" + rlp.encode([*fields[:-1], signature]))
    assert await held(ledger, BUYER.address) == FUNDS


async def test_a_tip_above_the_whole_fee_is_refused(ledger: TempoLedger) -> None:
    with pytest.raises(Refused, match="max priority fee"):
        await ledger.send(signed(max_fee_per_gas=1, max_priority_fee_per_gas=2).raw)


async def test_the_faucet_gives_each_time(ledger: TempoLedger) -> None:
    hashes = await asyncio.gather(*(ledger.mint(USDC_E.address, PAY_TO, 5) for _ in range(10)))
    assert len(set(hashes)) == 10
    assert await held(ledger, PAY_TO.lower()) == 50


async def test_the_books_outlive_the_process_and_lie_beside_another_chains(
    ledger: TempoLedger, database: Database, clock: ManualClock
) -> None:
    other = LedgerChain(database, domain=USDC, clock=clock)
    minted = await other.mint(BUYER.address, 7)
    made = signed()
    await ledger.send(made.raw)

    again = TempoLedger(database, clock=clock)
    assert await again.find(made.hash) == await ledger.find(made.hash)
    assert (await again.find(minted), await again.books.find_in(2)) == (None, None)
    assert await again.send(made.raw) == made.hash
    assert (await other.balance_of(BUYER.address), await held(again, BUYER.address)) == (7, FUNDS - 45_000)
