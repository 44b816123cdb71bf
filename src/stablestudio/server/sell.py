"""The routes that sell: quote a body with a 402, or take its payment and answer with a job."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Any, ClassVar, NamedTuple

import sqlalchemy as sa
from pydantic_core import to_json

from stablestudio.catalog import Offering, OfferingInput, PriceTable
from stablestudio.clock import Clock
from stablestudio.errors import InternalError, InvalidInput, StudioError
from stablestudio.failpoints import reach
from stablestudio.jobs.changes import Changes
from stablestudio.media.post import Poster
from stablestudio.money import Money
from stablestudio.payments.errors import PaymentRejected, SalesUnavailable
from stablestudio.payments.rail import Asked, Presented
from stablestudio.protocols import mpp
from stablestudio.providers.bindings import Bindings
from stablestudio.sales.order import Held, Purchase, Sold
from stablestudio.sales.sell import Seller
from stablestudio.server.challenge import Challenges
from stablestudio.server.credentials import payment_header, read_buyer, read_payment
from stablestudio.server.forms import is_form, read_form
from stablestudio.server.http import (
    CORS,
    JSON,
    PRIVATE,
    REQUEST,
    Headers,
    Receive,
    Scope,
    Send,
    header,
    read_body,
    refuse_method,
    respond,
    respond_json,
    respond_preflight,
    respond_whole,
)
from stablestudio.server.job_pages import JobPages
from stablestudio.server.poll_tokens import PollTokens
from stablestudio.server.readiness import Readiness
from stablestudio.server.receipts import failure, problem, receipt
from stablestudio.server.waits import applied, preferred_wait, wait_for_turn
from stablestudio.server.webhooks import read_webhook

log = logging.getLogger(__name__)
METHODS = "POST, OPTIONS"
_EMPTY = b"{}"
_ECHO = "This request was paid a moment ago in another way: this is its job, and the payment sent now was not taken."
_HELD = "The payment is held until the work is done; if the work fails, nothing is charged."

_UNKNOWN = "The payment's outcome is not known yet. Do not pay again: send this same request again, or read the job, until it is."
_RELEASED = "The work failed and nothing was charged: the job tells why."


class _Ordered(NamedTuple):
    input: OfferingInput
    price: Money
    webhook: str | None


class SellRoute:
    """One route that sells one offering."""

    sells_jobs: ClassVar[bool] = True

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
        clock: Clock,
        changes: Changes,
        pages: JobPages,
        tokens: PollTokens,
        poster: Poster,
        readiness: Readiness,
        hold_s: int = 0,
        face: str | None = None,
    ) -> None:
        """Take the parts; `hold_s` is how many seconds a payment is held for the work, 0 where it is settled at once.

        `face` is the path that sells, where that is not the offering's own.
        """
        self._offering = offering
        self._face = face
        self._path = face or offering.path
        self._seller = seller
        self._challenges = challenges
        self._prices = prices
        self._bindings = bindings
        self._origin = origin
        self._clock = clock
        self._changes = changes
        self._pages = pages
        self._tokens = tokens
        self._poster = poster
        self._readiness = readiness
        self._hold_s = hold_s
        self._body_limit = body_limit

    @property
    def holds(self) -> bool:
        """Tell whether payments are held until the work is done, instead of being settled at once."""
        return self._hold_s > 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] != "POST":
            if scope["method"] == "OPTIONS":
                return await respond_preflight(send, METHODS)
            raise refuse_method(scope, "POST")
        body = await read_body(receive, limit=self._body_limit)
        if body.startswith(b"--") and is_form(content_type := header(scope, b"content-type")):
            body = await read_form(self._offering.input, body, content_type)
        await self.serve(scope, receive, send, body)

    async def serve(self, scope: Scope, receive: Receive, send: Send, body: bytes) -> None:
        """Quote a JSON body, or take its payment."""
        if (payment := payment_header(scope)) is not None:
            return await self._sell(scope, receive, send, body, payment)
        self._readiness.require()
        self.require_maker()
        price = self._prices.ceiling(self._offering) if not body.strip() else self._order(scope, body).price
        reach("quote.asked")
        headers = self._challenges.headers(
            self._offering, self._asked(price, body), accept=header(scope, b"accept-payment")
        )
        await respond_whole(scope, send, 402, _EMPTY, headers)

    def _asked(self, price: Money, body: bytes) -> Asked:
        return Asked(
            path=self._path,
            body=body,
            price=price,
            now_s=self._clock.now_ms() // 1000,
            hold_s=self._hold_s,
        )

    def read(self, body: bytes) -> OfferingInput:
        """Return the input that a body states; raise `InvalidInput`."""
        return self._offering.read(body)

    def _quote(self, body: bytes) -> tuple[OfferingInput, Money]:
        read = self.read(body)
        reach("quote.read")
        price = self._prices.price(self._offering, read)
        reach("quote.priced")
        return read, price

    def _order(self, scope: Scope, body: bytes) -> _Ordered:
        """Quote a body, unless nobody here makes what it asks for: then no money may be asked either."""
        read, price = self._quote(body)
        self.require_maker(read)
        return _Ordered(read, price, self.webhook(scope, read))

    async def _sell(self, scope: Scope, receive: Receive, send: Send, body: bytes, payment: str) -> None:
        try:
            presented = read_payment(payment)
            answer = await self._sold_or_known(scope, body, presented)
        except StudioError as error:
            if error.status == 402:
                self._offer_again(scope, error, body)
            if mpp.is_payment(payment):
                error.extra.setdefault("type", problem(error))
            elif isinstance(error, PaymentRejected) and error.network:
                error.headers.append(failure(error))
            raise
        if isinstance(answer, Held):
            return await self._hold(send, answer)
        try:
            await self.answer(scope, receive, send, answer)
        except StudioError:
            raise
        except Exception:
            # It is sold, and cannot be read at this moment: nobody may hear that nothing was charged.
            log.exception("sale_not_read", extra={"order": answer.job_id})
            await self._hold(send, Held(job_id=answer.job_id))

    async def answer(self, scope: Scope, receive: Receive, send: Send, sold: Sold) -> None:
        """Answer a sale. Whoever paid just now gets the whole job after the wait that it prefers."""
        headers, token = self.head(sold)
        seconds = preferred_wait(scope) if self._changes.has_room(sold.job_id) else None
        if token is not None and sold.owner is not None and seconds is not None:
            order = await wait_for_turn(self._changes, sold.job_id, seconds=seconds, receive=receive)
            if order is not None and order.deleted_at is None:
                _, body = await self._pages.page(sold.job_id, sold.owner, signed=False, order=order)
                return await respond(send, 200, body["body"], [*headers, *applied(seconds)])
        await self._accept(send, sold, headers)

    def head(self, sold: Sold) -> tuple[Headers, str | None]:
        """Return the headers of the answer to a sale, and the poll token among them, which whoever paid just now gets.

        A payment can be read on its chain, so whoever sends it again proves nothing, and learns nothing but the job's id.
        """
        headers = [JSON, *CORS, PRIVATE, *receipt(sold.payment)]
        if sold.owner is None or not self.sells_jobs:
            return headers, None
        token = self._tokens.issue(sold.job_id, wallet=sold.owner, now_ms=self._clock.now_ms()).text
        return [*headers, (b"poll-token", token.encode())], token

    def _offer_again(self, scope: Scope, error: StudioError, body: bytes) -> None:
        price = self._prices.ceiling(self._offering)
        with suppress(InvalidInput):
            price = self._quote(body)[1]
        accept = header(scope, b"accept-payment")
        for name, value in self._challenges.offers(self._offering, self._asked(price, body), accept=accept):
            error.headers.append((name.decode(), value.decode()))

    def _purchase(self, scope: Scope, body: bytes, presented: Presented) -> Purchase | StudioError:
        """Return what is bought, or what today's rules have against it."""
        try:
            self._readiness.require()
            self.require_maker()
            ordered = self._order(scope, body)
            buyer = read_buyer(scope, presented)
        except StudioError as error:
            return error
        return Purchase(
            offering=self._offering,
            input=ordered.input,
            price=ordered.price,
            body=body,
            presented=presented,
            buyer=buyer,
            webhook=ordered.webhook,
            hold_s=self._hold_s,
            face=self._face,
        )

    async def _sold_or_known(self, scope: Scope, body: bytes, presented: Presented) -> Sold | Held:
        """Sell. Whatever breaks, a payment is in hand that an earlier try may have taken: nobody hears that it was not."""
        try:
            return await self._recall_or(self._purchase(scope, body, presented), presented, body)
        except StudioError:
            raise
        except Exception as fault:
            log.exception("sale_unclear", extra={"request": scope[REQUEST].decode(), "path": scope["path"]})
            if isinstance(fault, sa.exc.SQLAlchemyError):
                raise SalesUnavailable from fault
            raise InternalError(hint=SalesUnavailable.hint, charged=None) from fault

    async def _recall_or(self, wanted: Purchase | StudioError, presented: Presented, body: bytes) -> Sold | Held:
        if isinstance(wanted, Purchase):
            return await self._seller.sell(wanted)
        answer = await self._seller.recall(presented, path=self._path, body=body)
        if answer is None:
            raise wanted
        return answer

    def webhook(self, scope: Scope, given: OfferingInput) -> str | None:
        """Return who is to be told when the job ends; raise `InvalidInput` for an address that is never called."""
        return read_webhook(scope, given, poster=self._poster) if self.sells_jobs else None

    def require_maker(self, given: OfferingInput | None = None) -> None:
        """Raise a `StudioError` where nobody can make this input, or any, before any money is asked."""
        self._bindings.first(self._offering, given)

    async def _accept(self, send: Send, sold: Sold, headers: Headers) -> None:
        body = await self.sold(sold.job_id) | notes(sold)
        await respond(send, 200, to_json(body), headers)
        reach("sale.answered")

    async def _hold(self, send: Send, held: Held) -> None:
        body = self.awaited(held.job_id) | {"payment": {"state": "unknown"}, "hint": _UNKNOWN}
        await respond_json(send, 202, body, [PRIVATE, (b"retry-after", b"2")])

    async def sold(self, order_id: str) -> dict[str, Any]:
        """Return the answer to a paid order; the same order always gets an equal one."""
        return self.awaited(order_id)

    def awaited(self, job_id: str) -> dict[str, Any]:
        """Return the answer to an order whose payment is not known to have arrived yet."""
        return {
            "success": True,
            "jobId": job_id,
            "type": self._offering.type,
            "status": "pending",
            "pollUrl": f"{self._origin}/api/jobs/{job_id}",
            "pollAfter": self._offering.poll_after,
        }


def notes(sold: Sold) -> dict[str, Any]:
    """Return what is to be told of a sale that went another way than usual."""
    if sold.echo:
        return {"note": _ECHO}
    if sold.payment.state == "held":
        return {"payment": {"state": "held"}, "note": _HELD}
    if sold.payment.state in ("released", "rejected"):
        return {"status": "failed", "payment": {"state": sold.payment.state}, "note": _RELEASED}
    return {}
