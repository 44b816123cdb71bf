"""What MPP sends over HTTP (https://mpp.dev, draft-httpauth-payment): credentials and receipts, read strictly."""

from __future__ import annotations

import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stablestudio.protocols._wire import Fields, WireError, decode_json, form
from stablestudio.protocols.mpp.errors import MalformedCredential, MethodUnsupported, SeveralCredentials

AUTHORIZATION = "Authorization"
PAYMENT_RECEIPT = "Payment-Receipt"
MAX_HEADER = 16 * 1024
_SCHEME = "payment"
_URLSAFE = bytes.maketrans(b"+/", b"-_")

_ID = form("visible ASCII, at most 256 characters", r"[!-~]{1,256}")
_NAME = form("a name of lower-case letters, digits and :_-", r"[a-z][a-z0-9:_-]{0,63}")
_REALM = form("printable ASCII, at most 256 characters", r"[ -~]{1,256}")
_PART = form("unpadded base64url, at most 4096 characters", r"[A-Za-z0-9_-]{1,4096}")
_MOMENT = form("an RFC 3339 moment", r"[0-9T:.Z+-]{20,40}")
_DIGEST = form("sha-256= and base64", r"sha-256=:?[A-Za-z0-9+/=]{1,64}:?")
_TEXT = form("printable ASCII, at most 256 characters", r"[ -~]{1,256}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ChallengeEcho:
    """A challenge as the buyer sends it back; `request` and `opaque` are base64url text exactly as they were issued."""

    id: str
    realm: str
    method: str
    intent: str
    request: str
    expires: str | None = None
    digest: str | None = None
    opaque: str | None = None
    description: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """A buyer's answer to one challenge. Nothing in it is believed before its HMAC and its signature hold."""

    challenge: ChallengeEcho
    payload: Mapping[str, Any]
    source: str | None = None


def canonical(value: Mapping[str, Any]) -> str:
    """Return unpadded base64url of JSON as RFC 8785 writes it.

    Only for objects of texts, whole numbers, lists and such objects, with ASCII names: there the RFC's order of names and
    its numbers are Python's.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return _base64url(text.encode())


def is_payment(authorization: str) -> bool:
    """Tell whether an Authorization header carries an MPP credential, and not another scheme's."""
    return any(_is_scheme(part) for part in authorization.split(","))


def decode_credential(authorization: str, *, limit: int = MAX_HEADER) -> Credential:
    """Read `Payment <base64url>` out of an Authorization header of at most `limit` characters.

    Form only: whether the challenge is ours and the payment fits is for a rail to say. Raise `MalformedCredential` with
    the part at fault, `SeveralCredentials`, or `MethodUnsupported`.
    """
    if len(authorization) > limit:
        raise MalformedCredential(f"The Payment credential must have at most {limit} characters.")
    found = [part for part in authorization.split(",") if _is_scheme(part)]
    if len(found) != 1:
        raise SeveralCredentials if found else MalformedCredential
    try:
        return _read(decode_json(found[0].strip()[len(_SCHEME) :].strip(), limit=limit))
    except WireError as error:
        raise MalformedCredential(f"The Payment credential cannot be read: {error}.") from None


def encode_credential(credential: Credential) -> str:
    """Return the Authorization header of a credential, as a buyer sends it."""
    echo = credential.challenge
    challenge = {name: value for name in echo.__slots__ if (value := getattr(echo, name)) is not None}
    wire: dict[str, Any] = {"challenge": challenge, "payload": dict(credential.payload)}
    if credential.source is not None:
        wire["source"] = credential.source
    return f"Payment {_base64url(json.dumps(wire, separators=(',', ':')).encode())}"


def encode_receipt(*, reference: str, timestamp: str, challenge_id: str | None = None, method: str = "tempo") -> str:
    """Return the value of Payment-Receipt; only successes have one.

    `reference` is the transaction's hash, or a proof's challenge id; `timestamp` RFC 3339. Extra members are allowed, so
    the challenge's id is one: it tells which of several quotes was paid.
    """
    receipt = {"method": method, "reference": reference, "status": "success", "timestamp": timestamp}
    if challenge_id is not None:
        receipt["challengeId"] = challenge_id
    return _base64url(json.dumps(receipt, separators=(",", ":")).encode())


def _is_scheme(part: str) -> bool:
    scheme, _, rest = part.strip().partition(" ")
    return scheme.lower() == _SCHEME and bool(rest)


def _read(fields: Fields) -> Credential:
    challenge = fields.object("challenge")
    payload = fields.object("payload")
    method, intent = challenge.text("method", _NAME), challenge.text("intent", _NAME)
    if (method, intent) != ("tempo", "charge"):
        raise MethodUnsupported(f"Payments by {method} {intent} are not offered here.")
    return Credential(
        challenge=ChallengeEcho(
            id=challenge.text("id", _ID),
            realm=challenge.text("realm", _REALM),
            method=method,
            intent=intent,
            request=_part(challenge, "request").text("request", _PART),
            expires=challenge.optional_text("expires", _MOMENT),
            digest=challenge.optional_text("digest", _DIGEST),
            opaque=_part(challenge, "opaque").optional_text("opaque", _PART),
            description=challenge.remark("description"),
        ),
        payload=payload.value,
        source=fields.optional_text("source", _TEXT),
    )


def _part(challenge: Fields, name: str) -> Fields:
    """Return the challenge with a member as text, where an older buyer (mppx before 0.6) sends the object it decoded."""
    value = challenge.value.get(name)
    if not isinstance(value, dict):
        return challenge
    return Fields({name: canonical(value)}, challenge.path)


def _base64url(data: bytes) -> str:
    return binascii.b2a_base64(data, newline=False).translate(_URLSAFE, b"=").decode()
