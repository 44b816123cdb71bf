"""The 402: what all rails ask for one request, in the headers of both protocols."""

from __future__ import annotations

import binascii
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from stablestudio.catalog import Offering
from stablestudio.money import Money
from stablestudio.payments.rail import Asked, BindingRail, Form, MppRail, X402Rail
from stablestudio.protocols import mpp, x402
from stablestudio.server.http import CORS, JSON, NO_STORE, Headers

# The x402 SDKs refuse to pay more than a dollar a call unless told otherwise.
_CLIENT_CAP = Money(1_000_000)
_REQUIRED = x402.PAYMENT_REQUIRED.lower().encode()
_AUTHENTICATE = b"www-authenticate"
_HEAD: Headers = [JSON, *CORS, NO_STORE]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sheet:
    """All offers but for what binds them to a body.

    A slot is the base64 up to a memo, then the memo between what shares its groups of three bytes.
    """

    slots: Sequence[tuple[bytes, bytes, Form, bytes]]
    rest: bytes
    challenges: Sequence[mpp.ChallengeForm]

    @property
    def binds(self) -> bool:
        return bool(self.slots or self.challenges)

    def required(self, sha256: bytes) -> bytes:
        woven: list[bytes] = []
        for head, before, form, after in self.slots:
            woven += head, _base64(before + form.fill(sha256) + after)
        return b"".join((*woven, self.rest))


class Challenges:
    """Builds challenges. Prices come from a table, so all parts that do not depend on the body are made once a second."""

    def __init__(
        self,
        x402_rails: Sequence[X402Rail],
        mpp_rails: Sequence[MppRail] = (),
        *,
        origin: str,
        describe: Callable[[Offering, str], Mapping[str, Any]] = lambda *_: {},
    ) -> None:
        """Take the rails in the order in which they are offered; `describe` returns extensions that tell what is sold at a path."""
        self._x402 = tuple(x402_rails)
        self._bound = tuple(rail for rail in x402_rails if isinstance(rail, BindingRail))
        self._mpp = tuple(mpp_rails)
        self._origin = origin
        self._describe = describe
        self._sheets = lru_cache(maxsize=256)(self._sheet)

    def headers(self, offering: Offering, asked: Asked, *, accept: str | None = None) -> Headers:
        """Return the headers of the 402 for one request; `accept` is the buyer's Accept-Payment."""
        return [*_HEAD, *self.offers(offering, asked, accept=accept)]

    def offers(self, offering: Offering, asked: Asked, *, accept: str | None = None) -> Headers:
        """Return PAYMENT-REQUIRED and one WWW-Authenticate for each MPP offer."""
        editions = [rail.edition for rail in self._bound]
        sheet = self._sheets(offering, asked.path, asked.price.micros, asked.hold_s, asked.now_s, *editions)
        if not sheet.binds:
            return [(_REQUIRED, sheet.rest)]
        sha256 = asked.sha256
        offers = [(_REQUIRED, sheet.required(sha256))]
        if accept is None or mpp.accepts(accept, mpp.METHOD, mpp.INTENT):
            offers += [(_AUTHENTICATE, line) for line in mpp.fill_all(sheet.challenges, sha256)]
        return offers

    def _sheet(self, offering: Offering, path: str, micros: int, hold_s: int, now_s: int, *_editions: str) -> _Sheet:
        asked = Asked(path=path, body=b"", price=Money(micros), now_s=now_s, hold_s=hold_s)
        required = self.required(offering, asked)
        memos = [offer.extra["memo"].encode() for offer in required.accepts if "memo" in offer.extra]
        rest, slots = json.dumps(required.wire(), separators=(",", ":")).encode(), []
        for rail, memo in zip(self._bound, memos, strict=True):
            begin = rest.index(memo)
            end = begin + len(memo)
            first, last = begin - begin % 3, end + -end % 3
            slots.append((_base64(rest[:first]), rest[first:begin], rail.form(asked), rest[end:last]))
            rest = rest[last:]
        return _Sheet(slots=slots, rest=_base64(rest), challenges=[rail.form(asked) for rail in self._mpp])

    def required(self, offering: Offering, asked: Asked) -> x402.PaymentRequired:
        """Return the x402 challenge."""
        note = "PAYMENT-SIGNATURE header is required"
        if asked.price > _CLIENT_CAP:
            note += f"; this costs ${asked.price}: raise your client's maximum payment above its default"
        return x402.PaymentRequired(
            accepts=[rail.offer(asked) for rail in self._x402],
            resource=x402.Resource(
                url=self._origin + asked.path,
                description=offering.title,
                mime_type="application/json",
                other={"serviceName": "StableStudio", "tags": [offering.kind.value]},
            ),
            error=note,
            extensions=x402.declare_payment_identifier() | dict(self._describe(offering, asked.path)),
        )


def _base64(data: bytes) -> bytes:
    return binascii.b2a_base64(data, newline=False)
