"""The MPP rails on Tempo, one for each token."""

from __future__ import annotations

import hmac
from functools import partial

from stablestudio.payments.evm.rpc import EvmRpc
from stablestudio.payments.tempo.chain import TempoChain
from stablestudio.payments.tempo.rail import TempoRail
from stablestudio.payments.tempo.rpc_chain import TempoRpcChain
from stablestudio.protocols.evm import EvmKey
from stablestudio.rail_settings import (
    TempoRailSettings,
    reveal,
)
from stablestudio.sandbox.tempo_chain import LedgerTempoChain
from stablestudio.sandbox.tempo_ledger import PATH_USD, USDC_E, TempoLedger, TempoToken
from stablestudio.sandbox.tempo_rpc import TempoRpc
from stablestudio.server.embedded import TempoFaucet
from stablestudio.server.rails.keys import derived, evm_address, evm_key, require, require_cold
from stablestudio.server.rails.plan import REFUND_FLOAT, Rails, Site

_TOKENS = {token.address: token for token in (USDC_E, PATH_USD)}


def tempo_rails(rails: Rails, settings: TempoRailSettings, site: Site) -> list[TempoRail]:
    """Build a rail for each token, all on one chain; raise `Missing` or `ValueError`."""
    chain, pay_to, refunds = _tempo_chain(rails, settings, site)
    given = [key for key in map(reveal, settings.challenge_keys) if key is not None]
    keys = [key.encode() for key in given] or [hmac.digest(site.secret, b"mpp challenges", "sha256")]
    return [
        TempoRail(
            chain,
            token=evm_address("tokens", token),
            pay_to=pay_to,
            realm=site.realm,
            keys=keys,
            refund_key=refunds,
            decimals=settings.decimals,
        )
        for token in settings.tokens
    ]


def _tempo_chain(rails: Rails, settings: TempoRailSettings, site: Site) -> tuple[TempoChain, str, EvmKey]:
    """Return the chain, the receiving address and the refund key."""
    chain_id = int(settings.network.partition(":")[2])
    if settings.chain == "rpc":
        needed = {"rpc": settings.rpc, "pay_to": settings.pay_to, "refund_key": settings.refund_key}
        rpc, pay_to, refund_key = require(needed)
        pay_to, refunds = evm_address("pay_to", pay_to), evm_key("refund_key", refund_key)
        require_cold(pay_to, refunds.address)
        return TempoRpcChain(EvmRpc(rpc), chain_id=chain_id), pay_to, refunds
    tokens = [
        _TOKENS.get(token.lower(), TempoToken(address=token.lower(), name="Test Dollar", symbol="TUSD"))
        for token in settings.tokens
    ]
    ledger = TempoLedger(site.database, clock=site.clock, tokens=tokens, chain_id=chain_id)
    refunds = derived(site, "tempo refund key")
    rails.rpcs[settings.network] = TempoRpc(ledger)
    rails.faucets.append(TempoFaucet(ledger))
    rails.fill += [partial(_fill_tempo, ledger, token.address, refunds.address) for token in tokens]
    pay_to = settings.pay_to or derived(site, "receiving address").address
    return LedgerTempoChain(ledger), pay_to, refunds


async def _fill_tempo(ledger: TempoLedger, token: str, owner: str) -> None:
    if await ledger.balance_of(token, owner) < REFUND_FLOAT // 2:
        await ledger.mint(token, owner, REFUND_FLOAT)
