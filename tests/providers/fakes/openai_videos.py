"""The video endpoints that gateways copied from OpenAI: tasks that pass through the documented states."""

from __future__ import annotations

import base64
import io
from typing import Any

from PIL import Image

from tests.media_samples import usual_clip
from tests.providers.fakes.openai_images import KEY, error
from tests.providers.forms import parts
from tests.providers.loopback import Answer, Request, Silence
from tests.providers.schema import problems, schemas


class FakeOpenAIVideos:
    """Answers from `script` first, then as the vendor does; `outcome` is how tasks end."""

    def __init__(self, *script: Answer | Silence, outcome: dict[str, Any] | None = None) -> None:
        self.script = list(script)
        self.outcome = outcome or {"status": "completed", "progress": 100}
        self.tasks: dict[str, dict[str, Any]] = {}
        self.asked: dict[str, int] = {}
        self.bodies: list[dict[str, Any]] = []
        self.content: Answer | Silence = Answer(body=usual_clip(), headers={"content-type": "video/mp4"})

    def __call__(self, request: Request) -> Answer | Silence:
        if request.headers.get("authorization") != f"Bearer {KEY}":
            return error(401, "Incorrect API key provided", code="invalid_api_key")
        if self.script:
            return self.script.pop(0)
        match (request.method, request.path.removeprefix("/v1/").split("/")):
            case ("GET", ["models"]):
                return Answer(json={"object": "list", "data": [{"id": "sora-2"}]})
            case ("POST", ["videos"]):
                return self._created(_read(request))
            case ("GET", ["videos", task]) if task in self.tasks:
                return self._state(task)
            case ("GET", ["videos", task, "content"]) if task in self.tasks:
                return self.content
        return error(404, "Video not found")

    def _created(self, body: dict[str, Any]) -> Answer:
        self.bodies.append(body)
        if found := problems(schemas("openai")["videos"], body):
            return error(400, "; ".join(found), code="invalid_value")
        if (frame := body.get("input_reference")) and _size(frame["image_url"]) != body["size"]:
            return error(400, "Inpaint image must match the requested width and height", param="input_reference")
        task = f"video_{len(self.tasks) + 1}"
        self.tasks[task] = {
            "id": task,
            "object": "video",
            "model": body["model"],
            "status": "queued",
            "progress": 0,
            "created_at": 1_795_204_441,
            "completed_at": None,
            "expires_at": None,
            "prompt": body["prompt"],
            "size": body["size"],
            "seconds": body["seconds"],
            "remixed_from_video_id": None,
            "error": None,
        }
        return Answer(json=self.tasks[task])

    def _state(self, task: str) -> Answer:
        steps: list[dict[str, Any]] = [{"status": "queued"}, {"status": "in_progress", "progress": 45}, self.outcome]
        turn = self.asked.get(task, 0)
        self.asked[task] = turn + 1
        self.tasks[task] |= steps[min(turn, len(steps) - 1)]
        return Answer(json=self.tasks[task])


def _read(request: Request) -> dict[str, Any]:
    """Read an order as JSON or as a form."""
    content_type = request.headers["content-type"]
    if content_type == "application/json":
        body: dict[str, Any] = request.json
        return body
    found: dict[str, Any] = {}
    for name, file, kind, data in parts(request.body, content_type):
        image = {"image_url": f"data:{kind};base64,{base64.b64encode(data).decode()}"}
        found[name] = data.decode() if file is None else image
    return found


def _size(url: str) -> str:
    data = base64.b64decode(url.partition(",")[2])
    return "x".join(map(str, Image.open(io.BytesIO(data)).size))
