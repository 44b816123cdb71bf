"""The OpenAPI document: valid, small enough for registries, and in all of its parts the catalog's."""

from __future__ import annotations

import re
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from stablestudio.catalog import OFFERINGS, Kind, LifecycleState, Offering, PriceTable, find
from stablestudio.catalog.fields import LINK_HELP
from stablestudio.server.discovery.guidance import LONGEST, guidance
from stablestudio.server.discovery.openapi import MOST_BYTES, document
from tests.unit.server.discovery.shops import PRICES, WAYS, bounds, make, size, unfold, whole_schema

DOCUMENT = document(make())
each_offering = pytest.mark.parametrize("offering", OFFERINGS, ids=lambda offering: offering.key)


def sale(offering: Offering, built: dict[str, Any] = DOCUMENT) -> dict[str, Any]:
    operation: dict[str, Any] = unfold(built["paths"][offering.path]["post"], built)
    return operation


@pytest.mark.parametrize(
    "changes", [{}, {"contact": None}, {"ways": WAYS[:1]}, {"ways": WAYS[2:]}, {"offerings": OFFERINGS[:2]}]
)
def test_the_document_is_openapi(changes: dict[str, Any]) -> None:
    OpenAPIV31SpecValidator(document(make(**changes))).validate()


def test_registries_take_it() -> None:
    longest = make(origin="https://a-rather-long-name-of-a-studio.subdomain.of-somebody.example", real_money=False)
    operations = [name for item in DOCUMENT["paths"].values() for name in item if name != "parameters"]

    assert len(operations) <= 40
    assert size(document(longest)) < MOST_BYTES - 2_500, "leave room for dearer prices and another model"
    assert len(guidance(longest)) < LONGEST


def test_each_offering_is_a_path_and_each_paid_path_an_offering() -> None:
    paid = [path for path, item in DOCUMENT["paths"].items() if "x-payment-info" in item.get("post", {})]
    assert paid == [offering.path for offering in OFFERINGS]


@each_offering
def test_a_body_is_described_as_it_is_validated(offering: Offering) -> None:
    body = sale(offering)["requestBody"]["content"]["application/json"]
    described, declared = body["schema"], whole_schema(offering)

    assert body["example"] == offering.input.example
    for told in declared["properties"].values():
        if "description" in told:
            told["description"] = told["description"].replace(f": {LINK_HELP}", "").replace(f", {LINK_HELP}", "")
    del declared["title"], declared["examples"]
    assert {
        **described,
        "properties": {name: _typed(told) for name, told in described["properties"].items()},
    } == declared
    Draft202012Validator.check_schema(described)
    Draft202012Validator(described).validate(body["example"])


def _typed(field: dict[str, Any]) -> dict[str, Any]:
    """Return a field with what its values tell by themselves: of which types they are."""
    if "items" in field:
        return field | {"items": _typed(field["items"])}
    kinds = {type(value) for value in field.get("enum", [field.get("const")])} - {type(None)}
    if kinds == {str, int}:
        rest = {name: value for name, value in field.items() if name != "enum"}
        forms = [[value for value in field["enum"] if isinstance(value, kind)] for kind in (str, int)]
        return rest | {"anyOf": [{"enum": forms[0], "type": "string"}, {"enum": forms[1], "type": "integer"}]}
    return field | {"type": "string"} if kinds == {str} else field


@each_offering
def test_the_price_of_a_route_is_the_catalog_s(offering: Offering) -> None:
    low, high = bounds(offering)
    info, told = sale(offering)["x-payment-info"], sale(offering)["summary"]
    fixed = {"mode": "fixed", "currency": "USD", "amount": low}

    assert info["price"] == (fixed if low == high else {"mode": "dynamic", "currency": "USD", "min": low, "max": high})
    assert info["offers"] == [
        {
            "method": "tempo",
            "intent": "charge",
            "currency": WAYS[2].asset,
            "amount": str(PRICES.floor(offering).micros) if low == high else None,
        }
    ]
    assert [next(iter(each)) for each in info["protocols"]] == ["x402", "mpp"]
    for cell, price in PRICES.cells(offering).items():
        assert (f"{cell} ${price}" if len(offering.cells) > 1 else f"${price}") in told


@each_offering
def test_each_route_tells_every_answer(offering: Offering) -> None:
    responses = sale(offering)["responses"]
    assert set(responses) == {"200", "202", "402", "default"}
    assert set(re.findall(r"(\d{3}):", responses["default"]["description"])) >= {"400", "409", "410", "503"}
    assert set(responses["402"]["headers"]) == {"PAYMENT-REQUIRED", "WWW-Authenticate"}
    sold = responses["200"]["content"]["application/json"]["schema"]
    if offering.kind is Kind.UPLOAD:
        assert "clientToken" in sold["properties"]
    else:
        assert set(responses["200"]["headers"]) == {"PAYMENT-RESPONSE", "Payment-Receipt", "Poll-Token"}
        assert [set(form["required"]) >= {"jobId", "status"} for form in sold["anyOf"]] == [True, True]


def test_every_route_below_a_job_is_told() -> None:
    below = {path.removeprefix("/api/jobs/{jobId}") for path in DOCUMENT["paths"] if path.startswith("/api/jobs/{")}
    assert below == {"", "/events", "/cancel", "/webhooks", "/webhooks/redeliver"}


def test_the_headers_of_a_paid_request_are_told() -> None:
    told = DOCUMENT["components"]["parameters"]
    assert {each["name"] for each in told.values()} == {"Prefer", "Webhook-Url", "Idempotency-Key"}
    assert "components.parameters" in DOCUMENT["components"]["responses"]["402"]["description"]


@each_offering
def test_a_model_that_ends_is_marked(offering: Offering) -> None:
    assert ("deprecated" in sale(offering)) == (offering.lifecycle.state is not LifecycleState.LIVE)


def test_the_document_follows_the_prices_in_force() -> None:
    offering = find("grok", "edit")
    assert offering is not None
    built = document(make(prices=PriceTable(OFFERINGS, overrides={"grok/edit": {"each": "0.5"}})))

    assert sale(offering, built)["x-payment-info"]["price"]["amount"] == "0.50"
    assert sale(offering, built)["x-payment-info"]["offers"][0]["amount"] == "500000"
    assert "$0.50" in sale(offering, built)["summary"]


def test_only_the_protocols_in_force_are_named() -> None:
    offering = OFFERINGS[0]
    x402, mpp = (sale(offering, document(make(ways=ways)))["x-payment-info"] for ways in (WAYS[:1], WAYS[2:3]))

    assert (x402["protocols"], "offers" in x402) == ([{"x402": {}}], False)
    assert ([*mpp["protocols"][0]], len(mpp["offers"])) == (["mpp"], 1)


def test_what_nobody_makes_here_is_no_path() -> None:
    built = document(make(offerings=tuple(each for each in OFFERINGS if each.model == "veo-3.1")))

    assert [path for path in built["paths"] if path.startswith("/api/generate/")] == ["/api/generate/veo-3.1/generate"]
    assert "/api/upload/confirm" not in built["paths"]


@pytest.mark.parametrize(
    ("contact", "told"),
    [
        ("a@b.example", {"name": "Operator", "email": "a@b.example"}),
        ("https://b.example/help", {"name": "Operator", "url": "https://b.example/help"}),
        (None, {"name": "Operator", "url": "https://studio.example/"}),
    ],
)
def test_buyers_learn_whom_to_ask(contact: str | None, told: dict[str, str]) -> None:
    assert document(make(contact=contact))["info"]["contact"] == told


def test_wallet_routes_ask_for_a_signature_and_no_route_for_both() -> None:
    for item in DOCUMENT["paths"].values():
        for name, operation in item.items():
            if name != "parameters":
                signed = operation.get("security", []) != []
                assert signed == (operation["tags"][0] == "Jobs" or operation["summary"] == "Confirm an upload")
                assert not (signed and "x-payment-info" in operation)
    assert DOCUMENT["components"]["securitySchemes"]["siwx"]["name"] == "SIGN-IN-WITH-X"


def test_a_proof_of_mpp_is_offered_where_mpp_is() -> None:
    for ways, proofs in ((WAYS, ["siwx", "mppProof"]), (WAYS[:2], ["siwx"])):
        built = document(make(ways=ways))
        assert list(built["components"]["securitySchemes"]) == [*proofs, "pollToken"]
        assert built["paths"]["/api/jobs"]["get"]["security"] == [{name: []} for name in proofs]
