"""The one place of something among processes that share a PostgreSQL: the session's advisory lock on its name."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import sqlalchemy as sa

from stablestudio.store.migrate import bare_engine

_NAME = sa.text("SELECT set_config('application_name', :holder, false)")
_TAKE = sa.text("SELECT pg_try_advisory_lock(hashtextextended(:name, 1))")
_SEND_AWAY = sa.text(
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = ANY(:holders)"
    " AND datname = current_database() AND usename = current_user"
)


class Place:
    """Held by a connection of its own: who is killed leaves it at that moment, whose machine is gone within a minute."""

    def __init__(self, url: str, name: str, *, holder: str = "") -> None:
        """Take the place's name and the holder's, by which `send_away` finds it."""
        self._engine = bare_engine(url).execution_options(isolation_level="AUTOCOMMIT")
        self._name = name
        self._holder = holder
        self._session: sa.Connection | None = None
        self._lock = threading.Lock()  # who gives it back does so after what another thread is doing with it

    @property
    def taken(self) -> bool:
        return self._session is not None

    def take(self) -> bool:
        """Take the place if it is free; a database that cannot be reached has none."""
        with self._lock:
            return self._take()

    def _take(self) -> bool:
        try:
            session = self._engine.connect()
            session.execute(_NAME, {"holder": self._holder})
            if session.execute(_TAKE, {"name": self._name}).scalar():
                self._session = session
                return True
            session.close()
        except sa.exc.DBAPIError:
            pass
        return False

    def keep(self) -> bool:
        """Tell whether the place is still ours: after a lost connection, whether it could be taken once more."""
        with self._lock:
            try:
                assert self._session is not None, "take() comes first"
                self._session.execute(sa.text("SELECT 1"))
            except sa.exc.DBAPIError:
                self._session = None
                return self._take()
            return True

    def give_back(self) -> None:
        """Let the next one have it."""
        with self._lock:
            if self._session is not None:
                self._session.close()
                self._session = None


def send_away(connection: sa.Connection, holders: Sequence[str]) -> None:
    """End the sessions of these holders' places: who is frozen would keep them for ever."""
    connection.execute(_SEND_AWAY, {"holders": list(holders)})
