from __future__ import annotations

import base64
import copy
import json
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stablestudio.client.conformance import RULES
from stablestudio.client.conformance.documents import read_shelf, unfit_body
from stablestudio.client.conformance.exchange import Answer, Exchange, Purpose
from stablestudio.client.conformance.mpp import read_challenges
from stablestudio.client.conformance.survey import judge
from stablestudio.protocols import siwx
from stablestudio.protocols.x402 import PaymentRequired, Resource

from .honest import (
    ANSWERS,
    ASKED,
    DOCUMENT,
    EVM,
    OFFERS,
    ORIGIN,
    PATH,
    SIGN_IN,
    challenge,
    error,
    exchange,
    offers,
    with_headers,
)

P = Purpose


def document(change: Callable[[dict[str, Any]], Any]) -> Exchange:
    changed = copy.deepcopy(DOCUMENT)
    change(changed)
    return exchange(P.DOCUMENT, Answer(status=200, body=json.dumps(changed).encode()))


def sale(change: Callable[[dict[str, Any]], Any]) -> Exchange:
    return document(lambda whole: change(whole["paths"][PATH]["post"]))


def sold(required: PaymentRequired = OFFERS, **more: Any) -> Exchange:
    return with_headers(P.EMPTY, payment_required=offers(required, **more))


def asked_by_mpp(value: str) -> Exchange:
    return with_headers(P.EMPTY, www_authenticate=value)


def sign_in(change: Callable[[dict[str, Any]], Any]) -> Exchange:
    changed = copy.deepcopy(SIGN_IN)
    change(changed)
    seen = with_headers(P.SIGN_IN, payment_required=siwx.encode_challenge(changed))
    return replace(seen, answer=replace(seen.answer, body=json.dumps(changed).encode()))


def info(**changed: object) -> Exchange:
    return sign_in(lambda body: body["extensions"]["sign-in-with-x"]["info"].update(changed))


def many(count: int) -> dict[str, Any]:
    return {f"/{number}": {"get": {}} for number in range(count)}


SOLANA = replace(EVM, network="solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp", extra={})
URL_SAFE = base64.urlsafe_b64encode(json.dumps(OFFERS.wire() | {"error": "?>?>"}).encode()).decode()
SPOILS: list[tuple[str, Exchange]] = [
    ("server_error", exchange(P.EMPTY, error(500))),
    ("server_error", exchange(P.BROKEN, error(502))),
    ("rate_limited", exchange(P.EXAMPLE, error(429))),
    ("redirected", exchange(P.EMPTY, Answer(status=308, headers=(("location", "https://other.example/"),)))),
    ("error_not_json", exchange(P.NOWHERE, Answer(status=404, headers=(("content-type", "text/html"),), body=b"<p>"))),
    ("error_not_json", with_headers(P.UNFIT, content_type="application/problem+json")),
    ("error_shape", exchange(P.HUGE, error(413, code=None))),
    ("unknown_route", exchange(P.NOWHERE, replace(error(200)))),
    ("document_missing", exchange(P.DOCUMENT, error(404))),
    ("document_missing", exchange(P.DOCUMENT, Answer(status=200, body=b"[]"))),
    ("document_unreadable", document(lambda whole: whole.pop("info"))),
    ("document_unreadable", document(lambda whole: whole.update(openapi="2.0"))),
    ("document_foreign_server", document(lambda whole: whole.update(servers=[{"url": "http://10.0.0.7:8402"}]))),
    ("document_too_long", document(lambda whole: whole["paths"].update(many(40)))),
    ("document_too_large", document(lambda whole: whole["info"].update(description="x" * 65_536))),
    ("sells_nothing", document(lambda whole: whole["paths"].pop(PATH))),
    ("guidance", document(lambda whole: whole["info"].pop("x-guidance"))),
    ("guidance", document(lambda whole: whole["info"].update({"x-guidance": "x" * 4001}))),
    ("llms_missing", exchange(P.LLMS, error(404))),
    ("price_undeclared", sale(lambda post: post["x-payment-info"].update(price="0.20"))),
    ("price_undeclared", sale(lambda post: post["x-payment-info"]["price"].update(min="0.30"))),
    ("protocols_undeclared", sale(lambda post: post["x-payment-info"].update(protocols=[]))),
    ("body_undeclared", sale(lambda post: post["requestBody"]["content"]["application/json"].pop("schema"))),
    ("example_missing", sale(lambda post: post["requestBody"]["content"]["application/json"].pop("example"))),
    ("payment_response_undeclared", sale(lambda post: post["responses"].pop("402"))),
    ("not_asked_to_pay", exchange(P.EMPTY, error(400))),
    ("not_asked_to_pay", exchange(P.EMPTY, Answer(status=200, body=b"{}"))),
    ("offers_missing", with_headers(P.EMPTY, payment_required=None, www_authenticate='Bearer realm="x"')),
    ("price_differs", sold(accepts=[replace(EVM, amount="10000")])),
    ("price_differs", asked_by_mpp(challenge(amount="200001"))),
    ("price_differs", with_headers(P.EXAMPLE, payment_required=offers(accepts=[replace(EVM, amount="9999")]))),
    ("example_refused", exchange(P.EXAMPLE, error(400))),
    ("not_on_sale", exchange(P.EMPTY, error(503))),
    ("not_on_sale", exchange(P.EXAMPLE, error(410))),
    ("junk_payment", exchange(P.JUNK_X402, error(400))),
    ("junk_payment", exchange(P.JUNK_MPP, Answer(status=200, body=b"{}"))),
    ("offers_unreadable", with_headers(P.EMPTY, payment_required="{}")),
    ("offers_unreadable", with_headers(P.EMPTY, payment_required=base64.b64encode(b'{"x402Version":1}').decode())),
    ("offers_base64", with_headers(P.EMPTY, payment_required=URL_SAFE)),
    ("offers_empty", sold(accepts=[])),
    ("offer_terms", sold(accepts=[replace(EVM, network="eip155:base")])),
    ("offer_terms", sold(accepts=[replace(EVM, max_timeout_seconds=0)])),
    ("offer_extra", sold(accepts=[replace(EVM, extra={"name": "USDC"})])),
    ("offer_extra", sold(accepts=[EVM, SOLANA])),
    ("resource_missing", sold(resource=None)),
    ("resource_foreign", sold(resource=Resource(url=f"http://10.0.0.7:8402{PATH}"))),
    ("resource_foreign", sold(resource=Resource(url=f"{ORIGIN}/api/generate/hen/generate"))),
    ("challenge_unreadable", asked_by_mpp('Payment id="one')),
    ("challenge_unreadable", asked_by_mpp(f'{challenge()}, id="two"')),
    ("challenge_incomplete", asked_by_mpp(challenge(expires=None))),
    ("challenge_realm", asked_by_mpp(challenge(realm="10.0.0.7"))),
    ("challenge_request", asked_by_mpp(challenge(request="e30"))),
    ("challenge_request", with_headers(P.SIGN_IN, www_authenticate=challenge(amount="1"))),
    ("challenge_expires", asked_by_mpp(challenge(expires="2020-01-01T00:00:00Z"))),
    ("challenge_expires", asked_by_mpp(challenge(expires="tomorrow"))),
    ("headers_too_large", with_headers(P.EMPTY, x_more="x" * 16_000)),
    ("headers_large", with_headers(P.EMPTY, x_more="x" * 12_000)),
    ("cached", with_headers(P.EMPTY, cache_control="public, max-age=60")),
    ("cached", with_headers(P.SIGN_IN, cache_control=None)),
    ("cors_hidden", with_headers(P.EMPTY, access_control_allow_origin=None)),
    ("cors_hidden", with_headers(P.EMPTY, access_control_expose_headers="PAYMENT-REQUIRED")),
    ("preflight", exchange(P.PREFLIGHT, error(405))),
    ("preflight", with_headers(P.PREFLIGHT, access_control_allow_headers="*")),
    ("wrong_method", exchange(P.METHOD, error(404))),
    ("wrong_method", exchange(P.METHOD, Answer(status=402, headers=ASKED))),
    ("allow_missing", with_headers(P.METHOD, allow=None)),
    ("wrong_body_for_sale", exchange(P.UNFIT, ANSWERS[P.EMPTY])),
    ("wrong_body_for_sale", exchange(P.BROKEN, Answer(status=200, body=b"{}"))),
    ("wrong_body_status", exchange(P.BROKEN, error(404))),
    ("issues_missing", exchange(P.UNFIT, error(400))),
    ("no_limit", exchange(P.HUGE, error(400))),
    ("sign_in_undeclared", document(lambda whole: whole["paths"].pop("/api/jobs/{jobId}"))),
    ("sign_in_not_asked", exchange(P.SIGN_IN, error(401))),
    ("sign_in_offers", sign_in(lambda body: body.update(accepts=[EVM.wire()]))),
    ("sign_in_header", with_headers(P.SIGN_IN, payment_required=None)),
    ("sign_in_header", sign_in(lambda body: body.update(extensions={}))),
    ("sign_in_body", exchange(P.SIGN_IN, replace(ANSWERS[P.SIGN_IN], body=b"{}"))),
    ("sign_in_nonce", info(nonce="6b0158f5-64ea-8876")),
    ("sign_in_domain", info(domain="10.0.0.7")),
    ("sign_in_domain", info(uri=ORIGIN)),
    ("sign_in_times", info(expirationTime="2020-01-01T00:00:00Z")),
    ("sign_in_times", info(issuedAt="2026-11-21T08:40:21")),
    ("sign_in_chains", sign_in(lambda body: body["extensions"]["sign-in-with-x"].update(supportedChains=[]))),
]


def codes(seen: Exchange) -> set[str]:
    return {finding.rule.code for finding in judge(seen)}


@pytest.mark.parametrize("purpose", Purpose)
def test_nothing_is_found_at_a_seller_that_keeps_the_rules(purpose: Purpose) -> None:
    assert judge(exchange(purpose)) == []


@pytest.mark.parametrize(("code", "seen"), SPOILS, ids=[f"{code}-{n}" for n, (code, _) in enumerate(SPOILS)])
def test_one_broken_rule_is_one_finding(code: str, seen: Exchange) -> None:
    assert codes(seen) == {code}


def test_each_rule_can_be_broken() -> None:
    # That no answer comes is seen by the survey itself.
    assert {code for code, _ in SPOILS} == RULES.keys() - {"no_answer"}


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_each_rule_says_who_relies_on_it_and_how_to_mend_it(rule: Any) -> None:
    assert re.fullmatch(r"[A-Z].*\.", rule.mend)
    assert rule.source
    assert re.fullmatch(r"[a-z0-9_]+", rule.code)


def test_a_token_of_eighteen_decimals_may_cost_the_same() -> None:
    assert codes(sold(accepts=[replace(EVM, amount=str(200_000 * 10**12))])) == set()


def test_either_protocol_alone_is_enough() -> None:
    for missing in ("payment_required", "www_authenticate"):
        assert judge(with_headers(P.EMPTY, **{missing: None})) == []


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ('Payment a="1", b=2', [{"a": "1", "b": "2"}]),
        (r'payment A="say \"x, y\""', [{"a": 'say "x, y"'}]),
        ('Bearer realm="x", Payment a="1",, Payment a="2"', [{"a": "1"}, {"a": "2"}]),
        ("Negotiate, Payment a=1, Basic YWJj==", [{"a": "1"}]),
        ("Negotiate", []),
    ],
)
def test_challenges_are_read_as_rfc_9110_writes_them(line: str, found: list[dict[str, str]]) -> None:
    assert read_challenges(line) == found


@pytest.mark.parametrize("line", ['Payment a="1" b="2"', 'Payment a="1', "Payment a=1, a=2", 'a="1"', "Payment =1"])
def test_what_rfc_9110_does_not_write_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match=r"at|after"):
        read_challenges(line)


def test_a_document_tells_what_sells_and_what_is_signed_in_to() -> None:
    shelf = read_shelf(DOCUMENT)
    assert [(route.path, route.low, route.high) for route in shelf.routes] == [(PATH, "0.01", "0.20")]
    assert shelf.sign_ins == ("/api/jobs/conformance-check",)
    assert unfit_body(shelf.routes[0].schema) == {"prompt": {"unfit": True}}


@pytest.mark.parametrize(
    ("schema", "body"),
    [
        ({}, ["unfit"]),
        ({"properties": {"a": {"type": "string"}}}, ["unfit"]),
        ({"required": ["a", "b"], "properties": {"a": {"type": "object"}}}, {"a": "unfit", "b": {"unfit": True}}),
    ],
)
def test_an_unfit_body_fits_no_reading_of_the_schema(schema: dict[str, Any], body: Any) -> None:
    assert unfit_body(schema) == body


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["paths", "/a", "get", "post", "x-payment-info", "price", "security", "info", "$ref"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)
HEADERS = st.lists(
    st.tuples(
        st.sampled_from(["payment-required", "www-authenticate", "content-type", "allow"]),
        st.text(st.characters(max_codepoint=255), max_size=40) | st.just(challenge()) | st.just(offers()),
    ),
    max_size=3,
).map(tuple)


@given(
    purpose=st.sampled_from(list(Purpose)),
    status=st.sampled_from([200, 204, 308, 400, 402, 404, 405, 429, 500]),
    headers=HEADERS,
    body=st.binary(max_size=40) | JSON.map(lambda value: json.dumps({"openapi": "3.1.0", "paths": value}).encode()),
)
def test_no_answer_is_more_than_can_be_judged(
    purpose: Purpose, status: int, headers: tuple[tuple[str, str], ...], body: bytes
) -> None:
    answer = Answer(status=status, headers=headers, body=body)
    assert all(finding.problem for finding in judge(exchange(purpose, answer)))
    read_shelf(answer.document() or {})


@given(changed=JSON)
def test_no_document_is_more_than_can_be_read(changed: Any) -> None:
    for name in ("info", "servers", "paths"):
        seen = document(lambda whole, name=name: whole.update({name: changed}))  # type: ignore[misc]
        judge(seen)
        read_shelf(seen.answer.document() or {})
    judge(sale(lambda post: post.update({"x-payment-info": changed, "requestBody": changed, "responses": changed})))
