"""What may be presented as a Solana payment, how it must end, and which of it the chain itself would have carried out."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from stablestudio.money import Money
from stablestudio.protocols import solana_programs as programs
from stablestudio.protocols.solana_transaction import Account, Instruction, decode
from tests.chain.solana_world import (
    BUYER,
    FEES,
    FUNDS,
    MINT,
    PRICE,
    SHOP,
    THIEF,
    THIRD,
    Draft,
    SolanaWorld,
    account_of,
    bytes_of,
    good,
    transfer,
)

SYSTEM = bytes(32)
Make = Callable[[SolanaWorld], bytes]
Step = Callable[[SolanaWorld], Awaitable[object]]

LAYOUT, TERMS, MEMO = "transaction_layout_refused", "payment_terms_mismatch", "memo_mismatch"
FEE, FOREIGN = "transaction_fee_too_high", "fee_payer_mismatch"
UNSIGNED, UNREADABLE = "transaction_not_signed", "transaction_unreadable"


@dataclass(frozen=True, kw_only=True)
class Vector:
    """One payment. `before` happens before it is presented, `between` after its simulation and before it is sent.

    `would_run` tells that the chain takes the transaction once the fee payer has signed it: only we stand in its way.
    """

    name: str
    make: Make
    told: str
    before: tuple[Step, ...] = ()
    between: Step | None = None
    paid: int = 0
    would_run: bool = False
    landed: int = 0

    def __str__(self) -> str:
        return self.name


def _good(name: str, make: Make, *, paid: int = PRICE, landed: int = 1, **more: object) -> Vector:
    return replace(Vector(name=name, make=make, told="settled", paid=paid, landed=landed), **more)  # type: ignore[arg-type]


def _bad(name: str, told: str, draft: Draft | Make, **more: object) -> Vector:
    make = draft.make if isinstance(draft, Draft) else draft
    return replace(Vector(name=name, make=make, told=told), **more)  # type: ignore[arg-type]


def _system_transfer(sender: bytes, recipient: bytes, lamports: int) -> Instruction:
    accounts = (Account(key=sender, signer=True, writable=True), Account(key=recipient, writable=True))
    return Instruction(program=SYSTEM, accounts=accounts, data=b"\x02\0\0\0" + lamports.to_bytes(8, "little"))


def _open_account(payer: bytes, owner: bytes) -> Instruction:
    accounts = (
        Account(key=payer, signer=True, writable=True),
        Account(key=programs.token_account(owner, MINT), writable=True),
        Account(key=owner),
        Account(key=MINT),
        Account(key=SYSTEM),
        Account(key=programs.TOKEN),
    )
    return Instruction(program=programs.ASSOCIATED_TOKEN, accounts=accounts, data=b"\x01")


def _token(data: bytes, *accounts: Account) -> Instruction:
    return Instruction(program=programs.TOKEN, accounts=accounts, data=data)


def _memo_by(key: bytes, text: str = "x") -> Instruction:
    return Instruction(program=programs.MEMO, accounts=(Account(key=key, signer=True),), data=text.encode())


def _lighthouse(*accounts: Account) -> Instruction:
    return Instruction(program=programs.LIGHTHOUSE, accounts=accounts, data=b"\0")


def _with_memo_for(**changes: object) -> Make:
    """Pay with a memo that was made for another request."""

    def make(world: SolanaWorld) -> bytes:
        other = replace(world.asked, **changes)  # type: ignore[arg-type]
        return Draft(memos=(world.rail.memo(other),)).make(world)

    return make


def _with_memo(change: Callable[[str], tuple[str, ...]]) -> Make:
    return lambda world: Draft(memos=change(world.memo())).make(world)


def _spoil(change: Callable[[bytes], bytes]) -> Draft:
    return Draft(spoil=change)


def _flip(place: int) -> Draft:
    return _spoil(lambda raw: raw[:place] + bytes((raw[place] ^ 1,)) + raw[place + 1 :])


def _later(seconds: float, make: Make) -> Make:
    """Sign now and present later."""

    def late(world: SolanaWorld) -> bytes:
        raw = make(world)
        world.clock.advance(seconds)
        return raw

    return late


def _lookup(message: bytes) -> bytes:
    return message[:-1] + b"\x01" + b"\x07" * 32 + b"\x01\x00\x00"


def _empty_buyer(left: int) -> Step:
    return lambda world: world.move(BUYER, THIEF, FUNDS - left)


async def _both(world: SolanaWorld) -> None:
    await world.move(BUYER, THIEF, FUNDS)
    await world.close(BUYER)


def _funds_thief(world: SolanaWorld) -> Awaitable[object]:
    return world.ledger.mint(THIEF.address, FUNDS)


def _burn(key: bytes) -> Instruction:
    accounts = (
        Account(key=account_of(FEES), writable=True),
        Account(key=MINT, writable=True),
        Account(key=key, signer=True),
    )
    return _token(b"\x08" + (5).to_bytes(8, "little"), *accounts)


_BUDGET = (programs.unit_limit(20_000), programs.unit_price(1))
_FEES = bytes_of(FEES)
_BUYER_SIGNS = Account(key=bytes_of(BUYER), signer=True)
_APPROVE = _token(
    b"\x0d" + PRICE.to_bytes(8, "little") + b"\x06",
    Account(key=account_of(BUYER), writable=True),
    Account(key=MINT),
    Account(key=bytes_of(SHOP)),
    _BUYER_SIGNS,
)
_PLAIN = _token(
    b"\x03" + PRICE.to_bytes(8, "little"),
    Account(key=account_of(BUYER), writable=True),
    Account(key=account_of(SHOP), writable=True),
    _BUYER_SIGNS,
)

GOOD = [
    _good("as our client signs it", good),
    _good("as the SDKs lay it out", Draft().make),
    _good("a legacy message", Draft(version=None).make),
    _good("the highest fee granted", Draft(units=100_000, unit_price=100_000).make),
    _good("no priority fee", Draft(unit_price=0).make),
    _good("the buyer's last cents", Draft().make, before=(_empty_buyer(PRICE),), landed=2),
    _good("replayed", good, before=(lambda world: world.sell(good(world)),), paid=2 * PRICE, landed=2),
    _good("presented a minute after it was signed", _later(55, good)),
    _good(
        "signed by a wallet that a rich one funds just in time",
        Draft().make,
        landed=3,
        before=(
            _empty_buyer(0),
            _funds_thief,
            lambda world: world.move(THIEF, BUYER, PRICE),
        ),
    ),
]

DRAINS = [
    _bad(
        "SOL of the fee payer's, after the memo",
        LAYOUT,
        Draft(last=(_system_transfer(_FEES, bytes_of(THIEF), 10**9),)),
        would_run=True,
    ),
    _bad(
        "SOL of the fee payer's, before all",
        LAYOUT,
        Draft(first=(_system_transfer(_FEES, bytes_of(THIEF), 10**9),)),
        would_run=True,
    ),
    _bad(
        "SOL of the fee payer's instead of a payment",
        LAYOUT,
        Draft(whole=(*_BUDGET, _system_transfer(_FEES, bytes_of(THIEF), 10**9))),
        would_run=True,
    ),
    _bad(
        "tokens of the fee payer's as the payment",
        LAYOUT,
        Draft(move=transfer(source=account_of(FEES), authority=FEES), signers=()),
        would_run=True,
    ),
    _bad(
        "tokens of the fee payer's besides the payment",
        LAYOUT,
        Draft(last=(transfer(source=account_of(FEES), destination=account_of(THIEF), authority=FEES, amount=100),)),
        would_run=True,
    ),
    _bad("tokens of the fee payer's burnt", LAYOUT, Draft(last=(_burn(_FEES),)), would_run=True),
    _bad(
        "rent of the fee payer's for a stranger's account",
        LAYOUT,
        Draft(units=60_000, last=(_open_account(_FEES, bytes_of(THIRD)),)),
        would_run=True,
    ),
    _bad(
        "rent of the fee payer's for an account, first",
        LAYOUT,
        Draft(units=60_000, first=(_open_account(_FEES, bytes_of(THIRD)),)),
        would_run=True,
    ),
    _bad(
        "the fee payer's account approved to a thief",
        LAYOUT,
        Draft(
            last=(
                _token(
                    b"\x04" + (500).to_bytes(8, "little"),
                    Account(key=account_of(FEES), writable=True),
                    Account(key=bytes_of(THIEF)),
                    Account(key=_FEES, signer=True),
                ),
            )
        ),
        would_run=True,
    ),
    _bad(
        "the fee payer's account given to a thief",
        LAYOUT,
        Draft(
            last=(
                _token(
                    b"\x06\x02\x01" + bytes_of(THIEF),
                    Account(key=account_of(FEES), writable=True),
                    Account(key=_FEES, signer=True),
                ),
            )
        ),
        would_run=True,
    ),
    _bad("a memo that the fee payer signs", LAYOUT, Draft(last=(_memo_by(_FEES),)), would_run=True),
    _bad(
        "an assertion that names the fee payer", LAYOUT, Draft(last=(_lighthouse(Account(key=_FEES, writable=True)),))
    ),
    _bad("the fee payer as the buyer of its own transfer", LAYOUT, Draft(fee_payer=BUYER)),
    _bad("units that cost more than the payment", FEE, Draft(units=100_000, unit_price=5_000_000), would_run=True),
    _bad("one unit too many", FEE, Draft(units=100_001), would_run=True),
    _bad("a price over the specification's", FEE, Draft(units=1_000, unit_price=5_000_001)),
    _bad("one lamport over the fee granted", FEE, Draft(units=100_000, unit_price=100_001), would_run=True),
    _bad("all units that a transaction may have", FEE, Draft(units=1_400_000), would_run=True),
]

TERMS_VECTORS = [
    _bad("one unit too little", TERMS, Draft(move=transfer(amount=PRICE - 1)), would_run=True),
    _bad("one unit too much", TERMS, Draft(move=transfer(amount=PRICE + 1)), would_run=True),
    _bad("nothing", TERMS, Draft(move=transfer(amount=0)), would_run=True),
    _bad("another token", TERMS, Draft(move=transfer(mint=b"\x09" * 32))),
    _bad("other decimals", TERMS, Draft(move=transfer(decimals=9))),
    _bad(
        "to a thief", TERMS, Draft(move=transfer(destination=account_of(THIEF))), before=(_funds_thief,), would_run=True
    ),
    _bad("to the wallet instead of its account", TERMS, Draft(move=transfer(destination=bytes_of(SHOP)))),
    _bad("to oneself", LAYOUT, Draft(move=transfer(destination=account_of(BUYER))), would_run=True),
    _bad("from somebody else's account", TERMS, Draft(move=transfer(source=account_of(THIEF)))),
    _bad("by Token-2022", TERMS, Draft(move=transfer(program=programs.TOKEN_2022))),
]

LAYOUTS = [
    _bad("a plain transfer", LAYOUT, Draft(move=_PLAIN), would_run=True),
    _bad("an approval instead of a transfer", LAYOUT, Draft(move=_APPROVE), would_run=True),
    _bad(
        "a second transfer",
        LAYOUT,
        Draft(last=(transfer(destination=account_of(THIEF), amount=1),)),
        before=(_funds_thief,),
        would_run=True,
    ),
    _bad("an unknown program", LAYOUT, Draft(last=(Instruction(program=b"\x0a" * 32, data=b""),))),
    _bad(
        "no transfer",
        LAYOUT,
        Draft(whole=_BUDGET),
    ),
    _bad("the transfer first", LAYOUT, Draft(whole=(transfer(), *_BUDGET)), would_run=True),
    _bad(
        "price before limit", LAYOUT, Draft(whole=(*reversed(_BUDGET), transfer(), programs.memo("x"))), would_run=True
    ),
    _bad("no limit", LAYOUT, Draft(whole=(_BUDGET[1], transfer(), programs.memo("x"))), would_run=True),
    _bad("no price", LAYOUT, Draft(whole=(_BUDGET[0], transfer(), programs.memo("x"))), would_run=True),
    _bad("eight instructions", LAYOUT, Draft(last=(programs.memo("x"),) * 4), would_run=True),
    _bad(
        "a durable nonce",
        LAYOUT,
        Draft(
            first=(
                Instruction(
                    program=SYSTEM,
                    accounts=(Account(key=b"\x0b" * 32, writable=True), _BUYER_SIGNS),
                    data=b"\x04\0\0\0",
                ),
            )
        ),
    ),
    _bad("a third signer", LAYOUT, Draft(last=(_memo_by(bytes_of(THIRD)),), signers=(BUYER, THIRD)), would_run=True),
    _bad(
        "an owner that need not sign, and a stranger who does",
        LAYOUT,
        Draft(
            move=replace(transfer(), accounts=(*transfer().accounts[:3], Account(key=bytes_of(BUYER)))),
            last=(_memo_by(bytes_of(THIRD)),),
            signers=(THIRD,),
        ),
    ),
    _bad(
        "several owners",
        LAYOUT,
        Draft(
            move=replace(transfer(), accounts=(*transfer().accounts, Account(key=bytes_of(THIRD), signer=True))),
            signers=(BUYER, THIRD),
        ),
        would_run=True,
    ),
    _bad("an address lookup table", LAYOUT, Draft(change=_lookup)),
    _bad("another fee payer", FOREIGN, Draft(fee_payer=THIEF), before=(_funds_thief,)),
]

MEMOS = [
    _bad("no memo", MEMO, Draft(memos=()), would_run=True),
    _bad("a memo of the buyer's own", MEMO, Draft(memos=("0123456789abcdef" * 2,)), would_run=True),
    _bad("an empty memo", MEMO, Draft(memos=("",)), would_run=True),
    _bad("two equal memos", MEMO, _with_memo(lambda memo: (memo, memo)), would_run=True),
    _bad("a memo besides the offer's", MEMO, _with_memo(lambda memo: (memo, "x")), would_run=True),
    _bad("the offer's memo and more", MEMO, _with_memo(lambda memo: (memo + "A",)), would_run=True),
    _bad(
        "the offer's memo, one letter off",
        MEMO,
        _with_memo(lambda memo: (memo[:-1] + ("A" if memo[-1] != "A" else "B"),)),
        would_run=True,
    ),
    _bad("a memo for another body", MEMO, _with_memo_for(body=b'{"prompt":"a dog"}'), would_run=True),
    _bad("a memo for another price", MEMO, _with_memo_for(price=Money(1)), would_run=True),
    _bad("a memo for another route", MEMO, _with_memo_for(path="/api/generate/a/c"), would_run=True),
    _bad("a memo of eleven minutes ago", MEMO, _with_memo_for(now_s=1_795_204_441 - 660), would_run=True),
    _bad("a memo of tomorrow", MEMO, _with_memo_for(now_s=1_795_204_441 + 86_400), would_run=True),
]

FORGERIES = [
    _bad("a changed message", UNSIGNED, _flip(-5)),
    _bad("a changed blockhash", UNSIGNED, _spoil(lambda raw: raw.replace(decode(raw).message.blockhash, bytes(32)))),
    _bad("a changed signature", UNSIGNED, _flip(70)),
    _bad("no signature", UNSIGNED, Draft(signers=())),
    _bad("the fee payer's place filled", UNSIGNED, _spoil(lambda raw: raw[:1] + b"\x01" * 64 + raw[65:])),
    _bad("signatures in the wrong places", UNSIGNED, _spoil(lambda raw: raw[:1] + raw[65:129] + raw[1:65] + raw[129:])),
    _bad("nothing at all", UNREADABLE, lambda _: b""),
    _bad("noise", UNREADABLE, lambda _: os.urandom(300)),
    _bad("one byte short", UNREADABLE, _spoil(lambda raw: raw[:-1])),
    _bad("one byte too long", UNREADABLE, _spoil(lambda raw: raw + b"\0")),
    _bad("too large for a packet", UNREADABLE, lambda world: good(world) + bytes(1000)),
    _bad("a length in two bytes", UNREADABLE, _spoil(lambda raw: b"\x82\x00" + raw[1:])),
    _bad("one signature for two signers", UNREADABLE, _spoil(lambda raw: b"\x01" + raw[65:])),
    _bad("a message of version 1", UNREADABLE, Draft(change=lambda message: b"\x81" + message[1:])),
    _bad(
        "an account listed twice", UNREADABLE, Draft(change=lambda message: message[:37] + message[5:37] + message[69:])
    ),
    _bad(
        "a program that is not listed",
        UNREADABLE,
        Draft(
            # The memo's instruction is the last: program, no accounts, 32 characters, no lookups.
            change=lambda message: message[:-36] + b"\x63" + message[-35:]
        ),
    ),
]

FATES = [
    _bad("an empty account", "insufficient_funds", Draft(), before=(_empty_buyer(0),), landed=1),
    _bad("one unit missing", "insufficient_funds", Draft(), before=(_empty_buyer(PRICE - 1),), landed=1),
    _bad(
        "no account",
        "insufficient_funds",
        Draft(move=transfer(source=account_of(THIRD), authority=THIRD), signers=(THIRD,)),
    ),
    _bad(
        "the account closed",
        "insufficient_funds",
        Draft(),
        before=(_empty_buyer(0), lambda world: world.close(BUYER)),
        landed=2,
    ),
    _bad("an expired blockhash", "payment_expired", _later(61, good)),
    _bad(
        "an unknown blockhash",
        "payment_expired",
        lambda world: Draft(signers=(BUYER,), change=lambda message: message).make(_elsewhere(world)),
    ),
    _bad(
        "the shop's account closed", "simulation_failed", Draft(), before=(lambda world: world.close(SHOP),), landed=1
    ),
    _bad("an assertion program that is not there", "simulation_failed", Draft(last=(_lighthouse(),))),
    _bad("too few units", "simulation_failed", Draft(units=310)),
    _bad("funds gone after the simulation", "transaction_reverted", Draft(), between=_empty_buyer(0), landed=2),
    _bad(
        "funds short after the simulation", "transaction_reverted", Draft(), between=_empty_buyer(PRICE - 1), landed=2
    ),
    _bad(
        "account closed after the simulation",
        "transaction_reverted",
        Draft(),
        landed=3,
        between=_both,
    ),
]


def _elsewhere(world: SolanaWorld) -> SolanaWorld:
    """Return a view of the world with another chain's blockhash."""

    class Elsewhere:
        blockhash = b"\x0c" * 32

        def memo(self) -> str:
            return world.memo()

    return Elsewhere()  # type: ignore[return-value]


VECTORS = [*GOOD, *DRAINS, *TERMS_VECTORS, *LAYOUTS, *MEMOS, *FORGERIES, *FATES]
