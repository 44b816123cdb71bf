"""What is built: all rails of a house, and what they share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from stablestudio.clock import Clock
from stablestudio.config import ConfigurationInvalid
from stablestudio.errors import StudioError
from stablestudio.payments.rail import MppRail, Rail, X402Rail
from stablestudio.payments.refund_policy import RefundLimits
from stablestudio.rail_settings import (
    SOLANA,
    SOLANA_DEVNET,
    TEST_NETWORKS,
)
from stablestudio.server.embedded import Faucet, Rpc
from stablestudio.server.sign_in import Judge, Proofs
from stablestudio.store.database import Database

REFUND_FLOAT = 1_000_000_000_000  # a million test dollars, for the refund purses of ledgers


@dataclass(slots=True, kw_only=True)
class Rails:
    """All ways to be paid, in the order in which they are offered."""

    x402: list[X402Rail] = field(default_factory=list)
    mpp: list[MppRail] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)  # as the settings call them, by the rail's own name
    limits: dict[str, RefundLimits] = field(default_factory=dict)
    off: list[str] = field(default_factory=list)
    proofs: Proofs | None = None
    judges: dict[str, Judge] = field(default_factory=dict)
    # Of the embedded chains alone: their JSON-RPC, their faucets, and what fills their refund purses.
    rpcs: dict[str, Rpc] = field(default_factory=dict)
    faucets: list[Faucet] = field(default_factory=list)
    fill: list[Callable[[], Awaitable[None]]] = field(default_factory=list)

    @property
    def all(self) -> list[Rail]:
        return [*self.x402, *self.mpp]

    @property
    def by_name(self) -> dict[str, Rail]:
        return {rail.name: rail for rail in self.all}

    @property
    def world(self) -> str:
        """Return `embedded` where any coin is a test coin of our own ledger, else `live`."""
        return "embedded" if self.rpcs else "live"

    @property
    def forgetful(self) -> list[str]:
        """Return the rails whose chains do not know whose refund a transfer was; a ledger of ours is restored with the books."""
        return [rail.name for rail in self.mpp if rail.network not in self.rpcs]

    @property
    def sign_in_chains(self) -> list[str]:
        """Return the chains whose wallets may sign in: those of the rails, and Solana's in any case."""
        solana = SOLANA_DEVNET if any(network in TEST_NETWORKS for network in self.networks) else SOLANA
        return list(dict.fromkeys([*self.networks, solana]))

    @property
    def networks(self) -> list[str]:
        return list(dict.fromkeys(rail.network for rail in self.all))

    async def start(self) -> None:
        """Make sure that each rail is what the settings say; raise a `StudioError` if one is not."""
        for fill in self.fill:
            await fill()
        for rail in self.all:
            try:
                await rail.start()
            except StudioError as error:
                name = self.names.get(rail.name, rail.name)
                raise ConfigurationInvalid(f"rails.{name}: {error.message}", hint=error.advice) from error

    async def stop(self) -> None:
        """Close all connections."""
        for rail in self.all:
            await rail.stop()


class Missing(Exception):
    """A rail lacks something that only its operator has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What all rails of a house share."""

    database: Database
    clock: Clock
    secret: bytes
    realm: str
