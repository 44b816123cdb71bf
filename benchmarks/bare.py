"""A bare ASGI app that reads the request and answers bytes recorded from the service: what the HTTP server alone can do."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

from benchmarks.load import Answer

_Message = MutableMapping[str, Any]
_SERVERS_OWN = {b"connection", b"date", b"keep-alive", b"server", b"transfer-encoding"}
ANSWER = "STABLESTUDIO_BENCHMARK_ANSWER"


def record(answer: Answer, *, to: Path) -> None:
    """Write the answer for `app` to repeat, without what the HTTP server adds by itself."""
    pairs = [line.split(b":", 1) for line in answer.head.split(b"\r\n")[1:]]
    headers = [
        (name.lower().decode(), value.strip().decode()) for name, value in pairs if name.lower() not in _SERVERS_OWN
    ]
    body = base64.b64encode(answer.body).decode()
    to.write_text(json.dumps({"status": answer.status, "headers": headers, "body": body}))


def _messages() -> tuple[_Message, _Message]:
    path = os.environ.get(ANSWER)
    recorded: dict[str, Any] = (
        json.loads(Path(path).read_text()) if path else {"status": 404, "headers": [], "body": ""}
    )
    headers = [(name.encode(), value.encode()) for name, value in recorded["headers"]]
    return (
        {"type": "http.response.start", "status": recorded["status"], "headers": headers},
        {"type": "http.response.body", "body": base64.b64decode(recorded["body"])},
    )


_start, _body = _messages()


async def app(
    _scope: _Message, receive: Callable[[], Awaitable[_Message]], send: Callable[[_Message], Awaitable[None]]
) -> None:
    """Read the request, then answer what was recorded."""
    while (await receive()).get("more_body"):
        pass
    await send(_start)
    await send(_body)
