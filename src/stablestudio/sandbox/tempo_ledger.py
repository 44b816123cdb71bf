"""The embedded Tempo chain: TIP-20 tokens and type 0x76 transactions under the chain's rules, kept in our own database.

Source of the rules: the checks of the `tempo` node's pool, and what its TIP-20 precompile does; the chain tests compare
each with one. What this chain does not do it refuses by name, and moves nothing: fees, several calls in one
transaction, calls other than transfers, sponsored fees, and signatures other than secp256k1's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from stablestudio.clock import Clock
from stablestudio.protocols import tempo
from stablestudio.protocols.tempo import TempoTransaction
from stablestudio.sandbox.tempo_books import NOBODY, Page, TempoBooks, TempoEntry
from stablestudio.store.database import Database

CHAIN_ID = 42431  # the test network: a signature for it is worth nothing elsewhere
# The node wants this much time left, so that a transaction does not expire on its way into a block.
MARGIN_S = 3
# How far ahead the end of an expiring nonce may lie: 300 s since the hardfork T11, which the test network has, before 30 s.
WINDOW_S = 300
_LEAST_GAS = 21_000
_ATTO_PER_UNIT = 10**12  # fees are counted in 10**-18 dollars, tokens in 10**-6
_TOKEN_PREFIX = "0x20c000000000000000000000"  # noqa: S105 - of TIP-20 addresses
# The length of each transfer's call data, by its selector.
TRANSFERS = {bytes.fromhex("a9059cbb"): 68, bytes.fromhex("95777d59"): 100}

INSUFFICIENT_BALANCE = "InsufficientBalance"
INVALID_RECIPIENT = "InvalidRecipient"
INVALID_CALL_DATA = "InvalidCallData"


class Refused(Exception):
    """The chain does not take the transaction now; nothing is written down. `reason` is in the node's words."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class Reverted(Exception):
    """The transaction was mined and failed: nothing moved, and its nonce is spent. `reason` is the token's error."""

    def __init__(self, reason: str, *, transaction: str) -> None:
        self.reason = reason
        self.transaction = transaction
        super().__init__(reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class TempoToken:
    """A dollar token with six decimals; `address` in lower case."""

    address: str
    name: str
    symbol: str


USDC_E = TempoToken(address="0x20c000000000000000000000b9537d11c60e8b50", name="Bridged USDC", symbol="USDC.e")
PATH_USD = TempoToken(address="0x20c0000000000000000000000000000000000000", name="pathUSD", symbol="pathUSD")


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """What a call of a token asks for."""

    recipient: str
    amount: int
    memo: bytes | None


class TempoLedger:
    """Some tokens on one test network, in the `ledger_*` tables."""

    def __init__(
        self,
        database: Database,
        *,
        clock: Clock,
        tokens: Sequence[TempoToken] = (USDC_E, PATH_USD),
        chain_id: int = CHAIN_ID,
        window_s: int = WINDOW_S,
    ) -> None:
        self._database = database
        self._clock = clock
        self._window_s = window_s
        self.chain_id = chain_id
        self.tokens = {token.address.lower(): token for token in tokens}
        self.books = TempoBooks(database, tokens=tuple(self.tokens))

    async def send(self, raw: bytes) -> str:
        """Mine a signed transaction; return its hash, or raise `Refused` or `Reverted`.

        The same bytes again, in either spelling of the signature's last byte, are told what became of the first ones.
        """
        try:
            transaction = tempo.decode(raw)
        except tempo.BadTransaction as error:
            raise Refused(f"failed to decode signed transaction: {error}") from None
        failure = await self._database.write(lambda connection: self._mine(connection, transaction))
        if failure is not None:
            raise Reverted(failure, transaction=transaction.hash)
        return transaction.hash

    async def mint(self, token: str, owner: str, amount: int) -> str:
        """Give test money to an address, as a faucet does; return the transaction's hash."""
        token, owner, now = token.lower(), owner.lower(), self._clock.now_ms()
        return await self._database.write(
            lambda connection: self._page(connection).mint(token=token, recipient=owner, amount=amount, now=now)
        )

    async def find(self, transaction: str) -> TempoEntry | None:
        """Return a mined transaction by its hash."""
        return await self.books.find(transaction)

    async def balance_of(self, token: str, owner: str) -> int:
        """Return an address' balance in base units."""
        return await self.books.balance_of(token.lower(), owner)

    def now_ms(self) -> int:
        """Return the chain's time in milliseconds."""
        return self._clock.now_ms()

    def _page(self, connection: sa.Connection) -> Page:
        return Page(connection=connection, tokens=tuple(self.tokens))

    def _mine(self, connection: sa.Connection, transaction: TempoTransaction) -> str | None:
        """Mine and return why it failed, if so. A failure is written down, so it must not be raised in here."""
        page = self._page(connection)
        known = page.find(transaction.hash)
        if known is not None:
            return known.failure
        now = self._clock.now_ms()
        self._check_form(transaction)
        self._check_time(transaction, now // 1000)
        self._check_nonce(transaction, page)
        self._check_fee(transaction, page)
        call = transaction.calls[0]
        judged = judge(call.data, held=page.balance_of(call.to, transaction.sender))
        if isinstance(judged, str):
            page.fail(transaction, token=call.to, now=now, failure=judged)
            return judged
        page.move(
            transaction,
            token=call.to,
            recipient=judged.recipient,
            amount=judged.amount,
            memo=judged.memo,
            now=now,
        )
        return None

    def _check_form(self, transaction: TempoTransaction) -> None:
        if transaction.chain_id != self.chain_id:
            raise Refused("invalid chain id for signer")
        if not transaction.proved or transaction.sponsored:
            raise Refused("this embedded chain takes secp256k1 signatures of senders who pay their own fee only")
        if any(call.value for call in transaction.calls):
            raise Refused("native value transfer not allowed in Tempo mode")
        if len(transaction.calls) != 1 or transaction.calls[0].to not in self.tokens:
            raise Refused("this embedded chain takes one call, of one of its tokens")
        if transaction.calls[0].data[:4] not in TRANSFERS:
            raise Refused("this embedded chain knows transfer and transferWithMemo only")
        if transaction.gas_limit < _LEAST_GAS:
            raise Refused("intrinsic gas too low")
        if transaction.max_priority_fee_per_gas > transaction.max_fee_per_gas:
            raise Refused("max priority fee per gas higher than max fee per gas")

    def _check_time(self, transaction: TempoTransaction, now: int) -> None:
        before, after = transaction.valid_before, transaction.valid_after
        if before is not None and before <= now + MARGIN_S:
            raise Refused(f"Tempo tx valid_before ({before}) must be > current time + {MARGIN_S}s ({now + MARGIN_S})")
        if after is not None and after > now:
            # A node would wait a while for it; here nothing waits.
            raise Refused(f"Tempo tx valid_after ({after}) is after the current time ({now})")
        if transaction.expiring and before is None:
            raise Refused("expiring nonce transaction requires valid_before")
        if transaction.expiring and before is not None and before > now + self._window_s:
            raise Refused(f"expiring nonce valid_before ({before}) too far in the future: within {self._window_s}s")

    def _check_nonce(self, transaction: TempoTransaction, page: Page) -> None:
        if not transaction.expiring:
            due = page.nonce_of(transaction.sender, transaction.nonce_key)
            if transaction.nonce != due:
                fault = "low" if transaction.nonce < due else "high"
                raise Refused(f"nonce too {fault}: next nonce {due}, tx nonce {transaction.nonce}")
        elif transaction.nonce:
            raise Refused("expiring nonce transactions must have nonce 0")
        elif page.has_seen(transaction):
            raise Refused("expiring nonce transaction replay")

    def _check_fee(self, transaction: TempoTransaction, page: Page) -> None:
        """No fee is taken, but who promises one must hold it, as on the chain."""
        token = transaction.fee_token or transaction.calls[0].to
        if token not in self.tokens:
            raise Refused(f"fee token {token} is not a token of this embedded chain")
        need = -(-transaction.gas_limit * transaction.max_fee_per_gas // _ATTO_PER_UNIT)
        held = page.balance_of(token, transaction.sender)
        if need > held:
            raise Refused(f"insufficient fee token balance: have {held}, need {need}")


def judge(data: bytes, *, held: int) -> Transfer | str:
    """Return what a call of a token's transfers moves for someone who holds so much, or why it fails."""
    # Like the token, take no notice of what lies behind the arguments or above an address' 20 bytes.
    read = tempo.read_transfer(data[:4] + bytes(12) + data[16 : TRANSFERS[data[:4]]])
    if read is None:
        return INVALID_CALL_DATA
    recipient, amount, memo = read
    if recipient == NOBODY or recipient.startswith(_TOKEN_PREFIX):
        return INVALID_RECIPIENT
    if amount > held:
        return INSUFFICIENT_BALANCE
    return Transfer(recipient=recipient, amount=amount, memo=memo)
