"""`stablestudio quote`: the exact price of an input, free of charge."""

from __future__ import annotations

from collections.abc import Sequence

import click

from stablestudio.cli.inputs import FIELD_HELP, place_media, read_fields, read_media, split_model
from stablestudio.cli.output import Output
from stablestudio.cli.running import connect, speaks, url_option
from stablestudio.cli.views import price_document, price_lines, quote_document
from stablestudio.client.files import sources_in
from stablestudio.client.menu import choose_operation


@click.command()
@click.argument("model")
@click.argument("prompt")
@click.option("--op", "operation", help="The operation; the model's first unless given.")
@click.option("-p", "pairs", multiple=True, metavar="FIELD=VALUE", help=FIELD_HELP)
@click.option("--image", "images", multiple=True, metavar="URL|job:ID|FILE", help="An input image; may be repeated.")
@url_option
@speaks
def quote(
    out: Output,
    *,
    model: str,
    prompt: str,
    operation: str | None,
    pairs: Sequence[str],
    images: Sequence[str],
    url: str,
) -> None:
    """Ask what MODEL would cost for PROMPT and these fields, why, and how long it takes. Nothing is signed."""
    name, named = split_model(model, operation=operation)
    media, given = read_media(images), read_fields(pairs)
    with connect(url, anonymous=True) as client:
        chosen = named or choose_operation(
            client.models(), model=name, with_media=bool(media) or any(sources_in(given))
        )
        fields = place_media(media, model=name, operation=chosen) | given
        wish = ({"prompt": prompt} if prompt else {}) | fields
        if (price := client.price(name, chosen, wish)) is not None:
            return out.result(price_document(price), *price_lines(price))
        found = client.quote(name, chosen, wish)
    line = f"${found.amount}  {name}/{chosen}, in USDC on {found.token.title} ({found.network}) to {found.pay_to}"
    uploads = [f"${each.amount}  upload of a file that is too large to go inside" for each in found.uploads]
    return out.result(quote_document(found), line, *uploads)
