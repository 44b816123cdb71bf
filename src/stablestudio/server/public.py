"""What anyone may read for free beside the documents: health, and what each error means."""

from __future__ import annotations

from collections.abc import Iterator

from starlette.requests import Request
from starlette.responses import Response

from stablestudio import __version__
from stablestudio.errors import ISSUE_CODES, StudioError
from stablestudio.media.room import Room
from stablestudio.server.answers import answer


class PublicRoutes:
    """Free routes."""

    def __init__(self, *, networks: list[str], world: str, room: Room) -> None:
        self._networks = networks
        self._room = room
        self._world = world

    async def health(self, request: Request) -> Response:  # noqa: ARG002 - nothing is asked
        """Tell that the service answers, whether its money is real, and whether it sells at the moment."""
        body = {"status": "ok", "version": __version__, "world": self._world, "networks": self._networks}
        return answer(body | {"ready": self._room.problem is None})


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
