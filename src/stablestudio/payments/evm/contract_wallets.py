"""Contract wallets as payers: whether a wallet accepts a signature (ERC-1271), also before it is deployed (ERC-6492).

A wallet is a stranger's code. It is only asked by calls that cost nobody gas and end at a limit, and its yes is not
believed for longer than the call: the token asks it again when the money moves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass

from stablestudio.payments.evm import reverts
from stablestudio.payments.evm.rpc import EvmRpc, RpcError, RpcUnreachable
from stablestudio.payments.rail import Rejected
from stablestudio.protocols import eip3009
from stablestudio.protocols.contract_wallets import Counterfactual, is_valid_call, rehearsal, says_yes, unwrap
from stablestudio.protocols.eip3009 import Authorization, TokenDomain
from stablestudio.protocols.eip3009_calls import state_call, transfer_call
from stablestudio.protocols.evm import BadSignature
from stablestudio.protocols.x402 import PaymentRefused
from stablestudio.protocols.x402.exact import prove_sender

# Enough for a wallet of many owners or one that checks a passkey without help of its chain.
_CALL_GAS = 300_000
_REHEARSAL_GAS = 1_500_000  # a deployment and a transfer in one
_PATIENCE = 5.0  # seconds
_AT_ONCE = 8  # wallets asked at a time: anybody may name any, and each costs several calls of our node
_DISTRUST_SECONDS = 3600.0
_MOST_DISTRUSTED = 10_000

_REFUSED = Rejected(
    reason="contract_wallet_refused", message="The paying contract wallet does not accept this signature (ERC-1271)."
)
_DISTRUSTED = Rejected(
    reason="contract_wallet_refused",
    message="A transfer of this contract wallet was good before it was sent and failed on the chain; it cannot pay now.",
)
_UNDEPLOYABLE = Rejected(
    reason="wallet_not_deployable",
    message="The factory call in the signature fails, or leaves no wallet at the sender that answers.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """An authorization as the token takes it; `deployment` comes before where its wallet may not exist yet (ERC-6492)."""

    authorization: Authorization
    signature: bytes
    deployment: Counterfactual | None

    @property
    def key(self) -> str:
        return self.authorization.key

    @property
    def transfer(self) -> bytes:
        """Return the call data of the transfer."""
        return transfer_call(self.authorization, self.signature)


def read_signed(authorization: Authorization, signature: bytes) -> Signed:
    """Take the wrapping of an ERC-6492 signature apart; a damaged one stays whole, for the token to refuse."""
    try:
        wrapped = unwrap(signature)
    except BadSignature:
        wrapped = None
    inner = wrapped.signature if wrapped else signature
    return Signed(authorization=authorization, signature=inner, deployment=wrapped)


class ContractWallets:
    """The wallets on one chain, as payers with one token.

    `factories` are the contracts whose wallets may pay before they are deployed. Calls of them are sent from the gas key,
    so list only factories that do nothing else than deploying wallets; never a token, a proxy or a wallet.
    """

    def __init__(self, rpc: EvmRpc, *, domain: TokenDomain, factories: Collection[str] = ()) -> None:
        self._rpc = rpc
        self._domain = domain
        self._factories = frozenset(factory.lower() for factory in factories)
        self._places = asyncio.Semaphore(_AT_ONCE)
        self._distrusted: dict[str, float] = {}

    async def judge(self, authorization: Authorization, signature: bytes) -> Rejected | None:
        """Return what speaks against a signature that the sender's own key did not make, or None if it holds.

        Never raises for the node's faults: those are `settlement_unavailable`.
        """
        try:
            async with asyncio.timeout(_PATIENCE), self._places:
                return await self._judge(authorization, signature)
        except (RpcUnreachable, RpcError, TimeoutError):
            return reverts.UNAVAILABLE

    async def accepts(self, wallet: str, digest: bytes, signature: bytes) -> bool:
        """Tell whether a deployed wallet says that it signed a digest, as for a sign-in; no answer is a no."""
        try:
            wrapped = unwrap(signature)
            async with asyncio.timeout(_PATIENCE), self._places:
                if not await self._rpc.code(wallet):
                    return False
                question = is_valid_call(digest, wrapped.signature if wrapped else signature)
                answer = await self._try(wallet, question, gas=_CALL_GAS)
        except (RpcUnreachable, RpcError, TimeoutError, BadSignature):
            return False
        return answer is not None and says_yes(answer)

    def distrust(self, wallet: str) -> None:
        """Ask a wallet nothing for a while, because it made a transaction fail that we paid for."""
        now = asyncio.get_running_loop().time()
        if len(self._distrusted) >= _MOST_DISTRUSTED:
            self._distrusted = {each: until for each, until in self._distrusted.items() if until > now}
        if len(self._distrusted) < _MOST_DISTRUSTED:
            self._distrusted[wallet.lower()] = now + _DISTRUST_SECONDS

    async def rehearse(self, authorization: Authorization, wrapped: Counterfactual) -> Rejected | None:
        """Return what speaks against deploying a wallet and letting it pay, from a run that leaves nothing behind.

        Raises `RpcUnreachable` or `RpcError` for the node's faults.
        """
        if wrapped.factory not in self._factories:
            return Rejected(
                reason="wallet_factory_not_allowed",
                message=f"The paying wallet is not deployed, and its factory {wrapped.factory} is not allowed here.",
            )
        digest = eip3009.digest(self._domain, authorization)
        deployment = (wrapped.factory, wrapped.call)
        question = (authorization.sender, is_valid_call(digest, wrapped.signature))
        transfer = (self._domain.contract, transfer_call(authorization, wrapped.signature))
        answer = await self._try(None, rehearsal([deployment, question]), gas=_REHEARSAL_GAS)
        if not answer:  # no code answers with nothing, too
            return _UNDEPLOYABLE
        if not says_yes(answer):
            return _REFUSED
        return await self._simulate(authorization, None, rehearsal([deployment, transfer]), gas=_REHEARSAL_GAS)

    async def rehearse_deployment(self, wrapped: Counterfactual, *, sender: str, gas: int) -> Rejected | None:
        """Call the factory as the transaction will: from the gas key, with no more gas than that may have."""
        if await self._try(wrapped.factory, wrapped.call, sender=sender, gas=gas) is not None:
            return None
        return Rejected(
            reason="wallet_not_deployable",
            message=f"The paying wallet's deployment fails, or takes more than {gas} gas.",
        )

    async def _judge(self, authorization: Authorization, signature: bytes) -> Rejected | None:
        fault = own_fault(self._domain, authorization, signature)
        if fault is None:
            return None
        try:
            wrapped = unwrap(signature)
        except BadSignature as damaged:
            return Rejected(reason="contract_wallet_refused", message=f"{damaged}.")
        wallet = authorization.sender
        if self._distrusted.get(wallet.lower(), 0.0) > asyncio.get_running_loop().time():
            return _DISTRUSTED
        if await self._rpc.code(wallet):
            return await self._ask(authorization, wrapped.signature if wrapped else signature)
        return fault if wrapped is None else await self.rehearse(authorization, wrapped)

    async def _ask(self, authorization: Authorization, signature: bytes) -> Rejected | None:
        question = is_valid_call(eip3009.digest(self._domain, authorization), signature)
        answer = await self._try(authorization.sender, question, gas=_CALL_GAS)
        if answer is None or not says_yes(answer):
            return _REFUSED
        transfer = transfer_call(authorization, signature)
        return await self._simulate(authorization, self._domain.contract, transfer, gas=_CALL_GAS)

    async def _simulate(
        self, authorization: Authorization, to: str | None, data: bytes, *, gas: int
    ) -> Rejected | None:
        try:
            await self._rpc.call(to, data, gas=gas)
        except RpcError as refusal:
            if not refusal.reverted:
                raise
            # Used already, perhaps for us, by whoever saw it: that is the settlement's to trace and not a refusal.
            if any(await self._rpc.call(self._domain.contract, state_call(authorization))):
                return None
            return reverts.rejection_of(refusal.reason)
        return None

    async def _try(self, to: str | None, data: bytes, *, gas: int, sender: str | None = None) -> bytes | None:
        """Return the answer of a call that strangers wrote, or None where it failed."""
        try:
            return await self._rpc.call(to, data, gas=gas, sender=sender)
        except RpcError as refusal:
            if not refusal.reverted:
                raise
            return None


def own_fault(domain: TokenDomain, authorization: Authorization, signature: bytes) -> Rejected | None:
    """Return why a signature is not that of the sender's own key, or None if it is."""
    try:
        prove_sender(domain, authorization, signature)
    except PaymentRefused as fault:
        return Rejected(reason=fault.code, message=fault.message)
    return None
