"""What a payment is bound to: the request's meaning, and nothing less."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stablestudio.sales.fingerprint import fingerprint

_PATH = "/api/generate/nano-banana/generate"
_VALUES = st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=["Cs"]))
_BODIES = st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=8), _VALUES, max_size=5)


def mark(body: object, *, path: str = _PATH) -> str:
    return fingerprint("POST", path, json.dumps(body).encode())


@given(body=_BODIES, chance=st.randoms(use_true_random=False), escaped=st.booleans())
def test_spelling_does_not_matter(body: dict[str, Any], chance: Any, *, escaped: bool) -> None:
    items = list(body.items())
    chance.shuffle(items)
    written = json.dumps(dict(items), indent=chance.choice([None, 1, 4]), ensure_ascii=escaped)
    assert fingerprint("POST", _PATH, written.encode()) == mark(body)


@given(_BODIES, _BODIES)
def test_bodies_that_differ_differ(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert (mark(one) == mark(other)) == (json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True))


@pytest.mark.parametrize(
    "other",
    [
        {"prompt": "a cat ", "seed": 1},
        {"prompt": "a cat", "seed": 2},
        {"prompt": "a cat", "seed": "1"},
        {"prompt": "a cat", "seed": 1, "more": None},
        {"prompt": "a cat"},
    ],
)
def test_any_difference_of_meaning_counts(other: dict[str, Any]) -> None:
    assert mark(other) != mark({"prompt": "a cat", "seed": 1})


def test_method_and_path_count() -> None:
    body = b'{"prompt":"a cat"}'
    marks = {fingerprint("POST", _PATH, body), fingerprint("PUT", _PATH, body), fingerprint("POST", _PATH + "x", body)}
    assert len(marks) == 3


def test_method_path_and_body_cannot_flow_into_each_other() -> None:
    assert fingerprint("POST", "/a\n{}", b"{}") != fingerprint("POST", "/a", b'{"":""}')
    assert fingerprint("POST\n/a", "/b", b"{}") != fingerprint("POST", "/a/b", b"{}")
