"""Send a fully signed Solana transfer so that it happens once: simulate, send, send again, and believe only the chain."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import Any
from weakref import WeakValueDictionary

from stablestudio.clock import Clock
from stablestudio.payments.facilitators.line import Attempts
from stablestudio.payments.rail import Outcome, Rejected, Unknown
from stablestudio.payments.solana.answers import Simulation
from stablestudio.payments.solana.chain import Sought
from stablestudio.payments.solana.facts import SolanaFacts
from stablestudio.payments.solana.rpc import NodeRefused, NodeUnreachable
from stablestudio.protocols.solana import b58encode

log = logging.getLogger(__name__)
# Shorter than the time after which the reconciler takes over an open claim.
_PATIENCE = 20.0
_FIRST_PAUSE, _LONGEST_PAUSE, _RESEND = 0.2, 1.0, 2.0
# Longer than any blockhash lives, so that a note of an attempt outlives the transaction.
_NOTED_SECONDS = 3600

_TRANSFER = 2  # place of the transfer among the instructions
_OWN_FAULTS = ("AccountNotFound", "InsufficientFundsForFee", "InsufficientFundsForRent", "InvalidAccountForFee")
_MEANINGS = {
    "BlockhashNotFound": Rejected(
        reason="payment_expired", message="The transaction's blockhash is not, or no longer, a recent one."
    ),
    "SignatureFailure": Rejected(reason="invalid_signature", message="The chain refused a signature."),
}
_TOKEN_MEANINGS = {
    1: Rejected(reason="insufficient_funds", message="The wallet does not hold enough of the token for this payment."),
    17: Rejected(reason="account_frozen", message="One of the token accounts of this payment is frozen."),
}
_UNAVAILABLE = Rejected(
    reason="settlement_unavailable",
    message="This service cannot pay the fee of the transaction at the moment; nothing moved. Try again later.",
)


class Broadcaster:
    """Sends transfers signed in full.

    A refusal is final only for bytes that certainly never left, which `attempts` remember: where a process may be
    killed and started again, or several work, they must be a table. All else is left to the chain.
    """

    def __init__(self, facts: SolanaFacts, *, attempts: Attempts, clock: Clock, patience: float = _PATIENCE) -> None:
        """`patience` is the longest that a submission waits, in seconds."""
        self._facts = facts
        self._rpc = facts.rpc
        self._attempts = attempts
        self._clock = clock
        self._patience = patience
        # Copies of one transfer follow each other, so that the later ones find what the first one did.
        self._flights: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def send(self, sought: Sought) -> Outcome:
        """Bring a transfer to the chain, or tell how it went before. A copy is harmless: the chain takes a message once."""
        signature = signature_of(sought)
        flight = self._flights.setdefault(sought.transfer.key, asyncio.Lock())
        try:
            async with asyncio.timeout(self._patience), flight:
                return await self._settle(sought, signature)
        except TimeoutError:
            return Unknown(reason=f"not_seen_in_time:{signature}")
        except (NodeUnreachable, NodeRefused):
            return Unknown(reason=f"chain_not_readable:{signature}")

    async def _settle(self, sought: Sought, signature: str) -> Outcome:
        key = sought.transfer.key
        expires_at = self._clock.now_ms() // 1000 + _NOTED_SECONDS
        payer = b58encode(sought.transfer.fee_payer)
        first = await self._attempts.begin(key, facilitator=payer, expires_at=expires_at) is None
        if not first:
            found = await self._facts.find(sought, signature)
            if not isinstance(found, Unknown):
                return found
        raw = sought.transfer.transaction.raw()
        if refused := self._read(await self._rpc.simulate(raw)):
            if first and await self._attempts.release(key, facilitator=payer):
                return refused
            # It may have been sent before and land yet, once the payer has the money again.
            return Unknown(reason=f"refused_while_sent:{signature}")
        if first or await self._attempts.spend(key, facilitator=payer):
            await self._push(raw)
        else:
            raw = b""
        return await self._follow(sought, signature, raw)

    async def _push(self, raw: bytes) -> None:
        # Whatever the node answers, the bytes may be on their way.
        with suppress(NodeUnreachable, NodeRefused):
            await self._rpc.send(raw)

    async def _follow(self, sought: Sought, signature: str, raw: bytes) -> Outcome:
        """Ask until there is an outcome; the caller sets the time-out. Lost bytes are sent again, which changes nothing else."""
        pause, pushed = _FIRST_PAUSE, asyncio.get_running_loop().time()
        while True:
            with suppress(NodeUnreachable, NodeRefused):
                outcome = await self._facts.look(sought, signature)
                if not isinstance(outcome, Unknown):
                    return outcome
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, _LONGEST_PAUSE)
            if raw and asyncio.get_running_loop().time() - pushed > _RESEND:
                await self._push(raw)
                pushed = asyncio.get_running_loop().time()

    def _read(self, simulation: Simulation) -> Rejected | None:
        refusal = meaning_of(simulation.err)
        if refusal is _UNAVAILABLE:
            log.error("solana_fee_unpaid", extra={"node": self._rpc.host})
        return refusal


def signature_of(sought: Sought) -> str:
    """Return the transaction's id: the fee payer's signature."""
    return b58encode(sought.transfer.transaction.signatures[0])


def meaning_of(err: Any) -> Rejected | None:
    """Return what a simulation's fault means for the payer; None where it has none, or is about a copy that landed."""
    match err:
        case None | "AlreadyProcessed":
            return None
        case str(word) if word in _MEANINGS:
            return _MEANINGS[word]
        case str(word) if word in _OWN_FAULTS:
            return _UNAVAILABLE
        case {"InsufficientFundsForRent": _}:
            return _UNAVAILABLE
        case {"InstructionError": [int(place), {"Custom": int(code)}]} if (
            place == _TRANSFER and code in _TOKEN_MEANINGS
        ):
            return _TOKEN_MEANINGS[code]
        case {"InstructionError": [int(place), fault]}:
            told = f"instruction {place + 1} fails with {fault}"
        case _:
            told = str(err)
    return Rejected(reason="simulation_failed", message=f"The chain refuses this transaction: {told[:200]}.")
