"""Buying: ask the price, check it, sign once, and send the same signed bytes until the service's word is known."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from stablestudio.client.answers import api_error
from stablestudio.client.errors import (
    PaymentOutcomeUnknown,
    PaymentRejected,
    PurchaseDeclined,
    ServiceUnreachable,
    UnreadableAnswer,
    UploadExpired,
)
from stablestudio.client.jobs import Job, Payment, read_job
from stablestudio.client.journal import Journal
from stablestudio.client.offers import Quote, Wish, check_before_signing, read_quote
from stablestudio.client.orders import Accepted, Order, Refused, SendAgain, judge, replay_delays
from stablestudio.client.steps import Call, Flow, Lost, Reply, Result, ask, pause
from stablestudio.client.wallet import KeyWallet
from stablestudio.clock import Clock, iso
from stablestudio.errors import StudioError
from stablestudio.ids import new_id
from stablestudio.money import Money
from stablestudio.protocols import x402

Approve = Callable[[Quote], bool]
Done_co = TypeVar("Done_co", covariant=True)


class Fulfil(Protocol[Done_co]):
    """Sends an order's payment and does what it was bought for; `doubt` says that the payment may have been sent before."""

    def __call__(self, order: Order, *, doubt: bool) -> Flow[Done_co]: ...


_ASK_PAUSES = (0.3, 1.0)
_LONGEST_PAUSE = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Till:
    """Where one wallet buys from one service."""

    base_url: str
    wallet: KeyWallet
    journal: Journal
    clock: Clock
    limit: Money
    allow_mainnet: bool = False

    def quote(self, wish: Wish) -> Flow[Quote]:
        """Ask the price by sending the input unpaid; nothing is signed."""
        call = Call(method="POST", url=wish.url, headers=_headers(wish.webhook), body=wish.body)
        reply = yield from steadily(call)
        if reply.status >= 400 and reply.status != 402:
            raise api_error(reply)
        header = reply.headers.get(x402.PAYMENT_REQUIRED.lower())
        if reply.status != 402 or not header:
            raise UnreadableAnswer(f"The service answered {reply.status} without an x402 offer.")
        return read_quote(header, wish=wish)

    def buy(self, wish: Wish, *, limit: Money | None, approve: Approve | None) -> Flow[Job]:
        """Buy one job: at most one payment is signed, and an earlier unanswered order for the same is continued instead."""
        return (yield from self.purchase(wish, limit=limit, approve=approve, fulfil=self._job))

    def purchase(
        self, wish: Wish, *, limit: Money | None, approve: Approve | None, fulfil: Fulfil[Result]
    ) -> Flow[Result]:
        """Find or make the order of a wish and see it through, alone; `fulfil` sends its payment and does the rest.

        An earlier order that turns out never to have been charged, or that came too late, makes room for a new one.
        """
        for left in self.left(wish):
            with self.journal.hold(left.key) as ours:
                if ours and self.journal.find(left.key) == left:
                    # With a doubt on it, an order is only rejected by a word that nothing was charged: then this call is free to buy.
                    with contextlib.suppress(PaymentRejected, UploadExpired):
                        return (yield from fulfil(left, doubt=True))
        quote = yield from self.quote(wish)
        order = self._sign(quote, limit=self.limit if limit is None else limit, approve=approve)
        with self.journal.hold(order.key):
            self.journal.write(order)
            return (yield from fulfil(order, doubt=False))

    def resume(self, order: Order) -> Flow[Job]:
        """Send an order's payment again, as it was signed; what it bought comes back."""
        with self.journal.hold(order.key):
            return (yield from self._job(order, doubt=True))

    def left(self, wish: Wish | None = None) -> list[Order]:
        """Return the orders of this wallet here that have not come to their end, all or those of one wish."""
        return [
            order
            for order in self.journal.orders()
            if order.job_id is None
            and (order.base_url, order.payer) == (self.base_url, self.wallet.address)
            and (wish is None or order.serves(wish))
        ]

    def _sign(self, quote: Quote, *, limit: Money, approve: Approve | None) -> Order:
        check_before_signing(quote, limit=limit, allow_mainnet=self.allow_mainnet, base_url=self.base_url)
        if approve is not None and not approve(quote):
            raise PurchaseDeclined
        key = new_id("order")
        now_ms = self.clock.now_ms()
        payload = x402.sign_exact(quote.required, quote.offer, self.wallet.key, now_s=now_ms // 1000, payment_id=key)
        return Order(
            key=key,
            base_url=self.base_url,
            url=quote.wish.url,
            model=quote.wish.model,
            operation=quote.wish.operation,
            body=quote.wish.body.decode(),
            signature=x402.encode_payment(payload),
            price=str(quote.amount),
            network=quote.network,
            payer=self.wallet.address,
            created_at=iso(now_ms),
            expires_at=iso(payload.authorization.valid_before * 1000),
            sending=quote.wish.sending,
            webhook=quote.wish.webhook,
        )

    def pay(self, order: Order, *, doubt: bool) -> Flow[Reply]:
        """Send the payment until an answer settles the matter. `doubt` says that an earlier try may have taken it."""
        for wait in (*replay_delays(), None):
            verdict = judge((yield from ask(_payment(order))), receipt="uploadId" if order.sending else "jobId")
            match verdict:
                case Accepted(reply=reply):
                    return reply
                case Refused():
                    raise self._refusal(order, verdict, doubt=doubt)
                case SendAgain():
                    doubt = doubt or verdict.doubt
            if wait is None:
                raise self._gave_up(order, verdict, doubt=doubt)
            yield from pause(max(wait, min(verdict.after or 0, _LONGEST_PAUSE)))
        raise AssertionError("the last round returns or raises")

    def _job(self, order: Order, *, doubt: bool) -> Flow[Job]:
        reply = yield from self.pay(order, doubt=doubt)
        job = read_job(reply)
        transaction = transaction_of(reply)
        self.journal.write(order.model_copy(update={"job_id": job.id, "transaction": transaction}))
        told = job.payment.state if job.payment else None
        paid = Payment(
            amount=order.price, network=order.network, payer=order.payer, transaction=transaction, state=told
        )
        return job.model_copy(update={"payment": paid, "webhook": order.webhook})

    def _refusal(self, order: Order, verdict: Refused, *, doubt: bool) -> StudioError:
        if not verdict.certain and (doubt or verdict.error.money_moved):
            return PaymentOutcomeUnknown(
                f"An earlier try may have taken the payment; now the service says: {verdict.error.message}", order=order
            )
        self.journal.discard(order.key)
        return verdict.error

    def _gave_up(self, order: Order, verdict: SendAgain, *, doubt: bool) -> StudioError:
        if doubt:
            return PaymentOutcomeUnknown(
                f"The payment of ${order.price} was sent, and no answer says what became of it ({verdict.reason}).",
                order=order,
            )
        self.journal.discard(order.key)
        return ServiceUnreachable(f"The service did not take the payment ({verdict.reason}); nothing was charged.")


def steadily(call: Call) -> Flow[Reply]:
    """Send what costs nothing, and again where no answer came; raise `ServiceUnreachable`."""
    for wait in (*_ASK_PAUSES, None):
        outcome = yield from ask(call)
        if isinstance(outcome, Reply):
            return outcome
        if wait is None:
            raise unreachable(outcome)
        yield from pause(wait)
    raise AssertionError("the last round returns or raises")


def unreachable(lost: Lost) -> ServiceUnreachable:
    """Return the error of an answer that never came."""
    return ServiceUnreachable(f"The service could not be reached: {lost.reason}.")


def _payment(order: Order) -> Call:
    signed = {"idempotency-key": order.key, x402.PAYMENT_SIGNATURE.lower(): order.signature}
    return Call(method="POST", url=order.url, headers=_headers(order.webhook) | signed, body=order.body.encode())


def _headers(webhook: str | None) -> dict[str, str]:
    """Return what is said of an input, asked and paid alike, so that a bad webhook is refused before money."""
    return {"content-type": "application/json"} | ({"webhook-url": webhook} if webhook else {})


def transaction_of(reply: Reply) -> str | None:
    """Return the transaction that an answer's receipt names."""
    header = reply.headers.get(x402.PAYMENT_RESPONSE.lower())
    try:
        return x402.decode_response(header).transaction or None if header else None
    except x402.MalformedReceipt:
        return None  # it is bought all the same
