"""Signed Tempo transfers, settled once: what is sent, what is looked up, and when the chain's word is the last."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal
from weakref import WeakValueDictionary

from stablestudio.payments.evm.chain import FINALITY_SECONDS
from stablestudio.payments.rail import Outcome, Rejected, Settled, Unknown
from stablestudio.payments.tempo.chain import TempoChain, TempoReceipt, TempoRefused, TempoUnreachable
from stablestudio.protocols import tempo

# A transaction lives for 25 seconds, so nobody but the settlement itself can try again in time.
_PATIENCE = 15.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 1.5
_REFUSALS = 3  # a node that lags behind its twin takes later what it refused first
_ATTODOLLARS = 10**12  # in one base unit of a token with six decimals

INSUFFICIENT = Rejected(
    reason="insufficient_funds", message="The wallet does not hold enough of the token for this payment and its fee."
)
EXPIRED = Rejected(reason="payment_expired", message="The transaction expired before it was settled.")
REVERTED = Rejected(reason="transaction_reverted", message="The chain ran the transaction and undid it.")

_NOT_SEEN = Unknown(reason="not_seen_on_chain")
_ENDED = Unknown(reason="ended_awaiting_finality")
_UNREADABLE = Unknown(reason="chain_not_readable")

_Told = Literal["taken", "refused", "unsent"]

decode = lru_cache(maxsize=64)(tempo.decode)  # each step of a sale reads the same bytes again


@dataclass(frozen=True, slots=True, kw_only=True)
class TempoPayment:
    """A signed transaction, and the transfer that it must have made to count: base units of a token, to an address."""

    transaction: tempo.TempoTransaction
    token: str
    recipient: str
    amount: int

    @property
    def valid_before(self) -> int:
        """Return the Unix second from which on no block takes it."""
        assert self.transaction.valid_before is not None, "only transactions that end are taken"
        return self.transaction.valid_before

    @property
    def cost(self) -> int | None:
        """Return the most that it takes of the token with its fee, in base units; None if the payer swaps for it first.

        A fee that another token pays is not counted.
        """
        signed = self.transaction
        if len(signed.calls) > 1:
            return None
        fee = -(-signed.gas_limit * signed.max_fee_per_gas // _ATTODOLLARS) if signed.fee_token == self.token else 0
        return self.amount + fee

    def save(self) -> str:
        """Return it as JSON; equal payments have equal texts."""
        return json.dumps(
            {
                "transaction": "0x" + self.transaction.raw.hex(),
                "token": self.token,
                "to": self.recipient,
                "value": str(self.amount),
            }
        )

    @classmethod
    def load(cls, saved: str) -> TempoPayment:
        fields = json.loads(saved)
        return cls(
            transaction=decode(bytes.fromhex(fields["transaction"][2:])),
            token=fields["token"],
            recipient=fields["to"],
            amount=int(fields["value"]),
        )


class TempoSettlement:
    """Sends and looks up signed transfers on one chain.

    A transaction counts by its own hash only, so one transfer never pays for two credentials. The same bytes are sent as
    often as needed, because a chain takes them once: it remembers each until its `valid_before`, and no block from that
    second on takes it. So two facts together say that a transaction never was and never will be: a block well after that
    second, and then still no receipt. A node's refusal is no such fact.
    """

    def __init__(self, chain: TempoChain, *, patience: float = _PATIENCE) -> None:
        """Take the chain; `patience` is the longest that one settlement waits, in seconds."""
        self._chain = chain
        self._patience = patience
        self._flights: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def settle(self, payment: TempoPayment, *, may_give_up: bool = True) -> Outcome:
        """Send the transaction until its outcome is known, or patience ends with `Unknown`.

        With `may_give_up`, a payer who is refused and lacks the money is `Rejected` at once instead of when the
        transaction ends. It may still be mined until then if somebody else funds and sends it, so that is for payments
        that are looked at again after their end, and never for refunds.
        """
        flight = self._flights.setdefault(payment.transaction.hash, asyncio.Lock())
        try:
            async with asyncio.timeout(self._patience):
                followed = flight.locked()
                async with flight:
                    if followed and not isinstance(outcome := await self.find(payment), Unknown):
                        return outcome
                    return await self._persist(payment, may_give_up=may_give_up)
        except TimeoutError:
            return Unknown(reason="not_seen_in_time")

    async def find(self, payment: TempoPayment) -> Outcome:
        """Tell from the chain alone what became of a payment; never sends."""
        transaction = payment.transaction.hash
        try:
            receipt = await self._chain.receipt(transaction)
            if receipt is None:
                now = await self._chain.now()
                if now < payment.valid_before + FINALITY_SECONDS:
                    return _NOT_SEEN if now < payment.valid_before else _ENDED
                # After the clock: a transaction of the last second had no receipt yet when it was looked for.
                receipt = await self._chain.receipt(transaction)
        except TempoUnreachable:
            return _UNREADABLE
        return EXPIRED if receipt is None else _judge(payment, receipt)

    async def _persist(self, payment: TempoPayment, *, may_give_up: bool) -> Outcome:
        pause, refusals, waiting = _FIRST_PAUSE, 0, False
        while True:
            outcome, told = await self._send(payment)
            if outcome not in (_NOT_SEEN, _UNREADABLE):
                return outcome
            # Once a copy may wait in a pool, being refused or poor now is no reason why it should not be mined.
            waiting = waiting or told == "taken"
            refusals += told == "refused"
            if refusals and not waiting:
                if await self._is_poor(payment):
                    return INSUFFICIENT if may_give_up else Unknown(reason=INSUFFICIENT.reason)
                if refusals >= _REFUSALS:
                    return Unknown(reason="refused_by_node")
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _send(self, payment: TempoPayment) -> tuple[Outcome, _Told]:
        """Return the outcome so far, and what the chain said to this sending: `taken` where it may have been."""
        told: _Told = "taken"
        try:
            receipt = await self._chain.send(payment.transaction.raw)
            if receipt is not None:
                return _judge(payment, receipt), told
        except TempoRefused:
            told = "refused"
        except TempoUnreachable as fault:
            told = "taken" if fault.sent else "unsent"
        return await self.find(payment), told

    async def _is_poor(self, payment: TempoPayment) -> bool:
        """Tell whether the payer lacks the money while the transaction is in no block."""
        balance = await self._chain.balance(payment.token, payment.transaction.sender)
        if balance is None or payment.cost is None or balance >= payment.cost:
            return False
        # The balance came first: had the payment itself emptied the wallet, it would have a receipt now.
        return await self.find(payment) == _NOT_SEEN


def _judge(payment: TempoPayment, receipt: TempoReceipt) -> Outcome:
    if not receipt.succeeded:
        return REVERTED  # its nonce is spent with it
    wanted = (payment.token, payment.transaction.sender, payment.recipient, payment.amount)
    if any((moved.token, moved.sender, moved.recipient, moved.amount) == wanted for moved in receipt.transfers):
        return Settled(transaction=receipt.transaction)
    return Unknown(reason=f"transfer_not_recognised:{receipt.transaction}")
