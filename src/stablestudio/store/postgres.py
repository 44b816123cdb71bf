"""The database on PostgreSQL: each write a transaction of its own, beside those of other threads and processes.

Transactions are READ COMMITTED. What the rules about money need beyond that is in the queries: unique indexes,
compare-and-set, and the locks of `store.locking`. PostgreSQL itself commits in groups.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, TypeVar, cast

import psycopg
import sqlalchemy as sa
from psycopg.pq import TransactionStatus
from psycopg.types.string import StrDumperUnknown

from stablestudio.store.database import CommitUnknown, Listener, spread, take_told
from stablestudio.store.gathering import Gathering
from stablestudio.store.news import News

T = TypeVar("T")
_WRITERS, _READERS, _LOOKS = 8, 4, 4
_TRIES = 12
_PAUSE_SECONDS = 0.01
# Whose machine is gone, or who was stopped inside of a transaction, lets go of its locks after some time. The client
# sees a dead line before the server does, so that nobody holds for his what another may take already.
CLIENT = {
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 2,
    "tcp_user_timeout": 15_000,  # milliseconds
}
_SERVER = """
SET idle_in_transaction_session_timeout = '60s';
SET tcp_keepalives_idle = 20;
SET tcp_keepalives_interval = 10;
SET tcp_keepalives_count = 3;
SET tcp_user_timeout = '50s'
"""
# serialization_failure, deadlock_detected: certainly nothing was committed, and another try is what the manual asks for.
_PASSING = frozenset({"40001", "40P01"})


class _Undone(Exception):
    """Nothing of a transaction happened, and another try may go better."""

    def __init__(self, fault: sa.exc.DBAPIError) -> None:
        self.fault = fault
        super().__init__(str(fault))


class PostgresDatabase:
    """Pools of connections, each worked on by threads, so that no query holds the event loop up."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.engine = make_engine(url, pool_size=_WRITERS + _READERS, max_overflow=2)
        self._snapshots = self.engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        self._looks = make_engine(url, pool_size=_LOOKS, max_overflow=_LOOKS, isolation_level="AUTOCOMMIT")
        sa.event.listen(self._looks, "connect", _only_read)
        self.engine.connect().close()  # the first connection sets the engine up, which threads may not do side by side
        self._writers = ThreadPoolExecutor(_WRITERS, thread_name_prefix="store-write")
        self._listeners: list[Listener] = []
        self._news = News(self._connect_news, self._spread)
        self._readers = ThreadPoolExecutor(_READERS + _LOOKS, thread_name_prefix="store-read")
        self._gathering = Gathering(self._fetch_many)

    async def write(self, work: Callable[[sa.Connection], T]) -> T:
        """Run `work` in a transaction and return its result once it is committed; its exception undoes it alone."""
        pending = asyncio.get_running_loop().run_in_executor(self._writers, self._write, work)
        try:
            return await asyncio.shield(pending)
        except asyncio.CancelledError:
            # What the caller writes next, as it leaves, must not overtake this.
            await asyncio.wait((pending,))
            pending.exception()
            raise

    async def read(self, work: Callable[[sa.Connection], T]) -> T:
        """Run queries in a reader thread; they see the database as it is at one moment."""
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._read, work)

    def fetch(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run one indexed query on the driver itself: one way there and back, without a transaction around it.

        Raises SQLAlchemy's `OperationalError` where the server cannot be reached, as every other verb does.
        """
        try:
            return self._fetch(sql, parameters)
        except psycopg.OperationalError:
            self._looks.dispose()  # the server was away: what the pool has is as dead as this connection
        try:
            return self._fetch(sql, parameters)
        except psycopg.OperationalError as fault:
            raise sa.exc.OperationalError(sql, None, fault) from fault

    async def fetch_one(self, sql: str, key: str, *, patience: float = 0.0) -> tuple[Any, ...] | None:
        """Run one indexed query for the row of a key, in a thread, together with others for the same query."""
        return await self._gathering.find(sql, key, patience=patience)

    async def look(self, work: Callable[[], T]) -> T:
        """Run what fetches in a reader thread."""
        return await asyncio.get_running_loop().run_in_executor(self._readers, work)

    def listen(self, listener: Listener) -> None:
        """Call `listener` with what was told in transactions that are committed, here or in another process."""
        self._listeners.append(listener)
        self._news.listen()

    def close(self) -> None:
        """Finish the writes already queued, then close."""
        self._writers.shutdown()
        self._news.close()
        self._gathering.close()
        self._readers.shutdown()
        self._looks.dispose()
        self.engine.dispose()

    def _write(self, work: Callable[[sa.Connection], T]) -> T:
        for attempt in range(1, _TRIES):
            try:
                return self._write_once(work)
            except _Undone:
                # Drawn by lot, so that those who were in each other's way are not again.
                time.sleep(random.uniform(0, _PAUSE_SECONDS) * attempt)  # noqa: S311 - no secret
        try:
            return self._write_once(work)
        except _Undone as undone:
            raise undone.fault from None

    def _write_once(self, work: Callable[[sa.Connection], T]) -> T:
        with self.engine.connect() as connection, connection.begin() as transaction:
            take_told(connection)  # by a transaction that was undone
            with _telling_what_is_undone():
                result = work(connection)
            _require_sound(connection)
            with _telling_what_is_undone(), _telling_what_is_unknown():
                transaction.commit()
            told = take_told(connection)
        if told:
            self._spread(told)
            self._news.send(told)
        return result

    def _spread(self, told: frozenset[str]) -> None:
        spread(told, self._listeners)

    def _connect_news(self) -> psycopg.Connection:
        held = make_engine(self.url, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT").raw_connection()
        connection = cast("psycopg.Connection", held.driver_connection)
        held.detach()  # after that it tells its driver's connection no more
        return connection

    def _read(self, work: Callable[[sa.Connection], T]) -> T:
        try:
            return self._read_once(work)
        except sa.exc.DBAPIError as error:
            if not error.connection_invalidated:
                raise
        return self._read_once(work)

    def _read_once(self, work: Callable[[sa.Connection], T]) -> T:
        with self._snapshots.connect() as connection:
            return work(connection)

    def _fetch_many(self, sql: str, keys: Sequence[str]) -> list[tuple[Any, ...]]:
        return self.fetch(_for_many(sql), ([key for key in keys if _is_text(key)],))

    def _fetch(self, sql: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
        held = self._looks.raw_connection()
        try:
            driver: Any = held.driver_connection
            rows: list[tuple[Any, ...]] = driver.execute(_placed(sql), parameters).fetchall()
        except psycopg.OperationalError:
            held.invalidate()
            raise
        finally:
            held.close()
        return rows


def make_engine(url: str, **options: Any) -> sa.Engine:
    """Return an engine whose connections take any text and do not hold locks for ever."""
    engine = sa.create_engine(
        sa.make_url(url).set(drivername="postgresql+psycopg"),
        hide_parameters=True,
        connect_args=CLIENT,
        **options,
    )
    sa.event.listen(engine, "connect", _prepare)
    return engine


class _Text(StrDumperUnknown):
    """PostgreSQL's text holds no NUL, and what buyers send may: it is kept with a sign in its place."""

    def dump(self, obj: str) -> Any:
        return super().dump(obj.replace("\0", "\ufffd"))


def _prepare(connection: psycopg.Connection, _record: object) -> None:
    connection.adapters.register_dumper(str, _Text)
    connection.execute(_SERVER)
    connection.commit()  # or the pool, which rolls back what it gets, would undo it


def _only_read(connection: psycopg.Connection, _record: object) -> None:
    connection.execute("SET default_transaction_read_only = on")
    connection.commit()


@lru_cache
def _placed(sql: str) -> str:
    """Return a query with PostgreSQL's driver's own marks for parameters."""
    return sql.replace("?", "%s")


def _is_text(key: str) -> bool:
    """Tell whether a key is one that the driver can write down: one that is not may not cost the others their answer."""
    try:
        key.encode()
    except UnicodeEncodeError:
        return False
    return True


@lru_cache
def _for_many(sql: str) -> str:
    """Return a query for one key as one for many of them."""
    return sql.replace("= ?", "= ANY(?)")


@contextmanager
def _telling_what_is_undone() -> Iterator[None]:
    """Raise `_Undone` for faults after which certainly nothing was committed; a lost connection is one until the commit."""
    try:
        yield
    except CommitUnknown:
        raise
    except sa.exc.DBAPIError as error:
        if error.connection_invalidated or getattr(error.orig, "sqlstate", None) in _PASSING:
            raise _Undone(error) from error
        raise


@contextmanager
def _telling_what_is_unknown() -> Iterator[None]:
    """Raise `CommitUnknown` for a connection that was lost at the commit: any other fault there is the server's refusal."""
    try:
        yield
    except sa.exc.DBAPIError as error:
        if error.connection_invalidated:
            raise CommitUnknown("COMMIT", None, error.orig or error, connection_invalidated=True) from error
        raise


def _require_sound(connection: sa.Connection) -> None:
    """Refuse to commit after a fault that was caught without a savepoint: PostgreSQL would drop all, and say nothing."""
    driver: Any = connection.connection.driver_connection
    if driver.info.transaction_status == TransactionStatus.INERROR:
        raise RuntimeError("a statement failed, was caught outside of a savepoint, and undid the whole transaction")
