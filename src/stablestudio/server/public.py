"""What anyone may read for free beside the documents: health, and what each error means."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from stablestudio import __version__
from stablestudio.errors import ISSUE_CODES, StudioError
from stablestudio.server.answers import answer
from stablestudio.server.readiness import Readiness


class PublicRoutes:
    """Free routes."""

    def __init__(self, *, networks: list[str], world: str, readiness: Readiness) -> None:
        self._networks = networks
        self._readiness = readiness
        self._world = world

    async def health(self, request: Request) -> Response:  # noqa: ARG002 - nothing is asked
        """Tell that the service answers, whether its money is real, and whether it sells at the moment."""
        return answer(self._state())

    async def ready(self, request: Request) -> Response:  # noqa: ARG002 - as above
        """Tell the same with a status that proxies and supervisors read: 200 where it sells, 503 where it does not."""
        state = self._state()
        return answer(state, status=200 if state["ready"] else 503)

    def _state(self) -> dict[str, Any]:
        state = {"status": "ok", "version": __version__, "world": self._world, "networks": self._networks}
        problem = self._readiness.problem
        return state | ({"ready": True} if problem is None else {"ready": False, "reason": problem})


def error_page() -> str:
    """Return every error that a buyer can meet, made from the classes themselves."""
    seen = {error.code: error for error in _all_errors(StudioError) if error.status}
    lines = ["# Errors", ""]
    for code, error in sorted(seen.items()):
        says = (error.__doc__ or "").strip().splitlines()[0]
        again = "yes" if error.retryable else "no"
        lines += [f"## {code}", f"HTTP {error.status}. {says} {error.hint} Retry unchanged: {again}.", ""]
    lines += [
        "# Issues",
        "",
        "What `issues` say of a field, by their `code`; a file's can be the code of an error above.",
        "",
    ]
    lines += [f"- `{code}`: {says}" for code, says in ISSUE_CODES.items()]
    return "\n".join([*lines, ""])


def _all_errors(base: type[StudioError]) -> Iterator[type[StudioError]]:
    for error in base.__subclasses__():
        yield error
        yield from _all_errors(error)
