"""The rail x402 v2 `exact` with EIP-3009: the buyer signs a transfer, we submit it.

Source: specs/schemes/exact/scheme_exact_evm.md of github.com/x402-foundation/x402.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Protocol, runtime_checkable

from stablestudio.money import Money
from stablestudio.payments.evm.chain import TokenChain
from stablestudio.payments.rail import Asked, Credential, Outcome, Presented, Rejected
from stablestudio.protocols import eip3009, x402
from stablestudio.protocols.contract_wallets import MAX_SIGNATURE
from stablestudio.protocols.evm import EvmKey, keccak256
from stablestudio.protocols.wallet import Wallet

# How long a signature lives is ours to choose: both SDKs sign `validBefore = now + maxTimeoutSeconds`.
MAX_TIMEOUT_SECONDS = 300
_REFUND_SECONDS = 300


@runtime_checkable
class WalletJudge(Protocol):
    """A `TokenChain` that can ask contract wallets whether they signed (ERC-1271); one that cannot has no such verb."""

    @property
    def judges_contract_wallets(self) -> bool:
        """Tell whether it can ask them as it is configured."""
        ...

    async def judge_wallet(self, authorization: eip3009.Authorization, signature: bytes) -> Rejected | None:
        """Return what the chain has against a signature that is not the sender's own key's, or None if it holds."""
        ...


class ExactEvmRail:
    """One token on one EVM network."""

    def __init__(self, chain: TokenChain, *, pay_to: str, refund_key: EvmKey, decimals: int = 6) -> None:
        self._chain = chain
        self._judge = chain if isinstance(chain, WalletJudge) and chain.judges_contract_wallets else None
        self._domain = chain.domain
        self._pay_to = pay_to
        self._refund_key = refund_key
        self.asset = self._domain.contract
        self.decimals = decimals
        self.network = f"eip155:{self._domain.chain_id}"
        self.name = f"x402:{self.network}:{self._domain.contract.lower()}"
        self._terms = self._offer(Money(0), 0)
        self._offers = lru_cache(maxsize=4096)(self._offer)  # prices are few; a quote must be fast

    @property
    def refund_address(self) -> str:
        """Return the address that refunds are paid from."""
        return self._refund_key.address

    def takes(self, presented: Presented) -> bool:
        if not isinstance(presented, x402.PaymentPayload):
            return False
        accepted = presented.accepted
        return accepted.network == self.network and accepted.asset.lower() == self._domain.contract.lower()

    def offer(self, asked: Asked) -> x402.PaymentRequirements:
        return self._offers(asked.price, asked.hold_s)

    def _offer(self, price: Money, hold_s: int) -> x402.PaymentRequirements:
        return x402.PaymentRequirements(
            scheme="exact",
            network=self.network,
            amount=str(price.base_units(decimals=self.decimals)),
            asset=self._domain.contract,
            pay_to=self._pay_to,
            max_timeout_seconds=MAX_TIMEOUT_SECONDS + hold_s,
            extra={"name": self._domain.name, "version": self._domain.version},
        )

    def identify(self, presented: Presented) -> Credential:
        payload = _mine(presented)
        authorization, signature = payload.authorization, payload.signature
        try:
            wallet, proved = x402.recover_payer(payload, self._terms), True
        except x402.PaymentRefused:
            # It may be a contract wallet's, which only the chain can tell: `admit` asks it.
            if self._judge is None or len(signature) > MAX_SIGNATURE:
                raise
            wallet, proved = Wallet(namespace="eip155", address=authorization.sender), False
        return Credential(
            key=authorization.key,
            wallet=wallet,
            payer=wallet.display,
            network=self.network,
            asset=self._domain.contract,
            amount=authorization.value,
            saved=_save(authorization, x402.normal_signature(signature) if proved else signature),
            expires_at=authorization.valid_before,
            proved=proved,
        )

    def check(self, presented: Presented, asked: Asked) -> None:
        payload = _mine(presented)
        x402.check_terms(payload, self.offer(asked))
        x402.check_time(payload, now_s=asked.now_s)

    async def admit(self, credential: Credential, *, held: int = 0) -> Rejected | None:
        if self._judge is not None and not credential.proved:
            refused = await self._judge.judge_wallet(*_load(credential.saved))
            if refused is not None:
                return refused
        balance = await self._chain.balance(credential.payer)
        if balance is None or balance >= credential.amount + held:
            return None
        return Rejected(reason="insufficient_funds", message="")

    async def funds(self, credential: Credential) -> int | None:
        return await self._chain.balance(credential.payer)

    async def settle(self, saved: str) -> Outcome:
        authorization, signature = _load(saved)
        return await self._chain.submit(authorization, signature)

    async def find(self, saved: str) -> Outcome:
        return await self._chain.find(_load(saved)[0])

    async def sign_refund(self, *, order_id: str, recipient: str, amount: int, now_s: int) -> str:
        # The nonce comes from the order: the token itself refuses a second refund of the same order.
        authorization = eip3009.Authorization(
            sender=self._refund_key.address,
            recipient=recipient,
            value=amount,
            valid_after=now_s - 60,
            valid_before=now_s + _REFUND_SECONDS,
            nonce=keccak256(f"refund:{order_id}".encode()),
        )
        signature = self._refund_key.sign_digest(eip3009.digest(self._domain, authorization))
        return _save(authorization, signature)

    async def send_refund(self, signed: str) -> Outcome:
        return await self.settle(signed)

    async def find_refund(self, signed: str) -> Outcome:
        return await self.find(signed)

    async def start(self) -> None:
        await self._chain.start()

    async def stop(self) -> None:
        await self._chain.stop()


def _mine(presented: Presented) -> x402.PaymentPayload:
    assert isinstance(presented, x402.PaymentPayload), "a rail is only asked about what it takes"
    return presented


def _save(authorization: eip3009.Authorization, signature: bytes) -> str:
    return json.dumps(
        {
            "from": authorization.sender,
            "to": authorization.recipient,
            "value": str(authorization.value),
            "validAfter": str(authorization.valid_after),
            "validBefore": str(authorization.valid_before),
            "nonce": "0x" + authorization.nonce.hex(),
            "signature": "0x" + signature.hex(),
        }
    )


def _load(saved: str) -> tuple[eip3009.Authorization, bytes]:
    fields = json.loads(saved)
    authorization = eip3009.Authorization(
        sender=fields["from"],
        recipient=fields["to"],
        value=int(fields["value"]),
        valid_after=int(fields["validAfter"]),
        valid_before=int(fields["validBefore"]),
        nonce=bytes.fromhex(fields["nonce"][2:]),
    )
    return authorization, bytes.fromhex(fields["signature"][2:])
