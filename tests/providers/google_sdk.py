"""Google's own SDK as a second opinion: what it sends for the same wish, and how it reads the same answers."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx2
from google import genai
from google.genai import types
from google.oauth2.credentials import Credentials


@dataclass(frozen=True, kw_only=True)
class Sent:
    method: str
    path: str
    body: Any


class Recorder:
    """Clients of the SDK whose requests are kept and answered with `answer`."""

    def __init__(self) -> None:
        self.answer: Mapping[str, Any] = {}
        self.sent: list[Sent] = []
        client = httpx2.Client(transport=httpx2.MockTransport(self._receive))
        options = types.HttpOptions(base_url="http://127.0.0.1:9", httpx_client=client)
        self.developer = genai.Client(api_key="k", http_options=options)
        self.vertex = genai.Client(
            vertexai=True,
            project="studio",
            location="us-central1",
            credentials=Credentials("token"),  # type: ignore[no-untyped-call] # not annotated
            http_options=options,
        )

    def _receive(self, request: httpx2.Request) -> httpx2.Response:
        body = json.loads(request.content) if request.content else None
        self.sent.append(Sent(method=request.method, path=request.url.path, body=body))
        return httpx2.Response(200, json=dict(self.answer))


def plain(value: Any) -> Any:
    """Return JSON with keys in camel case and base64 in its usual alphabet: the SDK mixes both, the vendor takes both."""
    if isinstance(value, dict):
        return {_camel(key): _usual(each) if key == "data" else plain(each) for key, each in value.items()}
    return [plain(each) for each in value] if isinstance(value, list) else value


def _camel(key: str) -> str:
    return re.sub(r"_([a-z])", lambda found: found[1].upper(), key)


def _usual(base64: str) -> str:
    return base64.replace("-", "+").replace("_", "/")
