"""The routes that sell: quote a body with a 402, or take its payment and answer with a job."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any

from pydantic_core import to_json

from stablestudio.catalog import Offering, OfferingInput, PriceTable
from stablestudio.errors import InvalidInput, Issue, StudioError
from stablestudio.failpoints import reach
from stablestudio.money import Money
from stablestudio.payments.errors import PaymentRejected
from stablestudio.protocols import x402
from stablestudio.providers.bindings import Bindings
from stablestudio.sales.sell import Held, Purchase, Seller, Sold
from stablestudio.server.challenge import Challenges
from stablestudio.server.http import (
    CORS,
    JSON,
    PRIVATE,
    Receive,
    Scope,
    Send,
    header,
    read_body,
    refuse_method,
    respond,
    respond_json,
    respond_preflight,
)

METHODS = "POST, OPTIONS"
_PAYMENT = x402.PAYMENT_SIGNATURE.lower().encode()
_KEY = re.compile(r"[\x21-\x7e]{1,255}")
_EMPTY = b"{}"


class SellRoute:
    """One route that sells one offering."""

    def __init__(
        self,
        offering: Offering,
        *,
        seller: Seller,
        challenges: Challenges,
        prices: PriceTable,
        bindings: Bindings,
        origin: str,
        body_limit: int,
    ) -> None:
        self._offering = offering
        self._seller = seller
        self._challenges = challenges
        self._prices = prices
        self._bindings = bindings
        self._origin = origin
        self._body_limit = body_limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] != "POST":
            if scope["method"] == "OPTIONS":
                return await respond_preflight(send, METHODS)
            raise refuse_method(scope, "POST")
        payment = header(scope, _PAYMENT)
        body = await read_body(receive, limit=self._body_limit)
        if payment is not None:
            return await self._sell(scope, send, body, payment)
        self._bindings.first(self._offering)
        price = self._prices.ceiling(self._offering) if not body.strip() else self._quote(body)[1]
        reach("quote.asked")
        await send(
            {
                "type": "http.response.start",
                "status": 402,
                "headers": self._challenges.headers(self._offering, price),
            }
        )
        await send({"type": "http.response.body", "body": _EMPTY})

    def _quote(self, body: bytes) -> tuple[OfferingInput, Money]:
        read = self._offering.read(body)
        reach("quote.read")
        price = self._prices.price(self._offering, read)
        reach("quote.priced")
        return read, price

    async def _sell(self, scope: Scope, send: Send, body: bytes, payment: str) -> None:
        price = self._prices.ceiling(self._offering)
        try:
            payload = x402.decode_payment(payment)
            answer = await self._recall_or(self._purchase(scope, body, payload), payload, body)
        except StudioError as error:
            if error.status == 402:
                with suppress(InvalidInput):
                    price = self._quote(body)[1]
                name, value = self._challenges.offers(self._offering, price)
                error.headers[name.decode()] = value.decode()
            if isinstance(error, PaymentRejected) and error.network:
                error.headers[x402.PAYMENT_RESPONSE] = _failure(error)
            raise
        if isinstance(answer, Held):
            return await self._hold(send, answer)
        await self._accept(send, answer)

    def _purchase(self, scope: Scope, body: bytes, payload: x402.PaymentPayload) -> Purchase | StudioError:
        """Return what is bought, or what today's rules have against it."""
        try:
            self._bindings.first(self._offering)
            read, price = self._quote(body)
            key = _idempotency_key(scope, payload)
        except StudioError as error:
            return error
        return Purchase(
            offering=self._offering, input=read, price=price, body=body, payload=payload, idempotency_key=key
        )

    async def _recall_or(
        self, wanted: Purchase | StudioError, payload: x402.PaymentPayload, body: bytes
    ) -> Sold | Held:
        if isinstance(wanted, Purchase):
            return await self._seller.sell(wanted)
        answer = await self._seller.recall(payload, path=self._offering.path, body=body)
        if answer is None:
            raise wanted
        return answer

    async def _accept(self, send: Send, sold: Sold) -> None:
        receipt = x402.SettleResponse(
            success=True,
            payer=sold.payment.payer,
            transaction=sold.payment.transaction or "",
            network=sold.payment.network,
        )
        receipt_header = (x402.PAYMENT_RESPONSE.encode(), x402.encode_response(receipt).encode())
        await respond(send, 200, to_json(self._job(sold.job_id)), [JSON, *CORS, PRIVATE, receipt_header])
        reach("sale.answered")

    async def _hold(self, send: Send, held: Held) -> None:
        body = self._job(held.job_id) | {
            "payment": {"state": "unknown"},
            "hint": "The payment's outcome is not known yet. Do not pay again: send this same request again, or read "
            "the job, until it is.",
        }
        await respond_json(send, 202, body, [PRIVATE, (b"retry-after", b"2")])

    def _job(self, job_id: str) -> dict[str, Any]:
        return {
            "success": True,
            "jobId": job_id,
            "type": self._offering.type,
            "status": "pending",
            "pollUrl": f"{self._origin}/api/jobs/{job_id}",
            "pollAfter": self._offering.poll_after,
        }


def _failure(error: PaymentRejected) -> str:
    failed = x402.SettleResponse(
        success=False, payer=error.payer, transaction="", network=error.network, error_reason=error.reason
    )
    return x402.encode_response(failed)


def _idempotency_key(scope: Scope, payload: x402.PaymentPayload) -> str | None:
    """Return the buyer's own key of this order, from the header or from the payment-identifier extension."""
    given = header(scope, b"idempotency-key")
    identifier = x402.payment_identifier(payload)
    if given is not None and not _KEY.fullmatch(given):
        raise _bad_key("must_be_visible_ascii", "Idempotency-Key takes 1 to 255 visible ASCII characters.")
    if given is not None and identifier is not None and given != identifier:
        raise _bad_key("conflicts", "Idempotency-Key and the payment-identifier extension name different orders.")
    return given or identifier


def _bad_key(code: str, message: str) -> InvalidInput:
    return InvalidInput(message, issues=[Issue(("Idempotency-Key",), code, message)])
