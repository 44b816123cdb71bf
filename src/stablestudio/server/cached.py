"""Answers that everybody gets alike: with an ETag, so that asking again costs next to nothing."""

from __future__ import annotations

from hashlib import sha256

from stablestudio.server.http import CORS, Answer, Headers, Scope, Send, header
from stablestudio.server.http import answer as whole


def etag(body: bytes) -> str:
    """Return the strong validator of a body."""
    return f'"{sha256(body).hexdigest()[:32]}"'


def render(
    scope: Scope,
    body: bytes,
    *,
    content_type: str,
    seconds: int,
    shared: bool = True,
    tag: str | None = None,
    more: Headers | None = None,
) -> Answer:
    """Return the answer to a request: whole, its head alone, or 304 where the client has it; good for `seconds`."""
    tag = tag or etag(body)
    kept: Headers = [
        *CORS,
        (b"etag", tag.encode()),
        (b"cache-control", f"{'public' if shared else 'private'}, max-age={seconds}".encode()),
        *(more or []),
    ]
    if _has(header(scope, b"if-none-match"), tag, any_will_do=scope["method"] != "POST"):
        start = {"type": "http.response.start", "status": 304, "headers": kept}
        return start, {"type": "http.response.body", "body": b""}
    start, message = whole(200, body, [(b"content-type", content_type.encode()), *kept])
    return start, message if scope["method"] != "HEAD" else {**message, "body": b""}


async def respond_cached(
    scope: Scope,
    send: Send,
    body: bytes,
    *,
    content_type: str,
    seconds: int,
    shared: bool = True,
    tag: str | None = None,
    more: Headers | None = None,
) -> None:
    """Send such an answer."""
    for message in render(scope, body, content_type=content_type, seconds=seconds, shared=shared, tag=tag, more=more):
        await send(message)


def _has(known: str | None, tag: str, *, any_will_do: bool) -> bool:
    """Compare weakly, as RFC 9110 section 13.1.2 has it: proxies that compress mark a validator as weak.

    For the answer to a question that was posted, `*` says nothing.
    """
    if known is None:
        return False
    return (any_will_do and known.strip() == "*") or tag in {
        each.strip().removeprefix("W/") for each in known.split(",")
    }
