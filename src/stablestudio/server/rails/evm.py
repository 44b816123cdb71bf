"""The x402 rail on an EVM network: ledger, own gas key or facilitators."""

from __future__ import annotations

from functools import partial

from stablestudio.payments.evm.chain import TokenChain
from stablestudio.payments.evm.facilitated import FacilitatedChain
from stablestudio.payments.evm.facts import TokenFacts, confirmations_by
from stablestudio.payments.evm.gas import GasAccount
from stablestudio.payments.evm.rail import ExactEvmRail
from stablestudio.payments.evm.rpc import EvmRpc
from stablestudio.payments.evm.rpc_chain import RpcTokenChain
from stablestudio.payments.stored import StoredAttempts, StoredLease
from stablestudio.protocols.eip3009 import TokenDomain
from stablestudio.rail_settings import (
    EvmRailSettings,
)
from stablestudio.sandbox.chain import LedgerTokenChain
from stablestudio.sandbox.evm_rpc import LedgerRpc
from stablestudio.sandbox.ledger import LedgerChain
from stablestudio.server.embedded import EvmFaucet
from stablestudio.server.rails.facilitators import build_facilitators
from stablestudio.server.rails.keys import derived, evm_address, evm_key, require, require_cold
from stablestudio.server.rails.plan import REFUND_FLOAT, Rails, Site


def evm_rail(rails: Rails, name: str, settings: EvmRailSettings, site: Site) -> ExactEvmRail:
    """Build the rail; raise `Missing` or `ValueError`."""
    domain = TokenDomain(
        name=settings.token_name or "",
        version=settings.token_version or "",
        chain_id=int(settings.network.partition(":")[2]),
        contract=evm_address("token", settings.token or ""),
    )
    if settings.chain == "ledger":
        ledger = LedgerChain(site.database, domain=domain, clock=site.clock)
        refunds = derived(site, "refund key")
        rails.rpcs[settings.network] = LedgerRpc(ledger, clock=site.clock)
        rails.faucets.append(EvmFaucet(ledger))
        rails.fill.append(partial(_fill, ledger, refunds.address))
        pay_to = settings.pay_to or derived(site, "receiving address").address
        return ExactEvmRail(
            LedgerTokenChain(ledger, clock=site.clock), pay_to=pay_to, refund_key=refunds, decimals=settings.decimals
        )
    needed = {"rpc": settings.rpc, "pay_to": settings.pay_to, "refund_key": settings.refund_key}
    own = {} if settings.facilitators else {"gas_key or facilitators": settings.gas_key}
    rpc, pay_to, refund_key, *_ = require(needed | own)
    pay_to, refunds = evm_address("pay_to", pay_to), evm_key("refund_key", refund_key)
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
    require_cold(pay_to, refunds.address)
    return ExactEvmRail(chain, pay_to=pay_to, refund_key=refunds, decimals=settings.decimals)


def _settlement(name: str, settings: EvmRailSettings, site: Site, facts: TokenFacts, *, cold: set[str]) -> TokenChain:
    """Return the chain as it is written to: through facilitators, or with an own gas key."""
    if settings.facilitators:
        return FacilitatedChain(
            facts.domain,
            build_facilitators(settings.facilitators, site.clock),
            reader=facts,
            clock=site.clock,
            attempts=StoredAttempts(site.database, site.clock),
        )
    gas_key = evm_key("gas_key", require({"gas_key": settings.gas_key})[0])
    if gas_key.address.lower() in cold:
        raise ValueError("gas_key belongs to pay_to or is the refund key: use a small key of its own")
    chain_id = facts.domain.chain_id
    lease = StoredLease(site.database, f"gas:{settings.network}:{gas_key.address.lower()}", name, site.clock)
    return RpcTokenChain(facts, gas=GasAccount(facts.rpc, gas_key, chain_id=chain_id, lease=lease))


async def _fill(ledger: LedgerChain, owner: str) -> None:
    if await ledger.balance_of(owner) < REFUND_FLOAT // 2:
        await ledger.mint(owner, REFUND_FLOAT)
