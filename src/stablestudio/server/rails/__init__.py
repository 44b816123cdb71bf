"""Build the rails that the settings name: each on its chain, with its keys, or switched off with the reason."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from urllib.parse import urlsplit

from stablestudio.clock import Clock
from stablestudio.config import ConfigurationInvalid, Settings
from stablestudio.payments.rail import Rail
from stablestudio.payments.refund_policy import RefundLimits
from stablestudio.rail_settings import (
    BASE_SEPOLIA,
    SOLANA_DEVNET,
    TEMPO_TESTNET,
    EvmRailSettings,
    RailSettings,
    SolanaRailSettings,
    TempoRailSettings,
)
from stablestudio.server.rails.evm import evm_rail
from stablestudio.server.rails.plan import Missing, Rails, Site
from stablestudio.server.rails.solana import solana_rail
from stablestudio.server.rails.tempo import tempo_rails
from stablestudio.server.sign_in import Proofs
from stablestudio.store.database import Database

__all__ = ["EMBEDDED", "NoRail", "Rails", "build_rails"]
log = logging.getLogger(__name__)
# The test networks' ids: a signature for a main network is real money.
EMBEDDED: Mapping[str, RailSettings] = {
    "base": EvmRailSettings(kind="x402-evm", network=BASE_SEPOLIA, chain="ledger"),
    "solana": SolanaRailSettings(kind="x402-solana", network=SOLANA_DEVNET, chain="ledger"),
    "tempo": TempoRailSettings(kind="mpp-tempo", network=TEMPO_TESTNET, chain="ledger"),
}


class NoRail(ConfigurationInvalid):
    """No way to be paid is left."""

    hint = "Set what the lines above name, or leave out `rails` altogether for the embedded world."


def build_rails(settings: Settings, *, database: Database, secret: bytes, clock: Clock) -> Rails:
    """Build every rail of the settings; raise `ConfigurationInvalid` where a value is wrong, or no rail is left."""
    realm = urlsplit(settings.origin).hostname or "localhost"
    site = Site(database=database, clock=clock, secret=secret, realm=realm)
    rails = Rails()
    for name, rail in (settings.rails or EMBEDDED).items():
        try:
            _add(rails, name, rail, site)
        except Missing as missing:
            rails.off.append(f"rails.{name} is off: {missing}")
        except ValueError as error:
            raise ConfigurationInvalid(f"rails.{name}: {error}") from None
    for line in rails.off:
        log.warning(line)
    if not rails.all:
        raise NoRail("; ".join(rails.off))
    return rails


def _add(rails: Rails, name: str, settings: RailSettings, site: Site) -> None:
    match settings:
        case EvmRailSettings():
            evm = evm_rail(rails, name, settings, site)
            rails.x402.append(evm)
            _add_limits(rails, name, evm, settings)
        case SolanaRailSettings():
            solana = solana_rail(rails, settings, site)
            rails.x402.append(solana)
            _add_limits(rails, name, solana, settings)
        case TempoRailSettings():
            for tempo in tempo_rails(rails, settings, site):
                rails.mpp.append(tempo)
                _add_limits(rails, name, tempo, settings)
                rails.proofs = rails.proofs or Proofs(desk=tempo.desk, terms=tempo.terms)


def _add_limits(rails: Rails, name: str, rail: Rail, settings: RailSettings) -> None:
    if rail.name in rails.names:
        raise ValueError(f"it is the same token on the same network as rails.{rails.names[rail.name]}")
    rails.names[rail.name] = name
    cap = settings.refund_daily_cap if settings.chain == "rpc" else None
    rails.limits[rail.name] = RefundLimits(
        daily_cap=cap.base_units(decimals=rail.decimals) if cap is not None else None,
        minimum=settings.refund_minimum.base_units(decimals=rail.decimals),
    )
