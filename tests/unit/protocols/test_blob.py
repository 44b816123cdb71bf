"""Tokens of uploads: what one grants can be read, and nobody else can write one."""

from __future__ import annotations

import pytest

from stablestudio.protocols.blob import BlobTokens, Grant, TokenInvalid


def test_a_token_says_what_was_granted_and_nobody_else_can_write_one() -> None:
    tokens = BlobTokens(b"s" * 32)
    grant = Grant(pathname="uploads/a/b.png", valid_until_ms=5, content_types=("image/png",), max_bytes=9)
    token = tokens.issue(grant)
    assert tokens.read(token) == grant
    assert token.split("_")[3] == tokens.store_id, "clients find the store's id between underscores"
    for wrong in (token[:-4] + "AAAA", token.replace("vercel", "versel"), BlobTokens(b"t" * 32).issue(grant), "", "é"):
        with pytest.raises(TokenInvalid):
            tokens.read(wrong)
