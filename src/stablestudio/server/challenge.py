"""The 402: the offers of all rails for one price of one offering, ready-made."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from stablestudio.catalog import Offering
from stablestudio.money import Money
from stablestudio.payments.rail import Rail
from stablestudio.protocols import x402
from stablestudio.server.http import CORS, JSON, NO_STORE, Headers

# The x402 SDKs refuse to pay more than a dollar a call unless told otherwise.
_CLIENT_CAP = Money(1_000_000)


class Challenges:
    """Builds challenges; prices come from a table, so all that exist fit in a small cache."""

    def __init__(self, rails: Sequence[Rail], *, origin: str) -> None:
        self._rails = tuple(rails)
        self._origin = origin
        self.headers = lru_cache(maxsize=4096)(self._headers)

    def required(self, offering: Offering, price: Money) -> x402.PaymentRequired:
        """Return the x402 challenge."""
        note = "PAYMENT-SIGNATURE header is required"
        if price > _CLIENT_CAP:
            note += f"; this costs ${price}: raise your client's maximum payment above its default"
        return x402.PaymentRequired(
            accepts=[rail.offer(price) for rail in self._rails],
            resource=x402.Resource(
                url=self._origin + offering.path, description=offering.title, mime_type="application/json"
            ),
            error=note,
            extensions=x402.declare_payment_identifier(),
        )

    def offers(self, offering: Offering, price: Money) -> tuple[bytes, bytes]:
        """Return the PAYMENT-REQUIRED header."""
        return x402.PAYMENT_REQUIRED.encode(), x402.encode_required(self.required(offering, price)).encode()

    def _headers(self, offering: Offering, price: Money) -> Headers:
        return [JSON, *CORS, NO_STORE, self.offers(offering, price), (b"content-length", b"2")]
