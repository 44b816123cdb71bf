"""`/openapi.json`: OpenAPI 3.1 of all routes, in the one form that every known registry and validator takes.

`x-payment-info` is AgentCash's (npm @agentcash/discovery, docs/SPECIFICATION.md) and MPP's (`offers`) in one object.
Registries take at most 40 operations and 64 KB: schemas and responses that routes share stand once, in `components`.
"""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import Any

from stablestudio import __version__
from stablestudio.catalog import Kind, LifecycleState, Offering
from stablestudio.catalog.offering import InputType
from stablestudio.server.discovery import answers
from stablestudio.server.discovery.guidance import guidance, headline
from stablestudio.server.discovery.schemas import Schema, folded, whole
from stablestudio.server.discovery.shop import Shop, outlook, typical

Document = dict[str, Any]

_TAGS = {Kind.IMAGE: "Images", Kind.VIDEO: "Video", Kind.UPLOAD: "Uploads"}
_REFUSALS = {
    "400": "The body does not fit; `issues` names every field at fault. Nothing was charged.",
    "409": "This payment bought something else already. Nothing more was charged.",
    "410": "The vendor has ended this model; `successor` is another one. Nothing was charged.",
    "503": "Nobody can make this here now. Nothing was charged.",
}
_SCHEMES = {
    "siwx": {
        "type": "apiKey",
        "in": "header",
        "name": "SIGN-IN-WITH-X",
        "x-agentcash-auth-kind": "siwx",
        "description": "Base64 JSON: the signed challenge that an unsigned request is answered with.",
    },
    "mppProof": {"type": "http", "scheme": "Payment", "description": "An MPP proof of amount 0."},
}


def document(shop: Shop) -> Document:
    """Return the document."""
    inputs, shared = _inputs(shop)
    sales = {offering.path: {"post": _sale(shop, offering, inputs[offering.input])} for offering in shop.offerings}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "StableStudio",
            "version": __version__,
            "description": headline(shop),
            "contact": _contact(shop),
            "x-guidance": guidance(shop),
        },
        "servers": [{"url": shop.origin}],
        "tags": [{"name": name} for name in (*_TAGS.values(), "Jobs", "Free")],
        "x-service-info": {
            "categories": ["ai", "media"],
            "docs": {
                "homepage": f"{shop.origin}/",
                "llms": f"{shop.origin}/llms.txt",
                "apiReference": f"{shop.origin}/openapi.json",
            },
        },
        "x-agentcash-guidance": {"llmsTxtUrl": f"{shop.origin}/llms.txt"},
        "paths": sales | _others(shop),
        "components": {
            "securitySchemes": {name: _SCHEMES[name] for name in _proofs(shop)},
            "schemas": {"Error": answers.ERROR} | shared,
            "responses": _RESPONSES,
        },
    }


def _proofs(shop: Shop) -> list[str]:
    """Return by which schemes a wallet can prove that it is one's own."""
    return ["siwx", *(["mppProof"] if shop.of("mpp") else [])]


def _inputs(shop: Shop) -> tuple[dict[InputType, Schema], dict[str, Schema]]:
    """Return the schema of each input, and what several of them refer to; one that two routes take has a name."""
    routes = Counter(offering.input for offering in shop.offerings)
    schemas, shared = folded(map(whole, routes))
    inputs = dict(zip(routes, schemas, strict=True))
    for each, count in routes.items():
        if count > 1:
            shared[each.__name__] = inputs[each]
            inputs[each] = _schema(each.__name__)
    return inputs, shared


def _contact(shop: Shop) -> dict[str, str]:
    if shop.contact is None:
        return {"name": "Operator", "url": f"{shop.origin}/"}
    return {"name": "Operator", "url" if shop.contact.startswith("https://") else "email": shop.contact}


def _sale(shop: Shop, offering: Offering, schema: Schema) -> Document:
    paid = _response("JobAccepted")
    if offering.kind is Kind.UPLOAD:
        paid = _answer("Paid: a place for the file.", answers.TICKET)
    operation: Document = {
        "summary": _told(shop, offering),
        "tags": [_TAGS[offering.kind]],
        "security": [],
        "x-payment-info": payment_info(shop, offering),
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": schema, "example": offering.input.example}},
        },
        "responses": {"200": paid} | {name: _response(name) for name in ("402", *_REFUSALS, "default")},
    }
    return operation | ({} if offering.lifecycle.state is LifecycleState.LIVE else {"deprecated": True})


def _told(shop: Shop, offering: Offering) -> str:
    ahead = outlook(offering.lifecycle)
    facts = [shop.cells(offering), f"usually {typical(offering)}", *([ahead] if ahead else [])]
    return f"{offering.title}: {'; '.join(facts)}"


def payment_info(shop: Shop, offering: Offering) -> Document:
    """Return what a route costs and how it is paid, as AgentCash, x402scan, MPPScan and mppx read it."""
    floor, ceiling = shop.prices.floor(offering), shop.prices.ceiling(offering)
    fixed = floor == ceiling
    price = {"mode": "fixed", "currency": "USD", "amount": str(floor)}
    span = {"mode": "dynamic", "currency": "USD", "min": str(floor), "max": str(ceiling)}
    info: Document = {
        "price": price if fixed else span,
        "protocols": [{"x402": {}}] if shop.of("x402") else [],
    }
    if charges := shop.of("mpp"):
        charge = {"method": "tempo", "intent": "charge"}
        info["protocols"].append({"mpp": charge | {"currency": "USD"}})
        # The preferred token alone: each address more costs kilobytes, and a challenge names them all.
        amount = charges[0].amount(floor) if fixed else None
        info["offers"] = [charge | {"currency": charges[0].asset, "amount": amount}]
    return info


def _others(shop: Shop) -> Document:
    """Return the routes that cost nothing: those of a wallet's own things, and those of everybody."""
    own = partial(_own, shop)
    job_id = {"name": "jobId", "in": "path", "required": True, "schema": {"type": "string"}}
    model = {"name": "model", "in": "path", "required": True, "schema": {"type": "string"}}
    paths: Document = {
        "/api/jobs": {
            "get": own("List your jobs, newest first", _answer("A page.", answers.JOBS), parameters=_filters())
        },
        "/api/jobs/{jobId}": {
            "parameters": [job_id],
            "get": own("Read a job", _answer("The job.", answers.JOB)),
            "delete": own("Delete the files of an ended job", _answer("Deleted.", answers.DELETED)),
        },
        "/api/quote": {
            "post": _free("Quote an input", _answer("The price.", answers.QUOTE), requestBody=_json(_question(shop)))
        },
        "/api/models": {"get": _free("List what is sold", _response("Models"))},
        "/api/models/{model}": {"get": _free("Read all about one model", _response("Models"), parameters=[model])},
    }
    if "upload" in shop.models:
        confirmed = own("Confirm an upload", _answer("Confirmed.", answers.UPLOADED), tag="Uploads")
        paths["/api/upload/confirm"] = {"post": confirmed | {"requestBody": _json(answers.CONFIRMATION)}}
    return paths


def _own(shop: Shop, summary: str, answer: Document, *, tag: str = "Jobs", **more: Any) -> Document:
    refusals = {name: _response(name) for name in ("400", "default")}
    responses = {"200": answer, "402": _response("SignIn")} | refusals
    security: list[dict[str, list[str]]] = [{name: []} for name in _proofs(shop)]
    return {"summary": summary, "tags": [tag], "security": security, **more, "responses": responses}


def _free(summary: str, answer: Document, **more: Any) -> Document:
    responses = {"200": answer} | {name: _response(name) for name in ("400", "default")}
    return {"summary": summary, "tags": ["Free"], "security": [], **more, "responses": responses}


def _filters() -> list[Document]:
    limit = {"type": "integer", "minimum": 1, "maximum": answers.MOST_LISTED, "default": answers.LISTED}
    schemas: dict[str, Schema] = {
        "limit": limit,
        "status": {"enum": list(answers.STATES)},
        "before": {"type": "string"},
    }
    return [{"name": name, "in": "query", "schema": schema} for name, schema in schemas.items()]


def _question(shop: Shop) -> Schema:
    operations = dict.fromkeys(offering.operation for offering in shop.offerings)
    properties: Schema = {
        "model": {"enum": list(shop.models)},
        "operation": {"enum": list(operations), "description": "May be left out where a model has one."},
        "input": {"type": "object", "description": "The body that the route which sells takes."},
    }
    return answers.record(properties, "operation")


def _json(schema: Schema) -> Document:
    return {"required": True, "content": {"application/json": {"schema": schema}}}


def _answer(told: str, schema: Schema, **headers: str) -> Document:
    content = {"description": told, "content": {"application/json": {"schema": schema}}}
    told_of = {name: {"description": what, "schema": {"type": "string"}} for name, what in headers.items()}
    return content | ({"headers": told_of} if told_of else {})


def _schema(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _response(name: str) -> Document:
    return {"$ref": f"#/components/responses/{name}"}


_ANYTHING: Schema = {"type": "object"}
_OFFERS = {"PAYMENT-REQUIRED": "Base64 JSON, x402 v2.", "WWW-Authenticate": "One Payment challenge for each MPP offer."}
_RESPONSES: Document = {
    "JobAccepted": _answer("Paid: the job is being made.", answers.ACCEPTED),
    "Models": _answer("Offerings.", answers.MODELS),
    "402": _answer("To be paid: the offers are in the headers.", _ANYTHING, **_OFFERS),
    "SignIn": _answer("Sign in: `extensions.sign-in-with-x` is the challenge.", _ANYTHING, **_OFFERS),
    "default": _answer(
        "Any other answer. 202: the payment's outcome is not known yet, send the same again.",
        {"anyOf": [_schema("Error"), {"required": ["success", "payment"]}]},
    ),
} | {status: _answer(told, _schema("Error")) for status, told in _REFUSALS.items()}
