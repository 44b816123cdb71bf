"""A seller as it should be, answer by answer, for tests that spoil one thing at a time."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import Any

from stablestudio.client.conformance.documents import read_shelf
from stablestudio.client.conformance.exchange import Answer, Exchange, Purpose, Question
from stablestudio.clock import iso
from stablestudio.protocols import siwx, x402
from stablestudio.protocols.x402 import PaymentRequired, PaymentRequirements, Resource

ORIGIN, PATH, READ = "https://seller.example", "/api/generate/fox/generate", "/api/jobs/conformance-check"
NOW = 1_795_204_579.0
ASKED = (
    ("content-type", "application/json"),
    ("cache-control", "no-store"),
    ("access-control-allow-origin", "*"),
    (
        "access-control-expose-headers",
        "PAYMENT-REQUIRED, PAYMENT-RESPONSE, WWW-Authenticate, Payment-Receipt",
    ),
)
DOCUMENT: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {"title": "Fox", "version": "1", "x-guidance": "Post a prompt."},
    "servers": [{"url": ORIGIN}],
    "paths": {
        PATH: {
            "post": {
                "x-payment-info": {
                    "price": {"mode": "dynamic", "currency": "USD", "min": "0.01", "max": "0.20"},
                    "protocols": [{"x402": {}}],
                },
                "requestBody": {
                    "content": {
                        "application/json": {
                            "schema": {"$ref": "#/components/schemas/Fox"},
                            "example": {"prompt": "a fox"},
                        }
                    }
                },
                "responses": {"200": {}, "402": {}},
            }
        },
        "/api/jobs/{jobId}": {"get": {"security": [{"siwx": []}], "responses": {}}},
    },
    "components": {
        "schemas": {
            "Fox": {"type": "object", "required": ["prompt"], "properties": {"prompt": {"type": "string"}}},
        }
    },
}
EVM = PaymentRequirements(
    network="eip155:8453",
    amount="200000",
    asset="0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913",
    pay_to="0x" + "11" * 20,
    max_timeout_seconds=300,
    extra={"name": "USD Coin", "version": "2"},
)
OFFERS = PaymentRequired(accepts=[EVM], resource=Resource(url=ORIGIN + PATH))
SIGN_IN = siwx.challenge(
    ORIGIN, path=READ, nonce="0123456789abcdef", now_ms=int(NOW * 1000), chains=["eip155:8453", "eip155:4217"]
)


def offers(required: PaymentRequired = OFFERS, **more: Any) -> str:
    return x402.encode_required(replace(required, **more))


def challenge(amount: str = "200000", **changed: str | None) -> str:
    """Return a Payment challenge; None leaves a parameter out."""
    request = json.dumps({"amount": amount, "currency": "0x20c0", "recipient": "0x11"}).encode()
    parameters = {
        "id": "one",
        "realm": "seller.example",
        "method": "tempo",
        "intent": "charge",
        "request": base64.urlsafe_b64encode(request).decode().rstrip("="),
        "expires": iso(int(NOW * 1000) + 300_000),
    } | changed
    return "Payment " + ", ".join(f'{name}="{value}"' for name, value in parameters.items() if value is not None)


def error(status: int, **more: Any) -> Answer:
    body = {"success": False, "error": "It is wrong.", "code": "wrong"} | more
    return Answer(status=status, headers=ASKED, body=json.dumps(body).encode())


def _asked(**values: str) -> Answer:
    headers = [(name.replace("_", "-"), value) for name, value in values.items()]
    return Answer(status=402, headers=(*ASKED, *headers), body=b"{}")


_SOLD = _asked(payment_required=offers(), www_authenticate=challenge())
_WRONG = error(400, issues=[{"path": ["prompt"], "code": "wrong", "message": "must be a text"}])
_PREFLIGHT = (
    ("access-control-allow-methods", "POST, OPTIONS"),
    ("access-control-allow-headers", "*, Authorization"),
)
ANSWERS = {
    Purpose.DOCUMENT: Answer(status=200, body=json.dumps(DOCUMENT).encode()),
    Purpose.LLMS: Answer(status=200, headers=(("content-type", "text/plain"),), body=b"# Fox"),
    Purpose.NOWHERE: error(404),
    Purpose.EMPTY: _SOLD,
    Purpose.EXAMPLE: _SOLD,
    Purpose.JUNK_X402: _SOLD,
    Purpose.JUNK_MPP: _SOLD,
    Purpose.UNFIT: _WRONG,
    Purpose.BROKEN: _WRONG,
    Purpose.HUGE: error(413),
    Purpose.METHOD: replace(error(405), headers=(*ASKED, ("allow", "POST"))),
    Purpose.PREFLIGHT: Answer(status=204, headers=(*ASKED, *_PREFLIGHT)),
    Purpose.SIGN_IN: Answer(
        status=402,
        headers=(
            *ASKED,
            ("payment-required", siwx.encode_challenge(SIGN_IN)),
            ("www-authenticate", challenge(amount="0")),
        ),
        body=json.dumps(SIGN_IN).encode(),
    ),
}


def exchange(purpose: Purpose, answer: Answer | None = None) -> Exchange:
    """Return a question of this purpose with an answer, the honest one unless another is given."""
    route = None if purpose in (Purpose.DOCUMENT, Purpose.LLMS, Purpose.NOWHERE, Purpose.SIGN_IN) else _ROUTE
    path = READ if purpose is Purpose.SIGN_IN else PATH
    question = Question(purpose=purpose, method="POST", path=path, route=route)
    return Exchange(question=question, answer=answer or ANSWERS[purpose], origin=ORIGIN, now_s=NOW)


def with_headers(purpose: Purpose, **changed: str | None) -> Exchange:
    """Return the honest answer with headers changed, added, or left out (None)."""
    named = {name.replace("_", "-"): value for name, value in changed.items()}
    kept = [(name, value) for name, value in ANSWERS[purpose].headers if name not in named]
    added = [(name, value) for name, value in named.items() if value is not None]
    return exchange(purpose, replace(ANSWERS[purpose], headers=(*kept, *added)))


(_ROUTE,) = read_shelf(DOCUMENT).routes
