"""Sending a file to its paid place: at once, or in parts that arrive one by one and are never sent twice without need.

Source: the npm package @vercel/blob 2.8, version 12 of its protocol.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import quote, urlencode

import pydantic
from pydantic.alias_generators import to_camel

from stablestudio.client.errors import (
    FileChanged,
    FileUnusable,
    UnreadableAnswer,
    UploadExpired,
    UploadInterrupted,
    UploadRefused,
)
from stablestudio.client.files import MediaFile
from stablestudio.client.offers import origin
from stablestudio.client.orders import Order, Sending
from stablestudio.client.steps import Call, Flow, Lost, Reply, ask, pause

PART_BYTES = 8 * 1024 * 1024
"""What Vercel's own clients send; a file of one part is sent at once. No more than a part is in memory."""

_PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0)
_LONGEST_PAUSE = 30.0
_VERSION = "12"
_MAY_PASS = {408, 425, 429}
_BROKE_OFF = {"unknown_error", "service_unavailable"}
_TOO_LATE = {"client_token_expired", "not_found"}
_THERE = 409


@dataclass(frozen=True, slots=True)
class Sent:
    """How many bytes of a file have arrived."""

    sent: int
    size: int

    @property
    def percent(self) -> float:
        return 100 * self.sent / self.size


Tell = Callable[[Sent], None]


class Place(pydantic.BaseModel):
    """What a paid upload is answered with: where the file goes, and the token that opens the place."""

    model_config = pydantic.ConfigDict(frozen=True, alias_generator=to_camel)

    upload_id: str
    client_token: str = pydantic.Field(repr=False)
    pathname: str
    upload_url: str
    blob_url: str


def read_place(reply: Reply, *, order: Order) -> Place:
    """Read the answer to the paid order of an upload; raise `UploadInterrupted`, since paid it is."""
    try:
        place = Place.model_validate(reply.document())
    except (UnreadableAnswer, pydantic.ValidationError):
        raise UploadInterrupted("The service answered a place that this client cannot read.", order=order) from None
    if not origin(place.upload_url):
        raise UploadInterrupted("The service names an uploadUrl that is neither http nor https.", order=order)
    return place


@dataclass(frozen=True, slots=True, kw_only=True)
class Carrier:
    """Carries one file to its place; `keep` writes each step down, so that the next process goes on from there."""

    place: Place
    file: MediaFile
    keep: Callable[[Order], None]
    tell: Tell | None = None

    def send(self, order: Order) -> Flow[Order]:
        """Send what has not arrived yet, and return the order as it is then. That a file is there already is no error.

        Raises an `UploadError`.
        """
        if self.file.size <= PART_BYTES:
            self._tell(0)
            yield from self._ask(order, self._call("PUT", "", body=self._piece(order, 0)))
            self._tell(self.file.size)
            return order
        return (yield from self._send_parts(order))

    def _send_parts(self, order: Order) -> Flow[Order]:
        order, sending = yield from self._session(order)
        named = {"x-mpu-upload-id": sending.session or "", "x-mpu-key": quote(self.place.pathname, safe="")}
        for number, start in enumerate(range(0, self.file.size, PART_BYTES), start=1):
            self._tell(start)
            if number in sending.etags:
                continue
            headers = {**named, "x-mpu-part-number": str(number)}
            part = self._call("POST", "/mpu", action="upload", body=self._piece(order, start), headers=headers)
            reply = yield from self._ask(order, part)
            if reply.status == _THERE:
                return order
            etags = {**sending.etags, number: _text(order, reply, "etag")}
            order, sending = self._note(order, sending.model_copy(update={"etags": etags}))
        names = [{"partNumber": number, "etag": etag} for number, etag in sending.etags.items()]
        body = json.dumps(names).encode()
        yield from self._ask(order, self._call("POST", "/mpu", action="complete", body=body, headers=named))
        self._tell(self.file.size)
        return order

    def _session(self, order: Order) -> Flow[tuple[Order, Sending]]:
        """Open the session of the parts, or go on with the one that is open."""
        sending = order.sending
        assert sending is not None, "only orders of uploads come here"
        if sending.session is not None:
            return order, sending
        reply = yield from self._ask(order, self._call("POST", "/mpu", action="create"))
        return self._note(order, sending.model_copy(update={"session": _text(order, reply, "uploadId")}))

    def _note(self, order: Order, sending: Sending) -> tuple[Order, Sending]:
        order = order.model_copy(update={"sending": sending})
        self.keep(order)
        return order, sending

    def _call(
        self, method: str, path: str, *, body: bytes = b"", action: str = "", headers: Mapping[str, str] | None = None
    ) -> Call:
        url = f"{self.place.upload_url}{path}?{urlencode({'pathname': self.place.pathname})}"
        usual = {
            "authorization": f"Bearer {self.place.client_token}",
            "x-api-version": _VERSION,
            "x-content-type": self.file.content_type,
        } | ({"x-mpu-action": action} if action else {})
        return Call(method=method, url=url, headers=usual | dict(headers or {}), body=body)

    def _ask(self, order: Order, call: Call) -> Flow[Reply]:
        """Send until it arrives; the answer is a success, or that a file is there already. Raises an `UploadError`."""
        for wait in (*_PAUSES, None):
            outcome = yield from ask(call)
            if isinstance(outcome, Reply) and (outcome.status < 300 or outcome.status == _THERE):
                return outcome
            after, reason = None, outcome.reason if isinstance(outcome, Lost) else ""
            if isinstance(outcome, Reply):
                reason, after = _trouble(order, outcome), outcome.retry_after()
            if wait is None:
                raise UploadInterrupted(f"The file could not be sent to its end: {reason}", order=order)
            yield from pause(max(wait, min(after or 0, _LONGEST_PAUSE)))
        raise AssertionError("the last round returns or raises")

    def _piece(self, order: Order, start: int) -> bytes:
        wanted = min(PART_BYTES, self.file.size - start)
        try:
            piece = self.file.piece(start, wanted)
        except FileUnusable as error:
            raise FileChanged(error.message, order=order) from None
        if len(piece) != wanted:
            raise FileChanged(f"{self.file.name} has become shorter.", order=order)
        return piece

    def _tell(self, sent: int) -> None:
        if self.tell is not None:
            self.tell(Sent(sent, self.file.size))


def _trouble(order: Order, reply: Reply) -> str:
    """Return why an answer may be another one next time; raise where it never will."""
    told = (reply.document_or_none() or {}).get("error")
    error = told if isinstance(told, dict) else {}
    code, message = str(error.get("code") or ""), str(error.get("message") or f"The service answered {reply.status}.")
    if code in _TOO_LATE:
        raise UploadExpired(order=order)
    if reply.status not in _MAY_PASS and reply.status < 500 and code not in _BROKE_OFF:
        raise UploadRefused(f"The service does not take this file: {message}", order=order)
    return message


def _text(order: Order, reply: Reply, name: str) -> str:
    found = (reply.document_or_none() or {}).get(name)
    if not isinstance(found, str):
        raise UploadInterrupted(f"The service answered without {name}.", order=order)
    return found
