"""The `payment-identifier` extension: a buyer's own idempotency key (specs/extensions/payment_identifier.md)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stablestudio.protocols._wire import Fields, WireError, form
from stablestudio.protocols.x402.errors import MalformedPayment
from stablestudio.protocols.x402.messages import AnyPayment

NAME = "payment-identifier"
_ID = form("16 to 128 characters of A-Z, a-z, 0-9, _ and -", r"[a-zA-Z0-9_-]{16,128}")


def declare_payment_identifier() -> dict[str, Any]:
    """Return the member of `extensions` that offers, and does not require, payment identifiers."""
    return {
        NAME: {
            "info": {"required": False},
            "schema": {
                "$schema": "https://json-schema.org/draft/2020-12/schema",
                "type": "object",
                "properties": {
                    "required": {"type": "boolean"},
                    "id": {"type": "string", "minLength": 16, "maxLength": 128, "pattern": "^[a-zA-Z0-9_-]+$"},
                },
                "required": ["required"],
            },
        }
    }


def payment_identifier(payload: AnyPayment) -> str | None:
    """Return the buyer's identifier, or None where none was given; raise `MalformedPayment` for one of wrong form."""
    try:
        extension = Fields(payload.extensions, ("extensions",)).optional_object(NAME)
        info = extension.optional_object("info") if extension else None
        return None if info is None or info.value.get("id") is None else info.text("id", _ID)
    except WireError as error:
        raise MalformedPayment(f"The payment header cannot be read: {error}.") from None


def with_payment_identifier(extensions: Mapping[str, Any], identifier: str) -> dict[str, Any]:
    """Return the seller's extensions with the identifier filled in; unchanged where the seller does not offer it."""
    if not _ID.pattern.fullmatch(identifier):
        raise ValueError(f"A payment identifier is {_ID.what}")
    offered = extensions.get(NAME)
    if not isinstance(offered, dict) or not isinstance(offered.get("info"), dict):
        return dict(extensions)
    return {**extensions, NAME: {**offered, "info": {**offered["info"], "id": identifier}}}
