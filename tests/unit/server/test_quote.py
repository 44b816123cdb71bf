"""Quotes: the breakdown adds up to the one price, and a question keeps the faults that it was written with."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stablestudio.catalog import OFFERINGS, Offering, PriceTable
from stablestudio.errors import InvalidInput
from stablestudio.money import Money
from stablestudio.server.eta import estimate
from stablestudio.server.quote import quote, read_question
from tests.strategies import inputs
from tests.unit.server.discovery.shops import WAYS, bounds

PRICES = PriceTable(OFFERINGS)
each_offering = pytest.mark.parametrize("offering", OFFERINGS, ids=lambda offering: offering.key)


def ask(**parts: Any) -> bytes:
    return json.dumps(parts).encode()


def issues(body: bytes) -> list[tuple[tuple[str | int, ...], str]]:
    with pytest.raises(InvalidInput) as refused:
        read_question(body)
    return [(issue.path, issue.code) for issue in refused.value.issues]


@settings(max_examples=20)
@given(data=st.data())
@each_offering
def test_the_breakdown_adds_up_to_the_price_that_is_charged(offering: Offering, data: st.DataObject) -> None:
    body = data.draw(inputs(offering))
    read = offering.read(json.dumps(body).encode())
    price = PRICES.price(offering, read)

    told = quote(offering, read, prices=PRICES, ways=WAYS, eta=estimate(offering, []))

    assert Money.parse(told["price"]) == price
    (line,) = told["breakdown"]
    assert Money.parse(line["unitPrice"]) * line["quantity"] == Money.parse(line["amount"]) == price
    assert Money.parse(line["unitPrice"]) == PRICES.cells(offering)[line["cell"]]
    assert (line["unit"], line["quantity"] == 1) == ("second", False) if offering.per_second else ("each", True)
    assert [Money.from_base_units(int(rail["amount"]), decimals=rail["decimals"]) for rail in told["rails"]] == [
        price for _ in WAYS
    ]
    low, high = bounds(offering)
    assert Money.parse(low) <= price <= Money.parse(high)


@settings(max_examples=20)
@given(data=st.data())
@each_offering
def test_inputs_that_agree_in_the_named_fields_cost_the_same(offering: Offering, data: st.DataObject) -> None:
    reads = [offering.read(json.dumps(data.draw(inputs(offering))).encode()) for _ in range(2)]
    told = [quote(offering, read, prices=PRICES, ways=(), eta=estimate(offering, [])) for read in reads]
    if told[0]["breakdown"][0]["because"] == told[1]["breakdown"][0]["because"]:
        assert told[0]["price"] == told[1]["price"]


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(given_input=st.dictionaries(st.text(), _JSON, max_size=4))
def test_an_input_arrives_as_it_was_written(given_input: Any) -> None:
    _, read = read_question(ask(model="grok", operation="edit", input=given_input))
    assert json.loads(read) == given_input


@pytest.mark.parametrize(
    "written",
    [
        '{"prompt": "a", "prompt": "b"}',
        '{"n": 1.10e2}',
        '{"n": 123456789012345678901234567890}',
        '{"n": NaN}',
    ],
)
def test_faults_of_an_input_are_left_for_the_route_to_find(written: str) -> None:
    _, read = read_question(b'{"model": "grok", "operation": "edit", "input": ' + written.encode() + b"}")
    assert read.decode().replace(" ", "") == written.replace(" ", "")


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (b"", [((), "invalid_json")]),
        (b"{", [((), "invalid_json")]),
        (b"\xff", [((), "invalid_json")]),
        (b"[" * 100_000, [((), "invalid_json")]),
        (b'{"a":' * 100_000, [((), "invalid_json")]),
        (b"[]", [((), "not_an_object")]),
        (b"{}", [(("model",), "missing"), (("input",), "missing")]),
        (ask(model="grok", operation="edit"), [(("input",), "missing")]),
        (ask(model="grok", operation="edit", input={}, size=1), [(("size",), "unknown_field")]),
        (b'{"model": "a", "model": "b", "input": {}}', [(("model",), "duplicate_key")]),
        (ask(model="grok", operation="edit", input="x"), [(("input",), "not_an_object")]),
        (ask(model="grok", operation="edit", input=None), [(("input",), "not_an_object")]),
        (ask(model="grokk", input={}), [(("model",), "not_allowed")]),
        (ask(model=["grok"], input={}), [(("model",), "not_allowed")]),
        (ask(model="grok", input={}), [(("operation",), "not_allowed")]),
        (ask(model="grok", operation="t2v", input={}), [(("operation",), "not_allowed")]),
        (ask(model="grok", operation={}, input={}), [(("operation",), "not_allowed")]),
    ],
)
def test_a_wrong_question_names_what_is_wrong(body: bytes, found: list[Any]) -> None:
    assert issues(body) == found


def test_the_nearest_name_is_told() -> None:
    with pytest.raises(InvalidInput) as refused:
        read_question(ask(model="veo3.1", input={}))
    assert "did you mean 'veo-3.1'?" in refused.value.message
    assert "veo-3.1" in (refused.value.issues[0].allowed or ())


def test_the_only_operation_of_a_model_need_not_be_named() -> None:
    offering, _ = read_question(ask(model="veo-3.1", input={}))
    assert offering.key == "veo-3.1/generate"
