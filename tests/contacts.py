"""Whom this process looks up and connects to, told by the interpreter itself, whoever in it does so."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

_EVENTS = frozenset(
    {
        "socket.connect",
        "socket.getaddrinfo",
        "socket.gethostbyname",
        "socket.sendmsg",
        "socket.sendto",
    }
)

ears: list[Callable[[str], object]] = []
"""Who is told; the newest alone."""


@contextmanager
def heard() -> Iterator[list[str]]:
    """Record every look-up and connection of this process while the block runs: `socket.connect 127.0.0.1 80`.

    What would leave this machine is recorded and then refused, so that no failing test reaches anybody.
    """
    log: list[str] = []
    ears.append(log.append)
    try:
        yield log
    finally:
        ears.pop()


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    if not ears or event not in _EVENTS:
        return
    place = arguments[:1] if event.startswith("socket.get") else arguments[1]
    if not isinstance(place, tuple):  # a file of this machine, or where the socket is connected to already
        return
    ears[-1](" ".join(map(str, (event, *place[:2]))))
    if not str(place[0]).startswith(("127.", "localhost")):
        raise ConnectionRefusedError(f"{event} leads away from this machine")


sys.addaudithook(_hear)


def answering(answers: Mapping[str, Sequence[str]]) -> Callable[..., list[Any]]:
    """Return a `socket.getaddrinfo` whose name server says this of these names; all others are looked up as ever."""
    real = socket.getaddrinfo

    def look_up(host: Any, port: Any, *arguments: Any, **options: Any) -> list[Any]:
        if host not in answers:
            return real(host, port, *arguments, **options)
        return [
            (socket.AF_INET6 if ":" in each else socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port or 0))
            for each in answers[host]
        ]

    return look_up
