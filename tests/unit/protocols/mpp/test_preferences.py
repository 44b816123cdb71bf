"""Accept-Payment is read as the draft and mppx read it."""

from __future__ import annotations

import pytest

from stablestudio.protocols import mpp


@pytest.mark.parametrize(
    ("header", "wanted"),
    [
        (None, 1),
        ("", 1),
        ("tempo/charge", 1),
        ("stripe/charge", 0),
        ("stripe/charge, tempo/charge;q=0.5", 0.5),
        ("tempo/session;q=0, tempo/charge", 1),
        ("tempo/charge;q=0", 0),
        ("tempo/charge;q=0, tempo/*", 0),
        ("tempo/*;q=0.2, */charge;q=0.3", 0.3),
        ("*/*;q=0.1", 0.1),
        ("*/*, tempo/*;q=0", 0),
        ("*/session", 0),
        (" tempo / charge ; q = 0.25 ", 0.25),
        ("tempo/charge;v=2;q=1.000", 1),
        ("tempo/charge;q=0.3, tempo/charge;q=0.7", 0.7),
        ("tempo/charge,,", 1),
    ],
)
def test_the_most_specific_range_decides(header: str | None, wanted: float) -> None:
    assert mpp.quality(header, "tempo") == wanted
    assert mpp.accepts(header, "tempo") is (wanted > 0)


@pytest.mark.parametrize(
    "header",
    [
        "tempo",
        "tempo/charge;q=2",
        "tempo/charge;q=0.1234",
        "tempo/charge;q=x",
        "/charge",
        "a b/c",
        "x/y" * 2000,
        ",",
        "é/x",
    ],
)
def test_a_malformed_header_says_nothing(header: str) -> None:
    assert mpp.accepts(header, "tempo")
