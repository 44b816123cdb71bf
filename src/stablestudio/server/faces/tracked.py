"""Request ids, which OpenAI's clients show to their users: in each answer of a face, and in the log of each refusal."""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from typing import Any

from stablestudio.errors import StudioError
from stablestudio.ids import new_id
from stablestudio.server.http import Handler, Receive, Scope, Send

log = logging.getLogger(__name__)


def tracked(handler: Handler) -> Handler:
    """Return the handler with an `X-Request-Id` in all its answers."""

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        request_id = new_id("req")

        async def named(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], (b"x-request-id", request_id.encode())]}
            await send(message)

        try:
            await handler({**scope}, receive, named)  # a copy, so that answers go through `named` and no shorter way
        except StudioError as error:
            log.info("request_refused", extra={"request": request_id, "path": scope["path"], "code": error.code})
            error.headers.append(("x-request-id", request_id))
            error.extra["requestId"] = request_id
            raise

    return serve
