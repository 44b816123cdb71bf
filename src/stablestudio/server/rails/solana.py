"""The x402 rail on Solana: ledger, own fee payer or facilitators."""

from __future__ import annotations

import hmac
from functools import partial

from stablestudio.payments.solana.chain import SolanaChain
from stablestudio.payments.solana.facilitated import FacilitatedSolanaChain
from stablestudio.payments.solana.facts import SolanaFacts
from stablestudio.payments.solana.rail import ExactSvmRail
from stablestudio.payments.solana.rpc import HttpWire, SolanaRpc
from stablestudio.payments.solana.rpc_chain import RpcSolanaChain
from stablestudio.payments.stored import StoredAttempts
from stablestudio.protocols.solana import SolanaKey
from stablestudio.protocols.solana import is_address as is_solana_address
from stablestudio.rail_settings import (
    SolanaRailSettings,
)
from stablestudio.sandbox.solana_ledger import SolanaLedger
from stablestudio.sandbox.solana_machine import SolanaLedgerUnavailable
from stablestudio.sandbox.solana_rpc import LedgerWire, SolanaLedgerRpc
from stablestudio.server.embedded import SolanaFaucet
from stablestudio.server.rails.facilitators import build_facilitators
from stablestudio.server.rails.keys import require, require_cold, solana_key
from stablestudio.server.rails.plan import REFUND_FLOAT, Missing, Rails, Site


def solana_rail(rails: Rails, settings: SolanaRailSettings, site: Site) -> ExactSvmRail:
    """Build the rail; raise `Missing` or `ValueError`."""
    chain, pay_to, refunds = _solana_chain(rails, settings, site)
    return ExactSvmRail(
        chain,
        mint=settings.mint,
        pay_to=pay_to,
        refund_key=refunds,
        secret=site.secret,
        clock=site.clock,
        decimals=settings.decimals,
        unbound_memos=settings.unbound_memos,
    )


def _solana_chain(rails: Rails, settings: SolanaRailSettings, site: Site) -> tuple[SolanaChain, str, SolanaKey]:
    """Return the cluster as it is written to, the receiving address and the refund key."""
    if settings.chain == "ledger":
        return _solana_ledger(rails, settings, site)
    needed = {"rpc": settings.rpc, "pay_to": settings.pay_to, "refund_key": settings.refund_key}
    own = {} if settings.facilitators else {"fee_payer_key or facilitators": settings.fee_payer_key}
    rpc, pay_to, refund_key, *_ = require(needed | own)
    refunds = solana_key("refund_key", refund_key)
    if not is_solana_address(pay_to):
        raise ValueError("pay_to is not a Solana address: base58 of 32 bytes is")
    require_cold(pay_to, refunds.address)
    facts = SolanaFacts(SolanaRpc(HttpWire(rpc)))
    attempts = StoredAttempts(site.database, site.clock)
    network, clock = settings.network, site.clock
    if settings.facilitators:
        line = build_facilitators(settings.facilitators, clock)
        chain = FacilitatedSolanaChain(facts, line, network=network, clock=clock, attempts=attempts)
        return chain, pay_to, refunds
    given = require({"fee_payer_key": settings.fee_payer_key})[0]
    fee_payer = solana_key("fee_payer_key", given)
    if fee_payer.address in (pay_to, refunds.address):
        raise ValueError("fee_payer_key belongs to pay_to or is the refund key: use a small key of its own")
    chain_of_ours = RpcSolanaChain(facts, network=network, fee_payer=fee_payer, clock=clock, attempts=attempts)
    return chain_of_ours, pay_to, refunds


def _solana_ledger(rails: Rails, settings: SolanaRailSettings, site: Site) -> tuple[SolanaChain, str, SolanaKey]:
    try:
        ledger = SolanaLedger(site.database, mint=settings.mint, clock=site.clock, decimals=settings.decimals)
    except SolanaLedgerUnavailable as unavailable:
        raise Missing(unavailable.message) from None
    fee_payer, refunds, receiver = (
        SolanaKey(hmac.digest(site.secret, f"embedded world: solana {purpose}".encode(), "sha256"))
        for purpose in ("fee payer", "refund key", "receiving address")
    )
    pay_to = settings.pay_to or receiver.address
    node = SolanaLedgerRpc(ledger)
    rails.rpcs[settings.network] = node
    rails.faucets.append(SolanaFaucet(ledger, network=settings.network))
    rails.fill.append(partial(_fill_solana, ledger, refunds.address, pay_to))
    facts = SolanaFacts(SolanaRpc(LedgerWire(node)))
    attempts = StoredAttempts(site.database, site.clock)
    chain = RpcSolanaChain(facts, network=settings.network, fee_payer=fee_payer, clock=site.clock, attempts=attempts)
    return chain, pay_to, refunds


async def _fill_solana(ledger: SolanaLedger, refunds: str, pay_to: str) -> None:
    if (await ledger.balance_of(refunds) or 0) < REFUND_FLOAT // 2:
        await ledger.mint(refunds, REFUND_FLOAT)
    if await ledger.balance_of(pay_to) is None:
        await ledger.mint(pay_to, 0)  # the token account must be there before anybody pays into it
