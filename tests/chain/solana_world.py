"""The embedded Solana with the real rail on it, transactions of any make, and what a node may do to us."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from stablestudio.errors import StudioError
from stablestudio.money import Money
from stablestudio.payments.facilitators.line import Attempts
from stablestudio.payments.rail import Asked, Outcome, Rejected, Settled
from stablestudio.payments.solana.facts import SolanaFacts
from stablestudio.payments.solana.rail import ExactSvmRail
from stablestudio.payments.solana.rpc import NodeUnreachable, SolanaRpc, Wire
from stablestudio.payments.solana.rpc_chain import RpcSolanaChain
from stablestudio.protocols import solana_programs as programs
from stablestudio.protocols import x402
from stablestudio.protocols.solana import SolanaKey, b58decode, b58encode
from stablestudio.protocols.solana_transaction import (
    EMPTY_SIGNATURE,
    Account,
    Instruction,
    Message,
    Transaction,
    compile_message,
)
from stablestudio.protocols.x402.exact_svm import sign_exact_svm
from stablestudio.sandbox.solana_ledger import SolanaLedger
from stablestudio.sandbox.solana_rpc import LedgerWire, SolanaLedgerRpc
from stablestudio.store.database import Database
from tests.doubles import ManualClock

DEVNET = "solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1"
USDC = "4zMMC9srt5Ri5X14GAgXhaHii3GnPAEERYPJgZJDncDU"
MINT = b58decode(USDC)
FEES, BUYER, SHOP, REFUNDS, THIEF, THIRD = (SolanaKey(bytes((number,)) * 32) for number in range(1, 7))
FUNDS, PRICE = 1_000_000, 45_000
SECRET = b"s" * 32
ASKED = Asked(path="/api/generate/a/b", body=b'{"prompt":"a cat"}', price=Money(PRICE), now_s=0)


def bytes_of(key: SolanaKey) -> bytes:
    return b58decode(key.address)


def account_of(key: SolanaKey, mint: bytes = MINT) -> bytes:
    return programs.token_account(bytes_of(key), mint)


@dataclass(slots=True)
class FaultyWire:
    """Passes questions on, but for what a test does before or after those of a method."""

    wire: Wire
    before: dict[str, Callable[[], Awaitable[object]]] = field(default_factory=dict)
    after: dict[str, Callable[[], Awaitable[object]]] = field(default_factory=dict)
    results: dict[str, Callable[[Any], Any]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    host: str = "embedded"

    async def exchange(self, question: dict[str, Any]) -> object:
        method = question["method"]
        self.asked.append(method)
        if method in self.before:
            await self.before[method]()
        answer: Any = await self.wire.exchange(question)
        if method in self.after:
            await self.after[method]()
        if method in self.results and "result" in answer:
            answer = {**answer, "result": self.results[method](answer["result"])}
        return answer

    async def close(self) -> None:
        await self.wire.close()


async def lost() -> None:
    """What happens to a question or an answer on a bad line."""
    await asyncio.sleep(0)
    raise NodeUnreachable("embedded: lost")


class SolanaWorld:
    """A ledger with a funded buyer, and a rail that is paid there."""

    def __init__(self, database: Database, clock: ManualClock, *, attempts: Attempts | None = None) -> None:
        self.database = database
        self.clock = clock
        self.ledger = SolanaLedger(database, mint=USDC, clock=clock)
        self.node = SolanaLedgerRpc(self.ledger)
        self.wire = FaultyWire(LedgerWire(self.node))
        self.rpc = SolanaRpc(self.wire)
        self.facts = SolanaFacts(self.rpc)
        self.chain = RpcSolanaChain(self.facts, network=DEVNET, fee_payer=FEES, clock=clock, attempts=attempts)
        self.rail = rail_on(self.chain, clock)

    async def open(self) -> SolanaWorld:
        await self.ledger.mint(BUYER.address, FUNDS)
        for key in (SHOP, THIEF):
            await self.ledger.mint(key.address, 0)
        await self.ledger.mint(REFUNDS.address, FUNDS)
        await self.rail.start()
        return self

    @property
    def asked(self) -> Asked:
        return replace(ASKED, now_s=self.clock.now_s)

    def offer(self) -> x402.PaymentRequirements:
        return self.rail.offer(self.asked)

    @property
    def blockhash(self) -> bytes:
        return b58decode(self.ledger.blocks.hash(self.ledger.blocks.height))

    def memo(self) -> str:
        return str(self.offer().extra["memo"])

    def payment(self, raw: bytes) -> x402.SolanaPayload:
        return x402.SolanaPayload(accepted=self.offer(), transaction=raw)

    async def paid(self) -> int:
        return await self.ledger.balance_of(SHOP.address) or 0

    async def move(self, sender: SolanaKey, recipient: SolanaKey, amount: int, *, memo: str = "") -> str:
        """Move tokens as their owner does, past the rail."""
        move = transfer(source=account_of(sender), destination=account_of(recipient), authority=sender, amount=amount)
        return await self.run(sender, [move, *([programs.memo(memo)] if memo else [])])

    @contextmanager
    def hasty(self, *, seconds: float = 0.3) -> Iterator[None]:
        """Give up soon on what is not going to come; else a slow machine must not look like a chain that says nothing."""
        broadcaster = self.chain._broadcaster
        patience, broadcaster._patience = broadcaster._patience, seconds
        yield
        broadcaster._patience = patience

    async def close(self, owner: SolanaKey) -> str:
        """Close a token account, which must be empty."""
        accounts = (
            Account(key=account_of(owner), writable=True),
            Account(key=bytes_of(owner), writable=True),
            Account(key=bytes_of(owner), signer=True),
        )
        return await self.run(owner, [Instruction(program=programs.TOKEN, accounts=accounts, data=b"\x09")])

    async def run(self, owner: SolanaKey, instructions: Sequence[Instruction]) -> str:
        message = compile_message(bytes_of(owner), instructions, blockhash=self.blockhash)
        raw = Transaction(signatures=(owner.sign(message.raw),), message=message).raw()
        executed = await self.ledger.execute(raw)
        assert executed.err is None, executed.meta["logs"]
        return executed.signature

    async def sell(self, raw: bytes, *, accepted: x402.PaymentRequirements | None = None) -> str:
        """Do with a transaction what a sale does; tell how it ended: an error's code, a reason, or `settled`."""
        payment = x402.SolanaPayload(accepted=accepted or self.offer(), transaction=raw)
        try:
            credential = self.rail.identify(payment)
            self.rail.check(payment, self.asked)
        except StudioError as error:
            return error.code
        if (refused := await self.rail.admit(credential)) is not None:
            return refused.reason
        return told(await self.rail.settle(credential.saved))


def rail_on(chain: Any, clock: ManualClock, **changes: Any) -> ExactSvmRail:
    terms: dict[str, Any] = {"mint": USDC, "pay_to": SHOP.address, "refund_key": REFUNDS, "secret": SECRET}
    return ExactSvmRail(chain, clock=clock, **{**terms, **changes})


def told(outcome: Outcome) -> str:
    if isinstance(outcome, Settled):
        return "settled"
    return outcome.reason if isinstance(outcome, Rejected) else "unknown"


def transfer(
    *,
    source: bytes = account_of(BUYER),
    destination: bytes = account_of(SHOP),
    authority: SolanaKey = BUYER,
    amount: int = PRICE,
    decimals: int = 6,
    mint: bytes = MINT,
    program: bytes = programs.TOKEN,
) -> Instruction:
    return programs.transfer_checked(
        source=source,
        mint=mint,
        destination=destination,
        authority=bytes_of(authority),
        amount=amount,
        decimals=decimals,
        program=program,
    )


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A payment's transaction; what is not given is as the SDKs make it. `memos` of None stand for the offer's."""

    units: int = 20_000
    unit_price: int = 1
    move: Instruction = field(default_factory=transfer)
    memos: tuple[str, ...] | None = None
    first: tuple[Instruction, ...] = ()
    last: tuple[Instruction, ...] = ()
    whole: tuple[Instruction, ...] | None = None
    fee_payer: SolanaKey = FEES
    signers: tuple[SolanaKey, ...] = (BUYER,)
    version: int | None = 0
    change: Callable[[bytes], bytes] = lambda message: message
    spoil: Callable[[bytes], bytes] = lambda raw: raw

    def instructions(self, memo: str) -> tuple[Instruction, ...]:
        budget = (programs.unit_limit(self.units), programs.unit_price(self.unit_price))
        memos = (memo,) if self.memos is None else self.memos
        if self.whole is not None:
            return self.whole
        return (*self.first, *budget, self.move, *(programs.memo(text) for text in memos), *self.last)

    def make(self, world: SolanaWorld) -> bytes:
        message = compile_message(
            bytes_of(self.fee_payer),
            self.instructions(world.memo()),
            blockhash=world.blockhash,
            version=self.version,
        )
        return self.spoil(partly_signed(message, self.change(message.raw), self.signers))


def partly_signed(message: Message, raw: bytes, signers: Sequence[SolanaKey]) -> bytes:
    """Return a transaction's bytes with the signatures of those signers of the message whose keys are given."""
    by_key = {bytes_of(key): key for key in signers}
    signatures = [
        by_key[key].sign(raw) if key in by_key else EMPTY_SIGNATURE for key in message.keys[: message.signers]
    ]
    return bytes((len(signatures),)) + b"".join(signatures) + raw


def good(world: SolanaWorld) -> bytes:
    """Return a payment as our own client makes it."""
    offer = world.offer()
    blockhash = b58encode(world.blockhash)
    return x402_sign(offer, blockhash)


def x402_sign(offer: x402.PaymentRequirements, blockhash: str, key: SolanaKey = BUYER) -> bytes:
    required = x402.PaymentRequired(accepts=[offer])
    return sign_exact_svm(required, offer, key, blockhash=blockhash, decimals=6).transaction
