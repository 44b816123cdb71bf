"""The client of one facilitator: what is sent, where it may go, and what a fault of the network means."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx2
import pytest

from stablestudio.payments.facilitators.answers import Answer, Passed, Silent, Submission
from stablestudio.payments.facilitators.client import (
    MAX_BODY,
    Facilitator,
    FacilitatorRefusesUs,
    FacilitatorUnreachable,
    FacilitatorUnusable,
    NetworkNotServed,
)
from stablestudio.payments.rail import Settled, Unknown
from tests.doubles import BUYER
from tests.fakes.facilitator import NETWORK, SUPPORTED

pytestmark = pytest.mark.anyio

TX = "0x" + "7a" * 32
SUBMISSION = Submission(
    key="key", network=NETWORK, payer=BUYER.address, amount=1, expires_at=2_000_000_000, content=b'{"a":1}'
)
PAID = {"success": True, "transaction": TX, "network": NETWORK}
Handler = Callable[[httpx2.Request], httpx2.Response]


def client(handler: Handler, *, url: str = "https://pay.example/v2/x402/", **options: Any) -> Facilitator:
    return Facilitator(url, transport=httpx2.MockTransport(handler), **options)


def reply(status: int, body: Any) -> httpx2.Response:
    """An answer that is streamed, as answers from the network are."""

    async def stream() -> AsyncIterator[bytes]:
        yield body if isinstance(body, bytes) else json.dumps(body).encode()

    return httpx2.Response(status, content=stream())


def failing(error: type[Exception]) -> Handler:
    def handler(_: httpx2.Request) -> httpx2.Response:
        raise error("no")

    return handler


async def test_settle_posts_the_bytes_to_settle_under_the_base_path() -> None:
    seen: list[httpx2.Request] = []

    def handler(request: httpx2.Request) -> httpx2.Response:
        seen.append(request)
        return reply(200, PAID)

    facilitator = client(handler)

    assert await facilitator.settle(SUBMISSION) == Settled(transaction=TX)
    assert [(each.method, str(each.url), each.content) for each in seen] == [
        ("POST", "https://pay.example/v2/x402/settle", b'{"a":1}')
    ]
    assert seen[0].headers["content-type"] == "application/json"
    assert seen[0].headers["accept-encoding"] == "identity"
    assert facilitator.name == "pay.example/v2/x402"
    await facilitator.close()


async def test_headers_are_asked_for_afresh_with_method_and_address() -> None:
    asked: list[tuple[str, str]] = []

    class Auth:
        def headers(self, method: str, url: str) -> dict[str, str]:
            asked.append((method, url))
            return {"Authorization": f"Bearer {len(asked)}"}

    sent: list[str] = []

    def handler(request: httpx2.Request) -> httpx2.Response:
        sent.append(request.headers["authorization"])
        return reply(200, SUPPORTED if request.method == "GET" else PAID | {"isValid": True})

    facilitator = client(handler, auth=Auth())
    await facilitator.served(network=NETWORK)
    await facilitator.verify(SUBMISSION)
    await facilitator.settle(SUBMISSION)

    base = "https://pay.example/v2/x402"
    assert asked == [("GET", f"{base}/supported"), ("POST", f"{base}/verify"), ("POST", f"{base}/settle")]
    assert sent == ["Bearer 1", "Bearer 2", "Bearer 3"]


@pytest.mark.parametrize(
    ("fault", "meaning"),
    [
        (httpx2.ConnectError, Passed(reason="facilitator_unreachable")),
        (httpx2.ConnectTimeout, Passed(reason="facilitator_unreachable")),
        (httpx2.PoolTimeout, Passed(reason="facilitator_unreachable")),
        (httpx2.ProxyError, Passed(reason="facilitator_unreachable")),
        (httpx2.ReadTimeout, Silent()),
        (httpx2.WriteTimeout, Silent()),
        (httpx2.ReadError, Unknown(reason="facilitator_broke_off")),
        (httpx2.WriteError, Unknown(reason="facilitator_broke_off")),
        (httpx2.CloseError, Unknown(reason="facilitator_broke_off")),
        (httpx2.RemoteProtocolError, Unknown(reason="facilitator_broke_off")),
        (httpx2.LocalProtocolError, Unknown(reason="facilitator_broke_off")),
    ],
)
async def test_only_what_was_never_sent_may_go_to_another(fault: type[Exception], meaning: Answer) -> None:
    assert await client(failing(fault)).settle(SUBMISSION) == meaning


@pytest.mark.parametrize("fault", [httpx2.ConnectError, httpx2.ReadTimeout, httpx2.ReadError, httpx2.WriteTimeout])
async def test_lost_verdict_is_no_doubt_about_money(fault: type[Exception]) -> None:
    verdict = await client(failing(fault)).verify(SUBMISSION)

    assert isinstance(verdict, Passed)
    assert verdict.sure


@pytest.mark.parametrize("excess", [0, 1])
async def test_body_is_read_up_to_the_limit(excess: int) -> None:
    body = json.dumps(PAID).encode().ljust(MAX_BODY + excess)
    answer = await client(lambda _: reply(200, body)).settle(SUBMISSION)

    assert answer == (Unknown(reason="facilitator_broke_off") if excess else Settled(transaction=TX))


@pytest.mark.parametrize(
    "url",
    [
        "http://pay.example/x402",
        "ftp://pay.example",
        "pay.example",
        "",
        "https://",
        "https://key:secret@pay.example/",
        "https://pay.example/?key=secret",
        "https://pay.example/#secret",
        "https://pay.example:99999999/",
        "https://[::1/",
    ],
)
def test_address_that_could_show_secrets_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(FacilitatorUnusable) as caught:
        Facilitator(url)

    assert "secret" not in f"{caught.value!r}"


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8402/x402", "http://[::1]:1", "http://localhost", "https://a.example"]
)
async def test_plain_http_is_for_this_machine_only(url: str) -> None:
    facilitator = Facilitator(url)
    assert repr(facilitator) == f"Facilitator({url!r})"
    await facilitator.close()


async def test_served_tells_kind_and_signers_of_a_network() -> None:
    facilitator = client(lambda _: reply(200, SUPPORTED))
    served = await facilitator.served(network=NETWORK)

    assert (served.facilitator, served.scheme, served.network) == ("pay.example/v2/x402", "exact", NETWORK)
    assert served.signers == ("0x209693Bc6afc0C5328bA36FaF03C514EF312287C",)
    assert served.fee_payer is None


async def test_served_tells_the_fee_payer_of_solana() -> None:
    facilitator = client(lambda _: reply(200, SUPPORTED))
    served = await facilitator.served(network="solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1")

    assert served.fee_payer == "CKPKJWNdJEqa81x7CkZ14BVPiY6y16Sxs7owznqtWYp5"
    assert served.signers == ()


def kinds(*offered: dict[str, Any]) -> dict[str, Any]:
    return {"kinds": list(offered), "extensions": [], "signers": {}}


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (200, kinds(), NetworkNotServed),
        (200, kinds({"x402Version": 1, "scheme": "exact", "network": NETWORK}), NetworkNotServed),
        (200, kinds({"x402Version": 2, "scheme": "upto", "network": NETWORK}), NetworkNotServed),
        (200, kinds({"x402Version": 2, "scheme": "exact", "network": "eip155:8453"}), NetworkNotServed),
        (200, {"kinds": None}, FacilitatorUnusable),
        (200, {"kinds": ["exact"]}, FacilitatorUnusable),
        (200, "hello", FacilitatorUnusable),
        (301, "", FacilitatorUnusable),
        (404, "", FacilitatorUnusable),
        (401, "", FacilitatorRefusesUs),
        (403, "", FacilitatorRefusesUs),
        (429, "", FacilitatorUnreachable),
        (500, "", FacilitatorUnreachable),
        (503, kinds({"x402Version": 2, "scheme": "exact", "network": NETWORK}), FacilitatorUnreachable),
    ],
)
async def test_start_is_told_what_is_wrong_with_a_facilitator(
    status: int, body: Any, error: type[FacilitatorUnusable]
) -> None:
    facilitator = client(lambda _: reply(status, body))

    with pytest.raises(FacilitatorUnusable) as caught:
        await facilitator.served(network=NETWORK)
    assert type(caught.value) is error
    assert "pay.example/v2/x402" in caught.value.message


async def test_kinds_of_a_shape_to_come_do_not_hide_the_known() -> None:
    body = kinds({"later": [1]}, {"x402Version": 2, "scheme": "exact", "network": NETWORK, "extra": "odd"})
    served = await client(lambda _: reply(200, body)).served(network=NETWORK)

    assert served.extra == {}


@pytest.mark.parametrize("fault", [httpx2.ConnectError, httpx2.ReadTimeout, httpx2.ReadError])
async def test_facilitator_that_is_away_may_be_back(fault: type[Exception]) -> None:
    with pytest.raises(FacilitatorUnreachable) as caught:
        await client(failing(fault)).served(network=NETWORK)

    assert caught.value.retryable
