"""What anyone may read for free: health, the list of models, and what each error means."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from stablestudio import __version__
from stablestudio.catalog import OFFERINGS, Kind, Offering, PriceTable
from stablestudio.errors import StudioError
from stablestudio.providers.bindings import Bindings
from stablestudio.server.answers import answer


class PublicRoutes:
    """Free routes."""

    def __init__(
        self, *, prices: PriceTable, bindings: Bindings, networks: list[str], world: str, max_upload_bytes: int
    ) -> None:
        self._prices = prices
        self._bindings = bindings
        self._networks = networks
        self._world = world
        self._max_upload_bytes = max_upload_bytes

    async def health(self, request: Request) -> Response:  # noqa: ARG002 - nothing is asked
        """Tell that the service answers, and whether its money is real."""
        return answer({"status": "ok", "version": __version__, "world": self._world, "networks": self._networks})

    async def models(self, request: Request) -> Response:  # noqa: ARG002 - nothing is asked
        """List what is sold."""
        return answer({"success": True, "models": [self._model(offering) for offering in OFFERINGS]})

    async def errors(self, request: Request) -> Response:  # noqa: ARG002 - nothing is asked
        """Explain every error code."""
        return PlainTextResponse(error_page())

    def _model(self, offering: Offering) -> dict[str, Any]:
        lifecycle = offering.lifecycle
        return {
            "model": offering.model,
            "operation": offering.operation,
            "path": offering.path,
            "type": offering.type,
            "kind": offering.kind.value,
            "title": offering.title,
            "priceFrom": str(self._prices.floor(offering)),
            "priceTo": str(self._prices.ceiling(offering)),
            "currency": "USD",
            "pollAfter": offering.poll_after,
            "typicalSeconds": list(offering.typical_seconds),
            "lifecycle": {
                "state": lifecycle.state.value,
                "ends": lifecycle.ends.isoformat() if lifecycle.ends else None,
                "successor": lifecycle.successor,
            },
            "available": offering.kind is Kind.UPLOAD or self._bindings.serves(offering),
            **({"maxBytes": self._max_upload_bytes} if offering.kind is Kind.UPLOAD else {}),
        }


def error_page() -> str:
    """Return every error that a buyer can meet, made from the classes themselves."""
    seen = {error.code: error for error in _all_errors(StudioError) if error.status}
    lines = ["# Errors", ""]
    for code, error in sorted(seen.items()):
        says = (error.__doc__ or "").strip().splitlines()[0]
        again = "yes" if error.retryable else "no"
        lines += [f"## {code}", f"HTTP {error.status}. {says} {error.hint} Retry unchanged: {again}.", ""]
    return "\n".join(lines)


def _all_errors(base: type[StudioError]) -> Iterator[type[StudioError]]:
    for error in base.__subclasses__():
        yield error
        yield from _all_errors(error)
