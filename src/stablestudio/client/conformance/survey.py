"""Asking a seller: few questions, four at a time, to its own origin only, none of them with a payment that is one."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from urllib.parse import urlsplit

import httpx2

from stablestudio import __version__
from stablestudio.client.conformance import manners
from stablestudio.client.conformance.documents import PATH, Shelf, check_document, read_shelf, unfit_body
from stablestudio.client.conformance.exchange import Answer, Exchange, Purpose, Question, Route
from stablestudio.client.conformance.mpp import challenges
from stablestudio.client.conformance.offers import check_sale
from stablestudio.client.conformance.rules import AREAS, Finding, Severity, breach
from stablestudio.client.conformance.sign_in import check_sign_in
from stablestudio.client.errors import InvalidAddress, ServiceUnreachable
from stablestudio.client.offers import origin
from stablestudio.protocols import x402

MOST_ROUTES = 30
_MOST_SIGN_INS = 3
_AT_ONCE = 4
_PATIENCE = 20.0  # seconds for one question and its whole answer
_WHOLE_PATIENCE = 300.0  # seconds for all
_MOST_BYTES = 8_000_000
_HUGE_BYTES, _PIECE = 16_000_000, b" " * 65_536
_LOOPBACK = {"127.0.0.1", "::1", "localhost"}
_JSON = {"content-type": "application/json"}
_PREFLIGHT = {
    "origin": "https://example.com",
    "access-control-request-method": "POST",
    "access-control-request-headers": "content-type, payment-signature, authorization",
}
Check = Callable[[Exchange], Iterable[Finding]]
_SALE: tuple[Check, ...] = (check_sale, manners.check_payment_headers)
_CHECKS: Mapping[Purpose, tuple[Check, ...]] = {
    Purpose.DOCUMENT: (check_document,),
    Purpose.LLMS: (manners.check_words,),
    Purpose.NOWHERE: (manners.check_nowhere,),
    Purpose.EMPTY: _SALE,
    Purpose.EXAMPLE: _SALE,
    Purpose.UNFIT: (manners.check_wrong_input,),
    Purpose.BROKEN: (manners.check_wrong_input,),
    Purpose.HUGE: (manners.check_limit,),
    Purpose.JUNK_X402: _SALE,
    Purpose.JUNK_MPP: _SALE,
    Purpose.METHOD: (manners.check_method,),
    Purpose.PREFLIGHT: (manners.check_preflight,),
    Purpose.SIGN_IN: (check_sign_in, manners.check_payment_headers),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What was asked and found; `areas` are the chapters that a question was asked about."""

    origin: str
    requests: int
    selling: int
    asked: int
    areas: tuple[str, ...]
    findings: tuple[Finding, ...]

    def of(self, severity: Severity) -> list[Finding]:
        return [finding for finding in self.findings if finding.rule.severity is severity]

    def broken(self, severity: Severity) -> int:
        """Count the rules, not the places, that are broken."""
        return len({finding.rule for finding in self.of(severity)})


def survey(url: str, *, on_progress: Callable[[int, int], None] | None = None) -> Report:
    """Ask the seller at an address and judge its answers; `on_progress` takes how many of how many were asked.

    Raises `InvalidAddress`, or `ServiceUnreachable` where nobody answers at all.
    """
    site = origin(url)
    if not site:
        raise InvalidAddress(f"This is no address of a seller: {url!r}.")
    return asyncio.run(_survey(site, on_progress or (lambda _done, _of: None)))


async def _survey(site: str, on_progress: Callable[[int, int], None]) -> Report:
    ends = time.monotonic() + _WHOLE_PATIENCE
    async with _client(site) as http:
        first = await _ask(http, site, Question(purpose=Purpose.DOCUMENT, method="GET", path=PATH), ends=ends)
        if isinstance(first, Finding):
            raise ServiceUnreachable(f"{site} could not be reached: {first.problem}")
        shelf = read_shelf(first.answer.document() or {})
        questions = _questions(shelf)
        turns, count = asyncio.Semaphore(_AT_ONCE), itertools.count(2)

        async def ask(question: Question) -> Exchange | Finding:
            async with turns:
                outcome = await _ask(http, site, question, ends=ends)
            on_progress(next(count), len(questions) + 1)
            return outcome

        others = await asyncio.gather(*map(ask, questions))
    return _report(site, shelf, [first, *others])


def judge(exchange: Exchange) -> list[Finding]:
    """Return all that is wrong with an answer."""
    if exchange.answer.status == 429:
        return [breach("rate_limited", exchange.where, "The answer is 429.")]
    found = list(manners.check_answer(exchange))
    if any(finding.rule.code in {"server_error", "redirected"} for finding in found):
        return found
    return found + [finding for check in _CHECKS[exchange.question.purpose] for finding in check(exchange)]


def _questions(shelf: Shelf) -> list[Question]:
    return [
        Question(purpose=Purpose.LLMS, method="GET", path="/llms.txt"),
        Question(purpose=Purpose.NOWHERE, method="GET", path="/conformance-check/nothing-is-here"),
        *(question for route in shelf.routes[:MOST_ROUTES] for question in _of_each(route)),
        *(question for route in shelf.routes[:1] for question in _of_one(route)),
        *(Question(purpose=Purpose.SIGN_IN, method="GET", path=path) for path in shelf.sign_ins[:_MOST_SIGN_INS]),
    ]


def _of_each(route: Route) -> Iterator[Question]:
    ask = partial(Question, method="POST", path=route.path, headers=_JSON, route=route)
    yield ask(purpose=Purpose.EMPTY, body=b"")
    yield ask(purpose=Purpose.UNFIT, body=json.dumps(unfit_body(route.schema)).encode())
    if route.example is not None:
        yield ask(purpose=Purpose.EXAMPLE, body=json.dumps(route.example).encode())


def _of_one(route: Route) -> Iterator[Question]:
    """Yield what a service answers alike on all of its routes, and is asked of one."""
    ask = partial(Question, path=route.path, route=route)
    post = partial(ask, method="POST", body=b"" if route.example is None else json.dumps(route.example).encode())
    junk = base64.b64encode(b'{"x402Version":2,"payload":{}}').decode()
    yield ask(purpose=Purpose.METHOD, method="GET")
    yield ask(purpose=Purpose.METHOD, method="HEAD")
    yield ask(purpose=Purpose.PREFLIGHT, method="OPTIONS", headers=_PREFLIGHT)
    yield ask(purpose=Purpose.BROKEN, method="POST", headers=_JSON, body=b'{"prompt": "a fox"')
    yield ask(purpose=Purpose.HUGE, method="POST", headers=_JSON, body=_HUGE_BYTES)
    yield post(purpose=Purpose.JUNK_X402, headers=_JSON | {x402.PAYMENT_SIGNATURE: junk})
    yield post(purpose=Purpose.JUNK_MPP, headers=_JSON | {"Authorization": "Payment e30"})


def _client(site: str) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(
        timeout=_PATIENCE,
        headers={"user-agent": f"stablestudio-validate/{__version__}"},
        trust_env=urlsplit(site).hostname not in _LOOPBACK,
    )


async def _ask(http: httpx2.AsyncClient, site: str, question: Question, *, ends: float) -> Exchange | Finding:
    """Send a question, follow nothing, and read a bounded answer; that none came in time is a finding."""
    try:
        async with asyncio.timeout(min(_PATIENCE, ends - time.monotonic())):
            answer = await _send(http, site, question)
    except TimeoutError:
        return breach("no_answer", question.where, "There was no whole answer in time.")
    except (httpx2.HTTPError, httpx2.InvalidURL, UnicodeError, _AnswerTooLong) as error:
        return breach("no_answer", question.where, f"{type(error).__name__.lstrip('_')}: {error}")
    return Exchange(question=question, answer=answer, origin=site, now_s=time.time())


async def _send(http: httpx2.AsyncClient, site: str, question: Question) -> Answer:
    headers = dict(question.headers)
    content: bytes | int | AsyncIterator[bytes] | None = question.body
    if isinstance(content, int):
        headers["content-length"], content = str(content), _spaces(content)
    async with http.stream(question.method, site + question.path, headers=headers, content=content) as response:
        body = bytearray()
        async for piece in response.aiter_bytes():
            body += piece
            if len(body) > _MOST_BYTES:
                raise _AnswerTooLong(f"The answer goes on after {len(body)} bytes.")
    read = tuple((name.lower(), value) for name, value in response.headers.multi_items())
    return Answer(status=response.status_code, headers=read, body=bytes(body))


class _AnswerTooLong(Exception):
    """An answer of more than 8 MB."""


async def _spaces(count: int) -> AsyncIterator[bytes]:
    for start in range(0, count, len(_PIECE)):
        yield _PIECE[: count - start]


def _report(site: str, shelf: Shelf, outcomes: Sequence[Exchange | Finding]) -> Report:
    exchanges = [outcome for outcome in outcomes if isinstance(outcome, Exchange)]
    findings = [outcome for outcome in outcomes if isinstance(outcome, Finding)]
    findings += [finding for exchange in exchanges for finding in judge(exchange)]
    return Report(
        origin=site,
        requests=len(outcomes),
        selling=len(shelf.routes),
        asked=min(len(shelf.routes), MOST_ROUTES),
        areas=tuple(area for area in AREAS if area not in _unasked(shelf, exchanges)),
        findings=tuple(dict.fromkeys(findings)),
    )


def _unasked(shelf: Shelf, exchanges: Sequence[Exchange]) -> Iterator[str]:
    """Yield the areas that nothing was seen of."""
    sales = [exchange.answer for exchange in exchanges if exchange.question.route]
    if not sales:
        yield from ("402", "inputs", "headers")
    if not any(answer.header(x402.PAYMENT_REQUIRED) for answer in sales):
        yield "x402"
    if not any(challenges(answer) for answer in sales):
        yield "MPP"
    if not shelf.sign_ins:
        yield "sign-in"
