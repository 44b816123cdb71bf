"""HTTP/1.1 written by hand, as wrong as one likes, and answers read strictly: their framing and the shape of errors."""

from __future__ import annotations

import http.client
import json
import re
import socket
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

HeaderLines = Sequence[tuple[bytes, bytes]]

SECONDS = 20.0
# What the HTTP server itself says to bytes that are no HTTP, before the application sees anything.
NOT_HTTP = (400, b"Invalid HTTP request received.")
SHAPE = {"success", "error", "code", "status", "hint", "retryable", "charged", "docs"}
SIGN_IN = {"x402Version", "resource", "accepts", "extensions"}
_CODE = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
_LEAKS = ("Traceback", 'File "', "site-packages", "/src/", "sqlite", "SELECT ", sys.prefix)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A whole answer."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    def json(self) -> Any:
        return json.loads(self.body, parse_constant=_no_constant, object_pairs_hook=_unique)


def request(method: str, path: str, *, headers: HeaderLines = (), body: bytes = b"") -> bytes:
    """Write a request whose framing is right, whatever its parts are."""
    lines = [(b"host", b"127.0.0.1"), (b"connection", b"close"), (b"content-length", b"%d" % len(body)), *headers]
    head = b"".join(name + b": " + value + b"\r\n" for name, value in lines)
    return f"{method} {path} HTTP/1.1\r\n".encode() + head + b"\r\n" + body


def exchange(port: int, data: bytes, *, method: str = "GET", cut: bool = False) -> Answer | None:
    """Send bytes and read one answer; None where the server closed without any. `cut` ends our side after the bytes.

    Raises `http.client.HTTPException` for an answer that is no HTTP, and `TimeoutError` where none comes.
    """
    with socket.create_connection(("127.0.0.1", port), timeout=SECONDS) as connection:
        # Refused half-way through, we may find the refusal all the same.
        with suppress(ConnectionError):
            connection.sendall(data)
        if cut:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_WR)
        try:
            with http.client.HTTPResponse(connection, method=method) as answer:
                answer.begin()
                return Answer(status=answer.status, headers=answer.getheaders(), body=answer.read())
        except ConnectionError:  # also http.client.RemoteDisconnected
            return None


def check_error(answer: Answer, *, secrets: Iterable[str] = ()) -> dict[str, Any]:
    """Assert that an answer is an error in the shape of contract section 6 and gives nothing away; return its body."""
    assert answer.header("content-type") == "application/json", answer
    check_discreet(answer, secrets=secrets)
    body: dict[str, Any] = answer.json()
    optional = {"issues", "requestId"} | (SIGN_IN if str(body.get("code")).startswith("siwx_") else set())
    optional |= {"links"} if body.get("code") == "route_not_found" else set()
    if "error" in body and isinstance(body["error"], dict):  # as OpenAI's clients want it
        assert body["error"].pop("message")
        assert set(body["error"]) == {"type", "code", "param"}
        body["error"] = "told"
    assert SHAPE <= set(body) <= SHAPE | optional, sorted(body)
    assert body["success"] is False
    assert body["charged"] is False
    assert body["status"] == answer.status
    assert isinstance(body["retryable"], bool)
    assert _CODE.fullmatch(body["code"])
    assert all(isinstance(body[key], str) and body[key] for key in ("error", "hint", "docs"))
    assert body["docs"].endswith(f"/docs/errors#{body['code']}")
    for issue in body.get("issues", ()):
        assert {"path", "code", "message"} <= set(issue) <= {"path", "code", "message", "allowed"}
        assert _CODE.fullmatch(issue["code"])
    return body


def check_discreet(answer: Answer, *, secrets: Iterable[str] = ()) -> None:
    """Assert that nothing of our inside, and nothing that a client keeps to itself, is in an answer."""
    told = answer.body.decode() + repr(answer.headers)
    assert not [leak for leak in (*_LEAKS, *secrets) if leak in told], told


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    assert len(found) == len(pairs), "a name stands twice in an object"
    return found


def _no_constant(name: str) -> Any:
    raise AssertionError(f"{name} is no JSON")
