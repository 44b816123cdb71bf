"""The `exact` scheme on Solana: decide locally whether a partly signed transfer is good, and make one.

Rules: specs/schemes/exact/scheme_exact_svm.md, its static layout. Balances and blockhashes are the chain's to say. The
fee payer is ours or a facilitator's, so what its signature could be used for is bounded here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

from stablestudio.errors import Issue
from stablestudio.protocols import solana, solana_programs
from stablestudio.protocols.solana import SolanaKey, b58decode, b58encode
from stablestudio.protocols.solana_programs import COMPUTE_BUDGET, LIGHTHOUSE, MEMO, TOKEN, TOKEN_2022
from stablestudio.protocols.solana_transaction import (
    EMPTY_SIGNATURE,
    BadTransaction,
    Call,
    Message,
    Transaction,
    compile_message,
    decode,
)
from stablestudio.protocols.x402.errors import PaymentRefused, PaymentTermsMismatch, UnsupportedOffer
from stablestudio.protocols.x402.messages import PaymentRequired, PaymentRequirements, SolanaPayload

# A blockhash, and with it a signature, lives for about as long: 60 to 90 seconds.
MAX_TIMEOUT_SECONDS = 60
_LEAST_CALLS, _MOST_CALLS = 3, 7
_SIGNERS = 2
_FEE_PAYER, _AUTHORITY = 0, 1  # places of the two signers
_LAYOUT = "SetComputeUnitLimit, SetComputeUnitPrice, TransferChecked, then Memo"
# What the SDKs ask for: enough for the transfer and the memo.
_UNITS, _UNIT_PRICE = 20_000, 1


class TransactionUnreadable(PaymentRefused):
    """The payment's transaction cannot be read."""

    hint = "Send payload.transaction as base64 of a legacy or version 0 Solana transaction; nothing was charged."


class TransactionLayoutRefused(PaymentRefused):
    """The payment's transaction does more than pay, or pays in another way than the scheme says."""

    hint = f"Send exactly these instructions, signed by the token's owner alone: {_LAYOUT}; nothing was charged."


class TransactionNotSigned(PaymentRefused):
    """The payment's transaction is not signed by the owner of the tokens."""

    hint = "Sign the message's bytes as they are sent with the paying wallet's key; nothing was charged."


class TransactionFeeTooHigh(PaymentRefused):
    """The payment's transaction makes its fee payer pay more than this service grants."""

    hint = f"Ask for {_UNITS} compute units at a low price, as the SDKs do; nothing was charged."


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The most that a transaction may cost its fee payer.

    `unit_price` is in millionths of a lamport for each compute unit, and the specification's; `priority_fee`, in
    lamports, bounds what units and price make together: 0.00001 SOL.
    """

    units: int = 100_000
    unit_price: int = 5_000_000
    priority_fee: int = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """The one token transfer of a transaction with the scheme's layout. Keys are 32 bytes, amounts base units."""

    transaction: Transaction
    program: bytes
    source: bytes
    mint: bytes
    destination: bytes
    authority: bytes
    amount: int
    decimals: int
    units: int
    unit_price: int  # millionths of a lamport
    memos: tuple[bytes, ...]

    @property
    def message(self) -> Message:
        return self.transaction.message

    @property
    def key(self) -> str:
        """Return the name of this very transfer: its transaction's text is malleable, its message is not."""
        return self.message.hash

    @property
    def fee_payer(self) -> bytes:
        return self.message.keys[_FEE_PAYER]

    @property
    def priority_fee(self) -> int:
        """Return what is paid for priority, in lamports, rounded up as the chain does."""
        return -(-self.units * self.unit_price // 1_000_000)


def read_transfer(raw: bytes) -> Transfer:
    """Read a transaction that is one transfer and nothing else; raise `TransactionUnreadable` or `TransactionLayoutRefused`."""
    try:
        transaction = decode(raw)
    except BadTransaction as fault:
        raise TransactionUnreadable(f"The payment's transaction cannot be read: {fault}.") from None
    message = transaction.message
    if message.looked_up:
        _refuse("it takes accounts from address lookup tables")
    if not _LEAST_CALLS <= len(message.calls) <= _MOST_CALLS:
        _refuse(f"it has {len(message.calls)} instructions, {_LEAST_CALLS} to {_MOST_CALLS} are allowed")
    limit, price, move, *others = message.calls
    for place, call in enumerate(others, start=4):
        if message.keys[call.program] not in (MEMO, LIGHTHOUSE):
            _refuse(
                f"instruction {place} calls {b58encode(message.keys[call.program])}, Memo and Lighthouse may follow"
            )
    return _read_move(
        transaction,
        move,
        units=_read_budget(message, limit, solana_programs.read_unit_limit, "the first is no SetComputeUnitLimit"),
        unit_price=_read_budget(
            message, price, solana_programs.read_unit_price, "the second is no SetComputeUnitPrice"
        ),
        memos=tuple(call.data for call in others if message.keys[call.program] == MEMO),
    )


def _read_budget(message: Message, call: Call, read: Callable[[bytes], int | None], problem: str) -> int:
    value = read(call.data) if message.keys[call.program] == COMPUTE_BUDGET else None
    return _refuse(f"of its instructions {problem}") if value is None else value


def _read_move(
    transaction: Transaction, call: Call, *, units: int, unit_price: int, memos: tuple[bytes, ...]
) -> Transfer:
    keys = transaction.message.keys
    moved = solana_programs.read_transfer_checked(call.data)
    if keys[call.program] not in (TOKEN, TOKEN_2022) or moved is None or len(call.accounts) != 4:
        _refuse("of its instructions the third is no TransferChecked with one owner")
    source, mint, destination, authority = (keys[place] for place in call.accounts)
    return Transfer(
        transaction=transaction,
        program=keys[call.program],
        source=source,
        mint=mint,
        destination=destination,
        authority=authority,
        amount=moved.amount,
        decimals=moved.decimals,
        units=units,
        unit_price=unit_price,
        memos=memos,
    )


def require_isolated(transfer: Transfer) -> None:
    """Raise `TransactionLayoutRefused` unless the fee payer can lose nothing but the fee by signing this.

    An account that no instruction names cannot be touched by one, and nobody but it and the tokens' owner may sign.
    """
    message = transfer.message
    if message.signers != _SIGNERS or transfer.authority != message.keys[_AUTHORITY]:
        _refuse("its signers are not exactly the fee payer and the owner of the tokens")
    if any(_FEE_PAYER in call.accounts for call in message.calls):
        _refuse("an instruction names the fee payer")
    if transfer.source == transfer.destination:
        _refuse("it pays back to where it takes from")


def require_signature(transfer: Transfer) -> str:
    """Return the address of the tokens' owner, who signed; the fee payer's signature must still be missing.

    Raise `TransactionNotSigned`.
    """
    payer, owner = transfer.transaction.signatures
    address = b58encode(transfer.authority)
    if payer != EMPTY_SIGNATURE:
        raise TransactionNotSigned("The fee payer's signature must be left out: 64 zero bytes in the first place.")
    if not solana.verify(address, transfer.message.raw, owner):
        raise TransactionNotSigned(f"The signature of {address} does not hold for this transaction.")
    return address


def require_small_fee(transfer: Transfer, limits: Limits) -> None:
    """Raise `TransactionFeeTooHigh` unless the fee stays under the limits."""
    compared = (
        ("compute units", transfer.units, limits.units),
        ("millionths of a lamport for a unit", transfer.unit_price, limits.unit_price),
        ("lamports of priority fee", transfer.priority_fee, limits.priority_fee),
    )
    for what, asked, most in compared:
        if asked > most:
            raise TransactionFeeTooHigh(f"The transaction asks for {asked} {what}, at most {most} are granted.")


def require_terms(
    transfer: Transfer, accepted: PaymentRequirements, offer: PaymentRequirements, *, decimals: int
) -> None:
    """Compare what was chosen and what was signed with our own offer; raise `PaymentTermsMismatch` with every difference.

    The memo is the seller's to judge. Only associated token accounts of SPL Token count, for payer and payee.
    """
    chosen = ("accepted",)
    signed = ("payload", "transaction")
    mint = b58decode(offer.asset)
    payee = solana_programs.token_account(b58decode(offer.pay_to), mint)
    source = solana_programs.token_account(transfer.authority, mint)
    compared = (
        ((*chosen, "scheme"), accepted.scheme, offer.scheme),
        ((*chosen, "network"), accepted.network, offer.network),
        ((*chosen, "asset"), accepted.asset, offer.asset),
        ((*chosen, "payTo"), accepted.pay_to, offer.pay_to),
        ((*chosen, "amount"), accepted.amount, offer.amount),
        ((*signed, "program"), b58encode(transfer.program), b58encode(TOKEN)),
        ((*signed, "mint"), b58encode(transfer.mint), offer.asset),
        ((*signed, "source"), b58encode(transfer.source), b58encode(source)),
        ((*signed, "destination"), b58encode(transfer.destination), b58encode(payee)),
        ((*signed, "amount"), str(transfer.amount), offer.amount),
        ((*signed, "decimals"), str(transfer.decimals), str(decimals)),
    )
    issues = [
        Issue(path, "mismatch", f"{'.'.join(path)} is {got}, expected {expected}", (expected,))
        for path, got, expected in compared
        if got != expected
    ]
    if issues:
        told = "; ".join(issue.message for issue in issues)
        raise PaymentTermsMismatch(f"The payment is for other terms than this request costs: {told}.", issues=issues)


def sign_exact_svm(
    required: PaymentRequired, requirements: PaymentRequirements, key: SolanaKey, *, blockhash: str, decimals: int
) -> SolanaPayload:
    """Sign one offer of a challenge as the SDKs do; `blockhash` is a recent one, `decimals` the mint's.

    The seller or its facilitator can complete it for about a minute: compare the amount with your budget before.
    """
    fee_payer, memo = requirements.extra.get("feePayer"), requirements.extra.get("memo")
    names = (requirements.asset, requirements.pay_to, fee_payer, blockhash)
    if requirements.scheme != "exact" or not all(isinstance(name, str) and solana.is_address(name) for name in names):
        raise UnsupportedOffer
    mint, owner = b58decode(requirements.asset), b58decode(key.address)
    move = solana_programs.transfer_checked(
        source=solana_programs.token_account(owner, mint),
        mint=mint,
        destination=solana_programs.token_account(b58decode(requirements.pay_to), mint),
        authority=owner,
        amount=int(requirements.amount),
        decimals=decimals,
    )
    message = compile_message(
        b58decode(str(fee_payer)),
        [
            solana_programs.unit_limit(_UNITS),
            solana_programs.unit_price(_UNIT_PRICE),
            move,
            *([solana_programs.memo(memo)] if isinstance(memo, str) else []),
        ],
        blockhash=b58decode(blockhash),
    )
    return SolanaPayload(
        accepted=requirements,
        transaction=Transaction(signatures=(EMPTY_SIGNATURE, key.sign(message.raw)), message=message).raw(),
        resource=required.resource.wire() if required.resource else None,
        extensions=required.extensions,
    )


def _refuse(problem: str) -> NoReturn:
    raise TransactionLayoutRefused(f"The payment's transaction is refused: {problem}.")
