"""Vertex AI's Veo on the loopback, with Google's sign-in: operations that end with a clip inside the answer."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from Crypto.PublicKey import RSA

from tests.media_samples import usual_clip
from tests.providers.fakes.gemini import error
from tests.providers.loopback import Answer, Request, Silence

PROJECT, LOCATION = "studio", "us-central1"
HOME = f"/v1beta1/projects/{PROJECT}/locations/{LOCATION}/publishers/google/models"
_ASKED = re.compile(rf"{HOME}/(?P<model>[a-z0-9.-]+):(?P<verb>predictLongRunning|fetchPredictOperation)")
UNAUTHENTICATED = error(401, "UNAUTHENTICATED", "Request had invalid authentication credentials.")


@cache
def key_file() -> str:
    """Return a service account's key file."""
    key = RSA.generate(2048).export_key(pkcs=8).decode()
    return json.dumps(
        {"client_email": "studio@example.iam.gserviceaccount.com", "private_key": key, "project_id": PROJECT}
    )


@cache
def sample_clip() -> bytes:
    return usual_clip()


class FakeVertex:
    """Runs for `running` polls, then answers with a clip, or with what `ends` states.

    `instead` are answers to submissions. Each token that it issues is the only good one.
    """

    def __init__(
        self, *instead: Answer | Silence, running: int = 1, ends: Mapping[str, Any] | None = None, model: str = ""
    ) -> None:
        self._instead = list(instead)
        self._running = running
        self._ends = ends
        self._model = model
        self.bodies: dict[str, dict[str, Any]] = {}
        self.tokens = 0
        self.polls: list[Answer] = []
        """Answers to polls, before any other."""
        self.sign_in: Answer | None = None
        """The answer to a sign-in, in place of a token."""

    def __call__(self, request: Request) -> Answer | Silence:
        if request.path == "/token":
            return self._issue()
        if request.headers.get("authorization") != f"Bearer ya29.{self.tokens}":
            return UNAUTHENTICATED
        asked = _ASKED.fullmatch(request.path)
        if asked is None or (self._model and asked["model"] != self._model):
            return error(404, "NOT_FOUND", f"Publisher Model {request.path} was not found")
        if asked["verb"] == "fetchPredictOperation":
            return self._tell(request.json["operationName"])
        return self._start(asked["model"], request.json)

    def _issue(self) -> Answer:
        if self.sign_in is not None:
            return self.sign_in
        self.tokens += 1
        return Answer(json={"access_token": f"ya29.{self.tokens}", "expires_in": 3599, "token_type": "Bearer"})

    def _start(self, model: str, body: dict[str, Any]) -> Answer | Silence:
        if self._instead:
            return self._instead.pop(0)
        name = f"{HOME.removeprefix('/v1beta1/')}/{model}/operations/{len(self.bodies) + 1}"
        self.bodies[name] = body
        return Answer(json={"name": name})

    def _tell(self, name: str) -> Answer:
        if self.polls:
            return self.polls.pop(0)
        if name not in self.bodies:
            return error(404, "NOT_FOUND", "The operation was not found.")
        if self._running:
            self._running -= 1
            return Answer(json={"name": name})
        video = {"bytesBase64Encoded": base64.b64encode(sample_clip()).decode(), "mimeType": "video/mp4"}
        ends = {"response": {"videos": [video]}} if self._ends is None else self._ends
        return Answer(json={"name": name, "done": True, **ends})
