"""llms.txt, its pages, agents.txt, .well-known/x402 and the page for people: each number and name in them is the catalog's."""

from __future__ import annotations

import json
import re
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import pytest

from stablestudio.catalog import MODELS, OFFERINGS, Kind, LifecycleState, Offering, PriceTable, find
from stablestudio.catalog.offering import Model
from stablestudio.server.discovery.agents import agents
from stablestudio.server.discovery.documents import documents
from stablestudio.server.discovery.guidance import guidance
from stablestudio.server.discovery.landing import landing
from stablestudio.server.discovery.llms import overview, page
from stablestudio.server.discovery.manual import MANUAL
from stablestudio.server.discovery.robots import robots
from stablestudio.server.discovery.shop import Shop
from stablestudio.server.discovery.well_known import resources
from stablestudio.server.explained import PATH as ERRORS
from stablestudio.server.faces.openai import FACES
from stablestudio.server.waits import MOST_SECONDS
from stablestudio.server.webhooks import HEADER, KEYS_PATH
from tests.unit.server.discovery.shops import PRICES, WAYS, bounds, make, whole_schema

ROOT = Path(__file__).parents[4]
SHOP = make()
LLMS = overview(SHOP)
# What clients of others refuse to pay unless told otherwise is no price of ours.
CAPS = {"1", "5"}
each_offering = pytest.mark.parametrize("offering", OFFERINGS, ids=lambda offering: offering.key)
each_model = pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)


def span(offering: Offering) -> str:
    low, high = bounds(offering)
    return f"${low}" if low == high else f"${low}-${high}"


def money(text: str) -> set[str]:
    return set(re.findall(r"\$([0-9]+(?:\.[0-9]+)?)", text))


def known(*offerings: Offering) -> set[str]:
    """Return every amount that may stand in a text about these offerings."""
    return {
        amount
        for offering in offerings
        for amount in (*bounds(offering), *(str(price) for price in PRICES.cells(offering).values()))
    }


def test_each_amount_in_each_text_is_a_price() -> None:
    for path, made in documents(SHOP).items():
        if made.content_type.startswith(("text/", "application/json")):
            strays = money(made.body.decode()) - known(*OFFERINGS) - CAPS
            assert not strays, path


def test_the_table_of_routes_is_the_catalog() -> None:
    rows = [line.strip("| ").split(" | ") for line in LLMS.splitlines() if line.startswith("| /api/")]

    assert len(rows) == len(OFFERINGS)
    for row, offering in zip(rows, OFFERINGS, strict=True):
        path, whole, cells, usual, poll, note = row
        assert (path, whole) == (offering.path, span(offering))
        assert money(cells) == {str(price) for price in PRICES.cells(offering).values()}
        assert re.findall(r"\d+", usual) == [str(each) for each in sorted(set(offering.typical_seconds)) if each]
        assert poll == (f"{offering.poll_after} s" if offering.poll_after else "-")
        assert (note == "-") == (offering.lifecycle.state is LifecycleState.LIVE)
        assert str(offering.lifecycle.successor or "") in note
        assert (offering.lifecycle.ends.isoformat() if offering.lifecycle.ends else "") in note


@each_offering
def test_inputs_are_sketched_field_by_field_with_every_value(offering: Offering) -> None:
    told = re.search(rf"^{re.escape(offering.key)}: .*\n`(.*)`$", LLMS, re.MULTILINE)
    assert told is not None
    sketch, fields = json.loads(told[1]), whole_schema(offering)["properties"]

    assert list(sketch) == list(fields)
    for name, field in fields.items():
        form = field["anyOf"][0] if "anyOf" in field else field
        value, form = (sketch[name][0], form["items"]) if form.get("type") == "array" else (sketch[name], form)
        if "enum" in form:
            assert value.split("|") == form["enum"]


@each_model
def test_a_model_s_page_tells_its_prices_routes_and_rules(model: Model) -> None:
    text = page(SHOP, model.name)
    offerings = [offering for offering in OFFERINGS if offering.model == model.name]

    assert re.findall(r"^## POST https://studio\.example(.*)$", text, re.MULTILINE) == [each.path for each in offerings]
    assert money(text) == known(*offerings)
    for offering, section in zip(offerings, text.split("\n## ")[1:], strict=True):
        assert f"in all {span(offering)}" in section
        example = re.search(r"-d '(.*)'$", section, re.MULTILINE)
        assert example is not None
        assert json.loads(example[1]) == offering.input.example
        assert all(f"- {rule.text}" in section for rule in offering.input.rules)


@each_offering
def test_a_model_s_page_tells_each_field_with_its_limits(offering: Offering) -> None:
    section = page(SHOP, offering.model).split(f"{offering.path}\n")[1].split("\n## ")[0]
    told = {
        name: (facts, words) for name, facts, words in re.findall(r"^- `(\w+)` \((.*?)\): (.*)$", section, re.MULTILINE)
    }
    schema = whole_schema(offering)

    assert list(told) == list(schema["properties"])
    for name, field in schema["properties"].items():
        facts = told[name][0]
        assert facts.startswith("required" if name in schema.get("required", ()) else "optional")
        form = field["anyOf"][0] if "anyOf" in field else field
        if form.get("type") == "array":
            if "maxItems" in form:
                assert f"{form.get('minItems', 0)}-{form['maxItems']} of" in facts
            form = form["items"]
        if "enum" in form:
            assert json.loads(f"[{re.findall(r'one of ([^;]*)', facts)[0]}]") == form["enum"]
        for limit in ("minimum", "maximum", "maxLength"):
            assert str(form.get(limit, "")) in facts
        if "default" in field:
            assert f"default {json.dumps(field['default'])}" in facts


def test_agents_txt_has_a_line_for_each_route() -> None:
    lines = [line.split("  ") for line in agents(SHOP).splitlines() if line.startswith("POST ")]
    assert [(route, price) for route, price, *_ in lines] == [(f"POST {each.path}", span(each)) for each in OFFERINGS]


def test_the_older_list_names_each_address() -> None:
    told = resources(SHOP)
    assert told["resources"] == [f"https://studio.example{offering.path}" for offering in OFFERINGS]
    assert resources(make(ways=WAYS[2:]))["resources"] == []


def test_limits_in_words_are_the_settings() -> None:
    text = guidance(
        make(
            link_seconds=90,
            max_body_bytes=1234,
            max_upload_bytes=56_789,
            keep_days={"images": 7, "clips": 0, "uploads": 2.5},
        )
    )
    assert "a link ends after 90 seconds" in text
    assert "up to 1234 bytes" in text
    assert "up to 56789 bytes" in text
    assert "images 7 days, clips for ever, uploads 2.5 days" in text


@pytest.mark.parametrize("protocol", ["x402", "mpp"])
def test_only_the_headers_of_the_protocols_in_force_are_told(protocol: str) -> None:
    text = guidance(make(ways=tuple(way for way in WAYS if way.protocol == protocol)))
    assert ("PAYMENT-SIGNATURE" in text, "Authorization: Payment" in text) == (protocol == "x402", protocol == "mpp")


def test_test_money_is_called_so_and_real_money_is_not() -> None:
    for text in (overview, agents, landing):
        assert "not real money" in text(make(real_money=False))
        assert "not real money" not in text(SHOP)


def test_what_nobody_makes_here_is_said_with_its_successor() -> None:
    text = overview(make(offerings=tuple(each for each in OFFERINGS if not each.model.startswith("sora"))))
    assert "Not sold here: sora-2 (ended by its vendor on 2026-09-24; successor veo-3.1), sora-2-pro" in text
    assert "/api/generate/sora" not in text


def test_texts_follow_the_prices_in_force() -> None:
    dear = make(prices=PriceTable(OFFERINGS, overrides={"veo-3.1/generate": {"second": "9.99"}}))
    for text in (overview(dear), agents(dear), landing(dear), page(dear, "veo-3.1")):
        assert "$39.96" in text
        assert "$79.92" in text


class Cards(HTMLParser):
    """Read the page's cards and everything that it fetches or leads to."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.cards: dict[str, list[str]] = {}
        self.fetched: list[str] = []
        self.links: list[str] = []
        self._card: list[str] | None = None
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "a":
            self.links.append(given["href"] or "")
            self._card = self.cards.setdefault(given["href"] or "", []) if given.get("class") == "card" else None
        if tag in ("img", "script", "iframe") or (tag == "link" and given.get("rel") in ("icon", "stylesheet")):
            self.fetched.append(given.get("src") or given.get("href") or tag)

    def handle_endtag(self, tag: str) -> None:
        if tag == "a":
            self._card = None

    def handle_data(self, data: str) -> None:
        if self._card is not None and data.strip():
            self._card.append(data)


def test_the_page_for_people_has_a_card_for_each_model_with_its_price() -> None:
    cards = Cards(landing(SHOP)).cards
    assert list(cards) == [f"/llms/{model}.txt" for model in _by_kind(SHOP)]
    for model, offerings in SHOP.models.items():
        title, price, told = cards[f"/llms/{model}.txt"]
        ends = [bound for offering in offerings for bound in bounds(offering)]
        low, high = min(ends, key=float), max(ends, key=float)
        assert title == offerings[0].title.partition(" - ")[0]
        assert price == (f"${low}" if low == high else f"${low} to ${high}")
        assert told.startswith(", ".join(offering.operation for offering in offerings))


def _by_kind(shop: Shop) -> list[str]:
    return [model for kind in Kind for model, each in shop.models.items() if each[0].kind is kind]


def test_the_page_for_people_needs_nobody_else() -> None:
    html = landing(SHOP)
    read, served = Cards(html), documents(SHOP)

    assert read.fetched
    assert set(read.fetched) <= set(served)
    assert "<script" not in html
    assert not re.findall(r"url\(|@import", html)
    for name in ("og:title", "og:description", "og:image", "og:url"):
        assert f'property="{name}"' in html


def test_every_link_between_the_documents_leads_somewhere() -> None:
    served = {*documents(SHOP), ERRORS, "/api/models", KEYS_PATH}
    told = {path for path in Cards(landing(SHOP)).links if path.startswith("/")}
    texts = [documents(SHOP)[f"/docs/{name}"].body.decode() for name in MANUAL]
    for text in (LLMS, agents(SHOP), robots(SHOP), json.dumps(resources(SHOP)), *texts):
        told |= set(re.findall(r"https://studio\.example(/[\w./-]*\w)", text))
    assert told - {offering.path for offering in OFFERINGS} - {"/api/jobs", *FACES} <= served


def test_the_pages_for_buyers_are_those_of_the_repository_with_links_that_lead_here() -> None:
    for name in MANUAL:
        told = documents(SHOP)[f"/docs/{name}"]
        assert told.content_type == "text/markdown; charset=utf-8"
        text, source = told.body.decode(), (ROOT / "docs" / f"{name}.md").read_text()
        assert text.splitlines()[0] == source.splitlines()[0]
        assert len(text.splitlines()) == len(source.splitlines())
        links = re.findall(r"\]\(([^)]*)\)", text)
        assert all(link.startswith("https://") for link in links), links
        assert "127.0.0.1" not in text
        for listed in (LLMS, agents(SHOP)):
            assert f"https://studio.example/docs/{name}" in listed


def test_llms_txt_tells_of_waiting_as_the_code_does() -> None:
    told = LLMS.partition("## Waiting\n")[2].partition("\n## ")[0]
    assert f"`Prefer: wait=N`, {MOST_SECONDS} seconds at most" in told
    assert f"`{HEADER}: https://...`" in told
    for word in (
        KEYS_PATH,
        "`Last-Event-ID`",
        "`Idempotency-Key`",
        "`Poll-Token`",
        "`v1a`",
        "job.refunded",
        "EventSource",
    ):
        assert word in told
    assert all(face in LLMS for face in FACES)


def test_everybody_may_read_and_is_told_where_to_begin() -> None:
    assert robots(SHOP).startswith("User-agent: *\nAllow: /\n")
    assert "https://studio.example/llms.txt" in robots(SHOP)


def test_the_page_for_people_asks_the_price_of_a_model_that_lives() -> None:
    question = json.loads(unescape(re.findall(r"-d '(.*?)'", landing(SHOP), re.DOTALL)[0]))
    offering = find(question["model"], question["operation"])
    assert offering is not None
    assert offering.lifecycle.state is LifecycleState.LIVE


def test_what_an_operator_writes_cannot_become_markup() -> None:
    html = landing(make(contact='https://x.example/"><script>'))
    assert "<script" not in html
