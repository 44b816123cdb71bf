"""xAI's image and video endpoints: refusals as HTTP 200, tasks that answer 202 with nothing, results that expire."""

from __future__ import annotations

import base64
from typing import Any

from tests.media_samples import usual_clip, usual_image
from tests.providers.loopback import Answer, Request, Silence
from tests.providers.schema import problems, schemas

KEY = "xai-test"
_MODELS = {
    "image": [{"id": "grok-imagine-image", "aliases": ["grok-imagine-image-latest"]}],
    "video": [{"id": "grok-imagine-video", "aliases": []}],
}


def error(status: int, message: str, *, code: str = "Client specified an invalid argument") -> Answer:
    """Return an error in the shape that xAI uses most: a code beside a text."""
    return Answer(status=status, json={"code": code, "error": message}, headers={"x-request-id": "req_err"})


class FakeXai:
    """Answers from `script` first, then as the vendor does; `states` are the answers about a clip, the last for ever."""

    def __init__(self, *script: Answer | Silence) -> None:
        self.script = list(script)
        self.picture: dict[str, Any] = {"b64_json": base64.b64encode(usual_image("JPEG")).decode()}
        self.states: list[Answer | Silence] = [
            Answer(status=202),
            Answer(status=202, json={"status": "pending", "progress": 40}),
        ]
        self.content: Answer | Silence = Answer(body=usual_clip(), headers={"content-type": "video/mp4"})
        self.done: dict[str, Any] = {}
        self.bodies: list[dict[str, Any]] = []
        self._turn = 0

    def __call__(self, request: Request) -> Answer | Silence:
        if request.path == "/files/clip.mp4":
            return self.content
        if request.headers.get("authorization") != f"Bearer {KEY}":
            return error(400, "Incorrect API key provided: xa***st. You can obtain an API key from the console.")
        if self.script:
            return self.script.pop(0)
        match (request.method, request.path.removeprefix("/v1/").split("/")):
            case ("GET", ["image-generation-models" | "video-generation-models" as listed]):
                return Answer(json={"models": _MODELS[listed.partition("-")[0]]})
            case ("POST", ["images" | "videos" as kind, verb]):
                return self._taken(f"{kind}/{verb}", request.json)
            case ("GET", ["videos", "req-1"]):
                return self._state(request)
        return error(404, "Not found", code="Some requested entity was not found")

    def _taken(self, endpoint: str, body: dict[str, Any]) -> Answer:
        self.bodies.append(body)
        fields = schemas("xai").get(endpoint)
        if fields is None:
            return error(404, "Not found")
        if found := problems(fields, body):
            return error(400, "; ".join(found))
        if endpoint == "videos/generations":
            return Answer(json={"request_id": "req-1"})
        picture = self.picture | {"revised_prompt": body["prompt"]}
        return Answer(json={"data": [picture], "usage": {"cost_in_usd_ticks": 200_000_000}})

    def _state(self, request: Request) -> Answer | Silence:
        turn = self._turn
        self._turn += 1
        if turn < len(self.states):
            return self.states[turn]
        if self.done:
            return Answer(json=self.done)
        url = f"http://{request.headers['host']}/files/clip.mp4"
        video = {"url": url, "duration": 6, "respect_moderation": True}
        return Answer(json={"status": "done", "video": video, "model": "grok-imagine-video", "progress": 100})
