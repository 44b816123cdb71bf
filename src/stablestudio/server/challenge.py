"""The 402: what all rails ask for one request, in the headers of both protocols."""

from __future__ import annotations

import binascii
import json
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from stablestudio.catalog import Offering
from stablestudio.money import Money
from stablestudio.payments.rail import Asked, BindingRail, MppRail, X402Rail
from stablestudio.protocols import mpp, x402
from stablestudio.server.http import CORS, JSON, NO_STORE, Headers

# The x402 SDKs refuse to pay more than a dollar a call unless told otherwise.
_CLIENT_CAP = Money(1_000_000)
_REQUIRED = x402.PAYMENT_REQUIRED.encode()
_AUTHENTICATE = b"WWW-Authenticate"
_HEAD: Headers = [JSON, *CORS, NO_STORE, (b"content-length", b"2")]


class Challenges:
    """Builds challenges. Prices come from a table, so all parts that do not depend on the body are made once."""

    def __init__(
        self,
        x402_rails: Sequence[X402Rail],
        mpp_rails: Sequence[MppRail] = (),
        *,
        origin: str,
        describe: Callable[[Offering], Mapping[str, Any]] = lambda _: {},
    ) -> None:
        """Take the rails in the order in which they are offered; `describe` returns extensions that tell what is sold."""
        self._x402 = tuple(x402_rails)
        self._bound = tuple(rail for rail in x402_rails if isinstance(rail, BindingRail))
        self._mpp = tuple(mpp_rails)
        self._origin = origin
        self._describe = describe
        self._parts = lru_cache(maxsize=4096)(self._split)

    def headers(self, offering: Offering, asked: Asked, *, accept: str | None = None) -> Headers:
        """Return the headers of the 402 for one request; `accept` is the buyer's Accept-Payment."""
        return [*_HEAD, *self.offers(offering, asked, accept=accept)]

    def offers(self, offering: Offering, asked: Asked, *, accept: str | None = None) -> Headers:
        """Return PAYMENT-REQUIRED and one WWW-Authenticate for each MPP offer."""
        offers = [(_REQUIRED, self._required(offering, asked))]
        if accept is None or mpp.accepts(accept, mpp.METHOD, mpp.INTENT):
            for rail in self._mpp:
                offers.append((_AUTHENTICATE, rail.challenge(asked).encode()))  # noqa: PERF401 - this is hot
        return offers

    def _required(self, offering: Offering, asked: Asked) -> bytes:
        parts = self._parts(offering, asked.price, asked.hold_s, *[rail.edition for rail in self._bound])
        if len(parts) == 1:
            return parts[0]
        *heads, tail = parts
        woven = [heads[0]]
        for rail, part in zip(self._bound, heads[1:], strict=True):
            woven += rail.memo(asked).encode(), part
        head = b"".join(woven)
        # Base64 goes by threes: spaces, which JSON does not mind here, let the long tail be encoded beforehand.
        return binascii.b2a_base64(head + b" " * (-len(head) % 3), newline=False) + tail

    def _split(self, offering: Offering, price: Money, hold_s: int, *_editions: str) -> tuple[bytes, ...]:
        """Return the whole header value, or its JSON cut where each rail's memo of this very request belongs.

        The last piece, the extensions, is in base64 already.
        """
        asked = Asked(path=offering.path, body=b"", price=price, now_s=0, hold_s=hold_s)
        required = self.required(offering, asked)
        if not self._bound:
            return (x402.encode_required(required).encode(),)
        wire = required.wire()
        tail = b',"extensions":' + _json(wire.pop("extensions")) + b"}"
        rest, parts = _json(wire).removesuffix(b"}"), []
        for offer in required.accepts:
            if "memo" in offer.extra:
                head, _, rest = rest.partition(offer.extra["memo"].encode())
                parts.append(head)
        return (*parts, rest, binascii.b2a_base64(tail, newline=False))

    def required(self, offering: Offering, asked: Asked) -> x402.PaymentRequired:
        """Return the x402 challenge."""
        note = "PAYMENT-SIGNATURE header is required"
        if asked.price > _CLIENT_CAP:
            note += f"; this costs ${asked.price}: raise your client's maximum payment above its default"
        return x402.PaymentRequired(
            accepts=[rail.offer(asked) for rail in self._x402],
            resource=x402.Resource(
                url=self._origin + offering.path,
                description=offering.title,
                mime_type="application/json",
                other={"serviceName": "StableStudio", "tags": [offering.kind.value]},
            ),
            error=note,
            extensions=x402.declare_payment_identifier() | dict(self._describe(offering)),
        )


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
