from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stablestudio.protocols._wire import MAX_DEPTH, MAX_UINT256, Fields, WireError, decode_json, encode_json, form

LIMIT = 4096
leaf = (
    st.none()
    | st.booleans()
    | st.integers(min_value=-(10**77), max_value=10**77)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
)
value = st.recursive(
    leaf, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.just("a") | st.just("é"), inner)
)


def raw(text: str | bytes) -> str:
    return base64.b64encode(text.encode() if isinstance(text, str) else text).decode()


def nested(depth: int, *, opening: str = '{"a":', closing: str = "}") -> str:
    return '{"a":' + opening * (depth - 1) + "1" + closing * (depth - 1) + "}"


@given(value=value)
def test_what_was_encoded_is_read_back(value: Any) -> None:
    header = encode_json({"value": value})
    assert decode_json(header, limit=10**6).value == {"value": value}


def test_headers_are_standard_base64_of_ascii_json() -> None:
    assert base64.b64decode(encode_json({"a": "é😀"}), validate=True) == b'{"a":"\\u00e9\\ud83d\\ude00"}'


@pytest.mark.parametrize("text", ['{"a":"?>?>?>"}', '{"a":"é😀"}', '{"a":"\\ud83d\\ude00"}', ' {"a": 1}\n'])
def test_both_alphabets_with_or_without_padding_are_read(text: str) -> None:
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        header = encode(text.encode()).decode()
        assert decode_json(header, limit=LIMIT).value == json.loads(text)
        assert decode_json(header.rstrip("="), limit=LIMIT).value == json.loads(text)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "=",
        "====",
        "e",
        "e30=e30=",
        "e30==",
        "=e30",
        "e3 0",
        "e30\n",
        "\u00e930=",
        "\u0665\u0665\u0665=",
        "e30,",
        "+_e30=",
        "+_e30e30",
        "\0",
        "\ud800",
        raw("{}")[:-2] + "*=",
        raw(b"\xff\xfe"),
        raw(b'{"a":"\xed\xa0\x80"}'),
    ],
)
def test_what_is_no_base64_of_utf8_json_is_refused(header: str) -> None:
    with pytest.raises(WireError):
        decode_json(header, limit=LIMIT)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "1",
        "null",
        '"{}"',
        "{",
        "{}{}",
        "\ufeff{}",
        "{'a':1}",
        '{"a":1,}',
        '{"a":1,"a":2}',
        '{"b":{"a":1,"a":1}}',
        '{"a":NaN}',
        '{"a":Infinity}',
        '{"a":-Infinity}',
        '{"a":1e999}',
        '{"a":' + "9" * 79 + "}",
        '{"a":"\\ud800"}',
        '{"\\uDC00":1}',
        '{"a":"\\ude00\\ud83d"}',
        '{"a":"\\u0000"}',
        '{"a":"\0"}',
        '{"a":"\n"}',
        '{"a":\u0661}',
    ],
)
def test_json_that_readers_disagree_about_is_refused(text: str) -> None:
    with pytest.raises(WireError, match="JSON"):
        decode_json(raw(text), limit=LIMIT)


@pytest.mark.parametrize(("opening", "closing"), [('{"a":', "}"), ("[", "]")])
def test_nesting_ends_at_the_limit(opening: str, closing: str) -> None:
    decode_json(raw(nested(MAX_DEPTH, opening=opening, closing=closing)), limit=LIMIT)
    with pytest.raises(WireError, match="depth"):
        decode_json(raw(nested(MAX_DEPTH + 1, opening=opening, closing=closing)), limit=LIMIT)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, '{"\\\\\\"":' * 50_000, '["\\\\",' * 50_000])
def test_depth_is_found_before_the_parser_overruns_the_stack(text: str) -> None:
    with pytest.raises(WireError, match="depth"):
        decode_json(raw(text), limit=10**6)


def test_brackets_inside_texts_are_no_depth() -> None:
    value = {"a": "[{" * 100, 'b\\"[': '\\"' + "[" * 100, "c\\": ["]"]}
    assert decode_json(encode_json(value), limit=LIMIT).value == value


def test_an_escaped_backslash_before_u0000_is_no_nul() -> None:
    assert decode_json(raw('{"a":"\\\\\\\\u0000"}'), limit=LIMIT).value == {"a": "\\\\u0000"}


def test_many_shallow_members_are_no_depth() -> None:
    assert len(decode_json(raw(json.dumps({"a": [{}] * 100})), limit=LIMIT).value["a"]) == 100


def test_the_limit_counts_characters_of_the_header() -> None:
    header = raw('{"a":"' + "x" * 100 + '"}')
    decode_json(header, limit=len(header))
    with pytest.raises(WireError, match="at most"):
        decode_json(header, limit=len(header) - 1)


@given(
    header=st.text()
    | st.binary().map(raw)
    | st.text().map(lambda text: base64.b64encode(json.dumps(text).encode()).decode())
)
def test_any_header_is_an_object_or_a_wire_error(header: str) -> None:
    try:
        fields = decode_json(header, limit=LIMIT)
    except WireError:
        return
    assert isinstance(fields.value, dict)


DIGITS = form("digits", "[0-9]+")


@pytest.mark.parametrize("junk", [None, 1, True, [], {}, "", "a", "1 ", " 1", "+1", "1\n", "\u0661", 1.0])
def test_a_text_must_match_its_form_as_a_whole(junk: Any) -> None:
    with pytest.raises(WireError, match=r"^outer\.name must be digits$"):
        Fields({"name": junk}, ("outer",)).text("name", DIGITS)


@pytest.mark.parametrize("junk", ["", "01", "+1", "-1", "1.0", "1e3", "0x1", " 1", "1_0", "\u0661", "9" * 79, 1, None])
def test_a_uint256_is_a_plain_decimal_string(junk: Any) -> None:
    with pytest.raises(WireError, match="decimal string"):
        Fields({"n": junk}).uint256("n")


def test_a_uint256_ends_where_it_ends() -> None:
    assert Fields({"n": "0"}).uint256("n") == 0
    assert Fields({"n": str(MAX_UINT256)}).uint256("n") == MAX_UINT256 == 2**256 - 1
    with pytest.raises(WireError, match="below"):
        Fields({"n": str(MAX_UINT256 + 1)}).uint256("n")


@pytest.mark.parametrize("junk", [None, True, "1", 1.0, -1, 2**53, []])
def test_a_whole_number_is_a_small_json_integer(junk: Any) -> None:
    with pytest.raises(WireError, match="integer"):
        Fields({"n": junk}).whole("n")


def test_absent_and_null_are_the_same() -> None:
    for empty in (Fields({}), Fields({"n": None})):
        assert empty.whole("n", default=7) == 7
        assert empty.optional_text("n", DIGITS) is None
        assert empty.optional_object("n") is None
        assert empty.items("n", limit=1) == []
        assert empty.texts("n", DIGITS, limit=1) == ()


@pytest.mark.parametrize("junk", [{}, "12", ["1", "2", "3"]])
def test_an_array_has_a_limit(junk: Any) -> None:
    with pytest.raises(WireError, match="at most 2 items"):
        Fields({"n": junk}).items("n", limit=2)


@pytest.mark.parametrize("junk", [["a"], [1], [None]])
def test_each_text_of_an_array_has_the_form(junk: Any) -> None:
    with pytest.raises(WireError, match="only digits"):
        Fields({"n": junk}).texts("n", DIGITS, limit=2)


@pytest.mark.parametrize("junk", [None, 0, 1, "true"])
def test_a_flag_is_a_boolean(junk: Any) -> None:
    with pytest.raises(WireError, match="true or false"):
        Fields({"n": junk}).flag("n")


def test_a_remark_is_cut_and_never_a_reason_to_refuse() -> None:
    assert Fields({"n": "x" * 501}).remark("n") == "x" * 500
    assert Fields({"n": 1}).remark("n") is None
