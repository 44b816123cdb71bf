"""Every price of the contract, cell by cell, and what operators may change."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from stablestudio.catalog import OFFERINGS, Offering, PriceTable, by_path
from stablestudio.errors import InvalidInput
from stablestudio.money import Money
from tests.strategies import inputs

PRICES = PriceTable(OFFERINGS)
IMAGE = "https://example.com/a.png"


def offered(key: str) -> Offering:
    offering = by_path("/api/upload" if key == "upload" else f"/api/generate/{key}")
    assert offering is not None
    return offering


def price(key: str, body: dict[str, Any], *, table: PriceTable = PRICES) -> str:
    offering = offered(key)
    return str(table.price(offering, offering.read(json.dumps(body).encode())))


def with_media(key: str, body: dict[str, Any]) -> dict[str, Any]:
    if key.endswith("/edit"):
        return body | {"images": [IMAGE]}
    return body | ({"image": IMAGE} if key == "wan-2.6/i2v" else {"urls": [IMAGE]} if key.endswith("/i2v") else {})


# An independent copy of contract section 1: keys, fields, dollars.
IMAGE_CELLS: list[tuple[list[str], dict[str, str], str]] = [
    (["nano-banana/generate", "nano-banana/edit"], {"imageSize": "512"}, "0.045"),
    (["nano-banana/generate", "nano-banana/edit"], {"imageSize": "1K"}, "0.067"),
    (["nano-banana/generate", "nano-banana/edit"], {"imageSize": "2K"}, "0.101"),
    (["nano-banana/generate", "nano-banana/edit"], {"imageSize": "4K"}, "0.151"),
    (["nano-banana-pro/generate", "nano-banana-pro/edit"], {"imageSize": "1K"}, "0.134"),
    (["nano-banana-pro/generate", "nano-banana-pro/edit"], {"imageSize": "2K"}, "0.134"),
    (["nano-banana-pro/generate", "nano-banana-pro/edit"], {"imageSize": "4K"}, "0.24"),
    (["flux-2-pro/generate"], {"resolution": "0.5 MP"}, "0.02"),
    (["flux-2-pro/generate"], {"resolution": "1 MP"}, "0.03"),
    (["flux-2-pro/generate"], {"resolution": "2 MP"}, "0.04"),
    (["flux-2-pro/edit"], {"resolution": "0.5 MP"}, "0.03"),
    (["flux-2-pro/edit"], {"resolution": "1 MP"}, "0.045"),
    (["flux-2-pro/edit"], {"resolution": "2 MP"}, "0.06"),
    (["flux-2-max/generate", "flux-2-max/edit"], {"resolution": "0.5 MP"}, "0.04"),
    (["flux-2-max/generate", "flux-2-max/edit"], {"resolution": "1 MP"}, "0.07"),
    (["flux-2-max/generate", "flux-2-max/edit"], {"resolution": "2 MP"}, "0.10"),
    (["flux-2-max/generate", "flux-2-max/edit"], {"resolution": "4 MP"}, "0.17"),
    (["grok/generate"], {}, "0.07"),
    (["grok/edit"], {}, "0.022"),
]
# quality, then 1024x1024, the two other sizes, auto
GPT_CELLS = {
    ("gpt-image-2",): [
        ("low", "0.006", "0.005", "0.006"),
        ("medium", "0.053", "0.041", "0.053"),
        ("high", "0.21", "0.165", "0.21"),
    ],
    ("gpt-image-1.5", "gpt-image-1"): [
        ("low", "0.009", "0.013", "0.013"),
        ("medium", "0.034", "0.05", "0.05"),
        ("high", "0.133", "0.20", "0.20"),
    ],
}
# keys, fields, dollars a second, seconds sold
SECOND_CELLS: list[tuple[list[str], dict[str, str], str, list[int]]] = [
    (["grok-video/generate"], {"resolution": "480p"}, "0.05", [3, 6, 9, 12, 15]),
    (["grok-video/generate"], {"resolution": "720p"}, "0.05", [3, 6, 9, 12, 15]),
    (["seedance/t2v", "seedance/i2v"], {"outputResolution": "480p"}, "0.09", list(range(4, 16))),
    (["seedance/t2v", "seedance/i2v"], {"outputResolution": "720p"}, "0.24", list(range(4, 16))),
    (["seedance/t2v", "seedance/i2v"], {"outputResolution": "1080p"}, "0.43", list(range(4, 16))),
    (["seedance/t2v", "seedance/i2v"], {"upscaleResolution": "4k"}, "0.54", list(range(4, 16))),
    (["seedance-fast/t2v", "seedance-fast/i2v"], {"outputResolution": "480p"}, "0.08", list(range(4, 16))),
    (["seedance-fast/t2v", "seedance-fast/i2v"], {"outputResolution": "720p"}, "0.17", list(range(4, 16))),
    (["wan-2.6/t2v"], {"size": "1280*720"}, "0.10", [5, 10, 15]),
    (["wan-2.6/t2v"], {"size": "720*1280"}, "0.10", [5, 10, 15]),
    (["wan-2.6/t2v"], {"size": "1920*1080"}, "0.15", [5, 10, 15]),
    (["wan-2.6/t2v"], {"size": "1080*1920"}, "0.15", [5, 10, 15]),
    (["wan-2.6/i2v"], {"resolution": "720p"}, "0.10", [5, 10, 15]),
    (["wan-2.6/i2v"], {"resolution": "1080p"}, "0.15", [5, 10, 15]),
    (["sora-2/generate"], {"size": "720x1280"}, "0.10", [4, 8, 12]),
    (["sora-2-pro/generate"], {"size": "1280x720"}, "0.30", [4, 8, 12]),
    (["sora-2-pro/generate"], {"size": "720x1280"}, "0.30", [4, 8, 12]),
    (["sora-2-pro/generate"], {"size": "1792x1024"}, "0.50", [4, 8, 12]),
    (["sora-2-pro/generate"], {"size": "1024x1792"}, "0.50", [4, 8, 12]),
    (["veo-3.1/generate"], {"resolution": "720p"}, "0.40", [4, 6, 8]),
    (["veo-3.1-fast/generate"], {"resolution": "720p"}, "0.25", [4, 6, 8]),
]


@pytest.mark.parametrize(
    ("key", "fields", "dollars"), [(key, fields, dollars) for keys, fields, dollars in IMAGE_CELLS for key in keys]
)
def test_an_image_costs_what_the_contract_says(key: str, fields: dict[str, str], dollars: str) -> None:
    assert price(key, with_media(key, {"prompt": "x"} | fields)) == dollars


@pytest.mark.parametrize("operation", ["generate", "edit"])
@pytest.mark.parametrize(
    ("model", "row"), [(model, row) for models, rows in GPT_CELLS.items() for model in models for row in rows]
)
def test_a_gpt_image_costs_what_the_contract_says(model: str, row: tuple[str, str, str, str], operation: str) -> None:
    quality, square, other, auto = row
    key = f"{model}/{operation}"
    expected = {"1024x1024": square, "1536x1024": other, "1024x1536": other, "auto": auto}
    bodies = {size: with_media(key, {"prompt": "x", "quality": quality, "size": size}) for size in expected}
    assert {size: price(key, body) for size, body in bodies.items()} == expected


@pytest.mark.parametrize(
    ("key", "fields", "dollars", "sold"),
    [(key, fields, dollars, sold) for keys, fields, dollars, sold in SECOND_CELLS for key in keys],
)
def test_a_clip_costs_its_seconds(key: str, fields: dict[str, str], dollars: str, sold: list[int]) -> None:
    name = offered(key).input.seconds_field  # type: ignore[attr-defined] # only clips are listed
    assert list(offered(key).durations) == sold
    for seconds in sold:
        for wire in (seconds, str(seconds)):
            body = with_media(key, {"prompt": "x", name: wire} | fields)
            assert price(key, body) == str(Money.parse(dollars) * seconds)


def test_the_cells_are_exactly_those_of_the_contract() -> None:
    listed: dict[str, set[Money]] = {"upload": {Money.parse("0.01")}}
    for keys, _, dollars in IMAGE_CELLS:
        for key in keys:
            listed.setdefault(key, set()).add(Money.parse(dollars))
    for keys, _, dollars, _ in SECOND_CELLS:
        for key in keys:
            listed.setdefault(key, set()).add(Money.parse(dollars))
    for models, rows in GPT_CELLS.items():
        for key in (f"{model}/{operation}" for model in models for operation in ("generate", "edit")):
            listed[key] = {Money.parse(dollars) for row in rows for dollars in row[1:]}
    assert {offering.key: set(offering.cells.values()) for offering in OFFERINGS} == listed


DEFAULTS = {
    "nano-banana/generate": "0.067",
    "nano-banana-pro/generate": "0.134",
    "gpt-image-2/generate": "0.21",
    "gpt-image-1.5/generate": "0.133",
    "flux-2-pro/generate": "0.03",
    "flux-2-pro/edit": "0.045",
    "flux-2-max/generate": "0.07",
    "grok-video/generate": "0.30",
    "seedance/t2v": "1.20",
    "seedance/i2v": "1.20",
    "wan-2.6/t2v": "0.50",
    "sora-2/generate": "0.40",
    "veo-3.1/generate": "3.20",
}


@pytest.mark.parametrize(("key", "dollars"), DEFAULTS.items())
def test_a_prompt_alone_costs_the_default_cell(key: str, dollars: str) -> None:
    assert price(key, with_media(key, {"prompt": "x"})) == dollars


def test_an_upload_costs_a_cent() -> None:
    assert price("upload", {"filename": "a.png", "contentType": "image/png"}) == "0.01"


@pytest.mark.parametrize(
    ("fields", "dollars"),
    [
        ({"resolution": "480p"}, "0.45"),
        ({"resolution": "720p"}, "1.20"),
        ({"resolution": "1080p"}, "2.15"),
        ({}, "1.20"),
    ],
)
def test_the_older_form_costs_its_resolution(fields: dict[str, str], dollars: str) -> None:
    assert price("seedance/i2v", {"image": IMAGE, "duration": "5"} | fields) == dollars


def test_exact_pixels_cost_as_720p_and_as_4k_when_upscaled() -> None:
    assert price("seedance/t2v", {"prompt": "x", "resolution": "720x720"}) == "1.20"
    assert price("seedance/t2v", {"prompt": "x", "resolution": "720x720", "upscaleResolution": "4k"}) == "2.70"


# The published table of routes; a range is for a call, or for a second where the table says so. No cell leaves it.
PUBLISHED = {
    "nano-banana": ("0.045", "0.151"),
    "nano-banana-pro": ("0.13", "0.24"),
    "gpt-image-2": ("0.005", "0.21"),
    "gpt-image-1.5": ("0.009", "0.20"),
    "gpt-image-1": ("0.009", "0.20"),
    "flux-2-pro/generate": ("0.02", "0.04"),
    "flux-2-pro/edit": ("0.03", "0.06"),
    "flux-2-max": ("0.04", "0.17"),
    "grok/generate": ("0.07", "0.07"),
    "grok/edit": ("0.022", "0.022"),
    "grok-video": ("0.15", "0.75"),
    "seedance": ("0.09", "0.54"),
    "seedance-fast": ("0.08", "0.17"),
    "wan-2.6": ("0.50", "2.25"),
    "sora-2": ("0.40", "1.20"),
    "sora-2-pro": ("1.20", "6.00"),
    "veo-3.1": ("1.60", "3.20"),
    "veo-3.1-fast": ("1.00", "2.00"),
    "upload": ("0.01", "0.01"),
}
BY_THE_SECOND = {"seedance", "seedance-fast"}

each_offering = pytest.mark.parametrize("offering", OFFERINGS, ids=lambda offering: offering.key)
some = settings(max_examples=20)


@each_offering
@some
@given(data=st.data())
def test_every_accepted_input_costs_within_the_published_range(offering: Offering, data: st.DataObject) -> None:
    body = data.draw(inputs(offering))
    value = offering.read(json.dumps(body).encode())
    asked = PRICES.price(offering, value)
    low, high = map(Money.parse, PUBLISHED.get(offering.key) or PUBLISHED[offering.model])
    times = value.units() if offering.model in BY_THE_SECOND else 1
    assert low * times <= asked <= high * times
    assert PRICES.floor(offering) <= asked <= PRICES.ceiling(offering)


@each_offering
@some
@given(data=st.data())
def test_only_the_named_fields_change_the_price(offering: Offering, data: st.DataObject) -> None:
    body = data.draw(inputs(offering))
    required = {name for name, field in offering.input.model_fields.items() if field.is_required()}
    kept = required | set(offering.input.priced_by) | {"image", "urls", "mode", "urlMediaTypes"}
    less = {name: value for name, value in body.items() if name in kept}
    try:
        smaller = offering.read(json.dumps(less).encode())
    except InvalidInput:
        reject()
    assert PRICES.price(offering, smaller) == PRICES.price(offering, offering.read(json.dumps(body).encode()))


@each_offering
def test_floor_and_ceiling_are_prices_of_real_cells(offering: Offering) -> None:
    low, high = PUBLISHED.get(offering.key) or PUBLISHED[offering.model]
    shortest, longest = (4, 15) if offering.model in BY_THE_SECOND else (1, 1)
    pro = offering.model == "nano-banana-pro"
    assert str(PRICES.floor(offering)) == ("0.134" if pro else str(Money.parse(low) * shortest))
    assert str(PRICES.ceiling(offering)) == str(Money.parse(high) * longest)


def test_an_override_changes_its_cell_and_no_other() -> None:
    table = PriceTable(OFFERINGS, overrides={"gpt-image-2/generate": {"low/square": "0.007"}})
    assert price("gpt-image-2/generate", {"prompt": "x", "quality": "low"}, table=table) == "0.007"
    assert price("gpt-image-2/generate", {"prompt": "x", "quality": "high"}, table=table) == "0.21"
    assert price("gpt-image-2/edit", {"prompt": "x", "quality": "low", "images": [IMAGE]}, table=table) == "0.006"
    assert price("gpt-image-2/generate", {"prompt": "x", "quality": "low"}) == "0.006"


def test_an_override_moves_floor_and_ceiling() -> None:
    table = PriceTable(OFFERINGS, overrides={"veo-3.1/generate": {"second": "0.5"}, "upload": {"each": "0.02"}})
    assert (str(table.floor(offered("veo-3.1/generate"))), str(table.ceiling(offered("veo-3.1/generate")))) == (
        "2.00",
        "4.00",
    )
    assert table.cells(offered("upload")) == {"each": Money.parse("0.02")}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"gpt-image2/generate": {}}, "Unknown offering: 'gpt-image2/generate'; did you mean 'gpt-image-2/generate'?"),
        (
            {"nano-banana/edit": {"1k-square": "1"}},
            "Unknown price cell of 'nano-banana/edit': '1k-square'; there are 512, 1K, 2K, 4K",
        ),
        (
            {"gpt-image-2/edit": {"low/squar": "1"}},
            "Unknown price cell of 'gpt-image-2/edit': 'low/squar'; did you mean 'low/square'?",
        ),
        ({"grok/edit": {"each": "free"}}, "Price of grok/edit each: Not an amount of dollars: 'free'"),
        ({"grok/edit": {"each": "0"}}, "Price of grok/edit each: it must be above zero"),
        ({"grok/edit": {"each": "-1"}}, "Price of grok/edit each: Money cannot be negative: -1000000 micros"),
    ],
)
def test_a_wrong_override_is_refused_by_name(overrides: dict[str, dict[str, str]], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        PriceTable(OFFERINGS, overrides=overrides)
