"""Three vendors on the loopback, in the wire formats of BFL, fal and OpenAI: they record each submission, fail and lie by lot."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import functools
import itertools
import json
import re
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from tests.doubles import png
from tests.providers.loopback import Answer, Request, Silence, serving

from .lots import Lots

Turn = Answer | Silence
SIZE = (1024, 1024)  # at least what any of the orders asks for
PROMPT = "picture {} of many"
DEADLINE_SECONDS = 25.0
TIMEOUT_SECONDS = 5.0
_FINE = "fine"
_SUBMISSION = {
    _FINE: 150,
    "vendor: slow to accept": 8,
    "vendor: accepts after our patience": 2,
    "vendor: reset before accepting": 4,
    "vendor: reset after accepting": 4,
    "vendor: 503 before accepting": 3,
    "vendor: 500 after accepting": 3,
    "vendor: half an answer to a submission": 3,
    "vendor: garbage for an acceptance": 3,
    "vendor: busy (429)": 9,
    "vendor: refuses (422)": 5,
}
_TASK = {
    _FINE: 90,
    "vendor: task fails": 3,
    "vendor: loses a task": 1.5,
    "vendor: task never ends": 1,
    "vendor: result is no picture": 2,
    "vendor: ready, then not, then ready again": 5,
}
_LOOK = {
    _FINE: 120,
    "vendor: 500 to a question": 6,
    "vendor: reset of a question": 4,
    "vendor: garbage for a state": 4,
    "vendor: does not know its task for once": 3,
}
_FILE = {_FINE: 60, "vendor: 500 for a file": 3, "vendor: half a file": 2, "vendor: reset of a file": 2}
_GARBAGE = Answer(body=b"<html>It works!</html>", headers={"content-type": "text/html"})
_BROKEN = Answer(status=500, json={"detail": "oops"})
_UNKNOWN = Answer(status=404, json={"detail": "Not Found", "status": "Task not found", "result": None})
_JUNK = b"this is no picture"
_NUMBER = re.compile(PROMPT.format("(\\d+)"))
_ID = re.compile(r"0*(\d+)-0000-4000-8000-000000000000")


@functools.cache
def picture(order: int) -> bytes:
    """Return the one picture that an order is owed: no two orders have the same."""
    return png(SIZE, f"#{order * 7 % 2**24:06x}")


@dataclass(slots=True, kw_only=True)
class Ask:
    """One submission that a vendor read, and what it did with it."""

    vendor: str
    verdict: Literal["accepted", "refused", "unclear"]
    at: float = field(default_factory=time.monotonic)


@dataclass(slots=True, kw_only=True)
class Task:
    """Work that a vendor accepted."""

    order: int
    fate: str
    looks: int = 0


class Vendors:
    """What all three share: the record, the lots, and how a submission may go wrong."""

    def __init__(self, seed: int) -> None:
        self.lots = Lots(seed, "vendors", _SUBMISSION, _TASK, _LOOK, _FILE, usual=_FINE)
        self.asks: defaultdict[int, list[Ask]] = defaultdict(list)
        self._tasks: dict[int, Task] = {}
        self._numbers = itertools.count(1)
        self.urls: dict[str, str] = {}

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[Mapping[str, str]]:
        """Serve all three; give the settings that name them to a service."""
        async with serving(self._bfl) as bfl, serving(self._fal) as fal, serving(self._openai) as openai:
            self.urls = {"bfl": bfl.url, "fal": fal.url, "openai-images": openai.url}
            yield {
                "STABLESTUDIO_PROVIDERS": json.dumps({kind: self._settings(kind) for kind in self.urls}),
                "STABLESTUDIO_BINDINGS": json.dumps({"default": ["bfl", "openai-images", "fal"]}),
            }

    def _settings(self, kind: str) -> dict[str, Any]:
        return {
            "kind": kind,
            "key": "test",
            "base_url": self.urls[kind] + ("" if kind == "fal" else "/v1"),
            "at_once": 64,
            "timeout_seconds": TIMEOUT_SECONDS,
            "download_seconds": 20,
            "poll_seconds": 0.5,
            "deadline_seconds": DEADLINE_SECONDS,
        }

    def _lot(self, weights: Mapping[str, float]) -> str:
        return self.lots.draw(weights, usual=_FINE).removeprefix("vendor: ")

    async def _submitted(self, vendor: str, order: int, accept: Any) -> Turn:
        """Take a submission, or not, by lot; `accept` makes the answer of an acceptance."""
        lot = self._lot(_SUBMISSION)
        if lot in _NOT_TAKEN:
            verdict, turn = _NOT_TAKEN[lot]
            self.asks[order].append(Ask(vendor=vendor, verdict=verdict))
            return turn
        self.asks[order].append(Ask(vendor=vendor, verdict="accepted"))
        accepted: Answer = accept(self._accept(order))
        if lot == "slow to accept":
            await asyncio.sleep(self.lots.between(0.5, TIMEOUT_SECONDS - 2))
        if lot == "accepts after our patience":
            await asyncio.sleep(TIMEOUT_SECONDS + 12)
        return _ILL_TOLD.get(lot, accepted)

    def _accept(self, order: int) -> int:
        number = next(self._numbers)
        self._tasks[number] = Task(order=order, fate=self._lot(_TASK))
        return number

    def _looked(self, number: int) -> Turn | str:
        """Return how a task stands: an answer that tells nothing, or its state in our words."""
        task = self._tasks[number]
        trouble = _TROUBLES.get(self._lot(_LOOK))
        if trouble is not None:
            return trouble
        if task.fate == "loses a task":
            return _UNKNOWN
        task.looks += 1
        if task.fate == "task never ends" or task.looks == 1:
            return "running"
        if task.fate == "ready, then not, then ready again" and task.looks == 3:
            return "running"
        return "failed" if task.fate == "task fails" else "ready"

    def _file(self, number: int) -> Turn:
        task = self._tasks[number]
        data = _JUNK if task.fate == "result is no picture" else picture(task.order)
        lot = self._lot(_FILE)
        troubles: dict[str, Turn] = {
            "500 for a file": _BROKEN,
            "half a file": Silence.CUT,
            "reset of a file": Silence.RESET,
        }
        return troubles.get(lot, Answer(body=data, headers={"content-type": "image/png"}))

    async def _bfl(self, request: Request) -> Turn:
        if request.method == "POST":
            return await self._submitted("bfl", _order(request), lambda number: Answer(json={"id": str(number)}))
        if request.path.startswith("/v1/files/"):
            return self._file(int(request.path.rpartition("/")[2]))
        number = int(request.query["id"])
        state = self._looked(number)
        match state:
            case "running":
                return Answer(json={"id": str(number), "status": "Pending", "result": None, "progress": 0.5})
            case "failed":
                return Answer(json={"id": str(number), "status": "Error", "result": None})
            case "ready":
                sample = f"{self.urls['bfl']}/v1/files/{number}"
                return Answer(json={"id": str(number), "status": "Ready", "result": {"sample": sample}})
        assert not isinstance(state, str)
        return state

    async def _fal(self, request: Request) -> Turn:
        if request.method == "POST":
            application = request.path.strip("/").split("/")
            return await self._submitted("fal", _order(request), lambda number: self._queued(application, number))
        if request.method == "PUT":
            return Answer(status=202, json={"status": "CANCELLATION_REQUESTED"})
        if request.path.startswith("/files/"):
            return self._file(int(request.path.rpartition("/")[2]))
        found = _ID.search(request.path)
        assert found is not None, request.path
        number = int(found[1])
        if not request.path.endswith("/status"):
            return self._fal_result(number)
        state = self._looked(number)
        match state:
            case "running":
                return Answer(status=202, json={"status": "IN_PROGRESS", "logs": None})
            case "failed":
                return Answer(json={"status": "COMPLETED", "error": "oops", "error_type": "internal_error"})
            case "ready":
                return Answer(json={"status": "COMPLETED", "logs": None})
        assert not isinstance(state, str)
        return state

    def _queued(self, application: list[str], number: int) -> Answer:
        name = f"{number:08d}-0000-4000-8000-000000000000"
        place = f"{self.urls['fal']}/{'/'.join(application[:2])}/requests/{name}"
        urls = {"response_url": place, "status_url": f"{place}/status", "cancel_url": f"{place}/cancel"}
        return Answer(json={"status": "IN_QUEUE", "request_id": name, **urls})

    def _fal_result(self, number: int) -> Answer:
        file = {"url": f"{self.urls['fal']}/files/{number}", "content_type": "image/png"}
        return Answer(json={"images": [file], "seed": 1}, headers={"x-fal-request-id": "r"})

    async def _openai(self, request: Request) -> Turn:
        if request.method != "POST":
            return _UNKNOWN
        await asyncio.sleep(self.lots.between(0.0, 1.0))  # it answers with the picture itself
        return await self._submitted("openai-images", _order(request), self._drawn)

    def _drawn(self, number: int) -> Answer:
        task = self._tasks[number]
        data = _JUNK if task.fate == "result is no picture" else picture(task.order)
        image = {"b64_json": base64.b64encode(data).decode()}
        return Answer(json={"created": 1, "data": [image], "output_format": "png"}, headers={"x-request-id": "r"})


_NOT_TAKEN: Mapping[str, tuple[Literal["refused", "unclear"], Turn]] = {
    "reset before accepting": ("unclear", Silence.RESET),
    "503 before accepting": ("unclear", Answer(status=503, json={"detail": "overloaded"})),
    "busy (429)": ("refused", Answer(status=429, json={"detail": "slow down"}, headers={"retry-after": "1"})),
    "refuses (422)": ("refused", Answer(status=422, json={"detail": "not like this"})),
}
_ILL_TOLD: Mapping[str, Turn] = {
    "reset after accepting": Silence.RESET,
    "500 after accepting": _BROKEN,
    "half an answer to a submission": Silence.CUT,
    "garbage for an acceptance": _GARBAGE,
}
_TROUBLES: Mapping[str, Turn] = {
    "500 to a question": _BROKEN,
    "reset of a question": Silence.RESET,
    "garbage for a state": _GARBAGE,
    "does not know its task for once": _UNKNOWN,
}


def _order(request: Request) -> int:
    found = _NUMBER.search(str(request.json["prompt"]))
    assert found is not None, request.json
    return int(found[1])
