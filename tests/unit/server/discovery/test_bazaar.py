"""What a 402 tells of the input: it holds against itself, against the catalog and against the protocol's own library."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from x402.extensions.bazaar import validate_discovery_extension
from x402.extensions.bazaar.types import parse_discovery_extension

from stablestudio.catalog import OFFERINGS, Offering
from stablestudio.server.discovery.bazaar import NAME, declare
from tests.strategies import inputs
from tests.unit.server.discovery.shops import make, size, whole_schema

SHOP = make()
each_offering = pytest.mark.parametrize("offering", OFFERINGS, ids=lambda offering: offering.key)


def body_schema(offering: Offering) -> dict[str, Any]:
    schema: dict[str, Any] = declare(offering, shop=SHOP)[NAME]["schema"]["properties"]["input"]["properties"]["body"]
    return schema


@each_offering
def test_the_library_of_the_protocol_finds_it_valid(offering: Offering) -> None:
    judged = validate_discovery_extension(parse_discovery_extension(declare(offering, shop=SHOP)[NAME]))
    assert judged.valid, judged.errors


@each_offering
def test_the_example_is_what_the_route_takes(offering: Offering) -> None:
    sent = declare(offering, shop=SHOP)[NAME]["info"]["input"]["body"]
    offering.read(json.dumps(sent).encode())
    assert sent == offering.input.example


@each_offering
def test_it_has_every_field_value_and_limit_and_no_prose(offering: Offering) -> None:
    told, declared = body_schema(offering), whole_schema(offering)
    for field in declared["properties"].values():
        for silent in ("description", "x-media"):
            field.pop(silent, None)
            field.get("items", {}).pop(silent, None)
    assert told["properties"] == declared["properties"]
    assert told.get("required") == declared.get("required")
    assert "description" not in json.dumps(told)


@settings(max_examples=20)
@given(data=st.data())
@each_offering
def test_its_schema_lets_by_whatever_the_route_takes(offering: Offering, data: st.DataObject) -> None:
    Draft202012Validator(body_schema(offering)).validate(data.draw(inputs(offering)))


@each_offering
def test_it_is_slim_enough_to_travel_back_in_the_payment(offering: Offering) -> None:
    assert size(declare(offering, shop=SHOP)) < 2_600
