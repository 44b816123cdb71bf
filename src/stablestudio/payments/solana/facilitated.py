"""A Solana cluster that buyers' transactions reach through facilitators, and that is read directly, by RPC."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Sequence
from contextlib import suppress

from stablestudio.clock import Clock
from stablestudio.loops import every
from stablestudio.payments.facilitators.answers import Submission
from stablestudio.payments.facilitators.client import Facilitator, FacilitatorUnusable, Served
from stablestudio.payments.facilitators.line import Attempts, FacilitatorLine
from stablestudio.payments.rail import Outcome, Rejected, Settled, Unknown
from stablestudio.payments.solana.chain import Sought
from stablestudio.payments.solana.facts import SolanaFacts
from stablestudio.payments.solana.rpc import NodeRefused, NodeUnreachable
from stablestudio.payments.solana.rpc_chain import SolanaNode
from stablestudio.protocols.solana import b58encode, is_address
from stablestudio.protocols.x402 import PaymentRequirements, SolanaPayload
from stablestudio.protocols.x402.exact_svm import MAX_TIMEOUT_SECONDS, Transfer

log = logging.getLogger(__name__)
_REFRESH = 300.0
_EXPIRY_SECONDS = 3600  # of the note who holds a payment: longer than any blockhash lives
_LOOKS, _PAUSE = 12, 0.75  # how often and how far apart, in seconds, a facilitator's word is looked up


class FacilitatedSolanaChain(SolanaNode):
    """Settle through facilitators, each of which can complete only the transactions that name its own fee payer.

    Where one goes away the next one's fee payer is offered from then on. No facilitator's word that it settled counts
    before the chain says so: there are some that report a failed transaction as a success.
    """

    def __init__(
        self,
        facts: SolanaFacts,
        facilitators: Sequence[Facilitator],
        *,
        network: str,
        clock: Clock,
        attempts: Attempts | None = None,
    ) -> None:
        super().__init__(facts, network=network, clock=clock, attempts=attempts)
        self._facilitators = {facilitator.name: facilitator for facilitator in facilitators}
        self._line = FacilitatorLine(facilitators, attempts=self.attempts)
        self._offered: str | None = None
        self._payers: dict[str, str] = {}  # by account: the facilitator whose it is, also of offers made before
        self._wake = asyncio.Event()
        self._refreshing: asyncio.Task[None] | None = None

    @property
    def fee_payer(self) -> str:
        """Return the fee payer of a facilitator that is there; raise `FacilitatorUnusable` before `start`."""
        if self._offered is None:
            raise FacilitatorUnusable("No facilitator has named a fee payer on this network yet.")
        return self._offered

    def pays_fees(self, account: str) -> bool:
        return account in self._payers

    async def start(self) -> None:
        await super().start()
        self._learn(await self._line.check(network=self.network))
        _ = self.fee_payer  # or there is none to offer
        self._refreshing = asyncio.create_task(
            every(_REFRESH, self._refresh, name="solana_fee_payers", wake=self._wake)
        )

    async def stop(self) -> None:
        if self._refreshing is not None:
            self._refreshing.cancel()
            with suppress(asyncio.CancelledError):
                await self._refreshing
        await self._line.close()
        await super().stop()

    async def submit(self, sought: Sought) -> Outcome:
        outcome = await self._line_for(sought.transfer).settle(self._submission(sought), find=lambda: self.find(sought))
        if isinstance(outcome, Settled):
            return await self._confirm(sought, outcome.transaction)
        if isinstance(outcome, Rejected) and outcome.reason == "settlement_unavailable":
            self._wake.set()
        return outcome

    async def find(self, sought: Sought) -> Outcome:
        return await self._facts.find(sought, None)

    async def _confirm(self, sought: Sought, transaction: str) -> Outcome:
        for _ in range(_LOOKS):
            with suppress(NodeUnreachable, NodeRefused):
                outcome = await self._facts.look(sought, transaction)
                if not isinstance(outcome, Unknown):
                    return outcome
            await asyncio.sleep(_PAUSE)
        return Unknown(reason=f"reported_settled:{transaction}")

    def _line_for(self, transfer: Transfer) -> FacilitatorLine:
        """Return the facilitators with the one first whose fee payer it is; the others say that it is not theirs."""
        holder = self._payers.get(b58encode(transfer.fee_payer))
        ordered = sorted(self._facilitators.values(), key=lambda facilitator: facilitator.name != holder)
        return FacilitatorLine(ordered, attempts=self.attempts)

    async def _refresh(self) -> None:
        try:
            self._learn(await self._line.check(network=self.network))
        except FacilitatorUnusable as fault:
            log.warning("facilitators_not_checked", extra={"reason": fault.message})

    def _learn(self, served: tuple[Served, ...]) -> None:
        """Remember whose each account is; a facilitator may name another of its accounts each time, so keep to one."""
        managed = {
            account: one.facilitator
            for one in served
            for account in (one.fee_payer, *one.signers)
            if account is not None and is_address(account)
        }
        self._payers |= managed
        if self._offered not in managed:
            named = [one.fee_payer for one in served if one.fee_payer in managed]
            self._offered = named[0] if named else self._offered
            log.info("solana_fee_payer_offered", extra={"account": self._offered})

    def _submission(self, sought: Sought) -> Submission:
        transfer = sought.transfer
        requirements = PaymentRequirements(
            network=self.network,
            amount=str(transfer.amount),
            asset=b58encode(transfer.mint),
            pay_to=sought.payee,
            max_timeout_seconds=MAX_TIMEOUT_SECONDS,
            extra={"feePayer": b58encode(transfer.fee_payer), "memo": transfer.memos[0].decode()},
        )
        payload = SolanaPayload(accepted=requirements, transaction=transfer.transaction.raw()).wire()
        body = {
            "x402Version": payload["x402Version"],
            "paymentPayload": payload,
            "paymentRequirements": requirements.wire(),
        }
        return Submission(
            key=transfer.key,
            network=self.network,
            payer=b58encode(transfer.authority),
            amount=transfer.amount,
            expires_at=self._clock.now_ms() // 1000 + _EXPIRY_SECONDS,
            content=json.dumps(body, separators=(",", ":")).encode(),
        )
