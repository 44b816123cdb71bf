"""Run the service: settings in, one process out."""

from __future__ import annotations

import json
import logging
import os
import resource
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import sqlalchemy as sa
import uvicorn

from stablestudio.config import ConfigurationInvalid, Settings, load_settings
from stablestudio.server.house import House
from stablestudio.server.limits import LimitedHttp
from stablestudio.server.storage import folder_of
from stablestudio.store.database import AWAY_HINT, is_away, words_of

log = logging.getLogger(__name__)
_NOT_STARTED = 3  # uvicorn's own exit code
_SPARED_SECONDS = 60.0
_ALIKE = 40  # letters
GAVE_UP = 75  # EX_TEMPFAIL of sysexits.h: the next process may do better
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, event, and the ids that were given."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "event": record.getMessage(),
        }
        line |= {name: value for name, value in vars(record).items() if name not in _STANDARD}
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class Sparing(logging.Filter):
    """Lets lines about connections that begin alike pass once a minute: the engine writes some every second of an outage.

    And none about what waits and is cancelled, as at every stop.
    """

    def __init__(self) -> None:
        super().__init__()
        self._passed: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        text, now = record.getMessage(), time.monotonic()
        if text.startswith("Asyncio task cancelled"):
            return False
        if "psycopg" not in text and "connection" not in text:
            return True
        self._passed = {each: at for each, at in self._passed.items() if now - at < _SPARED_SECONDS}
        return self._passed.setdefault(text[:_ALIKE], now) == now


def serve(
    *, host: str | None = None, port: int | None = None, role: str | None = None, data: Path | None = None
) -> None:
    """Serve until stopped. Arguments go before environment and file."""
    settings = load_settings({"host": host, "port": port, "role": role, "data": data})
    configure_logs(settings.log_level)
    os.umask(0o077)  # books, files and secret are for the user that serves alone
    _allow_connections()
    _require_port(settings)
    try:
        house = House(settings)
    except sa.exc.DBAPIError as error:  # it may go away between any two looks at it
        hint = AWAY_HINT if is_away(error) else None
        raise ConfigurationInvalid(f"database: it cannot be used: {words_of(error)}", hint=hint) from None
    house.on_ready = lambda: print(_welcome(settings, house), file=sys.stderr, flush=True)  # noqa: T201 - for people
    try:
        _run(settings, house)
    except SystemExit:
        if house.app.failure is not None:
            raise house.app.failure from None
        raise


class _Server(uvicorn.Server):
    """uvicorn's server, which waits for open connections at a stop: those that wait for us are answered first."""

    def __init__(self, config: uvicorn.Config, *, let_go: Callable[[], None]) -> None:
        super().__init__(config)
        self._let_go = let_go
        self._gave_up = False

    def give_up(self, reason: str) -> None:
        """Stop as if told to, and end with an exit code by which a supervisor starts the next one."""
        if not self._gave_up:
            log.error("gave_up", extra={"reason": reason, "exit_code": GAVE_UP, "next": "start it again"})
        self._gave_up = self.should_exit = True

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        await super().serve(sockets)
        if self._gave_up:
            sys.stderr.flush()
            os._exit(GAVE_UP)  # threads may wait for the database that is gone; a signal would not wait for them either

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        log.info("draining")
        self._let_go()
        await super().shutdown(sockets)
        log.info("stopped")


def _run(settings: Settings, house: House) -> None:
    config = uvicorn.Config(
        house.app,
        host=settings.host,
        port=settings.port,
        http=LimitedHttp,
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=10,
    )
    server = _Server(config, let_go=house.let_go)
    house.on_giving_up = server.give_up
    with suppress(KeyboardInterrupt):
        server.run()
    if not server.started:
        sys.exit(_NOT_STARTED)


def _allow_connections() -> None:
    """Take as many open files as the system allows: by the usual soft limit a thousand buyers who wait are too many."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):  # as where the hard limit is boundless and the system has another one
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _require_port(settings: Settings) -> None:
    """Find out before anything is opened whether the address is free."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            raise ConfigurationInvalid(
                f"{settings.host} port {settings.port} cannot be listened on: {error.strerror}.",
                hint="Stop what uses it, or choose another with --port.",
            ) from None


def configure_logs(level: str) -> None:
    """Send structured logs to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    # The HTTP clients tell whole addresses, and some hold keys.
    for noisy in ("uvicorn.error", "alembic", "dbos", "httpx", "httpx2", "httpcore", "httpcore2"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    logging.getLogger("dbos").addFilter(Sparing())


def _welcome(settings: Settings, house: House) -> str:
    rails = house.rails
    lines = [f"StableStudio on {settings.origin}"]
    if rails.world == "embedded":
        lines.append("  Embedded world: nothing paid on its ledger chains is real money. They bear test networks' ids.")
        lines.append(f"  Test coins from POST {settings.origin}/faucet.")
    lines.append(f"  Paid on {', '.join(rails.networks)}.")
    lines += [f"  {line}" for line in rails.off]
    if house.providers.vendors:
        lines.append(f"  Made by {', '.join(house.providers.built)}.")
    else:
        lines.append("  Pictures and clips come from a sandbox that marks each of them SANDBOX.")
    lines += [f"  {line}" for line in house.providers.off]
    kept = settings.data if settings.database is None else "PostgreSQL"
    lines.append(f"  Data in {kept}; models at {settings.origin}/api/models")
    lines.append(
        f"  Role {settings.role} at {settings.host}:{settings.port}; database {_database(settings)}; files in {_files(settings)}."
    )
    return "\n".join(lines) + "\n"


def _database(settings: Settings) -> str:
    """Return where the books are, and never who we are there."""
    url = sa.make_url(settings.books)
    if settings.database is None:
        return str(url.database)
    return f"{url.database} at {url.host or url.query.get('host') or 'this machine'}"


def _files(settings: Settings) -> str:
    return str(folder_of(settings) or settings.storage)
