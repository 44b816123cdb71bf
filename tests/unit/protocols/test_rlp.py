from __future__ import annotations

from typing import Any

import pytest
import rlp as oracle
from hypothesis import given
from hypothesis import strategies as st

from stablestudio.protocols import rlp

ITEMS: st.SearchStrategy[Any] = st.recursive(
    st.binary(max_size=80) | st.integers(min_value=0, max_value=2**256 - 1), lambda inner: st.lists(inner, max_size=8)
)


@pytest.mark.parametrize(
    ("item", "encoded"),
    [
        (b"dog", "83646f67"),
        ([b"cat", b"dog"], "c88363617483646f67"),
        (b"", "80"),
        ([], "c0"),
        (0, "80"),
        (b"\x00", "00"),
        (15, "0f"),
        (127, "7f"),
        (128, "8180"),
        (1024, "820400"),
        ([[], [[]], [[], [[]]]], "c7c0c1c0c3c0c1c0"),
        (b"x" * 55, "b7" + "78" * 55),
        (b"x" * 56, "b838" + "78" * 56),
        (b"x" * 256, "b90100" + "78" * 256),
        ([b"x" * 54], "f7" + "b6" + "78" * 54),
        ([b"x" * 55], "f838" + "b7" + "78" * 55),
    ],
)
def test_items_are_encoded_as_the_yellow_paper_says(item: rlp.Item, encoded: str) -> None:
    assert rlp.encode(item).hex() == encoded


@given(item=ITEMS)
def test_every_item_is_encoded_as_the_reference_does(item: rlp.Item) -> None:
    assert rlp.encode(item) == oracle.encode(item)


def test_negative_numbers_have_no_encoding() -> None:
    with pytest.raises(OverflowError):
        rlp.encode(-1)


def _as_bytes(item: Any) -> Any:
    """Return an item as it is read: numbers are bytes without leading zeros."""
    if isinstance(item, int):
        return item.to_bytes((item.bit_length() + 7) // 8)
    return item if isinstance(item, bytes) else [_as_bytes(each) for each in item]


def _depth(item: Any) -> int:
    return 1 + max(map(_depth, item), default=0) if isinstance(item, list) else 0


@given(item=ITEMS)
def test_what_was_encoded_is_read_back(item: rlp.Item) -> None:
    read = _as_bytes(item)
    if _depth(read) <= 8:
        assert rlp.decode(rlp.encode(item)) == read


@given(data=st.binary(max_size=80))
def test_whatever_is_read_has_this_one_spelling(data: bytes) -> None:
    try:
        item = rlp.decode(data)
    except rlp.BadRlp:
        return
    assert rlp.encode(item) == data
    assert item == oracle.decode(data)


@given(data=st.binary(max_size=80))
def test_whatever_the_reference_reads_is_read(data: bytes) -> None:
    try:
        item = oracle.decode(data)
    except oracle.exceptions.DecodingError:
        return
    if _depth(item) <= 8:
        assert rlp.decode(data) == item


@pytest.mark.parametrize(
    "spelling",
    [
        "",
        "8100",
        "817f",
        "b80161",
        "b83761",
        "b900386161",
        "f800",
        "f801c0",
        "81",
        "c3",
        "c481",
        "8000",
        "c0c0",
        "b8",
        "bfffffffffffffffff",
        "ffffffffffffffffffff",
        "b90038" + "61" * 56,
    ],
)
def test_other_spellings_are_refused(spelling: str) -> None:
    with pytest.raises(rlp.BadRlp):
        rlp.decode(bytes.fromhex(spelling))


@pytest.mark.parametrize(("depth", "read"), [(8, True), (9, False), (900, False)])
def test_lists_lie_eight_deep_at_most(depth: int, *, read: bool) -> None:
    item: Any = []
    for _ in range(depth - 1):
        item = [item]
    if read:
        assert rlp.decode(rlp.encode(item)) == item
        return
    with pytest.raises(rlp.BadRlp, match="deep"):
        rlp.decode(rlp.encode(item))


@pytest.mark.parametrize(("item", "value"), [(b"", 0), (b"\x01", 1), (b"\x01\x00", 256)])
def test_a_number_is_read(item: bytes, value: int) -> None:
    assert rlp.number(item) == value


@pytest.mark.parametrize("item", [b"\0", b"\0\x01", []])
def test_what_is_no_number_is_refused(item: rlp.Decoded) -> None:
    with pytest.raises(rlp.BadRlp):
        rlp.number(item)
