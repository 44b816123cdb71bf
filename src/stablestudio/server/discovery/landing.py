"""`/`: the page for people, made of one template; nothing on it is fetched from elsewhere and no script runs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from html import escape
from string import Template

from stablestudio import __version__
from stablestudio.catalog import Kind, Offering
from stablestudio.server.discovery.guidance import headline
from stablestudio.server.discovery.sheet import PAGES, base_style
from stablestudio.server.discovery.shop import Shop, outlook, typical

_HEADINGS = {Kind.IMAGE: "Images", Kind.VIDEO: "Video", Kind.UPLOAD: "Uploads"}
_TEST_MONEY = '<p class="note">This service runs on test networks: its coins are not real money.</p>'


def landing(shop: Shop) -> str:
    """Return the page."""
    return Template((PAGES / "landing.html").read_text()).substitute(
        base=base_style(),
        headline=escape(headline(shop)),
        origin=escape(shop.origin),
        question=escape(json.dumps(_question(shop)), quote=False),
        world="" if shop.real_money else _TEST_MONEY,
        networks=escape(" or ".join(dict.fromkeys(way.place for way in shop.ways))),
        sections="\n".join(_sections(shop)),
        contact=_contact(shop),
        version=escape(__version__),
    )


def _question(shop: Shop) -> dict[str, object]:
    first = next((each for each in shop.offerings if not outlook(each.lifecycle)), shop.offerings[0])
    return {"model": first.model, "operation": first.operation, "input": {"prompt": "a fox in the snow"}}


def _sections(shop: Shop) -> Iterator[str]:
    for kind, heading in _HEADINGS.items():
        cards = [_card(shop, model, each) for model, each in shop.models.items() if each[0].kind is kind]
        if cards:
            yield f'<h2>{heading}</h2>\n<div class="cards">\n' + "\n".join(cards) + "\n</div>"


def _card(shop: Shop, model: str, offerings: Sequence[Offering]) -> str:
    title = offerings[0].title.partition(" - ")[0]
    floor = min(shop.prices.floor(offering) for offering in offerings)
    ceiling = max(shop.prices.ceiling(offering) for offering in offerings)
    price = f"${floor}" if floor == ceiling else f"${floor} to ${ceiling}"
    does = ", ".join(offering.operation for offering in offerings)
    ahead = outlook(offerings[0].lifecycle)
    return (
        f'<a class="card" href="/llms/{escape(model)}.txt"><b>{escape(title)}</b>'
        f'<span class="price">{escape(price)}</span>'
        f"<small>{escape(does)}; {escape(typical(offerings[0]))}{escape(f'; {ahead}') if ahead else ''}</small></a>"
    )


def _contact(shop: Shop) -> str:
    if shop.contact is None:
        return ""
    address = shop.contact if shop.contact.startswith("https://") else f"mailto:{shop.contact}"
    return f'<a href="{escape(address)}">Contact</a>.'
