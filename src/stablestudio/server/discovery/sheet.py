"""Plain pages for people in the look of the landing page: a text, or what stands where nothing is."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from html import escape
from pathlib import Path
from string import Template

PAGES = Path(__file__).parent / "pages"


@cache
def base_style() -> str:
    """Return the colours and letters that all pages share."""
    return (PAGES / "base.css").read_text().rstrip()


def sheet(title: str, content: str) -> bytes:
    """Return a page; `content` is HTML."""
    page = Template((PAGES / "sheet.html").read_text())
    return page.substitute(title=escape(title), base=base_style(), content=content).encode()


def text_sheet(markdown: str) -> bytes:
    """Return a page of a text with headings, lists, paragraphs and `code`; each heading is an anchor."""
    title = next((line[2:] for line in markdown.splitlines() if line.startswith("# ")), "")
    return sheet(title, "\n".join(_blocks(markdown)))


def lost_sheet(path: str, *, links: Mapping[str, str]) -> bytes:
    """Return the page for a path at which nothing is."""
    near = links.get("nearest")
    meant = f'<p>Did you mean <a href="{escape(near)}">{escape(near)}</a>?</p>\n' if near else ""
    others = [link for name, link in links.items() if name != "nearest"]
    rows = "\n".join(f'<li><a href="{escape(link)}">{escape(link)}</a></li>' for link in others)
    told = f"<p>Nothing is served at <code>{escape(path)}</code>.</p>"
    return sheet("Not found", f"<h1>There is nothing here.</h1>\n{told}\n{meant}<ul>\n{rows}\n</ul>")


def _blocks(markdown: str) -> Iterator[str]:
    items: list[str] = []
    for line in [*markdown.splitlines(), ""]:
        if line.startswith("- "):
            items.append(f"<li>{_inline(line[2:])}</li>")
            continue
        if items:
            yield "<ul>\n" + "\n".join(items) + "\n</ul>"
            items = []
        if line:
            yield _block(line)


def _block(line: str) -> str:
    if heading := re.fullmatch("(##?) (.*)", line):
        rank, words = len(heading[1]), heading[2]
        return f'<h{rank} id="{escape(words.lower())}">{escape(words)}</h{rank}>'
    return f"<p>{_inline(line)}</p>"


def _inline(text: str) -> str:
    return re.sub("`([^`]+)`", r"<code>\1</code>", escape(text, quote=False))
