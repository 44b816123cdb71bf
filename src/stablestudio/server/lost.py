"""Paths that lead nowhere: the answer tells where everything is, and what was probably meant."""

from __future__ import annotations

from collections.abc import Iterable

from stablestudio.catalog.spelling import nearest
from stablestudio.errors import StudioError
from stablestudio.server.discovery.sheet import lost_sheet

_SELLS = "/api/generate/"
_MODELS = "/api/models"
_LONGEST = 200

OTHERS = ("/health", "/ready")
"""What is served without being among the routes by exact path."""


class RouteNotFound(StudioError):
    """There is nothing at this address."""

    status = 404
    hint = "Read one of `links`: all routes are in openapi, and in words in llms; models lists what is sold."


class Lost:
    """Knows every path that is served as it stands."""

    def __init__(self, origin: str, *, paths: Iterable[str]) -> None:
        self._paths = tuple(paths)
        self._origin = origin
        self._links = {
            "openapi": f"{origin}/openapi.json",
            "llms": f"{origin}/llms.txt",
            "models": f"{origin}{_MODELS}",
        }
        self._operations: dict[str, list[str]] = {}
        for each in self._paths:
            if each.startswith(_SELLS):
                model, _, operation = each.removeprefix(_SELLS).partition("/")
                self._operations.setdefault(model, []).append(operation)

    def at(self, path: str) -> RouteNotFound:
        """Return the error for a path."""
        links = dict(self._links)
        if (near := self._nearest(path)) is not None:
            links["nearest"] = f"{self._origin}{near}"
        return RouteNotFound(f"There is nothing at {path[:_LONGEST]!r}.", extra={"links": links})

    def _nearest(self, path: str) -> str | None:
        if f"{path}/".startswith(_SELLS):
            return self._offering(path.removeprefix(_SELLS.rstrip("/")).strip("/"))
        return nearest(path, self._paths)

    def _offering(self, name: str) -> str:
        """Return the route that sells what was meant: where a model has no such operation, its first, which makes from text."""
        asked, _, wish = name.partition("/")
        model = nearest(asked, self._operations)
        if model is None:
            return _MODELS
        operations = self._operations[model]
        return f"{_SELLS}{model}/{nearest(wish, operations) or operations[0]}"


def page(error: RouteNotFound, path: str) -> bytes:
    """Return the error as a page for people."""
    return lost_sheet(path[:_LONGEST], links=error.extra["links"])
