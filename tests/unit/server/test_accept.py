"""Browsers get pages, programs get data."""

from __future__ import annotations

import pytest

from stablestudio.server.accept import prefers_html


@pytest.mark.parametrize(
    ("accept", "html"),
    [
        ("text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8", True),
        ("TEXT/HTML; q=0.9, application/json; q=0.5", True),
        ("text/html", True),
        ("", False),
        ("*/*", False),
        ("application/json, text/plain, */*", False),
        ("text/html, application/json", False),
        ("text/html;q=0, */*", False),
        ("text/markdown, text/html;q=0.9", False),
        ("text/html;q=x", True),
    ],
)
def test_a_page_is_for_whoever_names_it_first(accept: str, *, html: bool) -> None:
    assert prefers_html({"headers": [(b"accept", accept.encode())]}) == html


def test_a_header_may_come_in_parts() -> None:
    assert not prefers_html({"headers": [(b"accept", b"text/html"), (b"accept", b"application/json")]})
    assert not prefers_html({"headers": []})
