"""Addresses of earlier days: `/api/x402/...` leads to the route that took its place, with method and body (308)."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote

from stablestudio.catalog import OFFERINGS
from stablestudio.server.http import CORS, NO_STORE, Scope, Send, respond, respond_preflight
from stablestudio.server.job_bodies import PREFIX as JOBS

PREFIX = "/api/x402/"
_NOW = {f"{PREFIX}{offering.key}": offering.path for offering in OFFERINGS} | {
    f"{PREFIX}jobs": "/api/jobs",
    f"{PREFIX}uploads": "/api/upload",
    f"{PREFIX}uploads/confirm": "/api/upload/confirm",
    f"{PREFIX}upload/confirm": "/api/upload/confirm",
}
_JOBS = f"{PREFIX}jobs/"


def successor(path: str, *, moved: Mapping[str, str] = _NOW) -> str | None:
    """Return where what was once at a path is today."""
    if path.startswith(_JOBS):
        return f"{JOBS}{path[len(_JOBS) :]}"
    return moved.get(path)


async def lead_on(scope: Scope, send: Send, *, path: str) -> None:
    """Send a client to a path; the host is left to the client, who knows it best."""
    if scope["method"] == "OPTIONS":  # browsers follow no redirect there
        return await respond_preflight(send, "GET, HEAD, POST, DELETE, OPTIONS")
    query = scope["query_string"]
    location = quote(path).encode() + (b"?" + query if query else b"")  # the path comes decoded
    await respond(send, 308, b"", [*CORS, NO_STORE, (b"location", location)])
