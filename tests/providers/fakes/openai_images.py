"""OpenAI's image endpoints as documented: judged by the published schema, made to order, with scripted trouble."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from tests.media_samples import usual_image
from tests.providers.loopback import Answer, Request, Silence
from tests.providers.schema import problems, schemas

KEY = "sk-test"


def error(status: int, message: str = "no", *, headers: Mapping[str, str] | None = None, **fields: Any) -> Answer:
    """Return an error in OpenAI's shape."""
    body = {"message": message, "type": "invalid_request_error", "param": None, "code": None, **fields}
    return Answer(status=status, json={"error": body}, headers={"x-request-id": "req_err", **(headers or {})})


MODERATED = error(
    400,
    "Your request was rejected by the safety system. safety_violations=[violence].",
    type="image_generation_user_error",
    code="moderation_blocked",
    moderation_details={"moderation_stage": "output", "categories": ["violence"]},
)


class FakeOpenAIImages:
    """Answers from `script` first, then as the vendor does."""

    def __init__(self, *script: Answer | Silence) -> None:
        self.script = list(script)
        self.models = {"gpt-image-2": None, "gpt-image-1.5": "2026-12-01", "gpt-image-1": None}
        self.bodies: list[dict[str, Any]] = []
        self.refused: list[list[str]] = []

    def __call__(self, request: Request) -> Answer | Silence:
        if request.headers.get("authorization") != f"Bearer {KEY}":
            return error(401, "Incorrect API key provided", code="invalid_api_key")
        if self.script:
            return self.script.pop(0)
        if (request.method, request.path) == ("GET", "/v1/models"):
            return self._listed()
        endpoint = request.path.removeprefix("/v1/")
        if request.method != "POST" or endpoint not in ("images/generations", "images/edits"):
            return error(404, f"Invalid URL ({request.method} {request.path})")
        return self._made(endpoint, request)

    def _made(self, endpoint: str, request: Request) -> Answer:
        if not request.headers.get("content-type", "").startswith("application/json"):
            return self._picture({"output_format": "png"})
        body = request.json
        self.bodies.append(body)
        if found := problems(schemas("openai")[endpoint], body):
            self.refused.append(found)
            return error(400, "; ".join(found), code="invalid_value")
        return self._picture(body)

    def _picture(self, body: Mapping[str, Any]) -> Answer:
        data = usual_image(body["output_format"].upper())
        usage = {
            "input_tokens": 50,
            "input_tokens_details": {"image_tokens": 0, "text_tokens": 50},
            "output_tokens": 200,
            "total_tokens": 250,
        }
        document = {
            "created": 1_795_204_441,
            "background": "opaque",
            "data": [{"b64_json": base64.b64encode(data).decode()}],
            "output_format": body["output_format"],
            "quality": "low",
            "size": "1024x1024",
            "usage": usage,
        }
        return Answer(json=document, headers={"x-request-id": "req_ok"})

    def _listed(self) -> Answer:
        data = [
            {"id": name, "object": "model", "created": 1, "owned_by": "openai", "shutdown_date": ends}
            for name, ends in self.models.items()
        ]
        return Answer(json={"object": "list", "data": data})
