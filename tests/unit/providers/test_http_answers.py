"""Answers of vendors: when they say to come back, and what there is to read in them."""

from __future__ import annotations

import time
from email.utils import formatdate
from typing import Any
from urllib.parse import quote

import pytest

from stablestudio.providers.http import (
    Reply,
    Unreadable,
    VendorHttp,
)
from stablestudio.providers.provider import FailureKind, NotAccepted
from tests.providers.clients import client
from tests.providers.loopback import Answer, serving

pytestmark = pytest.mark.anyio

# 429: when to come back


def retry_info(delay: str) -> dict[str, Any]:
    details = [{"@type": "type.googleapis.com/google.rpc.Help"}]
    details.append({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay})
    return {"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "details": details}}


@pytest.mark.parametrize(
    ("headers", "body", "seconds"),
    [
        ({"retry-after-ms": "1500"}, None, 1.5),
        ({"retry-after-ms": "250", "retry-after": "9"}, None, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "9"}, None, 9.0),
        ({"retry-after": "7"}, None, 7.0),
        ({"retry-after": "0.5"}, None, 0.5),
        ({"retry-after": "86400"}, None, 120.0),
        ({"retry-after": "-5"}, None, 0.0),
        ({"retry-after": "nan"}, None, None),
        ({"retry-after": "inf"}, None, None),
        ({"retry-after": "later"}, None, None),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, None, 0.0),
        ({"retry-after": "Wed, 99 Oct 9999999 07:28:00 GMT"}, None, None),
        ({}, retry_info("22s"), 22.0),
        ({}, retry_info("0.750s"), 0.75),
        ({}, [retry_info("3s")], 3.0),
        ({}, retry_info("99999s"), 120.0),
        ({}, retry_info("soon"), None),
        ({}, {"error": "full"}, None),
        ({}, {"error": {"details": [1, None, {}]}}, None),
        ({}, None, None),
    ],
)
async def test_a_vendors_advice_on_when_to_come_back_is_heard_in_every_form(
    headers: dict[str, str], body: Any, seconds: float | None
) -> None:
    async with serving(lambda _: Answer(status=429, headers=headers, json=body)) as vendor:
        http = client(vendor.url)
        with pytest.raises(NotAccepted) as caught:
            await http.submit("POST", "/", json={})
        await http.close()

    assert (caught.value.kind, caught.value.retry_after) == (FailureKind.RATE_LIMITED, seconds)
    assert vendor.submits() == 1


async def test_a_date_to_come_back_at_is_counted_from_now() -> None:
    at = formatdate(time.time() + 60, usegmt=True)
    async with serving(lambda _: Answer(status=429, headers={"retry-after": at})) as vendor:
        http = client(vendor.url)
        with pytest.raises(NotAccepted) as caught:
            await http.submit("POST", "/", json={})
        await http.close()

    assert caught.value.retry_after == pytest.approx(60, abs=3)


async def test_an_adapter_may_tell_an_empty_account_from_a_crowd() -> None:
    def refused(reply: Reply) -> FailureKind:
        return FailureKind.UPSTREAM_QUOTA if reply.document["code"] == "broke" else FailureKind.RATE_LIMITED

    async with serving(lambda _: Answer(status=429, json={"code": "broke"}, headers={"cf-ray": "r"})) as vendor:
        http = client(vendor.url)
        with pytest.raises(NotAccepted) as caught:
            await http.submit("POST", "/", json={}, refused=refused)
        await http.close()

    assert (caught.value.kind, caught.value.request_id) == (FailureKind.UPSTREAM_QUOTA, "r")
    assert "broke" in caught.value.detail


# Replies


@pytest.mark.parametrize("body", [b"", b"<html>", b"{", b"\xff\xfe", b"[" * 100_000])
def test_a_body_that_is_no_json_says_so(body: bytes) -> None:
    reply = Reply(status=200, headers={}, body=body)

    with pytest.raises(Unreadable, match="HTTP 200"):
        reply.json()
    assert reply.document == {}


def test_an_excerpt_is_short_and_printable() -> None:
    reply = Reply(status=500, headers={}, body=b"a\x00\x1b[31mb\n" + "ü".encode() * 5000)

    assert reply.excerpt.startswith("a  [31mb ü")
    assert len(reply.excerpt) <= 500


KEY = "fal_id/with+slash:secret"


@pytest.mark.parametrize(
    "echo", [f"Key {KEY}", KEY, KEY.replace("/", "\\/"), quote(KEY, safe=""), "x" * 480 + KEY, f'"{KEY}"']
)
@pytest.mark.parametrize("status", [200, 401])
async def test_a_key_that_a_vendor_repeats_is_in_no_word_of_its_answer(echo: str, status: int) -> None:
    async with serving(lambda _: Answer(status=status, body=f'{{"detail": "bad key {echo}"}}'.encode())) as vendor:
        http = VendorHttp(name="v", base_url=vendor.url, auth={"Authorization": f"Key {KEY}"})
        reply = await http.ask("GET", "/")
        await http.close()

    for word in ("with+slash", "with%2B", "secret"):
        assert word not in reply.excerpt
        assert word not in repr(reply) or reply.ok
        assert reply.ok or word.encode() not in reply.body


def test_an_answer_of_many_megabytes_is_read_once() -> None:
    reply = Reply(status=200, headers={}, body=b'[{"a": 1}]')

    assert reply.document is reply.document
    assert reply.json() is reply.json()
