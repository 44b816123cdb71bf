"""The ledger chain: a dollar token with EIP-3009's rules, kept in our own database instead of on a chain.

It keeps the rules of the real token (signature, low-s, time bounds, one use of a nonce, balance) in the order in which
Circle's contract checks them, on a test network's id only.
"""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from stablestudio.clock import Clock
from stablestudio.protocols import eip3009
from stablestudio.protocols.evm import BadSignature, checksum_address, keccak256
from stablestudio.store.database import Database
from stablestudio.store.locking import take_turn
from stablestudio.store.tables import ledger_balances, ledger_transactions

LEDGER = "ledger"  # whose turn it is to write: a chain has one block after the other
_NOBODY = "0x" + "0" * 40
_MOST = 2**63 - 1  # what a BIGINT holds, nine million million dollars
_USED = "FiatTokenV2: authorization is used or canceled"
_BROKEN = "ECRecover: invalid signature"
_POOR = "ERC20: transfer amount exceeds balance"


class Reverted(Exception):
    """The token refused the call; nothing changed. `reason` is the contract's revert string."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """A mined transfer."""

    hash: str
    block: int
    sender: str
    recipient: str
    amount: int
    nonce: str | None
    mined_at: int


_BALANCE = "SELECT amount FROM ledger_balances WHERE asset = ? AND owner = ?"
_INSERT = sa.insert(ledger_transactions)
_DEBIT = (
    sa.update(ledger_balances)
    .where(
        ledger_balances.c.asset == sa.bindparam("token"),
        ledger_balances.c.owner == sa.bindparam("holder"),
        ledger_balances.c.amount >= sa.bindparam("value"),
    )
    .values(amount=ledger_balances.c.amount - sa.bindparam("value"))
)
_CREDIT = (
    sa.update(ledger_balances)
    .where(ledger_balances.c.asset == sa.bindparam("token"), ledger_balances.c.owner == sa.bindparam("holder"))
    .values(amount=ledger_balances.c.amount + sa.bindparam("value"))
)
_OPEN_ACCOUNT = sa.insert(ledger_balances)


class LedgerChain:
    """One token on one test network, in the `ledger_*` tables."""

    def __init__(self, database: Database, *, domain: eip3009.TokenDomain, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self.domain = domain
        self._asset = domain.contract.lower()

    async def transfer_with_authorization(self, authorization: eip3009.Authorization, signature: bytes) -> str:
        """Move money as the token's `transferWithAuthorization` does; return the transaction hash or raise `Reverted`."""
        self._check_time(authorization)
        fault = self._signature_fault(authorization, signature)
        if fault is not None:
            # The contract looks at the nonce before it looks at the signature.
            spent = await self.find_authorization(authorization.sender, authorization.nonce)
            raise Reverted(_USED if spent else fault)
        return await self._database.write(lambda connection: self._transfer(connection, authorization))

    def _check_time(self, authorization: eip3009.Authorization) -> int:
        now = self._clock.now_ms()
        if now // 1000 <= authorization.valid_after:
            raise Reverted("FiatTokenV2: authorization is not yet valid")
        if now // 1000 >= authorization.valid_before:
            raise Reverted("FiatTokenV2: authorization is expired")
        return now

    def _signature_fault(self, authorization: eip3009.Authorization, signature: bytes) -> str | None:
        if len(signature) != 65 or signature[64] not in (27, 28):
            return _BROKEN
        try:
            signer = eip3009.recover(self.domain, authorization, signature)
        except BadSignature:
            return _BROKEN
        return None if signer.lower() == authorization.sender.lower() else "FiatTokenV2: invalid signature"

    async def mint(self, recipient: str, amount: int) -> str:
        """Give test money to an address, as a faucet does."""
        now = self._clock.now_ms()

        def work(connection: sa.Connection) -> str:
            take_turn(connection, LEDGER)
            last = connection.execute(
                sa.select(sa.func.coalesce(sa.func.max(ledger_transactions.c.block), 0))
            ).scalar_one()
            return self._record(
                connection,
                sender=_NOBODY,
                recipient=recipient,
                amount=amount,
                nonce=None,
                salt=b"mint" + int(last).to_bytes(8),
                now=now,
            )

        return await self._database.write(work)

    async def balance_of(self, owner: str) -> int:
        """Return an address' balance in base units."""
        question = (self._asset, owner.lower())
        found = await self._database.look(lambda: self._database.fetch(_BALANCE, question))
        return int(found[0][0]) if found else 0

    async def find_authorization(self, sender: str, nonce: bytes) -> Transfer | None:
        """Return the transfer that spent an authorization nonce."""
        statement = sa.select(ledger_transactions).where(
            ledger_transactions.c.asset == self._asset,
            ledger_transactions.c.sender == sender.lower(),
            ledger_transactions.c.nonce == "0x" + nonce.hex(),
        )
        return await self._first(statement)

    async def find_transaction(self, transaction: str) -> Transfer | None:
        """Return a transfer by its transaction hash."""
        return await self._first(
            sa.select(ledger_transactions).where(
                ledger_transactions.c.hash == transaction.lower(), ledger_transactions.c.asset == self._asset
            )
        )

    async def height(self) -> int:
        """Return the newest block's number."""
        statement = sa.select(sa.func.max(ledger_transactions.c.block))
        return int(await self._database.read(lambda connection: connection.execute(statement).scalar()) or 0)

    def _transfer(self, connection: sa.Connection, authorization: eip3009.Authorization) -> str:
        take_turn(connection, LEDGER)
        now = self._check_time(authorization)  # once more: the call may have waited for its block
        nonce = "0x" + authorization.nonce.hex()
        if authorization.recipient.lower() == _NOBODY:
            raise Reverted("ERC20: transfer to the zero address")
        if authorization.value > _MOST:
            raise Reverted(_POOR)
        try:
            transaction = self._record(
                connection,
                sender=authorization.sender,
                recipient=authorization.recipient,
                amount=authorization.value,
                nonce=nonce,
                salt=authorization.nonce,
                now=now,
            )
        except sa.exc.IntegrityError:
            raise Reverted(_USED) from None
        return transaction

    def _record(
        self,
        connection: sa.Connection,
        *,
        sender: str,
        recipient: str,
        amount: int,
        nonce: str | None,
        salt: bytes,
        now: int,
    ) -> str:
        sender, recipient = sender.lower(), recipient.lower()
        transaction = "0x" + keccak256(self._asset.encode() + sender.encode() + salt).hex()
        connection.execute(
            _INSERT,
            {
                "hash": transaction,
                "asset": self._asset,
                "sender": sender,
                "recipient": recipient,
                "amount": amount,
                "nonce": nonce,
                "mined_at": now,
            },
        )
        if nonce is not None and amount and not self._move(connection, _DEBIT, sender, amount):
            raise Reverted(_POOR)
        if not self._move(connection, _CREDIT, recipient, amount):
            connection.execute(_OPEN_ACCOUNT, {"asset": self._asset, "owner": recipient, "amount": amount})
        return transaction

    def _move(self, connection: sa.Connection, statement: sa.Update, holder: str, amount: int) -> bool:
        return connection.execute(statement, {"token": self._asset, "holder": holder, "value": amount}).rowcount == 1

    async def _first(self, statement: sa.Select[tuple[object, ...]]) -> Transfer | None:
        row = await self._database.read(lambda connection: connection.execute(statement).first())
        if row is None:
            return None
        values = row._mapping  # noqa: SLF001 - SQLAlchemy's public name for it
        return Transfer(
            hash=values["hash"],
            block=values["block"],
            sender=checksum_address(values["sender"]),
            recipient=checksum_address(values["recipient"]),
            amount=values["amount"],
            nonce=values["nonce"],
            mined_at=values["mined_at"],
        )
