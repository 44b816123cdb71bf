"""`/docs/errors`: what each code means, as a page with anchors for people and as Markdown for programs."""

from __future__ import annotations

from stablestudio.server.accept import prefers_html
from stablestudio.server.cached import respond_cached
from stablestudio.server.discovery.sheet import text_sheet
from stablestudio.server.documents import METHODS, SECONDS
from stablestudio.server.http import Receive, Scope, Send, refuse_method, respond_preflight
from stablestudio.server.public import error_page

PATH = "/docs/errors"


async def explain(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001 - a body is not read
    """Explain every error code."""
    if scope["method"] == "OPTIONS":
        return await respond_preflight(send, f"{METHODS}, OPTIONS")
    if scope["method"] not in ("GET", "HEAD"):
        raise refuse_method(scope, METHODS)
    text, kind = error_page(), "text/markdown"
    body = text.encode()
    if prefers_html(scope):
        body, kind = text_sheet(text), "text/html"
    content_type = f"{kind}; charset=utf-8"
    await respond_cached(scope, send, body, content_type=content_type, seconds=SECONDS, more=[(b"vary", b"Accept")])
