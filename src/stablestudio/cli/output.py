"""The one way out: results to standard output, for people or as one JSON document; talk, progress and errors to standard error."""

from __future__ import annotations

import json
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TextIO

import click

from stablestudio.client import Sent

_TICK = 0.25
_MOVING = {"loading", "uploading", "asking"}


# Control characters but tab, those that turn the direction of what is shown, and halves of characters.
_UNSEEN = re.compile(r"[\x00-\x08\n-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(line: str) -> str:
    """Return a line with escapes, as JSON has them, for what a terminal would obey instead of showing it."""
    return _UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", line)


class Output:
    """Decides once how to speak: JSON where standard output is piped or where it was asked for."""

    def __init__(self, *, as_json: bool = False) -> None:
        self.machine = as_json or not sys.stdout.isatty()
        self.interactive = sys.stdin.isatty() and sys.stderr.isatty()
        self._colour = _wants_colour(sys.stderr)
        self._lively = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"

    def result(self, document: Mapping[str, Any], *lines: str) -> None:
        """Write the command's one result: the document for programs, the lines for people."""
        click.echo(_document(document, indent=1) if self.machine else "\n".join(map(visible, lines)))

    def listing(self, documents: Iterable[Mapping[str, Any]], *lines: str) -> None:
        """Write a list of any length: a document a line for programs, the lines for people."""
        for each in map(_document, documents) if self.machine else map(visible, lines):
            click.echo(each)

    def say(self, text: str) -> None:
        """Tell people what goes on."""
        click.echo("\n".join(map(visible, text.split("\n"))), err=True)

    def fail(self, document: Mapping[str, Any], *lines: str) -> None:
        """Tell an error: first what happened, then what to do, then what became of the money."""
        first, *rest = map(visible, lines)
        click.echo("\n".join([self._styled(f"Error: {first}", fg="red"), *rest]), err=True)
        if self.machine:
            click.echo(_document(document, indent=1))

    def progress(self) -> Progress:
        """Return a line that lives while something is awaited; off a terminal it only tells changes."""
        return Progress(self.say, stream=sys.stderr if self._lively else None)

    def _styled(self, text: str, *, fg: str) -> str:
        return click.style(text, fg=fg) if self._colour else text


class Progress:
    """Elapsed time, state and percent of a job or an upload."""

    def __init__(self, say: Callable[[str], None], *, stream: TextIO | None) -> None:
        self._say = say
        self._stream = stream
        self._began = time.monotonic()
        self._state = ""
        self._told = ""

    def update(self, status: str, percent: float | None) -> None:
        """Take a new state of the job."""
        self._state = status if percent is None or status not in _MOVING else f"{status} {percent:.0f}%"
        if self._stream is not None:
            self._draw()
        elif status != self._told:
            self._told = status
            self._say(f"{self._elapsed()}  {status}")

    def upload(self, sent: Sent) -> None:
        """Take how much of a file has arrived."""
        self.update("uploading", sent.percent)

    def sleep(self, seconds: float) -> None:
        """Sleep, and keep the clock on the line going."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            time.sleep(min(left, _TICK) if self._stream is not None and self._state else left)
            self._draw()

    @contextmanager
    def during(self, status: str) -> Iterator[None]:
        """On a terminal, keep the clock going beside work that tells nothing of itself."""
        if self._stream is None:
            yield
            return
        over = threading.Event()

        def tick() -> None:
            while not over.wait(_TICK):
                self._draw()

        self.update(status, None)
        ticking = threading.Thread(target=tick, daemon=True)
        ticking.start()
        try:
            yield
        finally:
            over.set()
            ticking.join()
            self.clear()

    def clear(self) -> None:
        """Take the line away."""
        if self._stream is not None and self._state:
            self._write("")
        self._state = ""

    def _draw(self) -> None:
        if self._stream is not None and self._state:
            self._write(f"{self._elapsed()}  {self._state}")

    def _write(self, text: str) -> None:
        if self._stream is not None:
            self._stream.write(f"\r\x1b[K{visible(text)}")
            self._stream.flush()

    def _elapsed(self) -> str:
        minutes, seconds = divmod(int(time.monotonic() - self._began), 60)
        return f"{minutes}:{seconds:02d}"


def _wants_colour(stream: TextIO) -> bool:
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _document(document: Mapping[str, Any], *, indent: int | None = None) -> str:
    text = json.dumps(document, ensure_ascii=False, indent=indent)
    return "\n".join(map(visible, text.split("\n")))
