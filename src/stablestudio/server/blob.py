"""Where uploaded files arrive: the client side of the Vercel Blob protocol, so that its own SDK and curl can send them.

Source: the npm package @vercel/blob 2.8, versions 11 and 12 of the protocol. Its errors have a shape of their own.
"""

from __future__ import annotations

import asyncio
import json
import re
import secrets
from collections.abc import AsyncIterator, Iterable
from typing import Annotated, Any
from urllib.parse import parse_qs, unquote

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import to_json

from stablestudio.clock import Clock
from stablestudio.errors import StudioError
from stablestudio.media.storage import Kept, TooLarge
from stablestudio.media.uploads import MAX_PARTS, PartEmpty, PartMissing, UploadDesk, UploadTaken
from stablestudio.protocols.blob import BlobTokens, Grant, TokenInvalid
from stablestudio.server.http import (
    CORS,
    JSON,
    NO_STORE,
    Receive,
    Scope,
    Send,
    header,
    read_body,
    respond,
    respond_preflight,
)
from stablestudio.store.uploads import Upload

PATH = "/api/blob"
_VERSIONS = (11, 12)
# A body brings that much within that time of waiting for it, or ends: 35 kbit/s, less than any line today.
_STRIDE = 256 * 1024
_STRIDE_SECONDS = 60.0
_LIST_BYTES = 1024 * 1024
_LONGEST_LENGTH = 12  # digits
_PART_NUMBER = re.compile(r"[1-9][0-9]{0,4}")


class BlobRefused(Exception):
    """What the protocol's clients are told; they know some errors by their code and some by their words."""

    def __init__(self, status: int, code: str, message: str) -> None:
        self.status = status
        self.code = code
        self.message = message
        super().__init__(message)


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore")

    number: int = Field(alias="partNumber", ge=1, le=MAX_PARTS)
    etag: str = Field(max_length=200)


_PARTS: TypeAdapter[list[_Part]] = TypeAdapter(Annotated[list[_Part], Field(max_length=MAX_PARTS)])


class BlobRoutes:
    """`/api/blob` and `/api/blob/mpu`; a client token is the only authority."""

    def __init__(self, desk: UploadDesk, *, tokens: BlobTokens, clock: Clock) -> None:
        self._desk = desk
        self._tokens = tokens
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._serve(scope, receive, send)
        except BlobRefused as refused:
            await _refuse(send, refused)
        except TooLarge:
            limit = self._grant(scope).max_bytes
            await _refuse(
                send, BlobRefused(413, "file_too_large", f"the file length cannot be greater than {limit} bytes")
            )
        except UploadTaken:
            await _refuse(send, BlobRefused(409, "bad_request", "This blob already exists and cannot be overwritten."))
        except StudioError as error:
            code = "service_unavailable" if error.status >= 500 else "bad_request"
            await _refuse(send, BlobRefused(error.status, code, error.message), headers=error.headers)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        method, place = scope["method"], scope["path"][len(PATH) :].rstrip("/")
        if method == "OPTIONS":
            return await respond_preflight(send, "PUT, POST, OPTIONS")
        grant = self._grant(scope)
        upload = await self._upload(scope, grant)
        if place == "" and method == "PUT":
            kept = await self._desk.put(upload, self._pieces(scope, receive, upload), max_bytes=grant.max_bytes)
            return await _respond(send, self._result(upload, kept))
        if place == "/mpu" and method in ("POST", "PUT"):
            return await _respond(send, await self._part(scope, receive, upload))
        raise BlobRefused(405, "not_allowed", f"{method} is not possible at {scope['path'][:200]}.")

    async def _part(self, scope: Scope, receive: Receive, upload: Upload) -> dict[str, Any]:
        action = header(scope, b"x-mpu-action")
        if action == "create":
            return {"uploadId": secrets.token_hex(16), "key": upload.pathname}
        session = header(scope, b"x-mpu-upload-id") or ""
        if not session.isalnum() or len(session) > 64 or unquote(header(scope, b"x-mpu-key") or "") != upload.pathname:
            raise BlobRefused(400, "bad_request", "x-mpu-upload-id and x-mpu-key are those of the answer to `create`.")
        if action == "upload":
            return {"etag": await self._take_part(scope, receive, upload, session)}
        if action == "complete":
            try:
                parts = _PARTS.validate_json(await read_body(receive, limit=_LIST_BYTES))
                kept = await self._desk.complete(upload, session, [(part.number, part.etag) for part in parts])
            except (ValidationError, PartMissing):
                raise BlobRefused(400, "bad_request", "The parts are not those that arrived.") from None
            return self._result(upload, kept)
        raise BlobRefused(400, "bad_request", "x-mpu-action is create, upload or complete.")

    async def _take_part(self, scope: Scope, receive: Receive, upload: Upload, session: str) -> str:
        number, size = _number(header(scope, b"x-mpu-part-number")), _announced(scope)
        try:
            return await self._desk.put_part(upload, session, number, self._pieces(scope, receive, upload), size=size)
        except PartEmpty:
            raise BlobRefused(400, "bad_request", "A part has at least one byte.") from None

    async def _pieces(self, scope: Scope, receive: Receive, upload: Upload) -> AsyncIterator[bytes]:
        """Yield a body as it comes; raise where it ends early, comes too slowly, or nobody could confirm it any more."""
        seen = 0
        async for piece in _body(receive):
            if self._clock.now_ms() >= self._desk.confirmed_until(upload):
                raise BlobRefused(403, "client_token_expired", "Token expired")
            seen += len(piece)
            yield piece
        length = header(scope, b"content-length")
        if length is not None and length.isdigit() and int(length) != seen:
            raise BlobRefused(400, "unknown_error", "The file ended before it was complete.")

    def _grant(self, scope: Scope) -> Grant:
        scheme, _, token = (header(scope, b"authorization") or "").partition(" ")
        try:
            return self._tokens.read(token.strip() if scheme.lower() == "bearer" else "")
        except TokenInvalid:
            raise BlobRefused(403, "forbidden", "The client token was not issued by this service.") from None

    async def _upload(self, scope: Scope, grant: Grant) -> Upload:
        pathname = parse_qs(scope["query_string"].decode("latin-1")).get("pathname", [""])[0]
        if pathname != grant.pathname:
            raise BlobRefused(
                403, "client_token_pathname_mismatch", f'"pathname" {pathname[:200]!r} does not match the token payload'
            )
        if self._clock.now_ms() >= grant.valid_until_ms:
            raise BlobRefused(403, "client_token_expired", "Token expired")
        version = header(scope, b"x-api-version")
        if version is not None and version not in map(str, _VERSIONS):
            raise BlobRefused(400, "bad_request", f"x-api-version is {' or '.join(map(str, _VERSIONS))}.")
        content_type = (header(scope, b"x-content-type") or grant.content_types[0]).partition(";")[0].strip().lower()
        if content_type not in grant.content_types:
            raise BlobRefused(
                403, "content_type_not_allowed", f'"contentType" {content_type[:100]!r} is not allowed by the token'
            )
        upload = await self._desk.find(grant.pathname)
        if upload is None or upload.state == "abandoned":
            raise BlobRefused(404, "not_found", "This upload was dropped; order another one.")
        return upload

    def _result(self, upload: Upload, kept: Kept) -> dict[str, Any]:
        url = self._desk.url(upload.pathname)
        name = upload.pathname.rpartition("/")[2]
        return {
            "url": url,
            "downloadUrl": f"{url}?download=1",
            "pathname": upload.pathname,
            "contentType": upload.content_type,
            "contentDisposition": f'attachment; filename="{name}"',
            "etag": f'"{kept.sha256[:32]}"',
        }


async def _body(receive: Receive) -> AsyncIterator[bytes]:
    """Yield the pieces of a body. Only waiting for it counts, not what is done with a piece meanwhile."""
    loop = asyncio.get_running_loop()
    seen, left, more = 0, _STRIDE_SECONDS, True
    while more:
        began = loop.time()
        try:
            async with asyncio.timeout(left):
                message = await receive()
        except TimeoutError:
            raise BlobRefused(408, "unknown_error", "The file took too long to arrive.") from None
        if message["type"] != "http.request":
            raise BlobRefused(400, "unknown_error", "The connection ended before the file was complete.")
        left -= loop.time() - began
        if piece := message.get("body", b""):
            seen += len(piece)
            yield piece
        if seen >= _STRIDE:
            seen, left = 0, _STRIDE_SECONDS
        more = message.get("more_body", False)


def _number(text: str | None) -> int:
    if text is None or not _PART_NUMBER.fullmatch(text) or int(text) > MAX_PARTS:
        raise BlobRefused(400, "bad_request", f"x-mpu-part-number is a number from 1 to {MAX_PARTS}.")
    return int(text)


def _announced(scope: Scope) -> int:
    """Return how large a part is going to be; Vercel's client says so by itself where it streams without a length."""
    text = header(scope, b"content-length") or header(scope, b"x-content-length") or ""
    if not (text.isascii() and text.isdigit() and len(text) <= _LONGEST_LENGTH):
        raise BlobRefused(411, "bad_request", "A part comes with content-length or x-content-length.")
    return int(text)


async def _respond(send: Send, body: dict[str, Any]) -> None:
    await respond(send, 200, to_json(body), [JSON, *CORS, NO_STORE])


async def _refuse(send: Send, refused: BlobRefused, *, headers: Iterable[tuple[str, str]] = ()) -> None:
    body = json.dumps({"error": {"code": refused.code, "message": refused.message}}).encode()
    more = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    # What is left of a file that is not wanted is not read.
    await respond(send, refused.status, body, [JSON, *CORS, NO_STORE, (b"connection", b"close"), *more])
