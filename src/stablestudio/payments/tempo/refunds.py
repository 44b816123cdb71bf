"""Refunds on Tempo: a transfer back with the order's own memo, in a transaction that ends by itself."""

from __future__ import annotations

from stablestudio.payments.rail import Outcome
from stablestudio.payments.tempo.settlement import TempoPayment, TempoSettlement
from stablestudio.protocols import tempo
from stablestudio.protocols.evm import EvmKey, keccak256

# Nodes take an expiring transaction for at most 30 seconds ahead.
_LIFETIME_SECONDS = 25
# A wallet that is new to the token costs most of it; what is not used is not paid.
_GAS_LIMIT = 500_000
# Tempo's base fee is 2 * 10**10 attodollars per unit of gas; only it is paid, and a fee cap above keeps us in.
_MAX_FEE_PER_GAS = 5 * 10**10


class TempoRefunds:
    """Signs and sends what one token owes.

    Tempo has no nonce that an order could own for ever, so an order is kept from being refunded twice otherwise. Its
    signed bytes are stored before they are sent, and only those bytes are sent, as often as needed; a chain takes them
    once. New bytes are signed only after the old ones are `Rejected`, and here that takes a fact: they were mined and
    failed, or a block of the chain is well past their `valid_before` and they are in none. From then on no block can take
    them, whoever kept a copy and however late an answer comes. A refusal, a lost answer or an empty purse is never enough.
    """

    def __init__(self, settlement: TempoSettlement, *, chain_id: int, token: str, key: EvmKey) -> None:
        self._settlement = settlement
        self._chain_id = chain_id
        self._token = token
        self._key = key
        self.address = key.address

    def sign(self, *, order_id: str, recipient: str, amount: int, now_s: int) -> str:
        """Return the signed transfer as JSON; `amount` in base units. The memo tells whose order it was."""
        memo = keccak256(f"refund:{order_id}".encode())
        call = tempo.TempoCall(to=self._token, data=tempo.transfer_with_memo(recipient, amount, memo))
        signed = tempo.sign(
            self._key,
            chain_id=self._chain_id,
            calls=[call],
            gas_limit=_GAS_LIMIT,
            max_fee_per_gas=_MAX_FEE_PER_GAS,
            max_priority_fee_per_gas=0,
            valid_before=now_s + _LIFETIME_SECONDS,
            fee_token=self._token,
        )
        payment = TempoPayment(transaction=signed, token=self._token, recipient=recipient.lower(), amount=amount)
        return payment.save()

    async def send(self, signed: str) -> Outcome:
        """Send a signed refund; sending it again is harmless."""
        return await self._settlement.settle(TempoPayment.load(signed), may_give_up=False)

    async def find(self, signed: str) -> Outcome:
        """Tell from the chain alone what became of a signed refund."""
        return await self._settlement.find(TempoPayment.load(signed))
