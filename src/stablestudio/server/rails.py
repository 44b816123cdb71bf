"""Build the rails that the settings name: each on its chain, with its keys, or switched off with the reason."""

from __future__ import annotations

import hmac
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from urllib.parse import urlsplit

from stablestudio.clock import Clock
from stablestudio.config import ConfigurationInvalid, Settings
from stablestudio.payments.chain import TokenChain
from stablestudio.payments.evm_chain import RpcTokenChain
from stablestudio.payments.evm_facts import TokenFacts, confirmations_by
from stablestudio.payments.evm_gas import GasAccount
from stablestudio.payments.evm_rpc import EvmRpc
from stablestudio.payments.facilitated_chain import FacilitatedChain
from stablestudio.payments.facilitator import Facilitator
from stablestudio.payments.facilitator_auth import CdpAuth, FacilitatorAuth, NoAuth, PayAiAuth
from stablestudio.payments.mpp_tempo import TempoRail
from stablestudio.payments.rail import MppRail, Rail, X402Rail
from stablestudio.payments.refund_policy import RefundLimits
from stablestudio.payments.stored import StoredAttempts, StoredLease
from stablestudio.payments.tempo_chain import TempoChain
from stablestudio.payments.tempo_rpc_chain import TempoRpcChain
from stablestudio.payments.x402_evm import ExactEvmRail
from stablestudio.protocols.eip3009 import TokenDomain
from stablestudio.protocols.evm import EvmKey, checksum_address, is_address
from stablestudio.rail_settings import (
    BASE_SEPOLIA,
    SOLANA,
    SOLANA_DEVNET,
    TEMPO_TESTNET,
    TEST_NETWORKS,
    EvmRailSettings,
    FacilitatorSettings,
    RailSettings,
    SolanaRailSettings,
    TempoRailSettings,
    reveal,
)
from stablestudio.sandbox.chain import LedgerTokenChain
from stablestudio.sandbox.evm_rpc import LedgerRpc
from stablestudio.sandbox.ledger import LedgerChain
from stablestudio.sandbox.tempo_chain import LedgerTempoChain
from stablestudio.sandbox.tempo_ledger import PATH_USD, USDC_E, TempoLedger, TempoToken
from stablestudio.sandbox.tempo_rpc import TempoRpc
from stablestudio.server.embedded import EvmFaucet, Faucet, Rpc, TempoFaucet
from stablestudio.server.sign_in import Judge, Proofs
from stablestudio.store.database import Database

log = logging.getLogger(__name__)
# The test networks' ids: a signature for a main network is real money.
EMBEDDED: Mapping[str, RailSettings] = {
    "base": EvmRailSettings(kind="x402-evm", network=BASE_SEPOLIA, chain="ledger"),
    "solana": SolanaRailSettings(kind="x402-solana", network=SOLANA_DEVNET, chain="ledger"),
    "tempo": TempoRailSettings(kind="mpp-tempo", network=TEMPO_TESTNET, chain="ledger"),
}
_TEMPO_TOKENS = {token.address: token for token in (USDC_E, PATH_USD)}
_REFUND_FLOAT = 1_000_000_000_000  # a million test dollars


class NoRail(ConfigurationInvalid):
    """No way to be paid is left."""

    hint = "Set what the lines above name, or leave out `rails` altogether for the embedded world."


@dataclass(slots=True, kw_only=True)
class Rails:
    """All ways to be paid, in the order in which they are offered."""

    x402: list[X402Rail] = field(default_factory=list)
    mpp: list[MppRail] = field(default_factory=list)
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
            await rail.start()

    async def stop(self) -> None:
        """Close all connections."""
        for rail in self.all:
            await rail.stop()


class _Missing(Exception):
    """A rail lacks something that only its operator has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Site:
    """What all rails of a house share."""

    database: Database
    clock: Clock
    secret: bytes
    realm: str


def build_rails(settings: Settings, *, database: Database, secret: bytes, clock: Clock) -> Rails:
    """Build every rail of the settings; raise `ConfigurationInvalid` where a value is wrong, or no rail is left."""
    realm = urlsplit(settings.origin).hostname or "localhost"
    site = _Site(database=database, clock=clock, secret=secret, realm=realm)
    rails = Rails()
    for name, rail in (settings.rails or EMBEDDED).items():
        try:
            _add(rails, name, rail, site)
        except _Missing as missing:
            rails.off.append(f"rails.{name} is off: {missing}")
        except ValueError as error:
            raise ConfigurationInvalid(f"rails.{name}: {error}") from None
    for line in rails.off:
        log.warning(line)
    if not rails.all:
        raise NoRail("; ".join(rails.off))
    return rails


def _add(rails: Rails, name: str, settings: RailSettings, site: _Site) -> None:
    match settings:
        case EvmRailSettings():
            evm = _evm(rails, name, settings, site)
            rails.x402.append(evm)
            _limit(rails, evm, settings)
        case SolanaRailSettings():
            raise _Missing("not built yet")
        case TempoRailSettings():
            for tempo in _tempo(rails, settings, site):
                rails.mpp.append(tempo)
                _limit(rails, tempo, settings)
                rails.proofs = rails.proofs or Proofs(desk=tempo.desk, terms=tempo.terms)


def _limit(rails: Rails, rail: Rail, settings: RailSettings) -> None:
    cap = settings.refund_daily_cap if settings.chain == "rpc" else None
    rails.limits[rail.name] = RefundLimits(
        daily_cap=cap.base_units(decimals=rail.decimals) if cap is not None else None,
        minimum=settings.refund_minimum.base_units(decimals=rail.decimals),
    )


def _evm(rails: Rails, name: str, settings: EvmRailSettings, site: _Site) -> ExactEvmRail:
    domain = TokenDomain(
        name=settings.token_name or "",
        version=settings.token_version or "",
        chain_id=int(settings.network.partition(":")[2]),
        contract=_evm_address("token", settings.token or ""),
    )
    if settings.chain == "ledger":
        ledger = LedgerChain(site.database, domain=domain, clock=site.clock)
        refunds = _derived(site, "refund key")
        rails.rpcs[settings.network] = LedgerRpc(ledger, clock=site.clock)
        rails.faucets.append(EvmFaucet(ledger))
        rails.fill.append(partial(_fill, ledger, refunds.address))
        pay_to = settings.pay_to or _derived(site, "receiving address").address
        return ExactEvmRail(
            LedgerTokenChain(ledger, clock=site.clock), pay_to=pay_to, refund_key=refunds, decimals=settings.decimals
        )
    needed = {"rpc": settings.rpc, "pay_to": settings.pay_to, "refund_key": reveal(settings.refund_key)}
    rpc, pay_to, refund_key = _require(needed)
    pay_to, refunds = _evm_address("pay_to", pay_to), _evm_key("refund_key", refund_key)
    facts = TokenFacts(
        EvmRpc(rpc),
        domain=domain,
        confirmations=confirmations_by(
            [(least.base_units(decimals=settings.decimals), blocks) for least, blocks in settings.confirmations]
        ),
        factories=settings.wallet_factories,
    )
    rails.judges[settings.network] = facts.wallets.accepts
    chain = _settlement(name, settings, site, facts, cold={pay_to.lower(), refunds.address.lower()})
    _require_cold(pay_to, refunds)
    return ExactEvmRail(chain, pay_to=pay_to, refund_key=refunds, decimals=settings.decimals)


def _settlement(name: str, settings: EvmRailSettings, site: _Site, facts: TokenFacts, *, cold: set[str]) -> TokenChain:
    """Return the chain as it is written to: through facilitators, or with an own gas key."""
    if settings.facilitators:
        return FacilitatedChain(
            facts.domain,
            _facilitators(settings.facilitators, site.clock),
            reader=facts,
            clock=site.clock,
            attempts=StoredAttempts(site.database, site.clock),
        )
    gas_key = _evm_key("gas_key", _require({"gas_key or facilitators": reveal(settings.gas_key)})[0])
    if gas_key.address.lower() in cold:
        raise ValueError("gas_key belongs to pay_to or is the refund key: use a small key of its own")
    chain_id = facts.domain.chain_id
    lease = StoredLease(site.database, f"gas:{settings.network}:{gas_key.address.lower()}", name, site.clock)
    return RpcTokenChain(facts, gas=GasAccount(facts.rpc, gas_key, chain_id=chain_id, lease=lease))


def _facilitators(given: tuple[FacilitatorSettings, ...], clock: Clock) -> list[Facilitator]:
    """Return those whose keys are there, in order; raise `_Missing` if none is."""
    built, missing = [], []
    for settings in given:
        try:
            built.append(Facilitator(settings.url, auth=_auth(settings, clock)))
        except _Missing as reason:
            missing.append(f"{settings.url}: {reason}")
            log.warning("facilitator %s is off: %s", settings.url, reason)
    if not built:
        raise _Missing("; ".join(missing))
    return built


def _auth(settings: FacilitatorSettings, clock: Clock) -> FacilitatorAuth:
    if settings.auth == "none":
        return NoAuth()
    key_id, secret = _require({"key_id": reveal(settings.key_id), "key_secret": reveal(settings.key_secret)})
    kind = CdpAuth if settings.auth == "cdp" else PayAiAuth
    return kind(key_id=key_id, secret=secret, clock=clock)


def _require(values: Mapping[str, str | None]) -> list[str]:
    missing = [name for name, value in values.items() if value is None]
    if missing:
        raise _Missing(f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not set")
    return [value for value in values.values() if value is not None]


def _evm_address(name: str, text: str) -> str:
    """Return an address; mixed case is a checksum (EIP-55), and a wrong one a mistyped address that nobody holds."""
    if not is_address(text):
        raise ValueError(f"{name} is not an address: 0x and 40 hexadecimal digits are")
    digits = text[2:]
    if digits not in (digits.lower(), digits.upper()) and text != checksum_address(text):
        raise ValueError(f"{name} has a wrong checksum: compare it with where you copied it from")
    return checksum_address(text)


def _evm_key(name: str, text: str) -> EvmKey:
    try:
        return EvmKey.from_hex(text)
    except ValueError:
        raise ValueError(f"{name} is not a key: 0x and 64 hexadecimal digits are") from None


def _derived(site: _Site, purpose: str) -> EvmKey:
    """Return a key of the embedded world, where none is worth anything."""
    return EvmKey.from_hex(hmac.digest(site.secret, f"embedded world: {purpose}".encode(), "sha256").hex())


async def _fill(ledger: LedgerChain, owner: str) -> None:
    if await ledger.balance_of(owner) < _REFUND_FLOAT // 2:
        await ledger.mint(owner, _REFUND_FLOAT)


def _tempo(rails: Rails, settings: TempoRailSettings, site: _Site) -> list[TempoRail]:
    chain, pay_to, refunds = _tempo_chain(rails, settings, site)
    given = [key for key in map(reveal, settings.challenge_keys) if key is not None]
    keys = [key.encode() for key in given] or [hmac.digest(site.secret, b"mpp challenges", "sha256")]
    return [
        TempoRail(
            chain,
            token=_evm_address("tokens", token),
            pay_to=pay_to,
            realm=site.realm,
            keys=keys,
            refund_key=refunds,
            decimals=settings.decimals,
        )
        for token in settings.tokens
    ]


def _tempo_chain(rails: Rails, settings: TempoRailSettings, site: _Site) -> tuple[TempoChain, str, EvmKey]:
    """Return the chain, the receiving address and the refund key."""
    chain_id = int(settings.network.partition(":")[2])
    if settings.chain == "rpc":
        needed = {"rpc": settings.rpc, "pay_to": settings.pay_to, "refund_key": reveal(settings.refund_key)}
        rpc, pay_to, refund_key = _require(needed)
        pay_to, refunds = _evm_address("pay_to", pay_to), _evm_key("refund_key", refund_key)
        _require_cold(pay_to, refunds)
        return TempoRpcChain(EvmRpc(rpc), chain_id=chain_id), pay_to, refunds
    tokens = [
        _TEMPO_TOKENS.get(token.lower(), TempoToken(address=token.lower(), name="Test Dollar", symbol="TUSD"))
        for token in settings.tokens
    ]
    ledger = TempoLedger(site.database, clock=site.clock, tokens=tokens, chain_id=chain_id)
    refunds = _derived(site, "tempo refund key")
    rails.rpcs[settings.network] = TempoRpc(ledger)
    rails.faucets.append(TempoFaucet(ledger))
    rails.fill += [partial(_fill_tempo, ledger, token.address, refunds.address) for token in tokens]
    pay_to = settings.pay_to or _derived(site, "receiving address").address
    return LedgerTempoChain(ledger), pay_to, refunds


async def _fill_tempo(ledger: TempoLedger, token: str, owner: str) -> None:
    if await ledger.balance_of(token, owner) < _REFUND_FLOAT // 2:
        await ledger.mint(token, owner, _REFUND_FLOAT)


def _require_cold(pay_to: str, refunds: EvmKey) -> None:
    if pay_to.lower() == refunds.address.lower():
        raise ValueError("refund_key belongs to pay_to: keep the receiving address cold, and refund from another one")
