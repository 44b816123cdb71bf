"""Schemas and examples of what routes answer; tests hold real answers against them."""

from __future__ import annotations

from typing import Any

from stablestudio.catalog import Kind, Offering
from stablestudio.server.discovery.schemas import Schema

LISTED, MOST_LISTED = 20, 100
STATES = ("pending", "loading", "complete", "failed")
_TEXT: Schema = {"type": "string"}
_FLAG: Schema = {"type": "boolean"}
_COUNT: Schema = {"type": "integer"}
_TIME: Schema = {"type": "string", "format": "date-time"}
_LINK: Schema = {"type": "string", "format": "uri"}


def record(properties: Schema, *optional: str) -> Schema:
    """Return the schema of an object with these members, all of them required but the optional ones."""
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required}


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


ACCEPTED = record(
    {
        "success": _FLAG,
        "jobId": _TEXT,
        "type": _TEXT,
        "status": {"enum": ["pending", "failed"]},
        "pollUrl": _LINK,
        "pollAfter": {"type": "integer", "description": "Seconds to wait between reads of pollUrl."},
        "payment": {"type": "object"},
        "note": _TEXT,
    },
    "payment",
    "note",
)

UNKNOWN = record({"success": _FLAG, "status": {"const": "pending"}, "pollUrl": _LINK, "hint": _TEXT}, "pollUrl")

TICKET = record(
    {
        "success": _FLAG,
        "uploadId": _TEXT,
        "clientToken": _TEXT,
        "pathname": _TEXT,
        "expiresAt": _TIME,
        "uploadUrl": _LINK,
        "blobUrl": _LINK,
        "maxBytes": _COUNT,
    }
)

UPLOADED = record(
    {
        "success": _FLAG,
        "upload": record(
            {"id": _TEXT, "blobUrl": _LINK, "contentType": _TEXT, "size": _COUNT, "sha256": _TEXT},
        ),
    }
)

CONFIRMATION = record({"uploadId": _TEXT, "blobUrl": _LINK})

_RESULT: Schema = {
    "type": "object",
    "description": "Facts of the file and its links; `expired` or `deleted` where it is gone.",
    "properties": {
        **dict.fromkeys(("imageUrl", "videoUrl", "thumbnailUrl", "posterUrl"), _LINK),
        **dict.fromkeys(("size", "width", "height"), _COUNT),
        "contentType": _TEXT,
        "sha256": _TEXT,
        "durationSeconds": {"type": "number"},
        "expiresAt": _TIME,
    },
}
_ENDED = ("result", "error", "errorCode", "finishedAt", "expiresAt")

JOB = record(
    {
        "success": _FLAG,
        "jobId": _TEXT,
        "type": _TEXT,
        "status": {"enum": list(STATES)},
        "progress": {"type": "integer", "minimum": 0, "maximum": 100},
        "createdAt": _TIME,
        "updatedAt": _TIME,
        "pollUrl": _LINK,
        "payment": {"type": "object", "description": "state, amount, network, transaction, refund."},
        "pollAfter": {"type": "integer", "description": "Seconds until the next read."},
        "result": _RESULT,
        "error": _TEXT,
        "errorCode": _TEXT,
        "upstreamModel": _TEXT,
        "input": {"type": "object"},
        "finishedAt": _TIME,
        "expiresAt": _TIME,
        "pollToken": {"type": "string", "description": "After a signed read: reads this job as Authorization: Bearer."},
        "pollTokenExpiresAt": _TIME,
    },
    *("pollAfter", "upstreamModel", "input", "pollToken", "pollTokenExpiresAt", *_ENDED),
)

MESSAGES = record(
    {
        "success": _FLAG,
        "jobId": _TEXT,
        "url": {"type": ["string", "null"]},
        "secret": _TEXT,
        "publicKey": _TEXT,
        "messages": _list({"type": "object"}),
    }
)

JOBS = record({"success": _FLAG, "jobs": _list({"type": "object"}), "next": {"type": ["string", "null"]}})

DELETED = record({"success": _FLAG, "jobId": _TEXT, "deleted": _FLAG})

ETA = record(
    {
        "seconds": {"type": "number"},
        "p90Seconds": {"type": "number"},
        "basis": {"enum": ["history", "catalog"]},
        "jobs": _COUNT,
    }
)

_LINE = record(
    {
        "cell": _TEXT,
        "unit": {"enum": ["each", "second"]},
        "unitPrice": _TEXT,
        "quantity": _COUNT,
        "amount": _TEXT,
        "because": {"type": "object"},
    }
)

_RAIL = record(
    {
        "protocol": {"enum": ["x402", "mpp"]},
        "network": _TEXT,
        "asset": _TEXT,
        "decimals": _COUNT,
        "amount": {"type": "string", "description": "Base units."},
    }
)

QUOTE = record(
    {
        "success": _FLAG,
        "model": _TEXT,
        "operation": _TEXT,
        "path": _TEXT,
        "price": _TEXT,
        "currency": {"const": "USD"},
        "breakdown": _list(_LINE),
        "eta": ETA,
        "settles": {"enum": ["accept", "complete"], "description": "When the payment is taken."},
        "note": _TEXT,
        "rails": _list(_RAIL),
        "expiresAt": _TIME,
    },
    "note",
)

MODELS = record(
    {
        "success": _FLAG,
        "models": _list(
            {
                "type": "object",
                "required": [
                    *("model", "operation", "path", "kind", "priceFrom", "priceTo", "prices", "capabilities", "eta"),
                    *("pollAfter", "lifecycle", "available"),
                ],
            }
        ),
    }
)

ISSUE = record(
    {"path": _list({"type": ["string", "integer"]}), "code": _TEXT, "message": _TEXT, "allowed": {"type": "array"}},
    "allowed",
)

ERROR = record(
    {
        "success": {"const": False},
        "error": _TEXT,
        "code": {"type": "string", "description": "Stable; GET /docs/errors explains each."},
        "status": _COUNT,
        "hint": {"type": "string", "description": "What to do next."},
        "retryable": _FLAG,
        "charged": {"type": ["boolean", "null"]},
        "docs": _LINK,
        "requestId": _TEXT,
        "issues": _list(ISSUE),
    },
    "issues",
)


def sold_example(offering: Offering, *, origin: str, max_upload_bytes: int) -> dict[str, Any]:
    """Return what a paid request of this offering is answered with."""
    if offering.kind is Kind.UPLOAD:
        return {
            "success": True,
            "uploadId": "upl_01k9x",
            "clientToken": "vercel_blob_client_...",
            "pathname": "uploads/upl_01k9x/reference.mp4",
            "expiresAt": "2027-01-01T00:00:00.000+00:00",
            "uploadUrl": f"{origin}/api/blob",
            "blobUrl": f"{origin}/uploads/upl_01k9x/reference.mp4",
            "maxBytes": max_upload_bytes,
        }
    return {
        "success": True,
        "jobId": "job_01k9x",
        "type": offering.type,
        "status": "pending",
        "pollUrl": f"{origin}/api/jobs/job_01k9x",
        "pollAfter": offering.poll_after,
    }
