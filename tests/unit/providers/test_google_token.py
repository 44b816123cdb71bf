"""Signing in as a service account: the statement is what Google's own library takes, and a token serves until it ends."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Any
from urllib.parse import parse_qs

import pytest
from Crypto.PublicKey import RSA

from stablestudio.config import ConfigurationInvalid
from stablestudio.providers.google_token import SCOPE, TOKEN_URL, GoogleToken, ServiceAccount, statement
from stablestudio.providers.provider import FailureKind, NotAccepted
from tests.doubles import NOW_MS, ManualClock
from tests.providers.loopback import Answer, Loopback, Request, Silence, serving

pytestmark = pytest.mark.anyio

EMAIL = "studio@example.iam.gserviceaccount.com"


@cache
def key() -> RSA.RsaKey:
    return RSA.generate(2048)


def key_file(**changes: Any) -> str:
    pem = key().export_key(pkcs=8).decode()
    document = {
        "type": "service_account",
        "project_id": "studio",
        "private_key_id": "k1",
        "private_key": pem,
        "client_email": EMAIL,
        "token_uri": TOKEN_URL,
    }
    return json.dumps(document | changes)


def decoded(token: str, *, audience: str = TOKEN_URL) -> Mapping[str, Any]:
    """Verify a statement as Google's library does."""
    jwt = pytest.importorskip("google.auth.jwt", reason="Google's library is the judge here")
    claims: Mapping[str, Any] = jwt.decode(
        token, certs=key().public_key().export_key(), audience=audience, clock_skew_in_seconds=10**9
    )
    assert jwt.decode_header(token) == {"alg": "RS256", "typ": "JWT", "kid": "k1"}
    return claims


def test_the_statement_is_what_googles_own_library_takes() -> None:
    claims = decoded(statement(ServiceAccount.parse(key_file()), now_s=NOW_MS // 1000))

    assert (claims["iss"], claims["scope"], claims["aud"]) == (EMAIL, SCOPE, TOKEN_URL)
    assert claims["iat"] <= NOW_MS // 1000
    assert claims["exp"] - claims["iat"] == 3600


def test_a_statement_signed_by_another_key_is_refused() -> None:
    jwt = pytest.importorskip("google.auth.jwt", reason="Google's library is the judge here")
    token = statement(ServiceAccount.parse(key_file()), now_s=NOW_MS // 1000)

    with pytest.raises(ValueError, match="signature"):
        jwt.decode(token, certs=RSA.generate(2048).public_key().export_key(), audience=TOKEN_URL)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "7",
        "{}",
        key_file(private_key="secret words"),
        key_file(private_key=None),
        key_file(client_email=3),
        key_file(private_key=key().public_key().export_key().decode()),
    ],
)
def test_a_wrong_key_file_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(ConfigurationInvalid) as refused:
        ServiceAccount.parse(text)

    assert "service account" in refused.value.message
    assert "secret words" not in refused.value.message


def test_the_private_key_is_in_no_message() -> None:
    assert "PRIVATE" not in repr(ServiceAccount.parse(key_file()))
    assert "RSA" not in repr(ServiceAccount.parse(key_file()))


def token_of(server: Loopback, clock: ManualClock) -> GoogleToken:
    return GoogleToken(ServiceAccount.parse(key_file(), token_url=server.url + "/token"), clock=clock)


async def test_a_token_is_exchanged_once_and_serves_until_a_minute_before_it_ends() -> None:
    issued = 0

    def issue(_: Request) -> Answer:
        nonlocal issued
        issued += 1
        return Answer(json={"access_token": f"ya29.{issued}", "expires_in": 3599, "token_type": "Bearer"})

    clock = ManualClock()
    async with serving(issue) as server:
        token = token_of(server, clock)
        first = await token.headers()
        clock.advance(3599 - 61)
        same = await token.headers()
        clock.advance(2)
        later = await token.headers()
        await token.close()

    assert (first, same) == ({"Authorization": "Bearer ya29.1"}, {"Authorization": "Bearer ya29.1"})
    assert later == {"Authorization": "Bearer ya29.2"}
    asked = server.asked[0]
    form = parse_qs(asked.body.decode())
    assert (asked.method, asked.path) == ("POST", "/token")
    assert asked.headers["content-type"] == "application/x-www-form-urlencoded"
    assert form["grant_type"] == ["urn:ietf:params:oauth:grant-type:jwt-bearer"]
    assert decoded(form["assertion"][0], audience=server.url + "/token")["iss"] == EMAIL


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (Answer(status=400, json={"error": "invalid_grant"}), FailureKind.UPSTREAM_AUTH),
        (Answer(status=401, json={"error": "invalid_client"}), FailureKind.UPSTREAM_AUTH),
        (Answer(json={"token_type": "Bearer"}), FailureKind.UPSTREAM_ERROR),
        (Answer(json={"access_token": "two\nlines"}), FailureKind.UPSTREAM_ERROR),
        (Answer(body=b"<html>"), FailureKind.UPSTREAM_ERROR),
        (Answer(status=500), FailureKind.UPSTREAM_ERROR),
        (Answer(status=429), FailureKind.RATE_LIMITED),
        (Silence.RESET, FailureKind.UPSTREAM_ERROR),
    ],
)
async def test_without_a_token_nothing_was_asked_for(answer: Answer | Silence, kind: FailureKind) -> None:
    async with serving(lambda _: answer) as server:
        token = token_of(server, ManualClock())
        with pytest.raises(NotAccepted) as refused:
            await token.headers()
        await token.close()

    assert refused.value.kind is kind


async def test_a_life_that_is_not_told_is_an_hour() -> None:
    clock = ManualClock()
    async with serving(lambda _: Answer(json={"access_token": "ya29.1"})) as server:
        token = token_of(server, clock)
        await token.headers()
        clock.advance(3500)
        await token.headers()
        await token.close()

    assert server.submits() == 1
