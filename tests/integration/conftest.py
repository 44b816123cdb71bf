"""Buyers of the shared service, each with a wallet of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.service import Buyer, Service


@pytest.fixture
def pauper(studio: Service) -> Iterator[Buyer]:
    """A wallet without money."""
    with Buyer(studio.url) as buyer:
        yield buyer


@pytest.fixture
def buyer(pauper: Buyer) -> Buyer:
    """A wallet with 100 test dollars."""
    return pauper.fund()
