"""Whether this process can sell at the moment: its folders have room, and its database answers. Looked at beside the requests."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import Any

from stablestudio.loops import every
from stablestudio.media.room import Room
from stablestudio.payments.errors import StoreUnavailable
from stablestudio.store.database import Database

log = logging.getLogger(__name__)
_INTERVAL = 1.0
_PATIENCE = 10.0  # seconds; who answers later cannot sell
_LOOK = "SELECT version_num FROM alembic_version"


class Readiness:
    """Knows whether this process can sell, as of a moment ago. A log line tells when the database goes, and when it is back."""

    def __init__(self, room: Room, database: Database) -> None:
        self._room = room
        self._database = database
        self._asked: asyncio.Future[Any] | None = None
        self._is_away = False

    @property
    def problem(self) -> str | None:
        """Return why nothing is sold, in words for anyone; None where all is well."""
        if self._is_away:
            return "the database does not answer"
        return None if self._room.problem is None else "there is no room to keep files"

    def require(self) -> None:
        """Raise `StoreUnavailable` or `NoRoom` where nothing may be sold."""
        if self._is_away:
            raise StoreUnavailable
        self._room.require()

    async def run(self) -> None:
        """Look until cancelled."""
        await every(_INTERVAL, self.look, name="readiness")

    async def look(self) -> None:
        """Look once. One that was not answered is waited for again, so that there is never a second one behind it."""
        if self._asked is None:
            self._asked = asyncio.ensure_future(self._database.look(partial(self._database.fetch, _LOOK)))
        await asyncio.wait((self._asked,), timeout=_PATIENCE)
        fault: BaseException | None = TimeoutError("no answer")
        if self._asked.done():
            fault, self._asked = self._asked.exception(), None
        if fault is not None and not self._is_away:
            log.error("database_away", extra={"detail": str(fault)})
        elif fault is None and self._is_away:
            log.warning("database_back")
        self._is_away = fault is not None
