"""A process that has imported the service and forks it on demand: kill tests start dozens, and imports are most of a start.

Run as a module it takes one JSON object a line and answers with one: `{"spawn": {...}}` with a pid, `{"poll": pid}` with
the exit status that `subprocess` would give, or null. `Zygote` is the other end of that pipe.
"""

from __future__ import annotations

import json
import mmap
import os
import signal
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from tests.service import Process, Service

from .audit import audit


class Zygote:
    """Starts services without importing anything anew; they end with it."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "tests.chaos.zygote"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._lock = threading.Lock()

    def ask(self, question: dict[str, Any]) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._lock:
            self._process.stdin.write(json.dumps(question) + "\n")
            self._process.stdin.flush()
            return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()


class _Forked:
    """A forked service, with the methods of a `subprocess.Popen`."""

    def __init__(self, zygote: Zygote, pid: int) -> None:
        self.pid = pid
        self._zygote = zygote
        self._status: int | None = None

    def poll(self) -> int | None:
        if self._status is None:
            self._status = self._zygote.ask({"poll": self.pid})
        return self._status

    def wait(self, timeout: float | None = None) -> int:
        deadline = time.monotonic() + (timeout or 3600.0)
        while (status := self.poll()) is None:
            if time.monotonic() > deadline:
                raise TimeoutError(f"process {self.pid} still runs")
            time.sleep(0.005)
        return status

    def send_signal(self, sig: int) -> None:
        os.kill(self.pid, sig)


class ForkedService(Service):
    """The real service, forked by a zygote instead of imported anew."""

    def __init__(self, data: Path, *, zygote: Zygote, environment: dict[str, str] | None = None) -> None:
        super().__init__(data, environment=environment)
        self._zygote = zygote

    def __exit__(self, *_: object) -> None:
        self.kill()

    def wait_for_rest(self, seconds: float = 30.0) -> None:
        """Wait until the books show nothing under way: the engine's own last line follows the job's."""
        deadline = time.monotonic() + seconds
        while (open_ends := audit(self.database)) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not open_ends, open_ends

    def _spawn(self, environment: dict[str, str]) -> Process:
        order = {"arguments": self.arguments, "environment": environment, "log": str(self.log)}
        return _Forked(self._zygote, int(self._zygote.ask({"spawn": order})))


def _spawn(order: dict[str, Any]) -> int:
    child = os.fork()
    if child:
        return child
    quiet = os.open(os.devnull, os.O_RDONLY)
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for target, source in enumerate((quiet, log, log)):
        os.dup2(source, target)
    os.environ.clear()
    os.environ.update(order["environment"])
    from stablestudio import cli, failpoints

    failpoints._ARMED, _, failpoints._HOW = os.environ.get("STABLESTUDIO_FAILPOINT", "").partition("=")
    if "HASTE" in os.environ:
        _hasten()
    if "CLOCK" in os.environ:
        _bend_clock(Path(os.environ["CLOCK"]))
    cli.main(order["arguments"], prog_name="stablestudio")  # ends in SystemExit, as the command does
    raise AssertionError("unreachable")


def _hasten() -> None:
    """Let the loops that mend things look often and early; minutes would pass else."""
    from stablestudio.jobs import sweep
    from stablestudio.sales import reconcile

    sweep._INTERVAL = reconcile._INTERVAL = 0.2
    for mender in (sweep.Sweep, reconcile.Reconciler):
        mender.work_once.__kwdefaults__ = {"quiet_ms": 1_000}


def _bend_clock(place: Path) -> None:
    """Let the clock go wrong by as many milliseconds as a file says at each moment."""
    from stablestudio.clock import SystemClock

    with place.open("rb") as file:
        wrong_by = mmap.mmap(file.fileno(), 8, access=mmap.ACCESS_READ)
    right = SystemClock.now_ms
    SystemClock.now_ms = lambda self: right(self) + struct.unpack("q", wrong_by)[0]  # type: ignore[method-assign]


def _poll(pid: int) -> int | None:
    done, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if done else None


def main() -> None:
    import stablestudio.cli.serve  # noqa: F401 - so that children need not

    assert threading.active_count() == 1, "only a process of one thread can be forked"
    children: set[int] = set()
    for line in sys.stdin:
        question = json.loads(line)
        answer = _spawn(question["spawn"]) if "spawn" in question else _poll(question["poll"])
        if "poll" not in question and answer is not None:
            children.add(answer)
        elif answer is not None:
            children.remove(question["poll"])
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
    for child in children:  # whoever asked for them is gone
        os.kill(child, signal.SIGKILL)


if __name__ == "__main__":
    main()
