"""The embedded Solana: one token on a test network, with its books in our database and its rules in the real program.

The books are the truth and the machine keeps nothing: each transaction runs on accounts made from the books, inside the
database transaction that writes its effects back. So a stop at any moment loses nothing and leaves no two stories, and
any number of processes may work on one database. SOL is not kept: every wallet has some.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from typing import Any

import sqlalchemy as sa

from stablestudio.clock import Clock
from stablestudio.protocols.solana import b58decode, b58encode
from stablestudio.protocols.solana_programs import (
    ASSOCIATED_TOKEN,
    COMPUTE_BUDGET,
    LIGHTHOUSE,
    MEMO,
    TOKEN,
    read_token_account,
    token_account,
)
from stablestudio.protocols.solana_transaction import BadTransaction, Message, Transaction, decode
from stablestudio.sandbox.ledger import LEDGER
from stablestudio.sandbox.solana_blocks import SLOT_MS, Blocks, Executed, NotTaken
from stablestudio.sandbox.solana_machine import Holding, Run, SolanaMachine, mint_data, require_solders
from stablestudio.store.database import Database
from stablestudio.store.locking import take_turn
from stablestudio.store.tables import ledger_balances as balances
from stablestudio.store.tables import ledger_solana_transactions as transactions

_PROGRAMS = (COMPUTE_BUDGET, TOKEN, ASSOCIATED_TOKEN, MEMO, LIGHTHOUSE)
_MOST = 2**63 - 1  # what a BIGINT holds
_LONGEST_HISTORY = 1_000


class SolanaLedger:
    """One SPL token in `ledger_balances`, by its mint and each wallet, and what was executed."""

    def __init__(self, database: Database, *, mint: str, clock: Clock, decimals: int = 6) -> None:
        """Take the books; raise `SolanaLedgerUnavailable` where solders is not installed."""
        require_solders()
        self.token = mint
        self.decimals = decimals
        self.blocks = Blocks(clock, seed=b58decode(mint))
        self._mint = b58decode(mint)
        self._database = database
        self._clock = clock
        self._machine = SolanaMachine(self._mint, decimals=decimals)
        self._wallets: dict[bytes, str] = {}  # by token account: the wallet it belongs to

    async def mint(self, owner: str, amount: int) -> str:
        """Give test money to a wallet, as a faucet does; return its token account, which is opened if need be."""
        await self._database.write(lambda connection: self._credit(connection, owner, amount))
        return b58encode(token_account(b58decode(owner), self._mint))

    async def balance_of(self, owner: str) -> int | None:
        """Return what a wallet holds in base units, None where it has no token account."""
        holdings = await self._database.read(lambda connection: self._amounts(connection, [owner]))
        return holdings.get(owner)

    async def holding(self, account: str) -> Holding | None:
        """Return what a token account holds, None where there is none."""
        key = b58decode(account)
        return (await self._database.read(lambda connection: self._holdings(connection, [key]))).get(key)

    async def execute(self, raw: bytes) -> Executed:
        """Run a signed transaction and keep its effects; a copy of one that ran before is told how that went.

        One that fails in an instruction is kept as failed. Raise `NotTaken` for what no block would hold.
        """
        transaction = _read(raw)
        return await self._database.write(lambda connection: self._execute(connection, transaction))

    async def simulate(self, raw: bytes, *, check_signatures: bool = True, check_blockhash: bool = True) -> Run:
        """Run a transaction and keep nothing; raise `NotTaken` where it would not run at all."""
        transaction = _read(raw)

        def work(connection: sa.Connection) -> Run:
            if self._find(connection, transactions.c.message_hash == transaction.message.hash) is not None:
                raise NotTaken("This transaction has already been processed", err="AlreadyProcessed")
            if check_blockhash:
                self._require_recent(transaction.message)
            holdings = self._holdings(connection, _others(transaction.message))
            return self._run(transaction, holdings, check_signatures=check_signatures)

        return await self._database.read(work)

    async def find(self, signature: str) -> Executed | None:
        """Return an executed transaction by its first signature."""
        return await self._database.read(
            lambda connection: self._find(connection, transactions.c.signature == signature)
        )

    async def history(self, account: str, *, limit: int, before: str | None = None) -> list[Executed]:
        """Return what named an account, the newest first, from before a signature on."""
        newest = sa.select(transactions).order_by(transactions.c.slot.desc())
        named = newest.where(transactions.c.meta.contains(f'"{account}"', autoescape=True))
        if before is not None:
            place = sa.select(transactions.c.slot).where(transactions.c.signature == before).scalar_subquery()
            named = named.where(transactions.c.slot < place)
        statement = named.limit(min(limit, _LONGEST_HISTORY))
        rows = await self._database.read(lambda connection: connection.execute(statement).all())
        return [_executed(row) for row in rows]

    def _execute(self, connection: sa.Connection, transaction: Transaction) -> Executed:
        take_turn(connection, LEDGER)
        message = transaction.message
        known = self._find(connection, transactions.c.message_hash == message.hash)
        if known is not None:
            return known
        self._require_recent(message)
        before = self._holdings(connection, _others(message))
        run = self._run(transaction, before, check_signatures=True)
        if not run.landed:
            raise NotTaken(f"Transaction failed: {run.err}", err=run.err)
        after = before if run.err is not None else self._read_effects(run, before)
        for key in {**before, **after}:
            self._keep(connection, before.get(key), after.get(key))
        return self._record(connection, transaction, run, before, after)

    def _run(self, transaction: Transaction, holdings: Mapping[bytes, Holding], *, check_signatures: bool) -> Run:
        message = transaction.message
        if message.looked_up or any(message.keys[call.program] not in _PROGRAMS for call in message.calls):
            raise NotTaken("This ledger runs the token, associated token, memo and compute budget programs only")
        return self._machine.run(transaction.raw(), message, holdings, check_signatures=check_signatures)

    def _require_recent(self, message: Message) -> None:
        if not self.blocks.is_recent(b58encode(message.blockhash)):
            raise NotTaken("Blockhash not found", err="BlockhashNotFound")

    def _read_effects(self, run: Run, before: Mapping[bytes, Holding]) -> dict[bytes, Holding]:
        """Return what the token accounts hold after a run; raise `NotTaken` for effects that the books cannot hold."""
        after = dict(before)
        for key, state in run.after.items():
            if state is None:
                after.pop(key, None)
            elif state[0] == TOKEN and key == self._mint:
                if state[1] != mint_data(self.decimals):
                    raise NotTaken("This ledger's supply is its faucet's to change")
            elif state[0] == TOKEN:
                after[key] = self._read_plain(key, state[1])
        return after

    def _read_plain(self, key: bytes, data: bytes) -> Holding:
        account = read_token_account(data)
        # Neither delegate nor other authority, not frozen, not native: what the books can hold.
        plain = data[72:76] == data[109:113] == data[129:133] == bytes(4)
        if account is None or account.mint != self._mint or not account.usable or not plain:
            raise NotTaken("This ledger keeps plain accounts of its own token only")
        if key != token_account(account.owner, self._mint) or account.amount > _MOST:
            raise NotTaken("This ledger keeps associated token accounts only")
        return Holding(owner=account.owner, amount=account.amount)

    def _holdings(self, connection: sa.Connection, keys: Iterable[bytes]) -> dict[bytes, Holding]:
        """Return which of some accounts are token accounts, and what they hold."""
        keys = [key for key in keys if key not in _PROGRAMS and key != self._mint]
        if any(key not in self._wallets for key in keys):
            self._learn(connection)
        wallets = {key: self._wallets[key] for key in keys if key in self._wallets}
        amounts = self._amounts(connection, wallets.values())
        return {
            key: Holding(owner=b58decode(wallet), amount=amounts[wallet])
            for key, wallet in wallets.items()
            if wallet in amounts
        }

    def _learn(self, connection: sa.Connection) -> None:
        wallets = dict(self._wallets)  # a new one, since several threads read it
        known = set(wallets.values())
        for (owner,) in connection.execute(sa.select(balances.c.owner).where(balances.c.asset == self.token)):
            if owner not in known:
                wallets[token_account(b58decode(owner), self._mint)] = owner
        self._wallets = wallets

    def _amounts(self, connection: sa.Connection, owners: Iterable[str]) -> dict[str, int]:
        statement = sa.select(balances.c.owner, balances.c.amount).where(
            balances.c.asset == self.token, balances.c.owner.in_(list(owners))
        )
        return {row.owner: row.amount for row in connection.execute(statement)}

    def _keep(self, connection: sa.Connection, before: Holding | None, after: Holding | None) -> None:
        if before == after:
            return
        owner = b58encode((after or before or Holding(owner=b"", amount=0)).owner)
        mine = (balances.c.asset == self.token, balances.c.owner == owner)
        if after is None:
            connection.execute(sa.delete(balances).where(*mine))
        elif before is None:
            connection.execute(sa.insert(balances).values(asset=self.token, owner=owner, amount=after.amount))
        else:
            connection.execute(sa.update(balances).where(*mine).values(amount=after.amount))

    def _credit(self, connection: sa.Connection, owner: str, amount: int) -> None:
        take_turn(connection, LEDGER)
        held = self._amounts(connection, [owner]).get(owner)
        wallet = b58decode(owner)
        before = None if held is None else Holding(owner=wallet, amount=held)
        self._keep(connection, before, Holding(owner=wallet, amount=(held or 0) + amount))

    def _record(
        self,
        connection: sa.Connection,
        transaction: Transaction,
        run: Run,
        before: Mapping[bytes, Holding],
        after: Mapping[bytes, Holding],
    ) -> Executed:
        keys = transaction.message.keys
        meta = {
            "err": run.err,
            "fee": run.fee,
            "logs": run.logs,
            "units": run.units,
            "accounts": [b58encode(key) for key in keys],
            "before": _balances(keys, before),
            "after": _balances(keys, after),
        }
        row = {
            "signature": b58encode(transaction.signatures[0]),
            "message_hash": transaction.message.hash,
            "transaction": base64.b64encode(transaction.raw()).decode(),
            "meta": json.dumps(meta),
            "mined_at": self._clock.now_ms(),
        }
        connection.execute(sa.insert(transactions), row)
        found = self._find(connection, transactions.c.message_hash == transaction.message.hash)
        assert found is not None
        return found

    def _find(self, connection: sa.Connection, which: sa.ColumnElement[bool]) -> Executed | None:
        row = connection.execute(sa.select(transactions).where(which)).first()
        return None if row is None else _executed(row)


def _read(raw: bytes) -> Transaction:
    try:
        return decode(raw)
    except BadTransaction as fault:
        raise NotTaken(f"failed to deserialize the transaction: {fault}") from None


def _others(message: Message) -> tuple[bytes, ...]:
    """Return the accounts that do not sign, which token accounts never do."""
    return message.keys[message.signers :]


def _executed(row: sa.Row[Any]) -> Executed:
    return Executed(
        signature=row.signature,
        raw=base64.b64decode(row.transaction),
        slot=row.mined_at // SLOT_MS,
        mined_at=row.mined_at,
        meta=json.loads(row.meta),
    )


def _balances(keys: tuple[bytes, ...], holdings: Mapping[bytes, Holding]) -> list[dict[str, Any]]:
    return [
        {"accountIndex": keys.index(key), "owner": b58encode(holding.owner), "amount": holding.amount}
        for key, holding in holdings.items()
    ]
