"""The offers of a 402: x402's in PAYMENT-REQUIRED, and that they cost what the document says."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from stablestudio.client.conformance.documents import bounds
from stablestudio.client.conformance.exchange import Exchange, Purpose
from stablestudio.client.conformance.mpp import challenges, check_challenges
from stablestudio.client.conformance.rules import Finding, breach
from stablestudio.client.offers import origin
from stablestudio.money import Money
from stablestudio.protocols import x402
from stablestudio.protocols.x402 import MalformedOffer, PaymentRequired, PaymentRequirements

ASKED, BAD, GONE, BUSY = 402, 400, 410, 503
_NETWORK = re.compile(r"eip155:[1-9][0-9]{0,17}|solana:[1-9A-HJ-NP-Za-km-z]{32}")
_DECIMALS = (6, 18)  # the tokens that dollars are paid in


def check_sale(exchange: Exchange) -> Iterator[Finding]:
    """Hold the answer to an unpaid request against what buyers need to sign a payment."""
    answer, where, purpose = exchange.answer, exchange.where, exchange.question.purpose
    if answer.status in (GONE, BUSY):
        yield breach("not_on_sale", where, f"The answer is {answer.status}: it is documented, and cannot be bought.")
        return
    if answer.status != ASKED:
        code = {Purpose.EXAMPLE: "example_refused", Purpose.EMPTY: "not_asked_to_pay"}.get(purpose, "junk_payment")
        yield breach(code, where, f"The answer is {answer.status}, not 402.")
        return
    header, amounts = answer.header(x402.PAYMENT_REQUIRED), []
    if not header and not challenges(answer):
        yield breach("offers_missing", where, "There is neither PAYMENT-REQUIRED nor a Payment challenge.")
        return
    if header:
        required, found = read_offers(header, where=where)
        yield from found
        if required is not None:
            yield from _check_offers(required, exchange)
            amounts += [offer.amount for offer in required.accepts]
    charged, found = check_challenges(exchange)
    yield from found
    yield from _check_price(exchange, [*amounts, *charged])


def read_offers(header: str, *, where: str) -> tuple[PaymentRequired | None, list[Finding]]:
    """Read PAYMENT-REQUIRED; return what it says, None where it cannot be read, and what is wrong with its form."""
    found = []
    if set(header) & set("-_"):
        found.append(breach("offers_base64", where, "PAYMENT-REQUIRED is in the URL-safe alphabet."))
    try:
        return x402.decode_required(header), found
    except MalformedOffer as error:
        return None, [*found, breach("offers_unreadable", where, error.message)]


def check_resource(required: PaymentRequired, exchange: Exchange) -> Iterator[Finding]:
    """Hold the address that a payment would be signed for against the one that was asked."""
    url = required.resource.url if required.resource else ""
    if not url:
        yield breach("resource_missing", exchange.where, "PAYMENT-REQUIRED has no resource.url.")
    elif origin(url) != exchange.origin:
        yield breach(
            "resource_foreign", exchange.where, f"It is for {origin(url) or url}, and {exchange.origin} was asked."
        )
    elif url.partition("?")[0] != exchange.url:
        yield breach("resource_foreign", exchange.where, f"It is for {url}, and {exchange.url} was asked.")


def _check_offers(required: PaymentRequired, exchange: Exchange) -> Iterator[Finding]:
    if not required.accepts:
        yield breach("offers_empty", exchange.where, "`accepts` is empty.")
    yield from check_resource(required, exchange)
    for offer in required.accepts:
        where = f"{exchange.where}, {offer.network}"
        wrong = [
            *([] if _NETWORK.fullmatch(offer.network) else [f"network is {offer.network!r}"]),
            *([] if int(offer.amount) > 0 else ["amount is 0"]),
            *([] if offer.max_timeout_seconds > 0 else ["maxTimeoutSeconds is 0"]),
        ]
        if wrong:
            yield breach("offer_terms", where, f"{', '.join(wrong).capitalize()}.")
        if missing := _missing_extra(offer):
            yield breach("offer_extra", where, f"`extra` has no {' and no '.join(missing)}.")


def _missing_extra(offer: PaymentRequirements) -> list[str]:
    if offer.scheme != "exact":
        return []
    wanted = ("feePayer",) if offer.network.startswith("solana:") else ("name", "version")
    return [name for name in wanted if not isinstance(offer.extra.get(name), str)]


def _check_price(exchange: Exchange, amounts: Sequence[str]) -> Iterator[Finding]:
    """Compare what is asked with the document: the highest price for an empty body, one within the bounds else."""
    route, purpose = exchange.question.route, exchange.question.purpose
    span = bounds(route) if route else None
    if span is None or purpose not in (Purpose.EMPTY, Purpose.EXAMPLE):
        return
    low, high = (span[1], span[1]) if purpose is Purpose.EMPTY else span
    wrong = [amount for amount in dict.fromkeys(amounts) if not _costs(int(amount), low, high)]
    if wrong:
        said = f"${high}" if low == high else f"${low} to ${high}"
        yield breach(
            "price_differs", exchange.where, f"It costs {', '.join(wrong)} base units; the document says {said}."
        )


def _costs(amount: int, low: Money, high: Money) -> bool:
    # A document says nothing of a token's decimals.
    return any(low.base_units(decimals=each) <= amount <= high.base_units(decimals=each) for each in _DECIMALS)
