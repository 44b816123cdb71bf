"""Paths that lead nowhere: the answer tells where everything is, and what was probably meant."""

from __future__ import annotations

from collections.abc import Iterable

from stablestudio.catalog.spelling import nearest
from stablestudio.errors import StudioError

OTHERS = ("/health", "/docs/errors", "/.well-known/webhooks.json")
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
            "models": f"{origin}/api/models",
        }

    def at(self, path: str) -> RouteNotFound:
        """Return the error for a path."""
        links = dict(self._links)
        if (near := nearest(path, self._paths)) is not None:
            links["nearest"] = f"{self._origin}{near}"
        return RouteNotFound(f"There is nothing at {path[:200]!r}.", extra={"links": links})
