"""`/docs/...`: the pages of `docs/` that are for buyers, with links that lead to what is served here."""

from __future__ import annotations

import re

from stablestudio.server.discovery.sheet import PAGES
from stablestudio.server.discovery.shop import Shop

MANUAL = {
    "waiting": "polls, held answers, streams, webhooks and their signatures, poll tokens, cancelling",
    "files": "media fields, uploads, links, and how long files are kept",
    "openai": "OpenAI's clients for Images and Videos, with whole programs",
}
"""Each page with what it is about."""
_HOME = "http://127.0.0.1:8402"  # what the pages call this service


def manual(shop: Shop, name: str) -> str:
    """Return one page."""
    text = (PAGES / f"{name}.md").read_text().replace(_HOME, shop.origin)
    text = re.sub(r"\]\((\w+)\.md(#[\w-]+)?\)", rf"]({shop.origin}/docs/\1\2)", text)
    return re.sub(r"\]\(\.\./README\.md(#[\w-]+)?\)", f"]({shop.origin}/llms.txt)", text)
