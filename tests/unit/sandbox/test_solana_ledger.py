"""The embedded Solana: the real program's rules, books that survive any stop, and effects that they cannot hold refused."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import sqlalchemy as sa

from stablestudio.protocols import solana_programs as programs
from stablestudio.protocols.solana import b58decode, b58encode
from stablestudio.protocols.solana_transaction import Account, Instruction, Transaction, compile_message
from stablestudio.sandbox import solana_machine
from stablestudio.sandbox.solana_blocks import NotTaken
from stablestudio.sandbox.solana_ledger import SolanaLedger
from stablestudio.sandbox.solana_machine import SolanaLedgerUnavailable
from stablestudio.store.database import Database
from stablestudio.store.tables import ledger_solana_transactions
from tests.chain.solana_world import BUYER, FUNDS, MINT, SHOP, THIEF, THIRD, USDC, account_of, bytes_of, transfer
from tests.doubles import ManualClock

pytest.importorskip("solders")
pytestmark = pytest.mark.anyio
OPEN, CLOSE, APPROVE, SET_AUTHORITY, BURN = b"\x01", b"\x09", b"\x04", b"\x06", b"\x08"


@pytest.fixture
async def ledger(database: Database, clock: ManualClock) -> SolanaLedger:
    opened = SolanaLedger(database, mint=USDC, clock=clock)
    await opened.mint(BUYER.address, FUNDS)
    await opened.mint(SHOP.address, 0)
    return opened


def _signed(
    ledger: SolanaLedger, *instructions: Instruction, signer: Any = BUYER, blockhash: str | None = None
) -> bytes:
    recent = b58decode(blockhash or ledger.blocks.hash(ledger.blocks.height))
    message = compile_message(bytes_of(signer), list(instructions), blockhash=recent)
    return Transaction(signatures=(signer.sign(message.raw),), message=message).raw()


def _token(data: bytes, *accounts: Account) -> Instruction:
    return Instruction(program=programs.TOKEN, accounts=accounts, data=data)


def _mine(*, writable: bool = True) -> Account:
    return Account(key=account_of(BUYER), writable=writable)


_ME = Account(key=bytes_of(BUYER), signer=True)


async def _count(ledger: SolanaLedger) -> int:
    count = sa.select(sa.func.count()).select_from(ledger_solana_transactions)
    return await ledger._database.read(lambda connection: int(connection.execute(count).scalar_one()))


async def test_a_faucet_opens_the_account_and_adds_to_it(ledger: SolanaLedger) -> None:
    await ledger.mint(BUYER.address, 5)

    assert await ledger.balance_of(BUYER.address) == FUNDS + 5
    assert await ledger.balance_of(SHOP.address) == 0
    assert await ledger.balance_of(THIEF.address) is None


async def test_a_transfer_moves_money_in_the_books(ledger: SolanaLedger) -> None:
    executed = await ledger.execute(_signed(ledger, transfer(amount=7)))

    assert executed.err is None
    assert (await ledger.balance_of(BUYER.address), await ledger.balance_of(SHOP.address)) == (FUNDS - 7, 7)
    assert await ledger.find(executed.signature) == executed


async def test_a_failed_transfer_is_kept_as_failed(ledger: SolanaLedger) -> None:
    executed = await ledger.execute(_signed(ledger, transfer(amount=FUNDS + 1)))

    assert executed.err == {"InstructionError": [0, {"Custom": 1}]}
    assert (await ledger.balance_of(BUYER.address), await ledger.balance_of(SHOP.address)) == (FUNDS, 0)
    assert await ledger.find(executed.signature) == executed


async def test_one_message_is_executed_once_failed_or_not(ledger: SolanaLedger) -> None:
    for amount in (7, 2 * FUNDS):
        raw = _signed(ledger, transfer(amount=amount))
        outcomes = await asyncio.gather(*(ledger.execute(raw) for _ in range(10)))
        assert len({outcome.signature for outcome in outcomes}) == 1
        await ledger.mint(BUYER.address, 10)

    assert await _count(ledger) == 2
    assert await ledger.balance_of(SHOP.address) == 7


async def test_another_signature_under_the_same_message_is_the_same_transaction(ledger: SolanaLedger) -> None:
    raw = _signed(ledger, transfer(amount=7))
    executed = await ledger.execute(raw)

    assert (await ledger.execute(raw[:1] + b"\x01" * 64 + raw[65:])).signature == executed.signature


async def test_a_restart_loses_nothing(ledger: SolanaLedger, database: Database, clock: ManualClock) -> None:
    raw = _signed(ledger, transfer(amount=7))
    executed = await ledger.execute(raw)

    again = SolanaLedger(database, mint=USDC, clock=clock)

    assert await again.execute(raw) == executed
    assert await again.find(executed.signature) == executed
    assert await again.balance_of(SHOP.address) == 7
    assert (await again.execute(_signed(ledger, transfer(amount=8)))).err is None
    assert await again.balance_of(SHOP.address) == 15


async def test_two_ledgers_on_one_database_are_one(
    ledger: SolanaLedger, database: Database, clock: ManualClock
) -> None:
    other = SolanaLedger(database, mint=USDC, clock=clock)
    await other.execute(_signed(ledger, transfer(amount=FUNDS - 1)))

    executed = await ledger.execute(_signed(ledger, transfer(amount=2)))

    assert executed.err is not None
    await other.mint(THIEF.address, 3)
    assert (await ledger.execute(_signed(ledger, transfer(destination=account_of(THIEF), amount=1)))).err is None
    assert await other.balance_of(THIEF.address) == 4


async def test_a_stop_before_the_commit_leaves_nothing_and_after_it_everything(
    ledger: SolanaLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = _signed(ledger, transfer(amount=7))
    with monkeypatch.context() as patch:
        patch.setattr(ledger, "_record", _stop)
        with pytest.raises(RuntimeError):
            await ledger.execute(raw)
    assert (await ledger.balance_of(BUYER.address), await _count(ledger)) == (FUNDS, 0)

    await ledger.execute(raw)
    assert (await ledger.balance_of(BUYER.address), await _count(ledger)) == (FUNDS - 7, 1)


def _stop(*_: object) -> None:
    raise RuntimeError("pulled the plug")


async def test_a_simulation_keeps_nothing(ledger: SolanaLedger) -> None:
    raw = _signed(ledger, transfer(amount=7))

    assert (await ledger.simulate(raw)).err is None
    assert (await ledger.simulate(raw)).err is None
    assert (await ledger.balance_of(BUYER.address), await _count(ledger)) == (FUNDS, 0)


async def test_a_simulation_of_what_was_executed_says_so(ledger: SolanaLedger) -> None:
    raw = _signed(ledger, transfer(amount=7))
    await ledger.execute(raw)

    with pytest.raises(NotTaken) as fault:
        await ledger.simulate(raw)
    assert fault.value.err == "AlreadyProcessed"


async def test_blockhashes_live_for_a_minute_and_survive_a_restart(
    ledger: SolanaLedger, database: Database, clock: ManualClock
) -> None:
    raw = _signed(ledger, transfer(amount=7))
    clock.advance(60)
    assert (await SolanaLedger(database, mint=USDC, clock=clock).execute(raw)).err is None

    late = _signed(ledger, transfer(amount=8))
    clock.advance(60.4)
    with pytest.raises(NotTaken) as fault:
        await ledger.execute(late)
    assert fault.value.err == "BlockhashNotFound"


async def test_a_blockhash_of_the_future_is_none(ledger: SolanaLedger) -> None:
    coming = ledger.blocks.hash(ledger.blocks.height + 1)

    with pytest.raises(NotTaken):
        await ledger.execute(_signed(ledger, transfer(amount=7), blockhash=coming))


async def test_a_wrong_signature_is_not_taken(ledger: SolanaLedger) -> None:
    raw = _signed(ledger, transfer(amount=7))

    with pytest.raises(NotTaken) as fault:
        await ledger.execute(raw[:1] + b"\x01" * 64 + raw[65:])
    assert fault.value.err == "SignatureFailure"
    assert await _count(ledger) == 0


async def test_accounts_are_opened_and_closed_by_their_owners(ledger: SolanaLedger) -> None:
    accounts = (
        Account(key=bytes_of(BUYER), signer=True, writable=True),
        Account(key=account_of(THIRD), writable=True),
        Account(key=bytes_of(THIRD)),
        Account(key=MINT),
        Account(key=bytes(32)),
        Account(key=programs.TOKEN),
    )
    await ledger.execute(_signed(ledger, Instruction(program=programs.ASSOCIATED_TOKEN, accounts=accounts, data=OPEN)))
    assert await ledger.balance_of(THIRD.address) == 0

    third = Account(key=bytes_of(THIRD), signer=True)
    close = _token(
        CLOSE, Account(key=account_of(THIRD), writable=True), Account(key=bytes_of(BUYER), writable=True), third
    )
    await ledger.execute(_signed(ledger, close, signer=THIRD))
    assert await ledger.balance_of(THIRD.address) is None
    executed = await ledger.execute(_signed(ledger, transfer(destination=account_of(THIRD), amount=1)))
    assert executed.err == {"InstructionError": [0, "InvalidAccountData"]}


async def test_an_account_with_money_is_not_closed(ledger: SolanaLedger) -> None:
    close = _token(CLOSE, _mine(), Account(key=bytes_of(SHOP), writable=True), _ME)

    assert (await ledger.execute(_signed(ledger, close))).err is not None
    assert await ledger.balance_of(BUYER.address) == FUNDS


@pytest.mark.parametrize(
    "instruction",
    [
        _token(APPROVE + (5).to_bytes(8, "little"), _mine(), Account(key=bytes_of(THIEF)), _ME),
        _token(SET_AUTHORITY + b"\x02\x01" + bytes_of(THIEF), _mine(), _ME),
        _token(SET_AUTHORITY + b"\x03\x01" + bytes_of(THIEF), _mine(), _ME),
        _token(BURN + (5).to_bytes(8, "little"), _mine(), Account(key=MINT, writable=True), _ME),
        Instruction(
            program=bytes(32), accounts=(_ME, Account(key=bytes_of(THIEF), writable=True)), data=b"\x02" + bytes(11)
        ),
        Instruction(program=b"\x0a" * 32, data=b""),
    ],
    ids=["approval", "new owner", "close authority", "burn", "transfer of SOL", "unknown program"],
)
async def test_effects_that_the_books_cannot_hold_are_not_taken(ledger: SolanaLedger, instruction: Instruction) -> None:
    with pytest.raises(NotTaken, match="This ledger"):
        await ledger.execute(_signed(ledger, instruction))

    assert (await ledger.balance_of(BUYER.address), await _count(ledger)) == (FUNDS, 0)


@pytest.mark.parametrize("raw", [b"", b"\x01" * 300])
async def test_garbage_is_not_taken(ledger: SolanaLedger, raw: bytes) -> None:
    for run in (ledger.execute, ledger.simulate):
        with pytest.raises(NotTaken, match="deserialize"):
            await run(raw)


async def test_one_run_leaves_nothing_to_the_next(ledger: SolanaLedger) -> None:
    await ledger.execute(_signed(ledger, transfer(amount=FUNDS)))
    close = _token(CLOSE, _mine(), Account(key=bytes_of(BUYER), writable=True), _ME)
    await ledger.execute(_signed(ledger, close))

    assert (await ledger.execute(_signed(ledger, transfer(amount=1)))).err is not None
    assert await ledger.balance_of(SHOP.address) == FUNDS


async def test_a_history_is_of_one_account_and_the_newest_comes_first(ledger: SolanaLedger) -> None:
    await ledger.mint(THIEF.address, 5)
    made = [(await ledger.execute(_signed(ledger, transfer(amount=amount)))).signature for amount in (1, 2, 3)]
    await ledger.execute(
        _signed(ledger, transfer(source=account_of(THIEF), authority=THIEF, destination=account_of(SHOP), amount=1),
                signer=THIEF)
    )  # fmt: skip
    mine = b58encode(account_of(BUYER))

    assert [one.signature for one in await ledger.history(mine, limit=10)] == made[::-1]
    assert [one.signature for one in await ledger.history(mine, limit=10, before=made[2])] == [made[1], made[0]]
    assert [one.signature for one in await ledger.history(mine, limit=1)] == [made[2]]


def test_without_the_machine_the_reason_is_told(
    database: Database, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(solana_machine, "find_spec", lambda _: None)

    with pytest.raises(SolanaLedgerUnavailable, match="solders") as error:
        SolanaLedger(database, mint=USDC, clock=clock)
    assert "stablestudio[solana]" in error.value.advice
