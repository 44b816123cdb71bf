"""The ledger chain seen as a token chain that a rail can settle on."""

from __future__ import annotations

from stablestudio.clock import Clock
from stablestudio.payments.evm.chain import FINALITY_SECONDS
from stablestudio.payments.evm.reverts import EXPIRED, NONCE_SPENT, rejection_of
from stablestudio.payments.rail import Outcome, Settled, Unknown
from stablestudio.protocols.eip3009 import Authorization, TokenDomain
from stablestudio.sandbox.ledger import LedgerChain, Reverted, Transfer


class LedgerTokenChain:
    """Submit to the embedded ledger, which answers at once and never loses an answer."""

    def __init__(self, ledger: LedgerChain, *, clock: Clock) -> None:
        self._ledger = ledger
        self._clock = clock

    @property
    def domain(self) -> TokenDomain:
        return self._ledger.domain

    async def submit(self, authorization: Authorization, signature: bytes) -> Outcome:
        try:
            return Settled(transaction=await self._ledger.transfer_with_authorization(authorization, signature))
        except Reverted as reverted:
            # It may have been mined before, and expired since: the chain's books come before the reason.
            transfer = await self._ledger.find_authorization(authorization.sender, authorization.nonce)
            if transfer is not None:
                return _judge(transfer, authorization)
            return rejection_of(reverted.reason)

    async def balance(self, owner: str) -> int | None:
        return await self._ledger.balance_of(owner)

    async def find(self, authorization: Authorization) -> Outcome:
        transfer = await self._ledger.find_authorization(authorization.sender, authorization.nonce)
        if transfer is not None:
            return _judge(transfer, authorization)
        if self._clock.now_ms() // 1000 >= authorization.valid_before + FINALITY_SECONDS:
            return EXPIRED
        return Unknown(reason="not_seen_on_chain")

    async def start(self) -> None:
        """A ledger in our own database is always there."""

    async def stop(self) -> None:
        """There is no connection to close."""


def _judge(transfer: Transfer, authorization: Authorization) -> Outcome:
    same = transfer.recipient.lower() == authorization.recipient.lower() and transfer.amount == authorization.value
    return Settled(transaction=transfer.hash) if same else NONCE_SPENT
