"""Black Forest Labs on the loopback: tasks that are polled where they say, and files that need no key."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tests.doubles import png
from tests.media_samples import USUAL_IMAGE
from tests.providers.loopback import Answer, Request, Silence

KEY = "bfl-test"
_SUBMIT = re.compile(r"/v1/flux-2-(pro|max)")


class FakeBfl:
    """Runs for `running` polls, then is ready, or what `ends` states. `instead` are answers to submissions.

    `home` is where tasks are polled, and `store` where files lie; both are known only once the servers run.
    """

    def __init__(
        self,
        *instead: Answer | Silence,
        running: int = 1,
        ends: Mapping[str, Any] | None = None,
        credit: float = 100.0,
    ) -> None:
        self._instead = list(instead)
        self._running = running
        self._ends = ends
        self._credit = credit
        self.home: str | None = None
        self.store = ""
        self.bodies: dict[str, dict[str, Any]] = {}
        self.polls: list[Answer] = []
        """Answers to polls, before any other."""

    def __call__(self, request: Request) -> Answer | Silence:
        if request.headers.get("x-key") != KEY:
            return Answer(status=403, json={"detail": "Not authenticated - Invalid Authentication"})
        if request.path == "/v1/credits":
            return Answer(json={"credits": self._credit})
        if request.method == "POST" and _SUBMIT.fullmatch(request.path):
            return self._start(request.json)
        if request.path.startswith("/v1/get_result"):
            return self._tell(request.query["id"])
        return Answer(status=404, json={"detail": "Not Found"})

    def _start(self, body: dict[str, Any]) -> Answer | Silence:
        if self._instead:
            return self._instead.pop(0)
        name = f"task-{len(self.bodies) + 1}"
        self.bodies[name] = body
        where = {} if self.home is None else {"polling_url": f"{self.home}/v1/get_result_of_cluster?id={name}"}
        return Answer(json={"id": name, "cost": 3.0, "input_mp": 0.0, "output_mp": 1.0, **where})

    def _tell(self, name: str) -> Answer:
        if self.polls:
            return self.polls.pop(0)
        if name not in self.bodies:
            return Answer(status=404, json={"id": name, "status": "Task not found", "result": None})
        if self._running:
            self._running -= 1
            return Answer(json={"id": name, "status": "Pending", "result": None, "progress": 0.5})
        ready = {"status": "Ready", "result": {"sample": f"{self.store}/{name}.png?sig=abc", "seed": 7}}
        return Answer(json={"id": name, **(ready if self._ends is None else self._ends)})


class FakeStore:
    """Where the vendor's files lie, behind signed links: `answers` first, then an image of any size asked for."""

    def __init__(self, *answers: Answer | Silence, size: tuple[int, int] = USUAL_IMAGE) -> None:
        self._answers = list(answers)
        self._size = size

    def __call__(self, request: Request) -> Answer | Silence:
        if self._answers:
            return self._answers.pop(0)
        return Answer(body=png(self._size), headers={"content-type": "image/png"})
