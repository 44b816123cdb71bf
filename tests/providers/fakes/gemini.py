"""Gemini's `generateContent` on the loopback: an image of the tier and shape that is asked for, and Google's errors."""

from __future__ import annotations

import base64
import re
from typing import Any

from tests.doubles import png
from tests.providers.loopback import Answer, Request, Silence

KEY = "AIza-test"
_GENERATE = re.compile(r"/v1/models/(?P<model>[a-z0-9.-]+):generateContent")
_TIERS = {"512": 512, "1K": 1024, "2K": 2048, "4K": 4096}
_WITHOUT_512 = "gemini-nano-banana-2.1"


def error(code: int, status: str, message: str, *details: dict[str, Any]) -> Answer:
    """Return an error as Google's servers write it."""
    body = {"error": {"code": code, "message": message, "status": status, "details": list(details)}}
    return Answer(status=code, json=body)


def error_info(reason: str) -> dict[str, Any]:
    return {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason, "domain": "googleapis.com"}


def retry_info(delay: str) -> dict[str, Any]:
    return {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}


BAD_KEY = error(400, "INVALID_ARGUMENT", "API key not valid.", error_info("API_KEY_INVALID"))


def image_answer(data: bytes, kind: str = "image/png", **candidate: Any) -> Answer:
    part = {"inlineData": {"mimeType": kind, "data": base64.b64encode(data).decode()}}
    content = {"role": "model", "parts": [{"text": "Let me see.", "thought": True}, part]}
    return Answer(json={"candidates": [{"content": content, "finishReason": "STOP"} | candidate]})


class FakeGemini:
    """Answers with `instead`, one after the other, and then with what was asked for."""

    def __init__(self, *instead: Answer | Silence) -> None:
        self._instead = list(instead)
        self.bodies: list[dict[str, Any]] = []

    def __call__(self, request: Request) -> Answer | Silence:
        if request.headers.get("x-goog-api-key") != KEY:
            return BAD_KEY
        if (request.method, request.path) == ("GET", "/v1/models"):
            return Answer(json={"models": [{"name": "models/gemini-3-pro-image"}]})
        asked = _GENERATE.fullmatch(request.path)
        if asked is None or request.method != "POST":
            return error(404, "NOT_FOUND", f"{request.path} is not found")
        self.bodies.append(request.json)
        return self._instead.pop(0) if self._instead else self._made(asked["model"], request.json)

    def _made(self, model: str, body: dict[str, Any]) -> Answer:
        config = body["generationConfig"]["imageConfig"]
        if model == _WITHOUT_512 and config["imageSize"] == "512":
            return error(400, "INVALID_ARGUMENT", "image_size 512 is not supported")
        across, down = map(int, config.get("aspectRatio", "1:1").split(":"))
        side = _TIERS[config["imageSize"]] / (across * down) ** 0.5
        return image_answer(png((round(side * across), round(side * down))))
