"""The operations of the OpenAPI document that cost nothing: those of a wallet's own things, and those of everybody."""

from __future__ import annotations

from typing import Any

from stablestudio.server.discovery import answers
from stablestudio.server.discovery.components import Document, answer, body, parameter, parameters, response
from stablestudio.server.discovery.schemas import Schema
from stablestudio.server.discovery.shop import Shop

_JOB = "/api/jobs/{jobId}"


def free(shop: Shop) -> Document:
    """Return the operations by their paths."""
    model = parameter("model", "path", "Name.")
    paths: Document = {
        **_jobs(shop),
        "/api/quote": {
            "post": _open("Quote an input", answer("The price.", answers.QUOTE), requestBody=body(_question(shop)))
        },
        "/api/models": {"get": _open("List what is sold", response("Models"))},
        "/api/models/{model}": {"get": _open("Read all about one model", response("Models"), parameters=[model])},
    }
    if "upload" in shop.models:
        confirmed = answer("Confirmed.", answers.UPLOADED)
        sent = body(answers.CONFIRMATION)
        paths["/api/upload/confirm"] = {
            "post": _own(shop, "Confirm an upload", confirmed, tag="Uploads", requestBody=sent)
        }
    return paths


def _jobs(shop: Shop) -> Document:
    job = [parameter("jobId", "path", "Id.")]
    under: dict[str, Document] = {
        "": {
            "get": _own(shop, "Read a job", response("Job"), reads=True, parameters=parameters("Prefer")),
            "delete": _own(shop, "Delete the files of an ended job", answer("Deleted.", answers.DELETED)),
        },
        "/events": {"get": _events(shop)},
        "/cancel": {"post": _own(shop, "End a job early and get its money back", response("Job"))},
        "/webhooks": {"get": _own(shop, "Read what your webhook was told", response("Messages"))},
        "/webhooks/redeliver": {"post": _own(shop, "Tell your webhook once more", response("Messages"))},
    }
    listed = _own(shop, "List your jobs, newest first", answer("A page.", answers.JOBS), parameters=_filters())
    return {"/api/jobs": {"get": listed}} | {
        _JOB + below: {"parameters": job} | operations for below, operations in under.items()
    }


def _events(shop: Shop) -> Document:
    told = {"description": "Server-sent events: state, progress, payment, end.", "content": {"text/event-stream": {}}}
    heard = parameter("Last-Event-ID", "header", "Go on after this event.")
    operation = _own(shop, "Stream a job", told, reads=True, parameters=[heard])
    operation["responses"]["204"] = {"description": "All was heard."}
    return operation


def proofs(shop: Shop) -> list[str]:
    """Return by which schemes a wallet can prove that it is one's own."""
    return ["siwx", *(["mppProof"] if shop.of("mpp") else [])]


def _own(
    shop: Shop, summary: str, answered: Document, *, tag: str = "Jobs", reads: bool = False, **more: Any
) -> Document:
    responses = {"200": answered, "402": response("SignIn"), "default": response("default")}
    security: list[dict[str, list[str]]] = [{name: []} for name in proofs(shop)]
    if reads:
        security.append({"pollToken": []})
    return {"summary": summary, "tags": [tag], "security": security, **more, "responses": responses}


def _open(summary: str, answered: Document, **more: Any) -> Document:
    responses = {"200": answered, "default": response("default")}
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
