"""The ledger chain seen as a token chain that a rail can settle on."""

from __future__ import annotations

from stablestudio.clock import Clock
from stablestudio.payments.rail import Outcome, Rejected, Settled, Unknown
from stablestudio.protocols.eip3009 import Authorization, TokenDomain
from stablestudio.sandbox.ledger import LedgerChain, Reverted, Transfer

_REASONS = {
    "ERC20: transfer amount exceeds balance": (
        "insufficient_funds",
        "The wallet does not hold enough of the token for this payment.",
    ),
    "FiatTokenV2: authorization is expired": ("payment_expired", "The authorization expired before it was settled."),
    "FiatTokenV2: authorization is not yet valid": ("payment_not_yet_valid", "The authorization is not valid yet."),
    "FiatTokenV2: invalid signature": ("invalid_signature", "The token refused the signature."),
    "ERC20: transfer to the zero address": ("simulation_failed", "The token refused the transfer."),
    "ECRecover: invalid signature": ("invalid_signature", "The token refused the signature."),
}


# A transfer that began in time may still be on its way to its block.
_FINALITY_SECONDS = 60


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
            if reverted.reason not in _REASONS:
                return Unknown(reason="reverted_without_trace")
            reason, message = _REASONS[reverted.reason]
            return Rejected(reason=reason, message=message)

    async def balance(self, owner: str) -> int | None:
        return await self._ledger.balance_of(owner)

    async def find(self, authorization: Authorization) -> Outcome:
        transfer = await self._ledger.find_authorization(authorization.sender, authorization.nonce)
        if transfer is not None:
            return _judge(transfer, authorization)
        if self._clock.now_ms() // 1000 >= authorization.valid_before + _FINALITY_SECONDS:
            reason, message = _REASONS["FiatTokenV2: authorization is expired"]
            return Rejected(reason=reason, message=message)
        return Unknown(reason="not_seen_on_chain")


def _judge(transfer: Transfer, authorization: Authorization) -> Outcome:
    same = transfer.recipient.lower() == authorization.recipient.lower() and transfer.amount == authorization.value
    if same:
        return Settled(transaction=transfer.hash)
    return Rejected(reason="nonce_already_used", message="This authorization's nonce was spent on another transfer.")
