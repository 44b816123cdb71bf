"""The client of vendors, without patience, for tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stablestudio.providers.http import VendorHttp
from tests.providers.loopback import Answer, Request, Silence
from tests.providers.troubles import QUICK

KEY = {"Authorization": "Bearer sk-secret"}
OK = Answer(json={"ok": True})


def client(url: str, **options: Any) -> VendorHttp:
    return VendorHttp(name="vendor", base_url=url, auth=KEY, **(QUICK | options))


def in_turn(*answers: Answer | Silence) -> Callable[[Request], Answer | Silence]:
    """Give one answer after the other; the last holds for ever."""
    left = list(answers)
    return lambda _: left.pop(0) if len(left) > 1 else left[0]
