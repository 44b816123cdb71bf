"""`/api/models`, everything that is sold as data, and `/api/models/{model}`, all of one model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import parse_qs

from pydantic_core import to_json

from stablestudio.catalog import OFFERINGS, Kind, Offering, PriceTable
from stablestudio.catalog.spelling import clipped, nearest
from stablestudio.errors import InvalidInput, Issue, StudioError
from stablestudio.providers.bindings import Bindings
from stablestudio.server.cached import respond_cached
from stablestudio.server.discovery.models import detail, summary
from stablestudio.server.documents import METHODS
from stablestudio.server.eta import FRESH_SECONDS, Etas
from stablestudio.server.http import Receive, Scope, Send, refuse_method, respond_preflight

PATH = "/api/models"
PREFIX = f"{PATH}/"
_MODELS = {offering.model for offering in OFFERINGS}


class ModelNotFound(StudioError):
    """There is no such model."""

    status = 404
    hint = "GET /api/models lists the models."


class ModelRoutes:
    """Free routes; what they tell changes with what providers can serve now, and with the history of jobs."""

    def __init__(self, *, prices: PriceTable, bindings: Bindings, etas: Etas, max_upload_bytes: int) -> None:
        self._max_upload_bytes = max_upload_bytes
        self._prices = prices
        self._bindings = bindings
        self._etas = etas

    async def listed(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - a body is not read
        """Serve the list."""
        await self._answer(scope, send, OFFERINGS, summary)

    async def one(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - a body is not read
        """Serve one model with the schemas of its inputs."""
        model = scope["path"][len(PREFIX) :]
        offerings = [offering for offering in OFFERINGS if offering.model == model]
        if not offerings:
            near = nearest(model, _MODELS)
            raise ModelNotFound(
                f"There is no model {clipped(model)!r}" + (f"; did you mean {near!r}?" if near else ".")
            )
        await self._answer(scope, send, offerings, detail)

    async def _answer(
        self, scope: Scope, send: Send, offerings: Sequence[Offering], tell: Callable[..., dict[str, Any]]
    ) -> None:
        if scope["method"] == "OPTIONS":
            return await respond_preflight(send, f"{METHODS}, OPTIONS")
        if scope["method"] not in ("GET", "HEAD"):
            raise refuse_method(scope, METHODS)
        _require_no_filter(scope["query_string"])
        etas = await self._etas.now()
        known = {"prices": self._prices, "max_upload_bytes": self._max_upload_bytes}
        models = [tell(each, eta=etas[each.key], available=self._available(each), **known) for each in offerings]
        body = to_json({"success": True, "models": models})
        await respond_cached(scope, send, body, content_type="application/json", seconds=FRESH_SECONDS)

    def _available(self, offering: Offering) -> bool:
        return offering.kind is Kind.UPLOAD or self._bindings.serves(offering)


def _require_no_filter(query: bytes) -> None:
    try:
        names = parse_qs(query.decode(), keep_blank_values=True, max_num_fields=10)
    except ValueError:
        raise InvalidInput("The query string cannot be read.") from None
    if names:
        issues = [Issue((name,), "unknown_field", f"Unknown filter {name!r}", ()) for name in sorted(names)]
        raise InvalidInput("This list has no filters.", hint="Leave the query out: the answer is whole.", issues=issues)
