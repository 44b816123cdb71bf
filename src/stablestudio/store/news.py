"""News among processes on one PostgreSQL: what one tells once it is committed, the others hear (LISTEN and NOTIFY).

News can be lost, as where a connection breaks: who must not miss a change looks for himself from time to time.
"""

from __future__ import annotations

import queue
import secrets
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeAlias

import psycopg
import sqlalchemy as sa

Connection: TypeAlias = psycopg.Connection[Any]
_CHANNEL = "stablestudio"
_LONGEST = 7_000  # letters of a message; PostgreSQL takes 7,999 bytes
_PATIENCE_SECONDS = 1.0
_FAULTS = (psycopg.Error, sa.exc.SQLAlchemyError)  # a server that goes away right after the login raises the latter


class News:
    """Sends in a thread of its own, beside the commits, which a NOTIFY in each would put in a row; hears in another one."""

    def __init__(self, connect: Callable[[], Connection], hear: Callable[[frozenset[str]], None]) -> None:
        """Take what opens a connection without transactions, and what is called with what others told."""
        self._connect = connect
        self._hear = hear
        self._me = secrets.token_hex(8)
        self._outbox: queue.SimpleQueue[frozenset[str] | None] = queue.SimpleQueue()
        self._is_over = threading.Event()
        self._sender = threading.Thread(target=self._send_all, name="store-tell", daemon=True)
        self._sender.start()
        self._listener: threading.Thread | None = None

    def listen(self) -> None:
        """Begin to hear."""
        if self._listener is None:
            self._listener = threading.Thread(target=self._listen, name="store-hear", daemon=True)
            self._listener.start()

    def send(self, words: frozenset[str]) -> None:
        """Tell the others, soon."""
        self._outbox.put(words)

    def close(self) -> None:
        """Send what is still to be sent, then end."""
        self._is_over.set()
        if self._listener is not None:
            self._outbox.put(frozenset(("",)))  # wakes our own listener
        self._outbox.put(None)
        self._sender.join()
        if self._listener is not None:
            self._listener.join()

    def _send_all(self) -> None:
        connection: Connection | None = None
        while (words := self._outbox.get()) is not None:
            try:
                if connection is None:
                    connection = self._connect()
                    connection.execute("SET synchronous_commit = off")  # nothing is written that could be lost
                for message in _messages(self._me, words):
                    connection.execute("SELECT pg_notify(%s, %s)", (_CHANNEL, message))
            except _FAULTS:
                if connection is not None:
                    connection.close()
                connection = None
        if connection is not None:
            connection.close()

    def _listen(self) -> None:
        while not self._is_over.is_set():
            try:
                with self._connect() as connection:
                    connection.execute(f"LISTEN {_CHANNEL}")
                    self._hear_of(connection)
            except _FAULTS:
                self._is_over.wait(_PATIENCE_SECONDS)

    def _hear_of(self, connection: Connection) -> None:
        while not self._is_over.is_set():
            for message in connection.notifies(timeout=_PATIENCE_SECONDS, stop_after=1):
                sender, *words = message.payload.split(" ")
                if sender != self._me:
                    self._hear(frozenset(words))


def _messages(sender: str, words: Iterable[str]) -> Iterator[str]:
    """Yield messages that hold all the words, none of them longer than PostgreSQL takes."""
    message = sender
    for word in words:
        if len(message) + len(word) >= _LONGEST:
            yield message
            message = sender
        message += f" {word}"
    yield message
