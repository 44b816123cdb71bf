"""Documents over HTTP: the same bytes for everybody, kept by clients for five minutes."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from stablestudio.server.cached import respond_cached
from stablestudio.server.discovery.documents import Document
from stablestudio.server.discovery.openapi import MOST_BYTES
from stablestudio.server.discovery.openapi import PATH as OPENAPI
from stablestudio.server.http import Handler, Receive, Scope, Send, refuse_method, respond_preflight

log = logging.getLogger(__name__)

METHODS = "GET, HEAD"
SECONDS = 300


def document_routes(documents: Mapping[str, Document]) -> dict[str, Handler]:
    """Return a handler for each document, by its path; an OpenAPI document that registries would refuse is warned of."""
    if (size := len(documents[OPENAPI].body)) >= MOST_BYTES:
        log.warning("openapi_too_large", extra={"bytes": size, "most": MOST_BYTES - 1})
    return {path: DocumentRoute(document) for path, document in documents.items()}


class DocumentRoute:
    """One document."""

    def __init__(self, document: Document) -> None:
        self._document = document

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - a body is not read
        if scope["method"] == "OPTIONS":
            return await respond_preflight(send, f"{METHODS}, OPTIONS")
        if scope["method"] not in ("GET", "HEAD"):
            raise refuse_method(scope, METHODS)
        told = self._document
        await respond_cached(scope, send, told.body, content_type=told.content_type, seconds=SECONDS, tag=told.tag)
