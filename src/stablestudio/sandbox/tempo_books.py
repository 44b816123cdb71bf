"""What the Tempo ledger writes down: one row for each mined transaction, failed ones too, and balances by token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from stablestudio.protocols.evm import keccak256
from stablestudio.protocols.tempo import EXPIRING_NONCE_KEY, TempoTransaction
from stablestudio.sandbox.ledger import LEDGER
from stablestudio.store.database import Database
from stablestudio.store.locking import take_turn
from stablestudio.store.tables import ledger_balances, ledger_transactions

NOBODY = "0x" + "0" * 40
_EXPIRING = "expiring"
_COLUMNS = "hash, block, asset, sender, recipient, amount, nonce, mined_at, memo, failure"


@dataclass(frozen=True, slots=True, kw_only=True)
class TempoEntry:
    """A mined transaction; addresses in lower case, `mined_at` in milliseconds.

    `failure` is why it failed: then nothing moved, and `recipient`, `amount` and `memo` say nothing. `nonce_key` is
    None for money that the faucet made.
    """

    hash: str
    block: int
    token: str
    sender: str
    recipient: str
    amount: int
    memo: bytes | None
    failure: str | None
    nonce_key: int | None
    nonce: int
    mined_at: int


class TempoBooks:
    """The rows of some tokens in the `ledger_*` tables, which other embedded chains share."""

    def __init__(self, database: Database, *, tokens: Sequence[str]) -> None:
        self._database = database
        self._tokens = tuple(tokens)
        self._ours = f"asset IN ({', '.join('?' * len(self._tokens))})"

    async def find(self, transaction: str) -> TempoEntry | None:
        """Return a mined transaction by its hash."""
        return await self._first("hash = ?", transaction.lower())

    async def find_in(self, block: int) -> TempoEntry | None:
        """Return the transaction of a block, which holds one, or none if another chain's lies there."""
        return await self._first("block = ?", block)

    async def balance_of(self, token: str, owner: str) -> int:
        """Return a balance in base units."""
        sql = "SELECT amount FROM ledger_balances WHERE asset = ? AND owner = ?"
        found = await self._fetch(sql, (token, owner.lower()))
        return int(found[0][0]) if found else 0

    async def supply_of(self, token: str) -> int:
        """Return how much of a token there is."""
        sql = "SELECT COALESCE(SUM(amount), 0) FROM ledger_balances WHERE asset = ?"
        return int((await self._fetch(sql, (token,)))[0][0])

    async def nonce_of(self, sender: str, nonce_key: int) -> int:
        """Return the next nonce of a sender under a key."""
        sql = f"SELECT COUNT(*) FROM ledger_transactions WHERE {self._ours} AND sender = ? AND nonce LIKE ?"  # noqa: S608 - only placeholders are put in
        return int((await self._fetch(sql, (*self._tokens, sender.lower(), f"{_prefix(nonce_key)}%")))[0][0])

    async def height(self) -> int:
        """Return the newest block's number."""
        return int((await self._fetch("SELECT COALESCE(MAX(block), 0) FROM ledger_transactions"))[0][0])

    async def _first(self, condition: str, value: object) -> TempoEntry | None:
        sql = f"SELECT {_COLUMNS} FROM ledger_transactions WHERE {condition} AND {self._ours}"  # noqa: S608 - constants
        found = await self._fetch(sql, (value, *self._tokens))
        return read_entry(found[0]) if found else None

    async def _fetch(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        return await self._database.look(lambda: self._database.fetch(sql, parameters))


def read_entry(row: Sequence[Any]) -> TempoEntry:
    """Read a row of `_COLUMNS`."""
    transaction, block, token, sender, recipient, amount, nonce, mined_at, memo, failure = row
    key, number = _read_nonce(nonce)
    return TempoEntry(
        hash=transaction,
        block=block,
        token=token,
        sender=sender,
        recipient=recipient,
        amount=amount,
        memo=bytes.fromhex(memo[2:]) if memo else None,
        failure=failure,
        nonce_key=key,
        nonce=number,
        mined_at=mined_at,
    )


_FIND = sa.text(f"SELECT {_COLUMNS} FROM ledger_transactions WHERE hash = :hash")  # noqa: S608 - constants
_NONCES = sa.select(sa.func.count()).select_from(ledger_transactions)
_INSERT = sa.insert(ledger_transactions)
_HELD = sa.and_(ledger_balances.c.asset == sa.bindparam("token"), ledger_balances.c.owner == sa.bindparam("holder"))
_BALANCE = sa.select(ledger_balances.c.amount).where(_HELD)
_CHANGE = sa.update(ledger_balances).where(_HELD).values(amount=ledger_balances.c.amount + sa.bindparam("change"))
_OPEN = sa.insert(ledger_balances)


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """The books inside one write transaction. It is one writer's turn, so what is read holds until it is done."""

    connection: sa.Connection
    tokens: tuple[str, ...]

    def __post_init__(self) -> None:
        take_turn(self.connection, LEDGER)

    def find(self, transaction: str) -> TempoEntry | None:
        row = self.connection.execute(_FIND, {"hash": transaction}).first()
        return None if row is None else read_entry(row)

    def balance_of(self, token: str, owner: str) -> int:
        found = self.connection.execute(_BALANCE, {"token": token, "holder": owner}).scalar()
        return int(found or 0)

    def nonce_of(self, sender: str, nonce_key: int) -> int:
        """Return the next nonce of a sender under a key."""
        return self._count(sender, ledger_transactions.c.nonce.like(f"{_prefix(nonce_key)}%"))

    def has_seen(self, transaction: TempoTransaction) -> bool:
        """Tell whether what was signed was mined before, under whichever hash."""
        return self._count(transaction.sender, ledger_transactions.c.nonce == nonce_text(transaction)) > 0

    def fail(self, transaction: TempoTransaction, *, token: str, now: int, failure: str) -> None:
        """Write a failed transaction down: it used its nonce and moved nothing."""
        self._insert(transaction, token=token, recipient=NOBODY, amount=0, memo=None, now=now, failure=failure)

    def move(
        self, transaction: TempoTransaction, *, token: str, recipient: str, amount: int, memo: bytes | None, now: int
    ) -> None:
        """Write a transfer down and move the money, which the sender must hold."""
        text = None if memo is None else "0x" + memo.hex()
        self._insert(transaction, token=token, recipient=recipient, amount=amount, memo=text, now=now)
        if amount:
            self._change(token, transaction.sender, -amount)
        self._credit(token, recipient, amount)

    def mint(self, *, token: str, recipient: str, amount: int, now: int) -> str:
        """Make money; return the hash of the transaction that it looks like."""
        last = self.connection.execute(sa.select(sa.func.coalesce(sa.func.max(ledger_transactions.c.block), 0)))
        salt = f"{token} mint {last.scalar_one()}"
        transaction = "0x" + keccak256(salt.encode()).hex()
        values = {"hash": transaction, "asset": token, "sender": NOBODY, "recipient": recipient, "amount": amount}
        self.connection.execute(_INSERT, {**values, "nonce": None, "memo": None, "mined_at": now, "failure": None})
        self._credit(token, recipient, amount)
        return transaction

    def _insert(self, transaction: TempoTransaction, **values: object) -> None:
        self.connection.execute(
            _INSERT,
            {
                "hash": transaction.hash,
                "asset": values["token"],
                "sender": transaction.sender,
                "recipient": values["recipient"],
                "amount": values["amount"],
                "nonce": nonce_text(transaction),
                "memo": values["memo"],
                "mined_at": values["now"],
                "failure": values.get("failure"),
            },
        )

    def _credit(self, token: str, owner: str, amount: int) -> None:
        if not self._change(token, owner, amount):
            self.connection.execute(_OPEN, {"asset": token, "owner": owner, "amount": amount})

    def _change(self, token: str, holder: str, change: int) -> bool:
        return self.connection.execute(_CHANGE, {"token": token, "holder": holder, "change": change}).rowcount == 1

    def _count(self, sender: str, which: sa.ColumnElement[bool]) -> int:
        rows = ledger_transactions.c
        within = (rows.asset.in_(self.tokens), rows.sender == sender, which)
        return int(self.connection.execute(_NONCES.where(*within)).scalar_one())


def nonce_text(transaction: TempoTransaction) -> str:
    """Return what may be mined once per sender: key and nonce, or what was signed where the nonce expires."""
    if transaction.expiring:
        return f"{_EXPIRING}:0x{transaction.signing_hash.hex()}"
    return f"{transaction.nonce_key:#x}:{transaction.nonce}"


def _prefix(nonce_key: int) -> str:
    """Return what the nonces of a key begin with."""
    return f"{nonce_key:#x}:"


def _read_nonce(text: str | None) -> tuple[int | None, int]:
    if text is None:
        return None, 0
    key, _, nonce = text.partition(":")
    return (EXPIRING_NONCE_KEY, 0) if key == _EXPIRING else (int(key, 16), int(nonce))
