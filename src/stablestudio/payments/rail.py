"""What a rail is: one way to be paid, with offers, local verification, settlement and refunds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from stablestudio.money import Money
from stablestudio.protocols.wallet import Wallet
from stablestudio.protocols.x402 import PaymentPayload, PaymentRequirements


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """A signed payment whose signature holds: who pays, and what the rail needs to settle it."""

    key: str  # unique on its rail for ever
    wallet: Wallet
    payer: str  # as displayed on its network
    network: str
    asset: str
    amount: int  # base units of the asset
    saved: str  # JSON, enough to settle it or to look its outcome up after a restart


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """The money moved."""

    transaction: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """Certainly nothing moved, and nothing will."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown:
    """Nobody knows yet; only the chain can tell."""

    reason: str


Outcome = Settled | Rejected | Unknown


class Rail(Protocol):
    """One way to be paid. Everything before `settle` is local and pure."""

    @property
    def name(self) -> str:
        """Return the rail's stable name, part of each payment's unique key."""
        ...

    @property
    def network(self) -> str:
        """Return the CAIP-2 id of the chain."""
        ...

    def takes(self, accepted: PaymentRequirements) -> bool:
        """Tell whether a payment says that it answers an offer of this rail."""
        ...

    def offer(self, price: Money) -> PaymentRequirements:
        """Return what this rail asks for a price."""
        ...

    def identify(self, payload: PaymentPayload) -> Credential:
        """Prove who signed; raise `PaymentRefused` if the signature does not hold."""
        ...

    def check(self, payload: PaymentPayload, *, price: Money, now_s: int) -> None:
        """Check terms and time against the price of this very body; raise `PaymentRefused`."""
        ...

    async def afford(self, credential: Credential) -> bool:
        """Tell whether the payer seems to have the money, before anything is written down for it."""
        ...

    async def settle(self, saved: str) -> Outcome:
        """Move the money. Asking again for the same credential never moves it twice."""
        ...

    async def find(self, saved: str) -> Outcome:
        """Tell from the chain alone what became of a credential; never moves money."""
        ...

    def sign_refund(self, *, order_id: str, recipient: str, amount: int, now_s: int) -> str:
        """Sign the transfer back. The same order always yields a transfer that can happen once."""
        ...

    async def send_refund(self, signed: str) -> Outcome:
        """Send a signed refund; sending it again is harmless."""
        ...
