"""What a rail is: one way to be paid, with offers, local verification, settlement and refunds."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from stablestudio.money import Money
from stablestudio.protocols import mpp, x402
from stablestudio.protocols.wallet import Wallet

# What a buyer can present: the payment of either protocol, read but not yet believed.
Presented = x402.AnyPayment | mpp.Credential


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The request that a payment must be for: this route, this body, at this price, now (Unix seconds).

    `hold_s` is how long the payment must stay good before it is settled, in seconds; 0 means that it is settled at once.
    """

    path: str
    body: bytes
    price: Money
    now_s: int
    hold_s: int = 0

    @property
    def sha256(self) -> bytes:
        """Return the SHA-256 of the body, which binds an offer to it."""
        return hashlib.sha256(self.body).digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """A signed payment: who pays, and what the rail needs to settle it."""

    key: str  # unique on its rail for ever
    wallet: Wallet
    payer: str  # as displayed on its network
    network: str
    asset: str
    amount: int  # base units of the asset
    saved: str  # JSON, enough to settle it or to look its outcome up after a restart
    expires_at: int | None = None  # Unix seconds after which nobody can settle it; None where it does not tell
    proved: bool = True  # False where only the chain can tell whether the signature holds, as with contract wallets


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
    """One token on one network. `takes`, `identify` and `check` are local and pure."""

    @property
    def name(self) -> str:
        """Return the rail's stable name, part of each payment's unique key."""
        ...

    @property
    def network(self) -> str:
        """Return the CAIP-2 id of the chain."""
        ...

    @property
    def asset(self) -> str:
        """Return the token's address, as offers write it."""
        ...

    @property
    def decimals(self) -> int:
        """Return how many decimals the token has."""
        ...

    def takes(self, presented: Presented) -> bool:
        """Tell whether a payment says that it answers an offer of this rail."""
        ...

    def identify(self, presented: Presented) -> Credential:
        """Prove who signed; raise a 402 `StudioError` if the signature does not hold."""
        ...

    def check(self, presented: Presented, asked: Asked) -> None:
        """Check terms and time against this very request; raise a 402 `StudioError`."""
        ...

    async def admit(self, credential: Credential, *, held: int = 0) -> Rejected | None:
        """Ask the chain what certainly speaks against a payment, before anything is written down for it.

        `held` is what the payer has signed for other orders that are not settled yet, in base units.
        """
        ...

    async def funds(self, credential: Credential) -> int | None:
        """Return what the payer holds of the token, in base units, or None where that cannot be told now."""
        ...

    async def settle(self, saved: str) -> Outcome:
        """Move the money. Asking again for the same credential never moves it twice."""
        ...

    async def find(self, saved: str) -> Outcome:
        """Tell from the chain alone what became of a credential; never moves money."""
        ...

    async def sign_refund(self, *, order_id: str, recipient: str, amount: int, now_s: int) -> str:
        """Sign the transfer back; nothing is sent. The same order always yields a transfer that can happen once."""
        ...

    async def send_refund(self, signed: str) -> Outcome:
        """Send a signed refund; sending it again is harmless."""
        ...

    async def find_refund(self, signed: str) -> Outcome:
        """Tell from the chain alone what became of a signed refund."""
        ...

    async def start(self) -> None:
        """Make sure that keys, nodes and services are what the settings say; raise a `StudioError` if not."""
        ...

    async def stop(self) -> None:
        """Close connections."""
        ...


class X402Rail(Rail, Protocol):
    """A rail whose offer is an entry of PAYMENT-REQUIRED."""

    def offer(self, asked: Asked) -> x402.PaymentRequirements:
        """Return what this rail asks; for equal prices and holds it differs in the memo at most."""
        ...


class Form(Protocol):
    """What offers have in common that one path is asked for at one price within one second."""

    def fill(self, sha256: bytes) -> bytes:
        """Return the ASCII text that binds an offer to the body with this SHA-256; no two are alike, not for one body either."""
        ...


@runtime_checkable
class BindingRail(X402Rail, Protocol):
    """An x402 rail whose offer binds a payment to one request, by the memo in `extra.memo`."""

    @property
    def edition(self) -> str:
        """Return what changes when something of `offer` does that does not follow from the request."""
        ...

    def form(self, asked: Asked) -> Form:
        """Return the form of the memo, which is filled in for any body."""
        ...


class MppRail(Rail, Protocol):
    """A rail whose offer is a line of WWW-Authenticate."""

    def form(self, asked: Asked) -> mpp.ChallengeForm:
        """Return the form of the header line's value, which begins with `Payment ` and is filled in for any body."""
        ...
