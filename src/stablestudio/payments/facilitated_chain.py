"""A token chain that is written to through facilitators and read from directly, by RPC."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from stablestudio.clock import Clock
from stablestudio.payments.facilitator import Facilitator, FacilitatorUnusable, Served
from stablestudio.payments.facilitator_answers import Submission
from stablestudio.payments.facilitator_line import Attempts, FacilitatorLine, MemoryAttempts
from stablestudio.payments.rail import Outcome
from stablestudio.payments.x402_evm import MAX_TIMEOUT_SECONDS
from stablestudio.protocols.eip3009 import Authorization, TokenDomain
from stablestudio.protocols.evm import checksum_address
from stablestudio.protocols.x402 import PaymentPayload, PaymentRequirements


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


class FacilitatedChain:
    """Settle EIP-3009 authorizations through an ordered list of facilitators, whoever they pay.

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
    ) -> None:
        if _lower(reader.domain) != _lower(domain):
            raise FacilitatorUnusable("The chain's reader is for another token than its facilitators.")
        self.domain = domain
        self._network = f"eip155:{domain.chain_id}"
        self._reader = reader
        self._clock = clock
        self._line = FacilitatorLine(
            facilitators, attempts=attempts or MemoryAttempts(clock=clock), verify_first=verify_first
        )

    async def check(self) -> tuple[Served, ...]:
        """Make sure that the facilitators settle on this network; raise a `FacilitatorUnusable`."""
        return await self._line.check(network=self._network)

    async def close(self) -> None:
        """Close all connections."""
        await self._line.close()

    async def submit(self, authorization: Authorization, signature: bytes) -> Outcome:
        if self._clock.now_ms() // 1000 >= authorization.valid_before:
            # Nobody can settle it any more, and only the chain's word on an earlier attempt counts.
            return await self._reader.find(authorization)
        submission = self._submission(authorization, signature)
        return await self._line.settle(submission, find=lambda: self._reader.find(authorization))

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
            key=authorization.key,
            network=self._network,
            payer=authorization.sender,
            amount=authorization.value,
            expires_at=authorization.valid_before,
            content=json.dumps(body, separators=(",", ":")).encode(),
        )


def _lower(domain: TokenDomain) -> TokenDomain:
    return replace(domain, contract=domain.contract.lower())
