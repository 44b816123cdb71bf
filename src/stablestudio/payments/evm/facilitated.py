"""A token chain that is written to through facilitators and read from directly, by RPC."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from stablestudio.clock import Clock
from stablestudio.payments.evm.rail import MAX_TIMEOUT_SECONDS, WalletJudge
from stablestudio.payments.evm.reverts import UNAVAILABLE
from stablestudio.payments.facilitators.answers import Submission
from stablestudio.payments.facilitators.client import Facilitator, FacilitatorUnusable, Served
from stablestudio.payments.facilitators.line import Attempts, FacilitatorLine, MemoryAttempts
from stablestudio.payments.rail import Outcome, Rejected, Settled, Unknown
from stablestudio.protocols.eip3009 import Authorization, TokenDomain
from stablestudio.protocols.evm import checksum_address
from stablestudio.protocols.x402 import PaymentPayload, PaymentRequirements

log = logging.getLogger(__name__)
_PATIENCE = 10.0
# All of a submission ends before the reconciler may look at the same payment.
_LONGEST = 28.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 1.0


class ChainReader(Protocol):
    """What is read from a token's chain without a facilitator. Every `TokenChain` can do it."""

    @property
    def domain(self) -> TokenDomain:
        """Return the token's EIP-712 domain."""
        ...

    async def find(self, authorization: Authorization) -> Outcome:
        """Tell from the chain what became of the authorization."""
        ...

    async def balance(self, owner: str) -> int | None:
        """Return what an address holds in base units, or None where that cannot be told now."""
        ...

    async def start(self) -> None:
        """Make sure that the chain is the right one; raise a `StudioError` if not."""
        ...

    async def stop(self) -> None:
        """Close connections."""
        ...


class FacilitatedChain:
    """Settle EIP-3009 authorizations through an ordered list of facilitators, whoever they pay.

    No facilitator's word that it settled counts before the chain says so: until then the payment is `Unknown`.

    A reader is required, not optional. No facilitator has a call that tells what became of a payment, so without the
    chain a lost answer stays unknown until the authorization expires, and after that for ever: `validBefore` stops a
    later transfer, it does not tell of an earlier one. Such an order could neither be delivered nor be called unpaid
    (money rule 5: every order ends delivered and charged, refunded, or never charged). Reading takes any public RPC address, and no key.
    """

    def __init__(
        self,
        domain: TokenDomain,
        facilitators: Sequence[Facilitator],
        *,
        reader: ChainReader,
        clock: Clock,
        attempts: Attempts | None = None,
        verify_first: bool = False,
        patience: float = _PATIENCE,
    ) -> None:
        """Take the parts; `patience` is how long a receipt may be ahead of the reader, in seconds."""
        if _lower(reader.domain) != _lower(domain):
            raise FacilitatorUnusable("The chain's reader is for another token than its facilitators.")
        self.domain = domain
        self._network = f"eip155:{domain.chain_id}"
        self._reader = reader
        self._judge = reader if isinstance(reader, WalletJudge) and reader.judges_contract_wallets else None
        self._clock = clock
        self._patience = patience
        self._line = FacilitatorLine(
            facilitators, attempts=attempts or MemoryAttempts(clock=clock), verify_first=verify_first
        )

    @property
    def judges_contract_wallets(self) -> bool:
        return self._judge is not None

    async def judge_wallet(self, authorization: Authorization, signature: bytes) -> Rejected | None:
        """Let the reader ask the wallet; a facilitator gets the same bytes and asks it again."""
        return UNAVAILABLE if self._judge is None else await self._judge.judge_wallet(authorization, signature)

    async def start(self) -> None:
        """Make sure that node and facilitators serve this token's network; raise a `StudioError`."""
        await self._reader.start()
        await self.check()

    async def stop(self) -> None:
        """Close all connections."""
        await self._line.close()
        await self._reader.stop()

    async def check(self) -> tuple[Served, ...]:
        """Make sure that the facilitators settle on this network; raise a `FacilitatorUnusable`."""
        return await self._line.check(network=self._network)

    async def submit(self, authorization: Authorization, signature: bytes) -> Outcome:
        if self._clock.now_ms() // 1000 >= authorization.valid_before:
            # Nobody can settle it any more, and only the chain's word on an earlier attempt counts.
            return await self._reader.find(authorization)
        last = asyncio.get_running_loop().time() + _LONGEST
        told: Outcome | None = None

        async def find() -> Outcome:
            nonlocal told
            told = await self._reader.find(authorization)
            return told

        outcome = await self._line.settle(self._submission(authorization, signature), find=find)
        if not isinstance(outcome, Settled) or outcome is told:
            return outcome
        return await self._confirm(authorization, outcome, last=last)

    async def _confirm(self, authorization: Authorization, receipt: Settled, *, last: float) -> Outcome:
        """Look a facilitator's receipt up: at once, and again while the reader may lag behind."""
        loop, pause = asyncio.get_running_loop(), _FIRST_PAUSE
        last = min(last, loop.time() + self._patience)
        while isinstance(found := await self._reader.find(authorization), Unknown):
            if loop.time() + pause > last:
                log.warning("receipt_not_on_chain", extra={"transaction": receipt.transaction, "reader": found.reason})
                return Unknown(reason=f"receipt_not_on_chain:{receipt.transaction}")
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, _LONGEST_PAUSE)
        if found != receipt:
            log.error("receipt_is_wrong", extra={"transaction": receipt.transaction, "chain": str(found)})
        return found

    async def find(self, authorization: Authorization) -> Outcome:
        return await self._reader.find(authorization)

    async def balance(self, owner: str) -> int | None:
        return await self._reader.balance(owner)

    def _submission(self, authorization: Authorization, signature: bytes) -> Submission:
        requirements = PaymentRequirements(
            network=self._network,
            amount=str(authorization.value),
            asset=checksum_address(self.domain.contract),
            pay_to=checksum_address(authorization.recipient),
            max_timeout_seconds=MAX_TIMEOUT_SECONDS,
            extra={"name": self.domain.name, "version": self.domain.version},
        )
        payload = PaymentPayload(accepted=requirements, authorization=authorization, signature=signature).wire()
        body = {
            "x402Version": payload["x402Version"],
            "paymentPayload": payload,
            "paymentRequirements": requirements.wire(),
        }
        return Submission(
            # Tokens and networks share a buyer's nonces, not their spending.
            key=f"{self._network}:{self.domain.contract.lower()}:{authorization.key}",
            network=self._network,
            payer=authorization.sender,
            amount=authorization.value,
            expires_at=authorization.valid_before,
            content=json.dumps(body, separators=(",", ":")).encode(),
        )


def _lower(domain: TokenDomain) -> TokenDomain:
    return replace(domain, contract=domain.contract.lower())
