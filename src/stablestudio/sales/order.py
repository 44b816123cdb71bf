"""What a sale is made from, and what it ends in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stablestudio.catalog import Offering, OfferingInput
from stablestudio.ids import new_id
from stablestudio.money import Money
from stablestudio.payments.rail import Credential, Presented, Rail
from stablestudio.protocols.wallet import Wallet
from stablestudio.store import payments as store

_FAR_S = 1 << 42  # buyers may write any number; the database holds 64 bits


@dataclass(frozen=True, slots=True, kw_only=True)
class Buyer:
    """What a request says of who sends it; only the payment proves anything."""

    session: str | None = None  # one run of the buyer's program
    companions: Sequence[Wallet] = ()  # other wallets that it calls its own
    idempotency_key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Purchase:
    """A valid request with a payment: everything a sale is made from."""

    offering: Offering
    input: OfferingInput
    price: Money
    body: bytes
    presented: Presented
    buyer: Buyer
    webhook: str | None = None  # who is told when the job ends
    hold_s: int = 0  # seconds that the payment is held until the work is done; 0: settled when it is accepted
    face: str | None = None  # the path that was asked, where that is not the offering's own

    @property
    def path(self) -> str:
        """Return the path that the payment is bound to."""
        return self.face or self.offering.path


@dataclass(frozen=True, slots=True, kw_only=True)
class Sold:
    """The order is paid and its job exists. The same payment always gets an equal answer."""

    job_id: str
    payment: store.Payment
    owner: str | None = None  # the job's wallet, where this very request took the payment
    echo: bool = False  # paid before, in another way; the payment presented now was not taken


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """The payment's outcome is not known yet; the order waits for it under this id."""

    job_id: str


def open_order(
    purchase: Purchase, rail: Rail, credential: Credential, mark: str, *, held: bool, now: int
) -> tuple[store.Order, store.Payment]:
    """Return the rows that claiming a credential at `now` (ms) writes; `mark` is the request's fingerprint."""
    order = store.Order(
        id=new_id("job"),
        wallet=str(credential.wallet),
        model=purchase.offering.model,
        operation=purchase.offering.operation,
        input=purchase.input.model_dump_json(exclude_unset=True, by_alias=True),
        price_micros=purchase.price.micros,
        idempotency_key=purchase.buyer.idempotency_key,
        created_at=now,
        webhook_url=purchase.webhook,
    )
    payment = store.Payment(
        id=new_id("pay"),
        order_id=order.id,
        rail=rail.name,
        key=credential.key,
        fingerprint=mark,
        credential=credential.saved,
        state="held" if held else "claimed",
        network=credential.network,
        asset=credential.asset,
        amount=credential.amount,
        payer=credential.payer,
        transaction=None,
        reason=None,
        claimed_at=now,
        updated_at=now,
        expires_at=min(credential.expires_at, _FAR_S) * 1000 if credential.expires_at is not None else None,
        policy="complete" if held else "accept",
    )
    return order, payment
