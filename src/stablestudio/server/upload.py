"""The paid place for one file, and the owner's word that it is there, after which inputs may point to it."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from stablestudio.catalog import Offering, OfferingInput
from stablestudio.clock import iso
from stablestudio.errors import InvalidInput, Issue
from stablestudio.media.uploads import UploadDesk
from stablestudio.server.blob import PATH as BLOB
from stablestudio.server.http import (
    PRIVATE,
    Receive,
    Scope,
    Send,
    read_body,
    refuse_method,
    respond_json,
    respond_preflight,
)
from stablestudio.server.sell import SellRoute
from stablestudio.server.sign_in import Gate

PATH = "/api/upload/confirm"
_BODY_BYTES = 16_384
_Text = Annotated[str, StringConstraints(min_length=1, max_length=2000)]


class UploadRoute(SellRoute):
    """`POST /api/upload`: sells a token instead of a job. Nobody has to make it, so nothing can fail after the payment."""

    sells_jobs = False

    def __init__(self, offering: Offering, *, desk: UploadDesk, **parts: Any) -> None:
        """Take the offering, the desk, and what every route that sells takes."""
        super().__init__(offering, **parts)
        self._desk = desk
        self._blob = f"{parts['origin']}{BLOB}"

    def require_maker(self, given: OfferingInput | None = None) -> None:
        """Anybody may upload anything that is announced."""

    async def sold(self, order_id: str) -> dict[str, Any]:
        ticket = await self._desk.ticket(order_id)
        assert ticket is not None, "the place was opened with the payment"
        upload = ticket.upload
        return {
            "success": True,
            "uploadId": upload.id,
            "clientToken": ticket.token,
            "pathname": upload.pathname,
            "expiresAt": iso(upload.expires_at),
            "uploadUrl": self._blob,
            "blobUrl": self._desk.url(upload.pathname),
            "maxBytes": self._desk.max_bytes,
        }

    def awaited(self, job_id: str) -> dict[str, Any]:  # noqa: ARG002 - there is no job to read
        return {"success": True, "status": "pending"}


_CODES = {"missing": "missing", "extra_forbidden": "unknown_field", "json_invalid": "invalid_json"}


class _Confirmation(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    uploadId: _Text  # noqa: N815 - the wire's own name
    blobUrl: _Text  # noqa: N815 - the wire's own name


class ConfirmRoute:
    """Takes a proof for this very path, once."""

    def __init__(self, desk: UploadDesk, *, gate: Gate) -> None:
        self._desk = desk
        self._gate = gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "OPTIONS":
            return await respond_preflight(send, "POST, OPTIONS")
        if scope["method"] != "POST":
            raise refuse_method(scope, "POST")
        signed = await self._gate.writer(scope)
        wanted = _read(await read_body(receive, limit=_BODY_BYTES))
        await self._gate.burn(scope, signed)
        upload = await self._desk.confirm(wanted.uploadId, wallet=signed.wallet, url=wanted.blobUrl)
        told = {"id": upload.id, "blobUrl": self._desk.url(upload.pathname)}
        facts: dict[str, Any] = {"contentType": upload.content_type, "size": upload.size, "sha256": upload.sha256}
        if (until := self._desk.kept_until(upload)) is not None:
            facts["expiresAt"] = iso(until)
        await respond_json(send, 200, {"success": True, "upload": told | facts}, [PRIVATE])


def _read(body: bytes) -> _Confirmation:
    try:
        return _Confirmation.model_validate_json(body)
    except ValidationError as error:
        issues = [
            Issue(tuple(each["loc"]), _CODES.get(each["type"], "invalid"), each["msg"]) for each in error.errors()
        ]
        raise InvalidInput(
            "The body is JSON with uploadId and blobUrl.",
            issues=issues,
            hint="Send both as the answers to your upload had them; nothing is charged here.",
        ) from None
