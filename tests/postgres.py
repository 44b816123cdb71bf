"""A real PostgreSQL for tests: a server of their own in a temporary folder, and a fresh database for whoever asks."""

from __future__ import annotations

import ctypes
import functools
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Self

import psycopg
import pytest
from psycopg import sql

from stablestudio.jobs.engine import prepare
from stablestudio.store import migrate

_READY_SECONDS = 60.0
# Fsync off: these tests kill processes, not machines. A language's collation, because operators' databases have one.
_INIT = ("--no-sync", "--auth=trust", "--username=studio", "--encoding=UTF8")
_LANGUAGE = ("--locale=C.UTF-8", "--locale-provider=icu", "--icu-locale=en-US")
_OPTIONS = {
    "fsync": "off",
    "full_page_writes": "off",
    "listen_addresses": "",
    "max_connections": "300",
    "deadlock_timeout": "50ms",
}
_PR_SET_PDEATHSIG = 1
_EMPTY = """
DO $$ DECLARE each record; BEGIN
    SET LOCAL session_replication_role = replica; -- no foreign keys
    FOR each IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'alembic_version' LOOP
        EXECUTE format('DELETE FROM %I', each.tablename);
    END LOOP;
    FOR each IN SELECT sequencename FROM pg_sequences WHERE schemaname = 'public' LOOP
        EXECUTE format('ALTER SEQUENCE %I RESTART', each.sequencename);
    END LOOP;
END $$
"""


def binaries() -> Path | None:
    """Return the folder of PostgreSQL's programs; Debian keeps them out of PATH."""
    found = shutil.which("initdb")
    places = [Path(found).resolve().parent] if found else []
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda place: int(place.parent.name), reverse=True)
    return next((place for place in places if (place / "initdb").exists()), None)


def require_binaries() -> Path:
    """Return that folder, or skip the test; where PostgreSQL must be there, fail it."""
    found = binaries()
    if found is None and "REQUIRE_POSTGRES" in os.environ:
        pytest.fail("PostgreSQL is not installed")
    if found is None:
        pytest.skip("PostgreSQL is not installed: `apt-get install postgresql` brings it")
    return found


class PostgresServer:
    """A server on a socket in a folder of its own; it ends with the process that started it."""

    def __init__(self, programs: Path) -> None:
        self._programs = programs
        self._numbers = itertools.count()
        self._spare: list[str] = []
        # Not in pytest's folder, which is closed to the user that the server runs as.
        self.folder = Path(tempfile.mkdtemp(prefix="postgres-", dir="/tmp"))  # short: a socket's path has 107 letters
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        data = str(self.folder / "data")
        if os.getuid() == 0:
            shutil.chown(self.folder, _USER)
        self._run("initdb", *_INIT, *_LANGUAGE, "--pgdata", data)
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self) -> None:
        """Start the server and wait until it answers."""
        options = [f"--{name}={value}" for name, value in _OPTIONS.items()]
        command = [str(self._programs / "postgres"), "-D", str(self.folder / "data"), "-k", str(self.folder), *options]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, preexec_fn=_end_with_us, **_as_user())  # noqa: PLW1509 - it asks the kernel for a signal and no more
        deadline = time.monotonic() + _READY_SECONDS
        while time.monotonic() < deadline:
            try:
                return psycopg.connect(self.url("postgres")).close()
            except psycopg.OperationalError:
                time.sleep(0.05)
        raise AssertionError(f"PostgreSQL did not get ready:\n{(self.folder / 'log').read_text()[-4000:]}")

    def stop(self, sent: signal.Signals = signal.SIGINT) -> None:
        """End the server: SIGINT cuts its clients off, SIGQUIT is a crash."""
        if self._process is not None:
            self._process.send_signal(sent)
            self._process.wait()

    def url(self, name: str) -> str:
        return f"postgresql://studio@/{name}?host={self.folder}"

    def create(self, *, template: str = "template1") -> str:
        """Make a database and return its URL."""
        name = f"test_{next(self._numbers)}"
        self._execute("CREATE DATABASE {} TEMPLATE {}", name, template)
        return self.url(name)

    def create_upgraded(self) -> str:
        """Make a database of today's schema, the engine's included, and return its URL."""
        return self.create(template=self._template)

    def lend(self) -> str:
        """Return the URL of an empty database of today's schema, to be given back."""
        return self._spare.pop() if self._spare else self.create_upgraded()

    def take_back(self, url: str) -> None:
        """Empty a database for the next one, which is quicker than another; one that was changed in its shape goes."""
        with psycopg.connect(url) as connection:
            connection.execute("SET lock_timeout = '5s'")
            indexes = connection.execute("SELECT count(*) FROM pg_indexes WHERE schemaname = 'public'").fetchone()
            connection.execute(_EMPTY)
        if indexes == (self._indexes,):
            self._spare.append(url)
        else:
            self.drop(url)

    def drop(self, url: str) -> None:
        self._execute("DROP DATABASE IF EXISTS {} WITH (FORCE)", url.partition("@/")[2].partition("?")[0])

    @functools.cached_property
    def _template(self) -> str:
        migrate.upgrade(self.url("postgres"))
        prepare(self.url("postgres"))
        with psycopg.connect(self.url("postgres")) as connection:
            count = connection.execute("SELECT count(*) FROM pg_indexes WHERE schemaname = 'public'").fetchone()
        self._indexes = count[0] if count else 0
        return "postgres"

    def _execute(self, statement: str, *names: str) -> None:
        with psycopg.connect(self.url("template1"), autocommit=True) as connection:
            connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [self._programs / program, *arguments], capture_output=True, text=True, check=False, **_as_user()
        )
        assert done.returncode == 0, done.stderr


_USER = next((user.pw_name for user in pwd.getpwall() if user.pw_name in ("postgres", "nobody")), "nobody")


def _as_user() -> dict[str, Any]:
    """PostgreSQL refuses to run as root."""
    return {"user": _USER, "group": pwd.getpwnam(_USER).pw_gid, "cwd": "/"} if os.getuid() == 0 else {"cwd": "/"}


def _end_with_us() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGINT)
