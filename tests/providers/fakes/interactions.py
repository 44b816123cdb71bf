"""Google's Interactions API and its files on the loopback, with every state that an interaction may come to."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from tests.doubles import png
from tests.media_samples import usual_clip
from tests.providers.fakes.gemini import BAD_KEY, KEY, error
from tests.providers.loopback import Answer, Request, Silence

_INTERACTION = re.compile(r"/v1/interactions/(?P<id>[^/]+)(?P<verb>/cancel)?")
_FILE = re.compile(r"/v1/files/(?P<id>[^/:]+)(?P<verb>:download)?")
_UNKNOWN = error(400, "INVALID_ARGUMENT", "Invalid interaction name.")
INLINE_SIDE = 1024


@cache
def sample_clip() -> bytes:
    return usual_clip()


class FakeInteractions:
    """Runs for `running` polls, then is `ends` (completed with a file if not told otherwise); the file is late too.

    `instead` are answers to submissions.
    """

    def __init__(
        self,
        *instead: Answer | Silence,
        running: int = 1,
        ends: Mapping[str, Any] | None = None,
        file_states: tuple[str, ...] = ("PROCESSING", "ACTIVE"),
        inline: bool = False,
    ) -> None:
        self._instead = list(instead)
        self._running = running
        self._ends = ends
        self._file_states = list(file_states)
        self._inline = inline
        self.bodies: dict[str, dict[str, Any]] = {}
        self.cancelled: set[str] = set()
        self.polls: list[Answer] = []
        """Answers to polls, before any other."""
        self.file: Answer | None = None
        """The answer to a download, in place of the file."""

    def __call__(self, request: Request) -> Answer | Silence:
        if request.headers.get("x-goog-api-key") != KEY:
            return BAD_KEY
        if request.path == "/v1/models":
            return Answer(json={"models": []})
        if (request.method, request.path) == ("POST", "/v1/interactions"):
            return self._create(request.json)
        if found := _INTERACTION.fullmatch(request.path):
            return self._about(request.method, found["id"], cancel=bool(found["verb"]))
        if found := _FILE.fullmatch(request.path):
            return self._file(download=bool(found["verb"]), query=request.query)
        return error(404, "NOT_FOUND", f"{request.path} is not found")

    def _create(self, body: dict[str, Any]) -> Answer | Silence:
        if self._instead:
            return self._instead.pop(0)
        name = f"v1_{len(self.bodies) + 1}"
        self.bodies[name] = body
        return Answer(json=self._told(name, "queued"))

    def _about(self, method: str, name: str, *, cancel: bool) -> Answer:
        if method == "GET" and self.polls:
            return self.polls.pop(0)
        if name not in self.bodies:
            return _UNKNOWN
        if cancel:
            self.cancelled.add(name)
            return Answer(json=self._told(name, "cancelled"))
        if self._running:
            self._running -= 1
            return Answer(json=self._told(name, "in_progress"))
        return Answer(json={**self._told(name, "completed", self._made(name)), **(self._ends or {})})

    def _told(self, name: str, status: str, *made: dict[str, Any]) -> dict[str, Any]:
        """Return an interaction, whose steps begin with the buyer's own."""
        steps = [*self.bodies[name]["input"], {"type": "thought", "signature": "aGk="}]
        steps += [{"type": "model_output", "content": list(made)}] if made else []
        return {"id": name, "status": status, "object": "interaction", "model": "m", "steps": steps}

    def _made(self, name: str) -> dict[str, Any]:
        is_clip = self.bodies[name]["response_format"]["type"] == "video"
        kind, data = ("video", sample_clip()) if is_clip else ("image", png((INLINE_SIDE, INLINE_SIDE)))
        content = {"type": kind, "mime_type": f"{kind}/{'mp4' if is_clip else 'png'}"}
        if self._inline or not is_clip:
            return content | {"data": base64.b64encode(data).decode()}
        return content | {"uri": "https://generativelanguage.googleapis.com/v1beta/files/f-1:download?alt=media"}

    def _file(self, *, download: bool, query: Mapping[str, str]) -> Answer:
        if not download:
            state = self._file_states.pop(0) if len(self._file_states) > 1 else self._file_states[0]
            return Answer(json={"name": "files/f-1", "state": state})
        if query.get("alt") != "media":
            return Answer(json={"name": "files/f-1"})
        return self.file or Answer(body=sample_clip(), headers={"content-type": "video/mp4"})
