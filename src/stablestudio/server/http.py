"""Plain ASGI in and out: request bodies under a limit, JSON answers, errors in the one shape."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from typing import Any

from pydantic_core import to_json

from stablestudio.errors import StudioError

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Handler = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]
Answer = tuple[dict[str, Any], dict[str, Any]]

BODY_SECONDS = 60.0
WHOLE = "stablestudio.whole"  # the extension in the scope
REQUEST = "stablestudio.request"  # the request's id in the scope
REQUEST_HEADER = b"x-request-id"
JSON = (b"content-type", b"application/json")
HTML = (b"content-type", b"text/html; charset=utf-8")
NO_STORE = (b"cache-control", b"no-store")
_SOON = (b"retry-after", b"5")  # seconds: what is away is often back by then
PRIVATE = (b"cache-control", b"private")
# Browsers of any origin may buy: there are no cookies, a payment or a proof is the only authority.
_EXPOSED = (
    b"PAYMENT-REQUIRED, PAYMENT-RESPONSE, WWW-Authenticate, Payment-Receipt, Poll-Token, Preference-Applied, "
    b"Retry-After, X-Request-Id"
)
CORS: Headers = [(b"access-control-allow-origin", b"*"), (b"access-control-expose-headers", _EXPOSED)]
_PREFLIGHT: Headers = [
    *CORS,
    (b"access-control-allow-headers", b"*, Authorization"),
    (b"access-control-max-age", b"86400"),
]


class BodyTooLarge(StudioError):
    """The request body is larger than this service accepts."""

    status = 413
    hint = "Send media as URLs instead of inline data; nothing was charged."


class MethodNotAllowed(StudioError):
    """This route does not take this method."""

    status = 405
    hint = "Use one of the methods in the Allow header."


class RequestIncomplete(StudioError):
    """The request ended before its body was complete."""

    status = 400
    hint = "Send the request again; nothing was charged."


class RequestTooSlow(StudioError):
    """The request body took too long to arrive."""

    status = 408
    retryable = True
    hint = "Send the request again over a better connection; nothing was charged."


class RepeatedHeader(StudioError):
    """A header that may appear once was sent several times."""

    status = 400
    hint = "Send one payment, one proof and one Idempotency-Key per request; nothing was charged."


def header(scope: Scope, name: bytes) -> str | None:
    """Return a header's value by its lower-case name; one that is sent twice is refused, not merged."""
    found: bytes | None = None
    for key, value in scope["headers"]:
        if key == name:
            if found is not None:
                raise RepeatedHeader(f"The header {name.decode()} was sent more than once.")
            found = value
    return found.decode("latin-1") if found is not None else None


async def read_body(receive: Receive, *, limit: int) -> bytes:
    """Read the whole body; raise `BodyTooLarge` as soon as it exceeds `limit` bytes."""
    message = await receive()
    body = message.get("body", b"")
    if not message.get("more_body", False) and message["type"] == "http.request":
        if len(body) > limit:
            raise BodyTooLarge(f"The request body is larger than {limit} bytes.")
        return bytes(body)
    return await _read_rest(message, receive, limit=limit)


async def _read_rest(message: MutableMapping[str, Any], receive: Receive, *, limit: int) -> bytes:
    parts = [message.get("body", b"")]
    size = len(parts[0])
    deadline = asyncio.get_running_loop().time() + BODY_SECONDS
    while message.get("more_body", False):
        try:
            async with asyncio.timeout_at(deadline):
                message = await receive()
        except TimeoutError:
            raise RequestTooSlow from None
        if message["type"] != "http.request":
            raise RequestIncomplete
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > limit:
            raise BodyTooLarge(f"The request body is larger than {limit} bytes.")
    if message["type"] != "http.request":
        raise RequestIncomplete
    return b"".join(parts)


def answer(status: int, body: bytes, headers: Iterable[tuple[bytes, bytes]]) -> Answer:
    """Return the two ASGI messages of a whole answer; `headers` comes complete but for the length."""
    complete = [*headers, (b"content-length", b"%d" % len(body))]
    start = {"type": "http.response.start", "status": status, "headers": complete}
    return start, {"type": "http.response.body", "body": body}


async def respond(send: Send, status: int, body: bytes, headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Send a whole answer."""
    for message in answer(status, body, headers):
        await send(message)


async def respond_whole(scope: Scope, send: Send, status: int, body: bytes, headers: Headers) -> None:
    """Send a whole answer, in one write where the HTTP server offers that (`server/whole.py`)."""
    write = scope.get("extensions", {}).get(WHOLE)
    # Such an answer goes past the edge, which names all others.
    named = [*headers, (REQUEST_HEADER, scope[REQUEST])] if REQUEST in scope else headers
    if write is None or not write(scope, status, body, named):
        await respond(send, status, body, headers)


async def respond_json(
    send: Send, status: int, body: Mapping[str, Any], headers: Iterable[tuple[bytes, bytes]] = (NO_STORE,)
) -> None:
    """Send a JSON answer."""
    await respond(send, status, to_json(body), [JSON, *CORS, *headers])


async def respond_error(send: Send, error: StudioError, *, docs: str, request_id: str) -> None:
    """Send an error in the shape of contract section 6."""
    headers: Headers = [NO_STORE, *((name.encode(), value.encode("latin-1")) for name, value in error.headers)]
    if error.status == 503 and error.retryable and not any(name.lower() == _SOON[0] for name, _ in headers):
        headers.append(_SOON)
    body = error.body() | {"docs": f"{docs}#{error.code}", "requestId": request_id}
    await respond_json(send, error.status, body, headers)


async def respond_preflight(send: Send, methods: str) -> None:
    """Answer OPTIONS: which methods there are, and that any origin may use them."""
    allowed = methods.encode()
    headers = [*_PREFLIGHT, (b"allow", allowed), (b"access-control-allow-methods", allowed)]
    await send({"type": "http.response.start", "status": 204, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


def refuse_method(scope: Scope, methods: str) -> MethodNotAllowed:
    """Return the error for a method that a route does not take."""
    are = "are" if "," in methods else "is"
    return MethodNotAllowed(f"{scope['method']} is not possible here; {methods} {are}.", headers={"Allow": methods})
