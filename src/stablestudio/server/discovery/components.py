"""What the operations of the OpenAPI document refer to, so that it stands there once: answers, parameters, proofs."""

from __future__ import annotations

from typing import Any

from stablestudio.server.discovery import answers
from stablestudio.server.discovery.schemas import Schema

Document = dict[str, Any]

PROOFS: Document = {
    "siwx": {
        "type": "apiKey",
        "in": "header",
        "name": "SIGN-IN-WITH-X",
        "x-agentcash-auth-kind": "siwx",
        "description": "Base64 JSON: the signed challenge that an unsigned request is answered with.",
    },
    "mppProof": {"type": "http", "scheme": "Payment", "description": "An MPP proof of amount 0."},
    "pollToken": {
        "type": "http",
        "scheme": "bearer",
        "description": "`pollToken` of this job: reads it and its events.",
    },
}


def reference(name: str) -> Schema:
    """Return a reference to a shared schema."""
    return {"$ref": f"#/components/schemas/{name}"}


def response(name: str) -> Document:
    """Return a reference to a shared answer."""
    return {"$ref": f"#/components/responses/{name}"}


def parameters(*names: str) -> list[Document]:
    """Return references to shared parameters."""
    return [{"$ref": f"#/components/parameters/{name}"} for name in names]


def body(content: Schema) -> Document:
    """Return a request body of JSON."""
    return {"required": True, "content": {"application/json": {"schema": content}}}


def answer(told: str, content: Schema, **headers: str) -> Document:
    """Return an answer of JSON with its headers in words."""
    found = {"description": told, "content": {"application/json": {"schema": content}}}
    told_of = {name: {"description": what, "schema": {"type": "string"}} for name, what in headers.items()}
    return found | ({"headers": told_of} if told_of else {})


def parameter(name: str, place: str, told: str, **rules: Any) -> Document:
    """Return a parameter that is text, with what it is for."""
    required = {"required": True} if place == "path" else {}
    return {"name": name, "in": place, **required, "description": told, "schema": {"type": "string", **rules}}


# Referred to by the routes that read; for the thirty that sell, references would cost four kilobytes, and the 402 of each says so.
PARAMETERS: Document = {
    "Prefer": parameter(
        "Prefer", "header", "`wait=N`: hold the answer until the job has ended, for N seconds, 60 at most."
    ),
    "Webhook-Url": parameter(
        "Webhook-Url", "header", "https address to call when the job ends; see /docs/waiting.", format="uri"
    ),
    "Idempotency-Key": parameter(
        "Idempotency-Key",
        "header",
        "Your name of this order: a second payment under it gets the same job.",
        maxLength=255,
    ),
}
SCHEMAS: Document = {"Error": answers.ERROR, "Accepted": answers.ACCEPTED, "Job": answers.JOB}
_OFFERS = {"PAYMENT-REQUIRED": "Base64 JSON, x402 v2.", "WWW-Authenticate": "One Payment challenge for each MPP offer."}
_RECEIPTS = {
    "PAYMENT-RESPONSE": "Base64 JSON: the receipt of x402.",
    "Payment-Receipt": "The receipt of MPP.",
    "Poll-Token": "Reads this job as `Authorization: Bearer`.",
}
RESPONSES: Document = {
    "200": answer(
        "Paid: the job is being made; with `Prefer: wait=N`, the job itself.",
        {"anyOf": [reference("Accepted"), reference("Job")]},
        **_RECEIPTS,
    ),
    "202": answer(
        "The payment's outcome is not known yet: send the same request again, never a new payment.", answers.UNKNOWN
    ),
    "402": answer(
        "To be paid: the offers are in the headers. The paid request takes the headers in `components.parameters`, too.",
        {"type": "object"},
        **_OFFERS,
    ),
    "SignIn": answer("Sign in: `extensions.sign-in-with-x` is the challenge.", {"type": "object"}, **_OFFERS),
    "Job": answer("The job.", reference("Job")),
    "Messages": answer("The address, the secret of its signatures, and what was told.", answers.MESSAGES),
    "Models": answer("Offerings.", answers.MODELS),
    "default": answer(
        "An error; nothing more was charged. 400: `issues` names every field at fault. 403: another wallet's. 409: the payment "
        "bought something else, or the job's state forbids it. 410: its vendor ended the model; `successor` is another. "
        "429: wait as Retry-After says. "
        "503: nobody can make this here now.",
        reference("Error"),
    ),
}
