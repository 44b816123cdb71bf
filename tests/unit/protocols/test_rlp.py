from __future__ import annotations

from typing import Any

import pytest
import rlp as oracle  # type: ignore[import-untyped]
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
