"""The ledger chain keeps the token's rules: each vector says what Circle's contract (FiatTokenV2_2) does with it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

from stablestudio.payments.rail import Rejected, Settled, Unknown
from stablestudio.protocols import eip3009
from stablestudio.protocols.eip3009 import Authorization, TokenDomain
from stablestudio.protocols.evm import EvmKey, checksum_address
from stablestudio.sandbox.chain import LedgerTokenChain
from stablestudio.sandbox.ledger import LedgerChain, Reverted
from stablestudio.store.database import Database
from tests.doubles import BUYER, PAY_TO, USDC, ManualClock

pytestmark = pytest.mark.anyio

_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
_OTHER = "0x000000000000000000000000000000000000dEaD"
_NOBODY = "0x" + "0" * 40
FUNDS = 1_000_000
NONCE = bytes(range(32))

EARLY = "FiatTokenV2: authorization is not yet valid"
EXPIRED = "FiatTokenV2: authorization is expired"
USED = "FiatTokenV2: authorization is used or canceled"
FORGED = "FiatTokenV2: invalid signature"
BROKEN = "ECRecover: invalid signature"  # the contract adds which part is wrong
POOR = "ERC20: transfer amount exceeds balance"
NOWHERE = "ERC20: transfer to the zero address"

Call = tuple[Authorization, bytes]


def authorization(clock: ManualClock, **changes: object) -> Authorization:
    good = Authorization(
        sender=BUYER.address,
        recipient=PAY_TO,
        value=45_000,
        valid_after=clock.now_s - 600,
        valid_before=clock.now_s + 300,
        nonce=NONCE,
    )
    return replace(good, **changes)  # type: ignore[arg-type]


def sign(made: Authorization, *, key: EvmKey = BUYER, domain: TokenDomain = USDC) -> Call:
    return made, key.sign_digest(eip3009.digest(domain, made))


@dataclass(frozen=True, slots=True, kw_only=True)
class Vector:
    """One call of `transferWithAuthorization`, perhaps after others that succeed, and its revert reason."""

    name: str
    reverts: str | None
    call: Callable[[ManualClock], Call]
    before: Callable[[ManualClock], Call] | None = None

    def __str__(self) -> str:
        return self.name


def _signed(*, key: EvmKey = BUYER, domain: TokenDomain = USDC, **changes: object) -> Callable[[ManualClock], Call]:
    return lambda clock: sign(authorization(clock, **changes), key=key, domain=domain)


def _at(**offsets: int) -> Callable[[ManualClock], Call]:
    """Sign with times relative to now."""
    return lambda clock: sign(authorization(clock, **{name: clock.now_s + by for name, by in offsets.items()}))


def _tampered(**changes: object) -> Callable[[ManualClock], Call]:
    def call(clock: ManualClock) -> Call:
        made, signature = sign(authorization(clock))
        return replace(made, **changes), signature  # type: ignore[arg-type]

    return call


def _signature(change: Callable[[bytes], bytes], **changes: object) -> Callable[[ManualClock], Call]:
    def call(clock: ManualClock) -> Call:
        made, signature = sign(authorization(clock, **changes))
        return made, change(signature)

    return call


def _high_s(signature: bytes) -> bytes:
    s = _ORDER - int.from_bytes(signature[32:64])
    return signature[:32] + s.to_bytes(32) + bytes([55 - signature[64]])


_GOOD = _signed()
_STRANGER = EvmKey.from_hex("0x" + "5d" * 32)

VECTORS = [
    Vector(name="good", reverts=None, call=_GOOD),
    Vector(name="the whole balance", reverts=None, call=_signed(value=FUNDS)),
    Vector(name="nothing", reverts=None, call=_signed(value=0)),
    Vector(
        name="nothing from an empty account",
        reverts=None,
        call=_signed(key=_STRANGER, sender=_STRANGER.address, value=0),
    ),
    Vector(name="to oneself", reverts=None, call=_signed(recipient=BUYER.address)),
    Vector(
        name="addresses in lower case",
        reverts=None,
        call=_signed(sender=BUYER.address.lower(), recipient=PAY_TO.lower()),
    ),
    Vector(name="in its first second", reverts=None, call=_at(valid_after=-1)),
    Vector(name="in its last second", reverts=None, call=_at(valid_before=1)),
    Vector(name="for ever", reverts=None, call=_signed(valid_after=0, valid_before=2**256 - 1)),
    Vector(name="another nonce after the first", reverts=None, before=_GOOD, call=_signed(nonce=bytes(32))),
    Vector(name="the second before its first", reverts=EARLY, call=_at(valid_after=0)),
    Vector(name="a year early", reverts=EARLY, call=_at(valid_after=31_536_000, valid_before=31_536_001)),
    Vector(name="the second after its last", reverts=EXPIRED, call=_at(valid_before=0)),
    Vector(name="long expired", reverts=EXPIRED, call=_signed(valid_after=0, valid_before=1)),
    Vector(name="replayed", reverts=USED, before=_GOOD, call=_GOOD),
    Vector(name="another value under a used nonce", reverts=USED, before=_GOOD, call=_signed(value=1)),
    Vector(name="another recipient under a used nonce", reverts=USED, before=_GOOD, call=_signed(recipient=_OTHER)),
    Vector(name="forged under a used nonce", reverts=USED, before=_GOOD, call=_tampered(value=1)),
    Vector(name="value tampered", reverts=FORGED, call=_tampered(value=44_999)),
    Vector(name="recipient tampered", reverts=FORGED, call=_tampered(recipient=_OTHER)),
    Vector(name="sender tampered", reverts=FORGED, call=_tampered(sender=_OTHER)),
    Vector(name="nonce tampered", reverts=FORGED, call=_tampered(nonce=bytes(32))),
    Vector(name="start tampered", reverts=FORGED, call=_tampered(valid_after=0)),
    Vector(name="end tampered", reverts=FORGED, call=_tampered(valid_before=2**40)),
    Vector(name="signed by a stranger", reverts=FORGED, call=_signed(key=_STRANGER)),
    Vector(name="signed for another chain", reverts=FORGED, call=_signed(domain=replace(USDC, chain_id=8453))),
    Vector(name="signed for another contract", reverts=FORGED, call=_signed(domain=replace(USDC, contract=_OTHER))),
    Vector(name="signed under another name", reverts=FORGED, call=_signed(domain=replace(USDC, name="USD Coin"))),
    Vector(name="signed under another version", reverts=FORGED, call=_signed(domain=replace(USDC, version="1"))),
    Vector(name="high s", reverts=BROKEN, call=_signature(_high_s)),
    Vector(name="v of 0 or 1", reverts=BROKEN, call=_signature(lambda s: s[:64] + bytes([s[64] - 27]))),
    Vector(name="v of 29", reverts=BROKEN, call=_signature(lambda s: s[:64] + b"\x1d")),
    Vector(name="r of zero", reverts=BROKEN, call=_signature(lambda s: bytes(32) + s[32:])),
    Vector(name="s of zero", reverts=BROKEN, call=_signature(lambda s: s[:32] + bytes(32) + s[64:])),
    Vector(name="64 bytes", reverts=BROKEN, call=_signature(lambda s: s[:64])),
    Vector(name="no signature", reverts=BROKEN, call=_signature(lambda _: b"")),
    Vector(name="one unit too much", reverts=POOR, call=_signed(value=FUNDS + 1)),
    Vector(name="from an empty account", reverts=POOR, call=_signed(key=_STRANGER, sender=_STRANGER.address)),
    Vector(name="more than there ever was", reverts=POOR, call=_signed(value=2**256 - 1)),
    Vector(name="the rest, twice", reverts=POOR, before=_signed(value=FUNDS, nonce=bytes(32)), call=_GOOD),
    Vector(name="to nobody", reverts=NOWHERE, call=_signed(recipient=_NOBODY)),
]


@pytest.fixture
async def ledger(database: Database, clock: ManualClock) -> LedgerChain:
    """A chain on which the buyer holds one dollar."""
    chain = LedgerChain(database, domain=USDC, clock=clock)
    await chain.mint(BUYER.address, FUNDS)
    return chain


async def _state(ledger: LedgerChain) -> tuple[int, ...]:
    holders = (BUYER.address, PAY_TO, _OTHER, _NOBODY, _STRANGER.address)
    return (await ledger.height(), *[await ledger.balance_of(holder) for holder in holders])


@pytest.mark.parametrize("vector", VECTORS, ids=str)
async def test_the_chain_judges_as_the_contract_does(ledger: LedgerChain, clock: ManualClock, vector: Vector) -> None:
    if vector.before is not None:
        await ledger.transfer_with_authorization(*vector.before(clock))
    made, signature = vector.call(clock)
    before = await _state(ledger)
    holders = {made.sender: -made.value, made.recipient: made.value}
    wanted = {address: await ledger.balance_of(address) + change for address, change in holders.items()}
    if vector.reverts is not None:
        with pytest.raises(Reverted) as reverted:
            await ledger.transfer_with_authorization(made, signature)
        assert reverted.value.reason.startswith(vector.reverts)
        assert await _state(ledger) == before
        return
    transaction = await ledger.transfer_with_authorization(made, signature)
    if made.sender != made.recipient:
        assert {address: await ledger.balance_of(address) for address in holders} == wanted
    transfer = await ledger.find_transaction(transaction)
    assert transfer is not None
    assert transfer == await ledger.find_authorization(made.sender, made.nonce)
    assert (transfer.sender, transfer.recipient) == (checksum_address(made.sender), checksum_address(made.recipient))
    assert (transfer.amount, transfer.block) == (made.value, before[0] + 1)


async def test_a_reverted_call_leaves_its_nonce_unused(ledger: LedgerChain, clock: ManualClock) -> None:
    with pytest.raises(Reverted, match=POOR):
        await ledger.transfer_with_authorization(*sign(authorization(clock, value=FUNDS + 1)))
    assert await ledger.find_authorization(BUYER.address, NONCE) is None
    await ledger.mint(BUYER.address, 1)
    await ledger.transfer_with_authorization(*sign(authorization(clock, value=FUNDS + 1)))
    assert await ledger.balance_of(BUYER.address) == 0


async def test_a_nonce_belongs_to_its_sender(ledger: LedgerChain, clock: ManualClock) -> None:
    await ledger.mint(_STRANGER.address, FUNDS)
    first = await ledger.transfer_with_authorization(*sign(authorization(clock)))
    other = sign(authorization(clock, sender=_STRANGER.address), key=_STRANGER)
    assert await ledger.transfer_with_authorization(*other) != first
    assert await ledger.balance_of(PAY_TO) == 90_000


async def test_calls_at_once_never_overdraw(ledger: LedgerChain, clock: ManualClock) -> None:
    calls = [sign(authorization(clock, value=300_000, nonce=os.urandom(32))) for _ in range(20)]
    results = await asyncio.gather(
        *(ledger.transfer_with_authorization(*call) for call in calls), return_exceptions=True
    )
    assert sorted(type(result).__name__ for result in results) == ["Reverted"] * 17 + ["str"] * 3
    assert (await ledger.balance_of(BUYER.address), await ledger.balance_of(PAY_TO)) == (100_000, 900_000)


async def test_copies_at_once_move_the_money_once(ledger: LedgerChain, clock: ManualClock) -> None:
    call = sign(authorization(clock))
    results = await asyncio.gather(
        *(ledger.transfer_with_authorization(*call) for _ in range(20)), return_exceptions=True
    )
    assert [isinstance(result, str) for result in results].count(True) == 1
    assert await ledger.balance_of(PAY_TO) == 45_000


async def test_the_faucet_gives_each_time(ledger: LedgerChain) -> None:
    hashes = await asyncio.gather(*(ledger.mint(_OTHER, 5) for _ in range(10)))
    assert len(set(hashes)) == 10
    assert await ledger.balance_of(_OTHER.lower()) == 50


async def test_a_token_chain_tells_settled_rejected_and_unknown_apart(ledger: LedgerChain, clock: ManualClock) -> None:
    chain = LedgerTokenChain(ledger, clock=clock)
    made, signature = sign(authorization(clock))
    assert await chain.find(made) == Unknown(reason="not_seen_on_chain")
    settled = await chain.submit(made, signature)
    assert isinstance(settled, Settled)
    assert await chain.submit(made, signature) == settled == await chain.find(made)
    clock.advance(1000)
    assert await chain.submit(made, signature) == settled == await chain.find(made)


async def test_a_nonce_spent_on_another_transfer_is_rejected_for_good(ledger: LedgerChain, clock: ManualClock) -> None:
    chain = LedgerTokenChain(ledger, clock=clock)
    await chain.submit(*sign(authorization(clock, value=1)))
    other = authorization(clock)
    for outcome in (await chain.find(other), await chain.submit(*sign(other))):
        assert isinstance(outcome, Rejected)
        assert outcome.reason == "nonce_already_used"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"value": FUNDS + 1}, "insufficient_funds"),
        ({"valid_before": 1}, "payment_expired"),
        ({"valid_after": 2**40}, "payment_not_yet_valid"),
    ],
)
async def test_a_revert_without_a_transfer_is_a_rejection(
    ledger: LedgerChain, clock: ManualClock, change: dict[str, int], reason: str
) -> None:
    outcome = await LedgerTokenChain(ledger, clock=clock).submit(*sign(authorization(clock, **change)))
    assert isinstance(outcome, Rejected)
    assert outcome.reason == reason


async def test_only_the_end_of_its_time_makes_an_unseen_authorization_dead(
    ledger: LedgerChain, clock: ManualClock
) -> None:
    chain = LedgerTokenChain(ledger, clock=clock)
    made = authorization(clock)
    clock.advance(359)  # a transfer that began in time may still be on its way
    assert isinstance(await chain.find(made), Unknown)
    clock.advance(1)
    assert isinstance(await chain.find(made), Rejected)
