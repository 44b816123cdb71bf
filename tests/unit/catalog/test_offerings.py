"""The list of offerings, their declarations and what documents are made from."""

from __future__ import annotations

import json
from datetime import date

import pytest

from stablestudio.catalog import CONTENT_TYPES, OFFERINGS, Kind, LifecycleState, Offering, by_path, find
from stablestudio.catalog.inputs import choices

# Contract section 1, in its order: key, job type, seconds between polls.
ROUTES = [
    ("nano-banana/generate", "nano-banana-generate", 5),
    ("nano-banana/edit", "nano-banana-edit", 5),
    ("nano-banana-pro/generate", "nano-banana-pro-generate", 5),
    ("nano-banana-pro/edit", "nano-banana-pro-edit", 5),
    ("gpt-image-2/generate", "gpt-image-2-generate", 10),
    ("gpt-image-2/edit", "gpt-image-2-edit", 10),
    ("gpt-image-1.5/generate", "gpt-image-1.5-generate", 10),
    ("gpt-image-1.5/edit", "gpt-image-1.5-edit", 10),
    ("gpt-image-1/generate", "gpt-image-1-generate", 10),
    ("gpt-image-1/edit", "gpt-image-1-edit", 10),
    ("flux-2-pro/generate", "flux-2-pro-generate", 5),
    ("flux-2-pro/edit", "flux-2-pro-edit", 5),
    ("flux-2-max/generate", "flux-2-max-generate", 5),
    ("flux-2-max/edit", "flux-2-max-edit", 5),
    ("grok/generate", "grok-generate", 5),
    ("grok/edit", "grok-edit", 5),
    ("grok-video/generate", "grok-video", 15),
    ("seedance/t2v", "seedance-t2v", 15),
    ("seedance/i2v", "seedance-i2v", 15),
    ("seedance-fast/t2v", "seedance-fast-t2v", 15),
    ("seedance-fast/i2v", "seedance-fast-i2v", 15),
    ("wan-2.6/t2v", "wan-2.6-t2v", 15),
    ("wan-2.6/i2v", "wan-2.6-i2v", 15),
    ("sora-2/generate", "sora-2", 15),
    ("sora-2-pro/generate", "sora-2-pro", 15),
    ("veo-3.1/generate", "veo-3.1", 15),
    ("veo-3.1-fast/generate", "veo-3.1-fast", 15),
    ("upload", "upload", 0),
]

each_offering = pytest.mark.parametrize("offering", OFFERINGS, ids=lambda offering: offering.key)


def test_the_offerings_are_exactly_those_of_the_contract() -> None:
    assert [(each.key, each.type, each.poll_after) for each in OFFERINGS] == ROUTES


@each_offering
def test_an_offering_is_found_by_path_and_by_name(offering: Offering) -> None:
    prefix = "/api/" if offering.kind is Kind.UPLOAD else "/api/generate/"
    assert by_path(prefix + offering.key) is offering
    assert find(offering.model, offering.operation) is offering


def test_other_paths_and_names_find_nothing() -> None:
    assert by_path("/api/generate/upload") is None
    assert by_path("/api/generate/nano-banana/edit/") is None
    assert find("nano-banana", "t2v") is None


def test_titles_name_model_and_operation() -> None:
    assert [each.title for each in OFFERINGS[2:4]] == ["Nano Banana Pro - generate", "Nano Banana Pro - edit"]


def test_lifecycles_are_those_of_the_vendors() -> None:
    ended = {
        each.model: (each.lifecycle.state, each.lifecycle.ends)
        for each in OFFERINGS
        if each.lifecycle.state is not LifecycleState.LIVE
    }
    assert ended == {
        "nano-banana": (LifecycleState.DEPRECATED, None),
        "gpt-image-1.5": (LifecycleState.DEPRECATED, date(2026, 12, 1)),
        "gpt-image-1": (LifecycleState.RETIRED, date(2026, 10, 23)),
        "sora-2": (LifecycleState.RETIRED, date(2026, 9, 24)),
        "sora-2-pro": (LifecycleState.RETIRED, date(2026, 9, 24)),
    }


@each_offering
def test_a_successor_is_a_live_model_of_the_catalog(offering: Offering) -> None:
    live = {each.model for each in OFFERINGS if each.lifecycle.state is LifecycleState.LIVE}
    assert (offering.lifecycle.successor is None) == (offering.model in live)
    assert offering.lifecycle.successor is None or offering.lifecycle.successor in live


@each_offering
def test_the_example_is_accepted(offering: Offering) -> None:
    body = offering.input.example
    assert offering.read(json.dumps(body).encode()).model_dump(mode="json", exclude_unset=True) == body


@each_offering
def test_the_schema_describes_every_field_and_refuses_others(offering: Offering) -> None:
    schema = offering.input.model_json_schema()
    assert schema["description"]
    assert schema["additionalProperties"] is False
    assert schema["examples"] == [offering.input.example]
    assert list(schema["properties"]) == list(offering.input.model_fields)
    for name, field in schema["properties"].items():
        assert field["description"], name
        assert "null" not in json.dumps(field), name


def test_a_duration_is_a_string_or_an_integer_in_the_schema() -> None:
    veo = find("veo-3.1", "generate")
    assert veo is not None
    assert veo.input.model_json_schema()["properties"]["durationSeconds"]["anyOf"] == [
        {"enum": ["4", "6", "8"], "type": "string"},
        {"enum": [4, 6, 8], "type": "integer"},
    ]


@each_offering
def test_a_video_offers_its_durations_and_nothing_else_does(offering: Offering) -> None:
    assert bool(offering.durations) == (offering.kind is Kind.VIDEO) == offering.per_second
    assert list(offering.durations) == sorted(offering.durations)


@each_offering
def test_rules_and_price_fields_name_fields_that_some_route_of_the_model_has(offering: Offering) -> None:
    fields = set(offering.input.model_fields)
    assert set(offering.input.priced_by) <= fields
    for rule in offering.input.rules:
        assert rule.text
        assert rule.fields - fields <= {"upscaleResolution"}


def test_uploads_take_every_type_that_inputs_take() -> None:
    upload = find("upload", "upload")
    assert upload is not None
    types = choices(upload.input.model_fields["contentType"].annotation)
    assert types == tuple(each for kind in ("image", "video", "audio") for each in CONTENT_TYPES[kind])
