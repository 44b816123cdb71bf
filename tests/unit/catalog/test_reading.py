"""Bodies become inputs or one refusal that names everything at fault; nothing else ever happens."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stablestudio.catalog import OFFERINGS, Offering, OfferingInput, by_path
from stablestudio.catalog.reading import MOST_ISSUES
from stablestudio.errors import InvalidInput, Issue
from tests.strategies import inputs

IMAGE = "https://example.com/a.png"
CODES = {
    "blank",
    "conflict",
    "duplicate_key",
    "invalid_filename",
    "invalid_json",
    "invalid_link",
    "invalid_url",
    "misaligned",
    "missing",
    "mixed_forms",
    "not_allowed",
    "not_an_object",
    "nul_character",
    "out_of_range",
    "too_few",
    "too_long",
    "too_many",
    "too_many_values",
    "too_short",
    "unknown_field",
    "unknown_reference",
    "wrong_type",
}
some = settings(max_examples=100)


def offered(key: str) -> Offering:
    offering = by_path("/api/upload" if key == "upload" else f"/api/generate/{key}")
    assert offering is not None
    return offering


def read(key: str, body: dict[str, Any]) -> OfferingInput:
    return offered(key).read(json.dumps(body).encode())


def refusal(key: str, body: dict[str, Any] | bytes) -> InvalidInput:
    with pytest.raises(InvalidInput) as caught:
        offered(key).read(body if isinstance(body, bytes) else json.dumps(body).encode())
    return caught.value


def issues(key: str, body: dict[str, Any] | bytes) -> tuple[Issue, ...]:
    return refusal(key, body).issues


def test_a_misspelt_field_names_the_nearest_one() -> None:
    (issue,) = issues("nano-banana/generate", {"prompt": "x", "aspectratio": "1:1"})
    fields = ("prompt", "aspectRatio", "imageSize", "thinkingLevel")
    assert issue == Issue(
        ("aspectratio",), "unknown_field", "Unknown field 'aspectratio'; did you mean 'aspectRatio'?", fields
    )


@pytest.mark.parametrize(
    ("key", "name", "meant"),
    [
        ("nano-banana/generate", "aspect_ratio", "aspectRatio"),
        ("nano-banana/generate", "image_size", "imageSize"),
        ("nano-banana/edit", "image", "images"),
        ("nano-banana/edit", "promt", "prompt"),
        ("gpt-image-2/generate", "outputFormat", "output_format"),
        ("flux-2-pro/generate", "aspectRatio", "aspect_ratio"),
        ("veo-3.1/generate", "durationSecond", "durationSeconds"),
        ("veo-3.1/generate", "negative_prompt", "negativePrompt"),
        ("seedance/t2v", "callbackUrl", "callBackUrl"),
        ("upload", "content_type", "contentType"),
    ],
)
def test_common_misspellings_lead_to_the_field(key: str, name: str, meant: str) -> None:
    found = [issue.message for issue in issues(key, {name: 1}) if issue.code == "unknown_field"]
    assert found == [f"Unknown field {name!r}; did you mean {meant!r}?"]


@pytest.mark.parametrize(
    ("key", "name", "advice"),
    [
        ("nano-banana/generate", "images", "send images to the edit route of this model"),
        ("gpt-image-1.5/generate", "images", "send images to the edit route of this model"),
        ("seedance/t2v", "urls", "send media to the i2v route of this model"),
        ("seedance-fast/i2v", "upscaleResolution", "seedance-fast makes no 4k; seedance does"),
        ("seedance-fast/t2v", "upscaleResolution", "seedance-fast makes no 4k; seedance does"),
        ("gpt-image-2/edit", "input_fidelity", "only gpt-image-1.5 and gpt-image-1 take it; leave it out"),
        ("flux-2-pro/edit", "output_format", "only the generate route of this model takes it; leave it out"),
    ],
)
def test_a_field_of_a_sibling_route_leads_there(key: str, name: str, advice: str) -> None:
    (found,) = [issue.message for issue in issues(key, {name: "x"}) if issue.code == "unknown_field"]
    assert found.endswith(advice)


def test_a_name_like_nothing_gets_the_list_of_fields_only() -> None:
    (issue,) = issues("grok/generate", {"prompt": "x", "zzz": 1})
    assert (issue.message, issue.allowed) == ("Unknown field 'zzz'", ("prompt", "aspect_ratio"))


def test_a_long_or_dirty_name_is_shortened_and_escaped() -> None:
    (issue,) = issues("grok/generate", {"prompt": "x", "\n\x1b" + "y" * 10_000: 1})
    assert issue.message == f"Unknown field '\\n\\x1b{'y' * 62}...'"


def test_all_issues_come_at_once_also_those_across_fields() -> None:
    body = {
        "resolution": "1080p",
        "durationSeconds": 4,
        "aspectRatio": "1:1",
        "negativePrompt": 5,
        "referenceImages": [IMAGE, "ftp://a"],
        "image": IMAGE,
        "imageMode": "reference",
        "Seed": 1,
    }
    found = {(issue.path, issue.code) for issue in issues("veo-3.1/generate", body)}
    # referenceImages is broken itself, so the rules that look at it are not asked.
    assert found == {
        (("prompt",), "missing"),
        (("aspectRatio",), "not_allowed"),
        (("negativePrompt",), "wrong_type"),
        (("referenceImages", 1), "invalid_link"),
        (("Seed",), "unknown_field"),
    }
    body["referenceImages"] = [IMAGE]
    assert found - {(("referenceImages", 1), "invalid_link")} | {
        (("durationSeconds",), "conflict"),
        (("image",), "conflict"),
    } == {(issue.path, issue.code) for issue in issues("veo-3.1/generate", body)}


def test_the_error_counts_its_issues_and_charges_nothing() -> None:
    error = refusal("nano-banana/edit", {"imageSize": "8K"})
    body = error.body()
    assert body["error"] == "3 problems; the first: Field 'prompt' is required"
    assert (body["code"], body["status"], body["charged"]) == ("invalid_input", 400, False)
    assert body["issues"][2] == {"path": ["images"], "code": "missing", "message": "Field 'images' is required"}
    assert refusal("grok/generate", {}).message == "Field 'prompt' is required"


def test_an_enum_lists_its_values() -> None:
    (issue,) = issues("nano-banana/generate", {"prompt": "x", "imageSize": "1k"})
    assert issue == Issue(
        ("imageSize",), "not_allowed", "'imageSize' must be one of '512', '1K', '2K', '4K'", ("512", "1K", "2K", "4K")
    )


@pytest.mark.parametrize(
    ("key", "field", "value", "code", "message"),
    [
        ("grok/generate", "prompt", 5, "wrong_type", "'prompt' must be text in quotes"),
        ("grok/generate", "prompt", "", "too_short", "'prompt' must not be empty"),
        ("grok/generate", "prompt", " \n\t", "blank", "'prompt' must not be blank"),
        ("grok/generate", "prompt", "x" * 32_001, "too_long", "'prompt' has at most 32000 characters"),
        ("wan-2.6/t2v", "prompt", "x" * 1501, "too_long", "'prompt' has at most 1500 characters"),
        ("wan-2.6/t2v", "negativePrompt", "x" * 501, "too_long", "'negativePrompt' has at most 500 characters"),
        ("wan-2.6/t2v", "seed", -1, "out_of_range", "'seed' must be at least 0"),
        ("wan-2.6/t2v", "seed", 2**31, "out_of_range", "'seed' must be at most 2147483647"),
        ("wan-2.6/t2v", "seed", 1.0, "wrong_type", "'seed' must be a whole number, without quotes"),
        ("wan-2.6/t2v", "seed", True, "wrong_type", "'seed' must be a whole number, without quotes"),
        ("wan-2.6/t2v", "multiShots", "true", "wrong_type", "'multiShots' must be true or false, without quotes"),
        ("flux-2-pro/generate", "output_quality", 101, "out_of_range", "'output_quality' must be at most 100"),
        (
            "flux-2-pro/generate",
            "output_quality",
            "80",
            "wrong_type",
            "'output_quality' must be a whole number, without quotes",
        ),
        ("flux-2-pro/generate", "safety_tolerance", 6, "out_of_range", "'safety_tolerance' must be at most 5"),
        ("nano-banana/edit", "images", IMAGE, "wrong_type", "'images' must be a list"),
        ("nano-banana/edit", "images", [], "too_few", "'images' needs at least 1 entry"),
        ("nano-banana/edit", "images", [5], "wrong_type", "'images[0]' must be text in quotes"),
        (
            "upload",
            "filename",
            "../a.png",
            "invalid_filename",
            "'filename': a file name has no slashes and no control characters",
        ),
    ],
)
def test_a_wrong_value_is_named_and_explained(key: str, field: str, value: Any, code: str, message: str) -> None:
    (issue,) = issues(key, offered(key).input.example | {field: value})
    assert (issue.code, issue.message) == (code, message)


@pytest.mark.parametrize(
    ("key", "most"),
    [
        ("nano-banana/edit", 14),
        ("nano-banana-pro/edit", 14),
        ("gpt-image-2/edit", 16),
        ("gpt-image-1.5/edit", 16),
        ("flux-2-pro/edit", 8),
        ("flux-2-max/edit", 10),
        ("grok/edit", 3),
    ],
)
def test_an_edit_takes_as_many_images_as_its_model(key: str, most: int) -> None:
    assert len(read(key, {"prompt": "x", "images": [IMAGE] * most}).media()) == most
    (issue,) = issues(key, {"prompt": "x", "images": [IMAGE] * (most + 1)})
    assert (issue.path, issue.code, issue.message) == (
        ("images",),
        "too_many",
        f"'images' takes at most {most} entries",
    )


DURATIONS = [
    ("grok-video/generate", "duration", "6", "4"),
    ("seedance/t2v", "duration", "15", "16"),
    ("seedance/t2v", "duration", "4", "3"),
    ("wan-2.6/t2v", "duration", "10", "6"),
    ("sora-2/generate", "seconds", "12", "10"),
    ("veo-3.1/generate", "durationSeconds", "6", "5"),
]


@pytest.mark.parametrize(("key", "field", "right", "wrong"), DURATIONS)
def test_a_duration_is_a_string_or_the_same_integer_and_nothing_else(
    key: str, field: str, right: str, wrong: str
) -> None:
    body = {"prompt": "x"}
    assert read(key, body | {field: int(right)}) == read(key, body | {field: right})
    assert getattr(read(key, body | {field: int(right)}), field) == right
    for bad in (wrong, int(wrong), float(right), True, None, f" {right}", f"0{right}", -1, 10**30):
        (issue,) = issues(key, body | {field: bad})
        assert (issue.path, issue.code) == ((field,), "not_allowed")
        assert right in (issue.allowed or ())


@pytest.mark.parametrize(
    ("body", "where"),
    [
        (b"", "line 1 column 0"),
        (b"{", "line 1 column 1"),
        (b'{"prompt": "x"', "line 1 column 14"),
        (b'{"prompt": "x",}', "line 1 column 16"),
        (b"{'prompt': 'x'}", "line 1 column 2"),
        (b'{"prompt": "x"} {}', "line 1 column 17"),
        (b'{"prompt": "\xff"}', "line 1 column 13"),
        (b'{"prompt": "\\ud800"}', "line 1 column 19"),
        (b'{"\\udc00": 1}', "line 1 column 8"),
        (b'{"prompt": "a\x00b"}', "line 1 column 14"),
        (b'\xef\xbb\xbf{"prompt": "x"}', "line 1 column 1"),
        (b'{"prompt":' + b"[" * 100_000, "column 211"),
        (b'{"prompt": ' + b"9" * 100_000 + b"}", "column"),
    ],
)
def test_malformed_json_is_refused_with_its_place(body: bytes, where: str) -> None:
    (issue,) = issues("grok/generate", body)
    assert (issue.path, issue.code) == ((), "invalid_json")
    assert where in issue.message


@pytest.mark.parametrize("body", [b"[]", b'"x"', b"5", b"null", b"true", b"NaN"])
def test_only_an_object_is_a_body(body: bytes) -> None:
    (issue,) = issues("grok/generate", body)
    assert (issue.path, issue.code) == ((), "not_an_object")


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity", b"1e999", b"9" * 4000])
def test_numbers_that_are_none_are_refused(number: bytes) -> None:
    (issue,) = issues("wan-2.6/t2v", b'{"prompt": "x", "seed": ' + number + b"}")
    assert issue.path == ("seed",)


@pytest.mark.parametrize(
    "twice",
    [
        b'{"prompt": "a", "prompt": "b"}',
        b'{"prompt":"a","prompt":"a"}',
        b'{"prompt" : "a", "prompt" : "b"}',
        b'{"prompt"\n\t\r :"a","prompt":"b"}',
        b'{"prompt": "a", "prom\\u0070t": "b"}',
        b'{"prompt": "a", "prompt": "\\u003a"}',
        b'{"prompt": "\\u0022\\u003a", "prompt": "x"}',
        b'{"prompt": "a\\":", "aspect_ratio": "1:1", "prompt": "b"}',
        b'{"prompt": 5, "prompt": "b"}',
        b'{"prompt": "a", "prompt": "b", "prompt": "c"}',
    ],
)
def test_a_field_given_twice_is_refused_however_it_is_written(twice: bytes) -> None:
    assert [(issue.path, issue.code) for issue in issues("grok/generate", twice)] == [(("prompt",), "duplicate_key")]


@pytest.mark.parametrize("prompt", ['say "hi": now', '":":":"', "a: b", 'x" :', "\\u003a", '"prompt":"x"'])
def test_colons_and_quotes_in_text_are_no_keys(prompt: str) -> None:
    assert read("grok/generate", {"prompt": prompt}).model_dump()["prompt"] == prompt


@pytest.mark.parametrize("where", ["prompt", "negativePrompt"])
def test_a_nul_character_is_refused(where: str) -> None:
    (issue,) = issues("wan-2.6/t2v", {"prompt": "x"} | {where: "a\0b"})
    assert (issue.path, issue.code) == ((where,), "nul_character")


def test_an_escaped_backslash_before_u0000_is_text() -> None:
    assert read("grok/generate", {"prompt": "\\u0000"}).model_dump()["prompt"] == "\\u0000"


def test_null_stands_for_an_optional_field_left_out() -> None:
    value = read("nano-banana/generate", {"prompt": "x", "aspectRatio": None})
    assert value.output() == read("nano-banana/generate", {"prompt": "x"}).output()
    (issue,) = issues("nano-banana/generate", {"prompt": "x", "imageSize": None})
    assert issue.code == "not_allowed"


def test_a_flood_of_faults_is_answered_with_a_bounded_list() -> None:
    error = refusal("grok/generate", {str(number): 1 for number in range(900)})
    assert len(error.issues) == MOST_ISSUES


def test_an_input_cannot_be_changed() -> None:
    value = read("grok/generate", {"prompt": "x"})
    with pytest.raises(ValueError, match="frozen"):
        value.prompt = "y"  # type: ignore[attr-defined] # of the subclass


each_offering = pytest.mark.parametrize("offering", OFFERINGS, ids=lambda offering: offering.key)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def outcome(offering: Offering, body: bytes) -> InvalidInput | None:
    try:
        offering.read(body)
    except InvalidInput as error:
        refused = error
    else:
        return None
    assert refused.issues
    assert {issue.code for issue in refused.issues} <= CODES
    assert json.dumps(refused.body()).encode()
    return refused


@some
@given(offering=st.sampled_from(OFFERINGS), body=st.binary(max_size=200))
def test_arbitrary_bytes_raise_nothing_but_invalid_input(offering: Offering, body: bytes) -> None:
    outcome(offering, body)


@some
@given(offering=st.sampled_from(OFFERINGS), body=json_values)
def test_arbitrary_json_raises_nothing_but_invalid_input(offering: Offering, body: Any) -> None:
    outcome(offering, json.dumps(body).encode())


@each_offering
@settings(some, max_examples=20)
@given(data=st.data())
def test_a_spoilt_body_raises_nothing_but_invalid_input(offering: Offering, data: st.DataObject) -> None:
    body = data.draw(inputs(offering))
    names = st.sampled_from([*offering.input.model_fields, "Prompt", ""])
    spoilt = body | data.draw(st.dictionaries(names, json_values, min_size=1, max_size=4))
    outcome(offering, json.dumps(spoilt).encode())
    text = json.dumps(body).encode()
    at = data.draw(st.integers(min_value=0, max_value=len(text)))
    outcome(offering, text[:at] + data.draw(st.binary(max_size=2)) + text[at + 1 :])


@each_offering
@settings(some, max_examples=20)
@given(data=st.data())
def test_any_field_repeated_anywhere_is_refused(offering: Offering, data: st.DataObject) -> None:
    body = data.draw(inputs(offering))
    name = data.draw(st.sampled_from(list(body)))
    space = data.draw(st.sampled_from(["", " ", "\n\t"]))
    pairs = [f"{json.dumps(key)}{space}:{json.dumps(value, ensure_ascii=False)}" for key, value in body.items()]
    pairs.insert(data.draw(st.integers(min_value=0, max_value=len(pairs))), f'"{name}":{json.dumps(body[name])}')
    error = outcome(offering, ("{" + ",".join(pairs) + "}").encode())
    assert error is not None
    assert ((name,), "duplicate_key") in {(issue.path, issue.code) for issue in error.issues}


@each_offering
@settings(some, max_examples=20)
@given(data=st.data())
def test_what_was_submitted_can_be_shown_again(offering: Offering, data: st.DataObject) -> None:
    body = data.draw(inputs(offering))
    value = offering.read(json.dumps(body).encode())
    value.cell()
    value.media()
    shown = value.model_dump(mode="json", exclude_unset=True)
    seconds = getattr(offering.input, "seconds_field", "")
    assert shown == {name: str(value) if name == seconds else value for name, value in body.items()}
    assert offering.read(json.dumps(shown).encode()) == value


def test_no_message_repeats_a_long_input() -> None:
    secret = "s" * 500
    for key in ("grok/generate", "nano-banana/edit", "seedance/i2v", "upload"):
        body = {name: secret for name in offered(key).input.model_fields if name != "prompt"} | {secret: 1}
        assert not re.search("s{100}", json.dumps([issue.message for issue in issues(key, body)]))


@pytest.mark.parametrize(
    "body",
    [
        b'{"prompt":"x",' + b",".join(b'"k%d":1' % number for number in range(1_001)) + b"}",
        b'{"prompt":"x",' + b",".join(b'"k":1' for _ in range(20_001)) + b"}",
        b'{"prompt":"x","images":[' + b",".join([b"1"] * 80_001) + b"]}",
    ],
    ids=["fields", "one field again and again", "entries"],
)
def test_what_would_only_take_long_to_refuse_is_refused_at_once(body: bytes) -> None:
    assert [issue.code for issue in refusal("grok/generate", body).issues] == ["too_many_values"]


def test_a_prompt_may_look_like_anything() -> None:
    prompt = json.dumps({f"k{number}": number for number in range(2_500)})[:32_000]
    for text in (prompt, "," * 32_000, '":' * 16_000):
        assert read("flux-2-pro/generate", {"prompt": text}).model_dump()["prompt"] == text
