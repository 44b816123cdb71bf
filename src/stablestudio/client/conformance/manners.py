"""What holds for answers of any seller: headers, methods, errors, inputs and limits."""

from __future__ import annotations

from collections.abc import Iterator

from stablestudio.client.conformance.exchange import Exchange, Purpose, objects, walk
from stablestudio.client.conformance.mpp import HEADER, challenges
from stablestudio.client.conformance.rules import Finding, breach
from stablestudio.protocols import x402

# Node.js gives up at 16 KB, the status line included.
_MOST_HEADERS, _MANY_HEADERS = 16_000, 12_000
_UNSUPPORTED, _TOO_LARGE = 405, 413
_ASK_AGAIN = (410, 429, 503)


def check_answer(exchange: Exchange) -> Iterator[Finding]:
    """Hold any answer against what clients need to read it at all."""
    answer, where = exchange.answer, exchange.where
    if answer.header_bytes > _MOST_HEADERS:
        yield breach("headers_too_large", where, f"The headers have {answer.header_bytes} bytes.")
    elif answer.header_bytes > _MANY_HEADERS:
        yield breach("headers_large", where, f"The headers have {answer.header_bytes} bytes.")
    if answer.status >= 500 and answer.status not in _ASK_AGAIN:
        yield breach("server_error", where, f"The answer is {answer.status}.")
    if 300 <= answer.status < 400:
        yield breach("redirected", where, f"The answer is {answer.status} to {answer.header('location') or 'nowhere'}.")
    if answer.status >= 400 and exchange.question.method != "HEAD":
        yield from _check_error(exchange)


def check_payment_headers(exchange: Exchange) -> Iterator[Finding]:
    """Hold a 402 against caches and browsers."""
    answer, where = exchange.answer, exchange.where
    if answer.status != 402:
        return
    if "no-store" not in answer.tokens("cache-control"):
        yield breach("cached", where, f"Cache-Control is {answer.header('cache-control') or 'missing'}.")
    shown = {name.lower() for name in (x402.PAYMENT_REQUIRED, HEADER) if answer.header(name)}
    paid = {x402.PAYMENT_RESPONSE.lower()} if answer.header(x402.PAYMENT_REQUIRED) else set()
    wanted = shown | paid | ({"payment-receipt"} if challenges(answer) else set())
    hidden = sorted(wanted - answer.tokens("access-control-expose-headers"))
    if not answer.header("access-control-allow-origin"):
        yield breach("cors_hidden", where, "There is no Access-Control-Allow-Origin.")
    elif hidden and "*" not in answer.tokens("access-control-expose-headers"):
        yield breach("cors_hidden", where, f"Access-Control-Expose-Headers lacks {', '.join(hidden)}.")


def check_method(exchange: Exchange) -> Iterator[Finding]:
    """Hold GET and HEAD of a route that sells by POST against RFC 9110."""
    answer, where = exchange.answer, exchange.where
    if answer.status != _UNSUPPORTED:
        yield breach("wrong_method", where, f"The answer is {answer.status}, not 405.")
    elif "post" not in answer.tokens("allow"):
        yield breach("allow_missing", where, f"Allow is {answer.header('allow') or 'missing'}.")


def check_preflight(exchange: Exchange) -> Iterator[Finding]:
    """Hold OPTIONS against what a browser asks before it pays."""
    answer = exchange.answer
    methods, headers = (answer.tokens(f"access-control-allow-{name}") for name in ("methods", "headers"))
    lacking = [
        *([] if 200 <= answer.status < 300 else [f"the answer is {answer.status}"]),
        *([] if {"post", "*"} & methods else ["POST is not allowed"]),
        *([] if {x402.PAYMENT_SIGNATURE.lower(), "*"} & headers else [f"{x402.PAYMENT_SIGNATURE} is not allowed"]),
        # The star does not cover this one (Fetch standard).
        *([] if "authorization" in headers else ["Authorization is not allowed"]),
    ]
    if lacking:
        yield breach("preflight", exchange.where, f"{'; '.join(lacking).capitalize()}.")


def check_wrong_input(exchange: Exchange) -> Iterator[Finding]:
    """Hold the answer to a body that fits nothing: never an offer, and the fields at fault."""
    answer, where = exchange.answer, exchange.where
    if answer.status in _ASK_AGAIN:
        return
    if answer.status == 402 or answer.status < 300:
        yield breach("wrong_body_for_sale", where, f"The answer is {answer.status}: it is sold, and cannot be made.")
    elif answer.status not in (400, 422):
        yield breach("wrong_body_status", where, f"The answer is {answer.status}.")
    elif exchange.question.purpose is Purpose.UNFIT:
        issues = list(objects(walk(answer.document(), "issues")))
        if not issues or not all(isinstance(each.get("path"), list) and each.get("message") for each in issues):
            yield breach("issues_missing", where, "The answer does not name the fields at fault.")


def check_limit(exchange: Exchange) -> Iterator[Finding]:
    """Hold the answer to a very large body: refused, best by 413."""
    if exchange.answer.status != _TOO_LARGE:
        yield breach("no_limit", exchange.where, f"The answer is {exchange.answer.status}, not 413.")


def check_nowhere(exchange: Exchange) -> Iterator[Finding]:
    """Hold the answer at an address without anything."""
    if exchange.answer.status != 404:
        yield breach("unknown_route", exchange.where, f"The answer is {exchange.answer.status}, not 404.")


def check_words(exchange: Exchange) -> Iterator[Finding]:
    """Hold /llms.txt against being text."""
    answer = exchange.answer
    if answer.status != 200 or not answer.header("content-type").startswith("text/") or not answer.body:
        yield breach("llms_missing", exchange.where, f"The answer is {answer.status}, {len(answer.body)} bytes.")


def _check_error(exchange: Exchange) -> Iterator[Finding]:
    answer, where = exchange.answer, exchange.where
    kind = answer.header("content-type").partition(";")[0].strip().lower()
    body = answer.document()
    # A 402 says everything in its headers.
    if answer.status == 402 and not answer.body:
        return
    if kind != "application/json" or body is None:
        yield breach("error_not_json", where, f"The {answer.status} has a body of {kind or 'no type'}.")
    elif answer.status != 402 and not all(isinstance(body.get(name), str) for name in ("error", "code")):
        yield breach("error_shape", where, f"The {answer.status} has no `error` or no `code`.")
