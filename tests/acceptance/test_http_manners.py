"""The manners of a seller on HTTP: methods, preflights, challenges, errors and limits as the contract promises them."""

from __future__ import annotations

import base64
import json
import re
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from stablestudio.catalog import OFFERINGS, Kind, Offering, PriceTable
from stablestudio.protocols import siwx, x402
from tests.acceptance.raw_http import Answer, HeaderLines, check_error, exchange, request
from tests.service import Buyer, Service

PATH = "/api/generate/nano-banana/generate"
BODY = {"prompt": "a lighthouse at dusk"}
SELLING = [offering for offering in OFFERINGS if offering.kind is not Kind.UPLOAD]
PAYMENT_HEADERS = {"PAYMENT-REQUIRED", "PAYMENT-RESPONSE", "WWW-Authenticate", "Payment-Receipt"}
MAX_BODY = 16_000_000  # the default
SPOOFED: HeaderLines = [
    (b"host", b"evil.example:666"),
    (b"x-forwarded-host", b"evil.example"),
    (b"x-forwarded-proto", b"https"),
    (b"forwarded", b"host=evil.example;proto=https"),
    (b"x-original-url", b"/evil"),
]


@pytest.fixture
def client(studio: Service) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=studio.url, trust_env=False, timeout=30) as client:
        yield client


@pytest.fixture
def buyer(studio: Service) -> Iterator[Buyer]:
    buyer = Buyer(studio.url).fund()
    yield buyer
    buyer.http.close()


def _name(offering: Offering) -> str:
    return offering.key


each_offering = pytest.mark.parametrize("offering", SELLING, ids=_name)


def _heard(answer: httpx2.Response) -> dict[str, Any]:
    """Check an error's shape and return its body."""
    return check_error(
        Answer(status=answer.status_code, headers=list(answer.headers.multi_items()), body=answer.content)
    )


def _challenge(answer: httpx2.Response) -> x402.PaymentRequired:
    assert answer.status_code == 402, answer.text
    return x402.decode_required(answer.headers["PAYMENT-REQUIRED"])


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "PATCH", "PROPFIND"])
def test_a_route_that_sells_takes_post_alone(client: httpx2.Client, method: str) -> None:
    for offering in OFFERINGS:
        answer = client.request(method, offering.path, params=BODY)

        assert answer.status_code == 405
        assert answer.headers["allow"] == "POST"
        assert answer.headers["content-type"] == "application/json"
        if method == "HEAD":
            assert answer.content == b""
        else:
            assert _heard(answer)["code"] == "method_not_allowed"


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/health", {"GET", "HEAD"}),
        ("POST", "/ready", {"GET", "HEAD"}),
        ("DELETE", "/api/models", {"GET", "HEAD"}),
        ("PUT", "/docs/errors", {"GET", "HEAD"}),
        ("GET", "/faucet", {"POST"}),
        ("GET", "/rpc/base-sepolia", {"POST"}),
        ("POST", "/api/jobs", {"GET"}),
        ("POST", "/api/jobs/job_x", {"GET", "DELETE"}),
        ("POST", "/assets/job_x/0.png", {"GET", "HEAD"}),
    ],
)
def test_a_wrong_method_is_an_error_like_any_other(
    client: httpx2.Client, method: str, path: str, allowed: set[str]
) -> None:
    answer = client.request(method, path)

    assert answer.status_code == 405
    assert set(answer.headers["allow"].split(", ")) == allowed
    assert _heard(answer)["code"] == "method_not_allowed"


@pytest.mark.parametrize("path", [*(offering.path for offering in OFFERINGS), "/api/jobs", "/api/jobs/job_x"])
def test_a_browser_of_any_origin_may_buy_and_read(client: httpx2.Client, path: str) -> None:
    asked = {"origin": "https://shop.example", "access-control-request-headers": "payment-signature,content-type"}
    answer = client.options(path, headers={**asked, "access-control-request-method": "POST"})

    assert answer.status_code == 204
    assert answer.content == b""
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "*" in answer.headers["access-control-allow-headers"]
    assert ("POST" if path.startswith(("/api/generate", "/api/upload")) else "GET") in _listed(
        answer, "access-control-allow-methods"
    )
    assert _listed(answer, "access-control-expose-headers") >= PAYMENT_HEADERS
    assert "access-control-allow-credentials" not in answer.headers


def _listed(answer: httpx2.Response, header: str) -> set[str]:
    return set(answer.headers[header].split(", "))


def test_every_answer_shows_its_payment_headers_to_browsers(client: httpx2.Client) -> None:
    for answer in (client.post(PATH), client.post(PATH, content=b"{"), client.get("/api/jobs"), client.get("/nowhere")):
        assert answer.headers["access-control-allow-origin"] == "*"
        assert _listed(answer, "access-control-expose-headers") >= PAYMENT_HEADERS


@each_offering
@pytest.mark.parametrize("filled", [False, True])
def test_a_challenge_has_an_empty_object_and_short_headers(
    client: httpx2.Client, offering: Offering, *, filled: bool
) -> None:
    answer = client.post(offering.path, json=offering.input.example) if filled else client.post(offering.path)

    assert answer.status_code == 402
    assert answer.content == b"{}"
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    # Standard base64 with its padding: clients decode it with `atob`.
    assert re.fullmatch(r"(?:[A-Za-z0-9+/]{4})+(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?", _raw_challenge(answer))
    assert sum(len(name) + len(value) + 4 for name, value in answer.headers.raw) < 12_000


def _raw_challenge(answer: httpx2.Response) -> str:
    return str(answer.headers["PAYMENT-REQUIRED"])


@each_offering
@pytest.mark.parametrize("body", [b"", b" ", b"\r\n\t "])
def test_an_empty_body_is_quoted_the_highest_price(client: httpx2.Client, offering: Offering, body: bytes) -> None:
    required = _challenge(client.post(offering.path, content=body))

    ceiling = PriceTable(OFFERINGS).ceiling(offering).base_units(decimals=6)
    assert {offer.amount for offer in required.accepts} == {str(ceiling)}
    assert required.resource is not None
    assert required.resource.url == str(client.base_url.join(offering.path))


@pytest.mark.parametrize("content_type", [None, "text/plain", "application/x-www-form-urlencoded"])
def test_the_content_type_of_a_body_does_not_matter(client: httpx2.Client, content_type: str | None) -> None:
    headers = {} if content_type is None else {"content-type": content_type}
    cheap = client.post(PATH, content=json.dumps({**BODY, "imageSize": "512"}), headers=headers)
    dear = client.post(PATH, headers=headers)

    assert int(_challenge(cheap).accepts[0].amount) < int(_challenge(dear).accepts[0].amount)


WRONG_BODIES = {
    "an empty object": b"{}",
    "no object": b"[]",
    "null": b"null",
    "half a document": b'{"prompt": "a"',
    "two documents": b'{"prompt": "a"}{"prompt": "a"}',
    "no text": b"\xff\xfe",
    "an unknown field": b'{"prompt": "a", "imagesize": "1K"}',
    "a value that is not sold": b'{"prompt": "a", "imageSize": "8K"}',
    "a field twice": b'{"prompt": "a", "imageSize": "4K", "imageSize": "512"}',
    "a NUL": b'{"prompt": "a\\u0000"}',
}


@pytest.mark.parametrize("paid", [False, True], ids=["unpaid", "paid"])
def test_a_wrong_body_is_refused_with_its_issues_paid_or_not(
    client: httpx2.Client, buyer: Buyer, *, paid: bool
) -> None:
    payment = buyer.sign(PATH, BODY)
    for what, body in WRONG_BODIES.items():
        answer = client.post(PATH, content=body, headers={"PAYMENT-SIGNATURE": payment} if paid else {})

        assert answer.status_code == 400, what
        told = _heard(answer)
        assert told["code"] == "invalid_input", what
        assert told["issues"], what
        assert "payment-required" not in answer.headers
    # None of these touched the payment: it still buys what it was signed for.
    assert buyer.pay(PATH, BODY, payment).status_code == 200


def test_an_empty_body_with_a_payment_is_refused_and_the_payment_stays_good(buyer: Buyer) -> None:
    payment = buyer.sign(PATH, BODY)

    refused = buyer.http.post(PATH, headers={"PAYMENT-SIGNATURE": payment})

    assert refused.status_code == 400
    assert _heard(refused)["charged"] is False
    assert buyer.pay(PATH, BODY, payment).status_code == 200


def test_a_spoofed_host_changes_nothing_in_a_challenge(studio: Service) -> None:
    quoted = _spoofed(studio, "POST", PATH)
    asked = _spoofed(studio, "GET", "/api/jobs/job_x")
    refused = _spoofed(studio, "GET", "/nowhere")

    required = x402.decode_required(quoted.header("payment-required") or "")
    assert required.resource is not None
    assert required.resource.url == studio.url + PATH
    info = asked.json()["extensions"]["sign-in-with-x"]["info"]
    assert info["domain"] == studio.url.removeprefix("http://")
    assert info["uri"] == asked.json()["resource"]["url"] == f"{studio.url}/api/jobs/job_x"
    assert refused.json()["docs"].startswith(f"{studio.url}/docs/errors#")
    assert "evil" not in repr((quoted, asked, refused))


def test_a_spoofed_host_changes_nothing_in_the_answer_to_a_buyer(studio: Service, buyer: Buyer) -> None:
    payment, body = buyer.sign(PATH, BODY), json.dumps(BODY).encode()
    sold = _spoofed(studio, "POST", PATH, [(b"payment-signature", payment.encode())], body).json()
    buyer.wait(sold["jobId"])

    path = f"/api/jobs/{sold['jobId']}"
    proof = [(b"sign-in-with-x", buyer.proof(path)["SIGN-IN-WITH-X"].encode())]
    job = _spoofed(studio, "GET", path, proof).json()

    assert sold["pollUrl"] == job["pollUrl"] == studio.url + path
    assert job["result"]["imageUrl"].startswith(f"{studio.url}/assets/")


def test_a_proof_for_the_spoofed_host_lets_nobody_in(studio: Service, buyer: Buyer) -> None:
    extension = buyer.http.get("/api/jobs").json()["extensions"]["sign-in-with-x"]
    extension["info"] |= {"domain": "evil.example:666", "uri": "http://evil.example:666/api/jobs"}
    proof = siwx.sign(extension, buyer.key, origin="http://evil.example:666")

    refused = _spoofed(studio, "GET", "/api/jobs", [(b"sign-in-with-x", proof.encode())])

    assert refused.status == 402
    assert refused.json()["code"] == "siwx_domain_mismatch"


@pytest.mark.parametrize("path", ["/health/", "/docs/errors/", "/api/models/", "/faucet/", "/api/jobs/", "//health"])
def test_nobody_is_sent_to_a_spoofed_host(studio: Service, path: str) -> None:
    answer = _spoofed(studio, "GET", path)

    assert answer.header("location") is None
    assert answer.status in (402, 404)


def _spoofed(studio: Service, method: str, path: str, headers: HeaderLines = (), body: bytes = b"") -> Answer:
    data = request(method, path, headers=[*SPOOFED[1:], *headers], body=body)
    data = data.replace(b"host: 127.0.0.1\r\n", b"%b: %b\r\n" % SPOOFED[0], 1)
    answer = exchange(studio.port, data, method=method)
    assert answer is not None
    return answer


def test_request_headers_of_32_kb_are_read(studio: Service, buyer: Buyer) -> None:
    # Clients echo the whole challenge, and pay and sign in at once.
    required = buyer.challenge(PATH, BODY)
    payment = x402.sign_exact(required, required.accepts[0], buyer.key, now_s=int(time.time()))
    echoed = x402.encode_payment(payment)
    padded = json.loads(json.dumps(payment.wire()))
    padded["extensions"]["echo"] = "e" * ((16_000 - len(echoed)) * 3 // 4)
    long = x402.encode_payment(x402.decode_payment(_armoured(padded)))
    assert len(long) > 15_000

    answer = buyer.pay(PATH, BODY, long, **{"X-Padding": "p" * (32_768 - len(long))})

    assert answer.status_code == 200, answer.text


def test_request_headers_without_end_are_cut_off(studio: Service) -> None:
    answer = exchange(studio.port, request("GET", "/health", headers=[(b"x-endless", b"a" * 8_000_000)]))

    assert answer is None or answer.status in (400, 431)


def _armoured(value: dict[str, Any]) -> str:
    return base64.b64encode(json.dumps(value).encode()).decode()


@pytest.mark.parametrize(
    "path",
    [
        PATH + "/",
        PATH.upper(),
        PATH.replace("nano", "Nano"),
        "/" + PATH,
        PATH.replace("/generate/nano", "//generate/nano"),
        PATH + "/.",
        PATH + ";v=1",
        PATH + "%20",
        PATH + "%00",
        PATH.replace("/api", "/api/../api"),
        PATH.replace("-", "_"),
        PATH.replace("/api/", "/api/x402/"),
    ],
)
def test_an_address_that_is_nearly_right_sells_nothing(studio: Service, buyer: Buyer, path: str) -> None:
    payment = buyer.sign(PATH, BODY)
    data = request("POST", path, headers=[(b"payment-signature", payment.encode())], body=json.dumps(BODY).encode())
    refused = exchange(studio.port, data, method="POST")

    assert refused is not None
    assert refused.status == 404
    assert check_error(refused)["code"] == "route_not_found"
    assert buyer.http.get("/api/jobs", headers=buyer.proof("/api/jobs")).json()["jobs"] == []


def test_a_body_that_is_too_large_is_refused_by_size(client: httpx2.Client) -> None:
    answer = client.post(PATH, content=b'{"prompt": "' + b"a" * MAX_BODY + b'"}')

    assert answer.status_code == 413
    assert _heard(answer)["code"] == "body_too_large"


def test_a_hostile_body_does_not_hold_up_the_others(client: httpx2.Client) -> None:
    hostile = json.dumps({**BODY, "images": [1] * 1_000_000})
    sender = threading.Thread(target=lambda: client.post("/api/generate/nano-banana/edit", content=hostile))
    slowest = 0.0
    sender.start()
    while sender.is_alive():
        began = time.monotonic()
        assert client.get("/health").status_code == 200
        slowest = max(slowest, time.monotonic() - began)
    sender.join()

    assert slowest < 1.0


def test_the_page_of_errors_has_a_heading_for_each_error_that_is_met(client: httpx2.Client, buyer: Buyer) -> None:
    page = client.get("/docs/errors")
    headings = set(re.findall(r"^## (\S+)$", page.text, re.MULTILINE))
    met = [
        client.get("/nowhere"),
        client.get(PATH),
        client.post(PATH, content=b"{}"),
        client.get("/api/jobs"),
        client.get("/api/jobs/job_x", headers=buyer.proof("/api/jobs/job_x")),
        client.get("/api/jobs", headers={"SIGN-IN-WITH-X": "junk"}),
        client.post(PATH, json=BODY, headers={"PAYMENT-SIGNATURE": "junk"}),
        client.post(PATH, json=BODY, headers=[("PAYMENT-SIGNATURE", "a"), ("PAYMENT-SIGNATURE", "b")]),
        client.get("/assets/job_x/0.png"),
        client.post("/faucet", content=b"{}"),
    ]

    codes = [_heard(answer)["code"] for answer in met]
    assert len(set(codes)) == len(met) - 1  # two of them are wrong inputs
    assert set(codes) <= headings
    assert {_heard(answer)["docs"] for answer in met} == {f"{page.url}#{code}" for code in codes}
