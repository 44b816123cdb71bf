"""Orders on disk: written before their payment is sent, so that the next process continues instead of paying again."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import pydantic

from stablestudio.client.orders import Order


class Journal:
    """One file per order in a folder of the buyer's; a file goes when its order has come to its end."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, order: Order) -> None:
        """Keep the order durably: it is on the disk when this returns, whole or in its former state."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._path(order.key)
        draft = path.with_suffix(f".{os.getpid()}.draft")
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(order.model_dump_json(indent=1))
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
        self._sync_folder()

    def discard(self, key: str) -> None:
        """Forget an order that has come to its end."""
        self._path(key).unlink(missing_ok=True)
        self._path(key).with_suffix(".lock").unlink(missing_ok=True)

    def orders(self) -> list[Order]:
        """Return the orders that have not come to their end, oldest first; a file that is no order is left alone."""
        found = [order for path in self._folder.glob("*.json") if (order := _read(path))]
        return sorted(found, key=lambda order: (order.created_at, order.key))

    def find(self, key: str) -> Order | None:
        """Return an order as it stands now."""
        return _read(self._path(key))

    def of_job(self, job_id: str) -> Order | None:
        """Return the order that bought a job, while it is kept."""
        return next((order for order in self.orders() if order.job_id == job_id), None)

    @contextlib.contextmanager
    def hold(self, key: str) -> Iterator[bool]:
        """Yield whether this order is ours to work on; False while another thread or process does. A crash lets go."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(self._path(key).with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            yield _try_lock(lock)
        finally:
            os.close(lock)

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}.json"

    def _sync_folder(self) -> None:
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _read(path: Path) -> Order | None:
    try:
        return Order.model_validate_json(path.read_bytes())
    except (pydantic.ValidationError, OSError):
        return None


def _try_lock(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
