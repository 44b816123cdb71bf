"""The database in a file: one writer thread that commits callers in groups, and readers that never wait for it."""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeAlias, TypeVar

import sqlalchemy as sa

from stablestudio.store.database import Listener, spread, take_told

T = TypeVar("T")
_GROUP = 64
_WAIT_MS = 30_000  # for whoever else writes


@dataclass(frozen=True, slots=True, kw_only=True)
class _Write(Generic[T]):
    work: Callable[[sa.Connection], T]
    loop: asyncio.AbstractEventLoop
    done: asyncio.Future[T]


_Result: TypeAlias = tuple[_Write[Any], Any, BaseException | None]


class SqliteDatabase:
    """SQLite in WAL mode with `synchronous=FULL`: what is acknowledged survives a power cut.

    Writes of concurrent callers share a commit and stay isolated by savepoints; a caller gets its result only
    after that commit is on disk.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.path = Path(url.removeprefix("sqlite:///"))
        self.engine = sa.create_engine(
            self.url, poolclass=sa.QueuePool, pool_size=4, max_overflow=4, hide_parameters=True
        )
        sa.event.listen(self.engine, "connect", _prepare)
        sa.event.listen(self.engine, "begin", _begin)
        self.engine.connect().close()  # the first connection sets the engine up, which threads may not do side by side
        self._own = threading.local()  # a connection of each thread that fetches: the server's loop, and the engine's
        self._fetching: list[sqlite3.Connection] = []
        self._readers = ThreadPoolExecutor(2, thread_name_prefix="store-read")
        self._listeners: list[Listener] = []
        self._writes: queue.SimpleQueue[_Write[Any] | None] = queue.SimpleQueue()
        self._writer = threading.Thread(target=self._run_writer, name="store-write", daemon=True)
        self._writer.start()

    async def write(self, work: Callable[[sa.Connection], T]) -> T:
        """Run `work` in a transaction and return its result once it is committed; its exception undoes it alone."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()
        self._writes.put(_Write(work=work, loop=loop, done=done))
        return await done

    async def read(self, work: Callable[[sa.Connection], T]) -> T:
        """Run a query in a reader thread."""
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._read, work)

    def fetch(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run one indexed query at once, on the thread's own connection: microseconds, for the polling paths."""
        reader: sqlite3.Connection | None = getattr(self._own, "reader", None)
        if reader is None:
            reader = self._own.reader = self._connect_reader()
        return reader.execute(sql, parameters).fetchall()

    async def fetch_one(self, sql: str, key: str, *, patience: float = 0.0) -> tuple[Any, ...] | None:  # noqa: ARG002 - nobody is waited for
        """Run one indexed query for the row of a key, here and now."""
        rows = self.fetch(sql, (key,))
        return rows[0] if rows else None

    async def look(self, work: Callable[[], T]) -> T:
        """Run what fetches, here and now: a thread would take longer than the query."""
        return work()

    def listen(self, listener: Listener) -> None:
        """Call `listener` in the writer's thread with what was told in transactions that are on disk now."""
        self._listeners.append(listener)

    def close(self) -> None:
        """Finish the writes already queued, then close."""
        self._writes.put(None)
        self._writer.join()
        self._readers.shutdown()
        for reader in self._fetching:
            reader.close()
        self.engine.dispose()

    def _connect_reader(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA query_only=ON")
        self._fetching.append(connection)
        return connection

    def _read(self, work: Callable[[sa.Connection], T]) -> T:
        with self.engine.connect().execution_options(reading=True) as connection:
            return work(connection)

    def _run_writer(self) -> None:
        with self.engine.connect() as connection:
            while (first := self._writes.get()) is not None:
                group = [first]
                stop = False
                while len(group) < _GROUP and not self._writes.empty():
                    following = self._writes.get()
                    if following is None:
                        stop = True
                        break
                    group.append(following)
                results = _commit_group(connection, group)
                spread(take_told(connection), self._listeners)
                _hand_over(results)
                if stop:
                    return


def _commit_group(connection: sa.Connection, group: list[_Write[Any]]) -> list[_Result]:
    if len(group) == 1:
        return [_commit_one(connection, group[0])]
    results: list[_Result] = []
    try:
        with _transaction(connection):
            results.extend((write, *_run_savepoint(connection, write.work)) for write in group)
    except Exception as error:  # noqa: BLE001 - the commit itself failed: nobody's work happened, and all are told
        results = [(write, None, error) for write in group]
    return results


def _commit_one(connection: sa.Connection, write: _Write[Any]) -> _Result:
    result, error = None, None
    try:
        with _transaction(connection):
            result = write.work(connection)
    except BaseException as fault:  # noqa: BLE001 - handed to the caller, whose work is undone
        error = fault
    return write, result, error


@contextmanager
def _transaction(connection: sa.Connection) -> Iterator[None]:
    try:
        with connection.begin():
            yield
    finally:
        # A COMMIT that failed (full disk, deferred constraint) leaves SQLite inside the transaction.
        driver: Any = connection.connection.dbapi_connection
        if driver.in_transaction:
            driver.rollback()


def _hand_over(results: list[_Result]) -> None:
    for loop in {write.loop for write, _, _ in results}:
        own = [result for result in results if result[0].loop is loop]
        if not loop.is_closed():
            with suppress(RuntimeError):  # the loop has ended: nobody waits, and the work is done all the same
                loop.call_soon_threadsafe(_deliver, own)


def _run_savepoint(
    connection: sa.Connection, work: Callable[[sa.Connection], T]
) -> tuple[T | None, BaseException | None]:
    driver: Any = connection.connection.dbapi_connection  # asked directly: a tenth of what SQLAlchemy's way takes
    driver.execute("SAVEPOINT one")
    try:
        result = work(connection)
    except BaseException as error:  # noqa: BLE001 - handed to the caller, whose work is undone
        driver.execute("ROLLBACK TO one")
        driver.execute("RELEASE one")
        return None, error
    driver.execute("RELEASE one")
    return result, None


def _deliver(results: list[_Result]) -> None:
    for write, result, error in results:
        if write.done.cancelled():
            continue
        if error is not None:
            write.done.set_exception(error)
        else:
            write.done.set_result(result)


def _prepare(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None
    for pragma in ("journal_mode=WAL", "synchronous=FULL", f"busy_timeout={_WAIT_MS}", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: sa.Connection) -> None:
    if connection.get_execution_options().get("reading", False):
        connection.exec_driver_sql("BEGIN")
        return
    # The engine's threads write to the same file. SQLite's own wait sleeps for longer each time, up to 100 ms.
    driver: Any = connection.connection.dbapi_connection
    driver.execute("PRAGMA busy_timeout=1")
    try:
        _begin_writing(connection, driver)
    finally:
        driver.execute(f"PRAGMA busy_timeout={_WAIT_MS}")


def _begin_writing(connection: sa.Connection, driver: sqlite3.Connection) -> None:
    until = time.monotonic() + _WAIT_MS / 1000
    while time.monotonic() < until:
        try:
            driver.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as busy:
            if busy.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                break
            time.sleep(0.001)  # not every busy answer has waited before it came
        else:
            return
    connection.exec_driver_sql("BEGIN IMMEDIATE")  # once more, for SQLAlchemy's own error
