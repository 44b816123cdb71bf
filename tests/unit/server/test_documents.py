"""A document that registries would refuse is warned of, whatever the settings are that made it so large."""

from __future__ import annotations

import logging

import pytest

from stablestudio.server.discovery.documents import documents, made
from stablestudio.server.discovery.openapi import MOST_BYTES, PATH
from stablestudio.server.documents import document_routes
from tests.unit.server.discovery.shops import make


@pytest.mark.parametrize(("size", "warned"), [(MOST_BYTES - 1, False), (MOST_BYTES, True)])
def test_a_document_too_large_for_registries_is_warned_of(
    caplog: pytest.LogCaptureFixture, size: int, *, warned: bool
) -> None:
    with caplog.at_level(logging.WARNING):
        document_routes(documents(make()) | {PATH: made(b" " * size, "application/json")})
    assert [record.message for record in caplog.records] == ["openapi_too_large"] * warned
