"""`/llms.txt`, the whole service on one page, and `/llms/{model}.txt`, everything about one model."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from stablestudio.catalog import Kind, Offering
from stablestudio.server.discovery.fields import lines, sketch
from stablestudio.server.discovery.guidance import guidance, headline
from stablestudio.server.discovery.manual import MANUAL
from stablestudio.server.discovery.schemas import rules
from stablestudio.server.discovery.shop import Shop, outlook, typical
from stablestudio.server.faces.openai import FACES, VIDEOS


def overview(shop: Shop) -> str:
    """Return llms.txt (https://llmstxt.org): a title, a summary, and sections with links."""
    return "\n".join(
        [*_head(shop), *_routes(shop), "", *_waiting(), "", *_faces(), "", *_inputs(shop), "", *_links(shop), ""]
    )


def _head(shop: Shop) -> list[str]:
    networks = [f"- {way.protocol} on {way.place} ({way.network}), asset {way.asset}" for way in shop.ways]
    return [
        "# StableStudio",
        "",
        f"> {headline(shop)}",
        "",
        f"Base URL: {shop.origin}",
        "",
        guidance(shop),
        "",
        "## Paid on",
        "",
        *networks,
        "",
    ]


def _routes(shop: Shop) -> Iterator[str]:
    yield "## Routes that sell"
    yield ""
    yield "| POST | price | each price | usual time | read every | note |"
    yield "|---|---|---|---|---|---|"
    for offering in shop.offerings:
        poll = f"{offering.poll_after} s" if offering.poll_after else "-"
        cells = [offering.path, shop.span(offering), shop.cells(offering), typical(offering), poll]
        yield f"| {' | '.join([*cells, outlook(offering.lifecycle) or '-'])} |"
    if missing := shop.missing:
        told = [f"{model} ({outlook(life)})" if outlook(life) else model for model, life in missing.items()]
        yield ""
        yield f"Not sold here: {', '.join(told)}."


def _waiting() -> Iterator[str]:
    yield "## Waiting"
    yield ""
    yield "All of it: /docs/waiting. Each way tells the same, and all can be mixed."
    yield "- Held answers: `Prefer: wait=N`, 60 seconds at most, on reads and on the paid request, whose answer is then the whole job."
    yield "- Streams: GET {pollUrl}/events has the events state, progress, payment and end; `Last-Event-ID` goes on after what was heard,"
    yield "  and 204 says that all was. Send the proof or the poll token as a header: a browser's EventSource cannot."
    yield "- Webhooks: `Webhook-Url: https://...` on the paid request; job.complete, job.failed and job.refunded are posted there, signed by"
    yield "  Standard Webhooks: `v1a` with the Ed25519 key of /.well-known/webhooks.json, `v1` with the job's own secret of GET {pollUrl}/webhooks."
    yield "- Poll tokens: `Poll-Token` of the paid answer, or `pollToken` of a signed read, as `Authorization: Bearer`, read the job and its"
    yield "  events for one to two hours without a signature, and open nothing else."
    yield "- `Idempotency-Key`, your own name of an order, on the paid request: a second payment with the same key gets the same job and is not taken."


def _faces() -> Iterator[str]:
    yield "## In OpenAI's shape"
    yield ""
    yield "The same models at the same prices, with `model` in the body, for programs that speak OpenAI's API and can pay:"
    yield f"POST {', '.join(FACES)}. Images are in the answer to the paid request; a video is read at GET {VIDEOS.path}/{{id}} and"
    yield "its /content, with the answer's pollToken as Authorization: Bearer. `size` in pixels means the nearest that the model makes."
    yield "Whole programs: /docs/openai."


def _inputs(shop: Shop) -> Iterator[str]:
    yield "## Inputs"
    yield ""
    yield "Prices per second are times the seconds asked for. Fields are optional unless the model's own page says required."
    for offering in shop.offerings:
        yield ""
        yield f"{offering.key}: {(offering.input.__doc__ or '').strip()}"
        yield f"`{sketch(offering.input)}`"


def _links(shop: Shop) -> Iterator[str]:
    yield "## Documents"
    yield ""
    yield f"- [OpenAPI 3.1]({shop.origin}/openapi.json): every route, schema and price"
    yield f"- [Models]({shop.origin}/api/models): prices, capabilities, lifecycle and times measured here, as JSON"
    yield f"- [Errors]({shop.origin}/docs/errors): every code, and what to do about it"
    for name, about in MANUAL.items():
        yield f"- [{name.capitalize()}]({shop.origin}/docs/{name}): {about}"
    for model, offerings in shop.models.items():
        yield f"- [{_title(offerings)}]({shop.origin}/llms/{model}.txt): {_does(offerings)}"


def page(shop: Shop, model: str) -> str:
    """Return the page of one model that is sold here."""
    offerings = shop.models[model]
    head = [f"# {_title(offerings)}", "", f"> {_does(offerings)} {headline(shop)}", ""]
    if ahead := outlook(offerings[0].lifecycle):
        head += [f"Note: {ahead}.", ""]
    sections = [line for offering in offerings for line in _section(shop, offering)]
    return "\n".join([*head, *sections, f"How to pay and to wait: {shop.origin}/llms.txt", ""])


def _section(shop: Shop, offering: Offering) -> Iterator[str]:
    example = json.dumps(offering.input.example)
    yield f"## POST {shop.origin}{offering.path}"
    yield ""
    yield (offering.input.__doc__ or "").strip()
    yield ""
    yield f"Price: {shop.cells(offering)}; in all {shop.span(offering)}. Usual time: {typical(offering)}."
    if offering.poll_after:
        yield f"Job type: {offering.type}. Read the job every {offering.poll_after} s."
    yield ""
    yield "Fields:"
    yield from lines(offering.input)
    if told := rules(offering.input):
        yield ""
        yield "Rules:"
        yield from (f"- {rule}" for rule in told)
    yield ""
    yield "```sh"
    yield f"curl -i -X POST {shop.origin}{offering.path} -H 'Content-Type: application/json' -d '{example}'"
    yield "```"
    yield ""


def _title(offerings: Sequence[Offering]) -> str:
    return offerings[0].title.partition(" - ")[0]


def _does(offerings: Sequence[Offering]) -> str:
    kinds = {Kind.IMAGE: "Images", Kind.VIDEO: "Video", Kind.UPLOAD: "A place for one file"}
    if offerings[0].kind is Kind.UPLOAD:
        return f"{kinds[Kind.UPLOAD]}."
    return f"{kinds[offerings[0].kind]}: {', '.join(offering.operation for offering in offerings)}."
