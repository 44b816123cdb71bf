"""Questions for one row each, asked together: what comes while a query is under way goes into the next one.

Whoever asks alone waits for nobody; of a thousand who ask at once, each costs its row instead of a way to the server and back.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeAlias

Row: TypeAlias = tuple[Any, ...]
_Kind: TypeAlias = tuple[str, float]  # the query, and for how long its askers wait for others
_AT_ONCE = 200
_THREADS = 16
# A connection may be dead for as long as the system believes in it: others must not wait for that.
_MOST_OF_A_KIND, _HELD_UP_SECONDS = 4, 1.0


@dataclass(frozen=True, slots=True)
class _Question:
    key: str
    loop: asyncio.AbstractEventLoop
    answer: asyncio.Future[Row | None]


@dataclass(slots=True)
class _Lane:
    """Those who ask one kind of question, and the threads that are at work on it."""

    waiting: list[_Question] = field(default_factory=list)
    threads: int = 0
    began: float = 0.0  # when a thread took some of them last


class Gathering:
    """Asks with one thread for each kind of question, as long as there are any, and with more where one is held up."""

    def __init__(self, fetch: Callable[[str, Sequence[str]], list[Row]]) -> None:
        """Take what fetches the rows of many keys, the key in front."""
        self._fetch = fetch
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="store-gather")
        self._lock = threading.Lock()
        self._lanes: defaultdict[_Kind, _Lane] = defaultdict(_Lane)
        self._closed = False

    async def find(self, sql: str, key: str, *, patience: float = 0.0) -> Row | None:
        """Return the row of a key, as it is after this call; raise what fetching raises.

        Who has `patience` (seconds) lets others who have as much be asked for with it.
        """
        loop = asyncio.get_running_loop()
        question = _Question(key, loop, loop.create_future())
        self._add((sql, patience), question)
        return await question.answer

    def close(self) -> None:
        """Answer those who wait, and nobody after them."""
        with self._lock:
            self._closed = True
        self._threads.shutdown()

    def _add(self, kind: _Kind, question: _Question) -> None:
        with self._lock:
            if self._closed:
                raise RuntimeError("the database is closed")
            lane, now = self._lanes[kind], time.monotonic()
            if not lane.threads or (lane.threads < _MOST_OF_A_KIND and now - lane.began > _HELD_UP_SECONDS):
                self._threads.submit(self._work, kind)
                lane.threads += 1
                lane.began = now
            lane.waiting.append(question)

    def _work(self, kind: _Kind) -> None:
        sql, patience = kind
        if patience:  # a sleep of nothing lets others have the interpreter first
            time.sleep(patience)
        while some := self._take(kind):
            rows: dict[str, Row] = {}
            error: Exception | None = None
            try:
                rows = {row[0]: row for row in self._fetch(sql, [question.key for question in some])}
            except Exception as fault:  # noqa: BLE001 - handed to those who asked
                error = fault
            for loop in {question.loop for question in some}:
                own = [question for question in some if question.loop is loop]
                with suppress(RuntimeError):  # the loop has ended: nobody waits
                    loop.call_soon_threadsafe(_answer, own, rows, error)
            if patience:
                time.sleep(patience)

    def _take(self, kind: _Kind) -> list[_Question]:
        """Return what is to be asked next; nothing, and the thread is done, where nobody waits."""
        with self._lock:
            lane = self._lanes[kind]
            some, lane.waiting = lane.waiting[:_AT_ONCE], lane.waiting[_AT_ONCE:]
            if some:
                lane.began = time.monotonic()
            else:
                lane.threads -= 1
            return some


def _answer(questions: Sequence[_Question], rows: dict[str, Row], error: Exception | None) -> None:
    for question in questions:
        if question.answer.cancelled():
            continue
        if error is not None:
            question.answer.set_exception(error)
        else:
            question.answer.set_result(rows.get(question.key))
