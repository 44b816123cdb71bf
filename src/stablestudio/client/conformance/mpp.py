"""MPP's challenges in WWW-Authenticate (draft-httpauth-payment; RFC 9110, section 11.6.1)."""

from __future__ import annotations

import binascii
import json
import re
from base64 import urlsafe_b64decode
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from stablestudio.client.conformance.exchange import Answer, Exchange
from stablestudio.client.conformance.rules import Finding, breach
from stablestudio.clock import from_iso

HEADER = "WWW-Authenticate"
_NEEDED = ("id", "realm", "method", "intent", "request", "expires")
_CHARGED = ("amount", "currency", "recipient")
_TOKEN = r"[-!#$%&'*+.^_`|~0-9A-Za-z]+"  # noqa: S105 - RFC 9110's word
# A parameter, before the first of a challenge its scheme; or a challenge of another scheme that has none.
_PART = re.compile(
    rf'[ \t,]*(?:(?:(?P<scheme>{_TOKEN}) +)?(?P<name>{_TOKEN})[ \t]*=[ \t]*(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<plain>{_TOKEN}))'
    rf"|{_TOKEN}(?: +[-._~+/0-9A-Za-z]+=*)?)[ \t]*(?:,|$)"
)
_ESCAPED = re.compile(r"\\(.)")
_DIGITS = re.compile(r"[0-9]{1,78}")


def challenges(answer: Answer) -> list[str]:
    """Return the header lines with a Payment challenge."""
    return [line for line in answer.all(HEADER) if re.search(r"(?i)(?:^|,)\s*Payment(?: |$)", line)]


def read_challenges(line: str) -> list[dict[str, str]]:
    """Return the parameters of each Payment challenge of a header line; raise `ValueError` for what RFC 9110 does not allow."""
    found: list[tuple[str, dict[str, str]]] = []
    position, end = 0, len(line.rstrip(" \t,"))
    while position < end:
        part = _PART.match(line, position)
        if part is None:
            raise ValueError(f"after {position} characters")
        position = part.end()
        if part["name"] is None:
            found.append(("", {}))
            continue
        if part["scheme"]:
            found.append((part["scheme"].lower(), {}))
        if not found or part["name"].lower() in found[-1][1]:
            raise ValueError(f"at {part['name']}")
        value = part["plain"] if part["quoted"] is None else _ESCAPED.sub(r"\1", part["quoted"])
        found[-1][1][part["name"].lower()] = value
    return [parameters for scheme, parameters in found if scheme == "payment"]


def check_challenges(exchange: Exchange, *, free: bool = False) -> tuple[list[str], list[Finding]]:
    """Return the amounts of all challenges, in base units, and what is wrong with them; `free` ones ask for 0."""
    amounts, findings = [], []
    for line in challenges(exchange.answer):
        try:
            read = read_challenges(line)
        except ValueError as error:
            findings.append(breach("challenge_unreadable", exchange.where, f"It cannot be read {error}."))
            continue
        for challenge in read:
            request = _request(challenge.get("request", ""))
            findings += _check(challenge, request, exchange, free=free)
            if _is_amount(request.get("amount")):
                amounts.append(request["amount"])
    return amounts, findings


def _check(challenge: dict[str, str], request: dict[str, Any], exchange: Exchange, *, free: bool) -> Iterator[Finding]:
    where = exchange.where
    if missing := [name for name in _NEEDED if not challenge.get(name)]:
        yield breach("challenge_incomplete", where, f"There is no {' and no '.join(missing)}.")
        return
    host = urlsplit(exchange.origin)
    if challenge["realm"] not in (host.hostname, host.netloc):
        yield breach("challenge_realm", where, f"The realm is {challenge['realm']!r}, the host {host.hostname}.")
    missing = [name for name in _CHARGED if not isinstance(request.get(name), str)]
    if missing or not _is_amount(request["amount"]):
        yield breach("challenge_request", where, f"`request` has no {' and no '.join(missing) or 'whole amount'}.")
    elif (int(request["amount"]) == 0) is not free:
        yield breach("challenge_request", where, f"The amount is {request['amount']}.")
    if not _is_ahead(challenge["expires"], now_s=exchange.now_s):
        yield breach("challenge_expires", where, f"expires is {challenge['expires']!r}.")


def _request(text: str) -> dict[str, Any]:
    try:
        found = json.loads(urlsafe_b64decode(text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4)))
    except (ValueError, RecursionError, binascii.Error):
        return {}
    return found if isinstance(found, dict) else {}


def _is_amount(value: object) -> bool:
    return isinstance(value, str) and _DIGITS.fullmatch(value) is not None


def _is_ahead(text: str, *, now_s: float) -> bool:
    try:
        return from_iso(text) > now_s * 1000
    except ValueError:
        return False
