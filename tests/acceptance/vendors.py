"""Vendors on sockets of their own, in a thread beside the test, and services whose jobs those vendors make."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import threading
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from stablestudio.catalog import OFFERINGS, Kind, Offering
from stablestudio.media.probe import probe
from tests.acceptance.stands import VENDORS, Stand
from tests.chaos.zygote import ForkedService, Zygote
from tests.media_samples import clip, image, wav
from tests.providers.fakes import vertex
from tests.service import Buyer

T = TypeVar("T")
OF: Mapping[str, Offering] = {offering.key: offering for offering in OFFERINGS if offering.kind is not Kind.UPLOAD}


class Street:
    """Vendors in a thread of their own, open until it is closed."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._stack = contextlib.AsyncExitStack()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        asyncio.run_coroutine_threadsafe(self._stack.aclose(), self._loop).result(20)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def open(self, opening: AbstractAsyncContextManager[T]) -> T:
        return asyncio.run_coroutine_threadsafe(self._stack.enter_async_context(opening), self._loop).result(20)

    def stand(self, name: str, *, refusing: bool = False) -> Stand:
        """Open the vendor `name`."""
        return self.open(VENDORS[name].open(refusing=refusing))


@dataclass(kw_only=True)
class Plan:
    """What a service is told of its vendors."""

    providers: dict[str, dict[str, Any]] = field(default_factory=dict)
    bindings: dict[str, list[str]] = field(default_factory=dict)

    def environment(self) -> dict[str, str]:
        return {
            "STABLESTUDIO_PROVIDERS": json.dumps(self.providers),
            "STABLESTUDIO_BINDINGS": json.dumps(self.bindings),
            "STABLESTUDIO_LOG_LEVEL": "DEBUG",
        }


class Shop(ForkedService):
    """A service with vendors, whose log tells no key, and a buyer with money in front of it."""

    def __init__(self, data: Path, plan: Plan, *, zygote: Zygote, failpoint: str | None = None) -> None:
        super().__init__(data, zygote=zygote, environment=plan.environment())
        self.buyer = Buyer(self.url)
        self._failpoint = failpoint

    def __enter__(self) -> Self:
        self.start(failpoint=self._failpoint)
        self.buyer.fund()
        return self

    def __exit__(self, *raised: object) -> None:
        super().__exit__(*raised)
        self.buyer.http.close()
        if raised == (None, None, None):
            assert keys_in(self.log.read_text()) == []

    def order(self, key: str, *words: str, **changes: Any) -> str:
        """Buy the example of an offering, with words added to its prompt."""
        return self.buyer.buy(OF[key].path, body(key, *words, **changes))


def keys_in(text: str) -> Sequence[str]:
    """Return the secrets of vendors that a text tells, as it stands or as JSON."""
    found = [vendor.key() for vendor in VENDORS.values() if vendor.key() in text]
    private = json.loads(vertex.key_file())["private_key"]
    return found + [word for word in ("ya29.", "PRIVATE KEY", *private.splitlines()[1:-1]) if word in text]


def body(key: str, *words: str, **changes: Any) -> dict[str, Any]:
    """Return the example of an offering with its media inline, its prompt marked with `words`, and changes."""
    offering = OF[key]
    kinds = {media.url: media.kind for media in offering.read(json.dumps(offering.input.example).encode()).media()}
    given: dict[str, Any] = _inline({**offering.input.example, **changes}, kinds)
    return {name: value for name, value in given.items() if value is not None} | {
        "prompt": " ".join((given["prompt"], *words))
    }


def _inline(value: Any, kinds: Mapping[str, str]) -> Any:
    match value:
        case dict():
            return {name: _inline(each, kinds) for name, each in value.items()}
        case list():
            return [_inline(each, kinds) for each in value]
        case str() if value in kinds:
            return sample(kinds[value])
    return value


@cache
def sample(kind: str) -> str:
    """Return a small file of a kind as a `data:` URI."""
    made = {
        "image": lambda: image(size=(480, 400)),
        "video": lambda: clip(size=(640, 480), seconds=3),
        "audio": lambda: wav(seconds=3),
    }
    data = made[kind]()
    return f"data:{probe(data).content_type};base64,{base64.b64encode(data).decode()}"
