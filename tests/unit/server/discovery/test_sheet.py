"""Plain pages: what a text has is there, with anchors, and what a stranger writes into a path is no markup."""

from __future__ import annotations

from stablestudio.server.discovery.sheet import lost_sheet, text_sheet


def test_a_text_becomes_headings_with_anchors_lists_and_paragraphs() -> None:
    html = text_sheet(
        "# Errors\n\n## too_late\nHTTP 409. Say `a < b`.\n\n# Issues\n\n- `blank`: Spaces.\n- `long`: Long.\n"
    ).decode()
    assert "<title>Errors - StableStudio</title>" in html
    assert '<h2 id="too_late">too_late</h2>\n<p>HTTP 409. Say <code>a &lt; b</code>.</p>' in html
    assert '<h1 id="issues">Issues</h1>\n<ul>\n<li><code>blank</code>: Spaces.</li>\n<li><code>long</code>' in html
    assert "prefers-color-scheme: dark" in html


def test_a_path_from_outside_is_shown_and_never_markup() -> None:
    html = lost_sheet("/<script>alert(1)</script>", links={"llms": "https://a.example/llms.txt"}).decode()
    assert "<script" not in html
    assert "&lt;script&gt;" in html
