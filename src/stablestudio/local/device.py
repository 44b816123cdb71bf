"""The device and its queue: one job at a time in a thread, a few that wait, and a brake in each."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from enum import StrEnum

from stablestudio.local.faults import RateLimitExceeded, Refused, ServerError, Stopped

_ADVISED_SECONDS = (1, 120)
_FINISHING = 99  # percent, until the file is there


class State(StrEnum):
    """The protocol's states, and one that gateways add."""

    QUEUED = "queued"
    RUNNING = "in_progress"
    DONE = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Task:
    """One job on its way; what another thread does with it shows here at once."""

    def __init__(self) -> None:
        self.progress = 0  # percent
        self.ended_at: int | None = None  # milliseconds
        self.future: Future[bytes]
        self._stop = threading.Event()

    @property
    def state(self) -> State:
        if self._stop.is_set() or self.future.cancelled():
            return State.CANCELLED
        if self.future.done():
            return State.DONE if self.future.exception() is None else State.FAILED
        return State.RUNNING if self.future.running() else State.QUEUED

    @property
    def fault(self) -> Refused | None:
        """Return why there is no file, None as long as there may be one."""
        if self.state is State.CANCELLED:
            return Stopped()
        if self.state is not State.FAILED:
            return None
        error = self.future.exception()
        return error if isinstance(error, Refused) else ServerError()

    @property
    def data(self) -> bytes | None:
        """Return the file, None where there is none."""
        return self.future.result() if self.state is State.DONE else None

    def step(self, share: float) -> None:
        """Take note of the share that is done, from 0 to 1; raise `Stopped` where the job is wanted no more."""
        if self._stop.is_set():
            raise Stopped
        self.progress = min(_FINISHING, max(self.progress, int(share * 100)))

    def note_end(self, now: int) -> None:
        """Remember when the job ended (ms)."""
        self.ended_at = now

    def cancel(self) -> None:
        """Take the job out of the queue, or stop it after the step that it is at; one that is finished stays."""
        if not self.future.done():
            self._stop.set()
            self.future.cancel()


class Device:
    """Works on one job after the other, in the order in which they came."""

    def __init__(self, *, waiting: int) -> None:
        """`waiting` is how many jobs may stand behind the one that is worked on."""
        self._most = waiting + 1
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="device")
        self._open: list[Task] = []
        self._last_seconds = 5.0

    def put(self, work: Callable[[Task], bytes]) -> Task:
        """Queue work, which calls `step` of its task as it goes on. Raises `RateLimitExceeded`. On one thread only."""
        self._open = [task for task in self._open if not task.future.done()]
        if len(self._open) >= self._most:
            least, most = _ADVISED_SECONDS
            advised = round(min(most, max(least, self._last_seconds)))
            raise RateLimitExceeded(f"{len(self._open)} jobs are open; no more fit in.", retry_after=advised)
        task = Task()
        task.future = self._thread.submit(self._timed, work, task)
        self._open.append(task)
        return task

    def close(self) -> None:
        """Let nothing begin any more and stop what runs after its step."""
        for task in self._open:
            task.cancel()
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _timed(self, work: Callable[[Task], bytes], task: Task) -> bytes:
        began = time.monotonic()
        task.step(0)
        try:
            return work(task)
        finally:
            self._last_seconds = time.monotonic() - began
