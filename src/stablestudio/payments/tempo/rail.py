"""The rail MPP `charge` on Tempo: the buyer signs a transaction with a transfer to us, we send it.

Source: draft-httpauth-payment and draft-tempo-charge of github.com/tempoxyz/mpp-specs; pympp 0.16 and mppx 0.11.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from stablestudio.errors import StudioError
from stablestudio.payments.rail import Asked, Credential, Outcome, Presented, Rejected
from stablestudio.payments.tempo import pympp as mpp_pympp
from stablestudio.payments.tempo.chain import TempoChain
from stablestudio.payments.tempo.refunds import TempoRefunds
from stablestudio.payments.tempo.settlement import INSUFFICIENT, TempoPayment, TempoSettlement, decode
from stablestudio.protocols import mpp
from stablestudio.protocols.evm import EvmKey, checksum_address
from stablestudio.protocols.tempo import BadTransaction, TempoTransaction
from stablestudio.protocols.wallet import Wallet

# A node takes nothing that ends within three seconds; one more for the way to it.
_LEAST_LEFT_SECONDS = 4
# SDKs sign for 25 to 60 seconds. What lives longer keeps an unclear payment open longer.
_MOST_LEFT_SECONDS = 300
_WARM_UP_SECONDS = 3.0
_SIGNED = re.compile(r"0x(?:[0-9a-fA-F]{2}){1,12288}")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Terms:
    """What a challenge's request asks, as far as it matters whose it is."""

    currency: str
    chain_id: object
    amount: int


class TempoRail:
    """One TIP-20 token on one Tempo chain; rails of other tokens may share the chain object."""

    def __init__(
        self,
        chain: TempoChain,
        *,
        token: str,
        pay_to: str,
        realm: str,
        keys: Sequence[bytes],
        refund_key: EvmKey,
        decimals: int = 6,
    ) -> None:
        """Take the chain; `keys` are the challenges' secrets, of which the first signs and all are recognised."""
        self._chain = chain
        self._token = token.lower()
        self._pay_to = pay_to.lower()
        self.asset = self._token
        self.decimals = decimals
        self.network = f"eip155:{chain.chain_id}"
        self.name = f"mpp:{self.network}:{self._token}"
        self.desk = mpp.ChallengeDesk(realm=realm, keys=keys)
        self.terms = mpp.ChargeTerms(
            chain_id=chain.chain_id, currency=self._token, recipient=checksum_address(self._pay_to)
        )
        self._settlement = TempoSettlement(chain)
        self._refunds = TempoRefunds(self._settlement, chain_id=chain.chain_id, token=self._token, key=refund_key)
        self._warm_up: asyncio.Task[None] | None = None

    @property
    def refund_address(self) -> str:
        """Return the address that refunds are paid from."""
        return self._refunds.address

    def takes(self, presented: Presented) -> bool:
        if not isinstance(presented, mpp.Credential):
            return False
        terms = _terms(presented.challenge.request)
        return terms is not None and (terms.currency, terms.chain_id) == (self._token, self._chain.chain_id)

    def challenge(self, asked: Asked) -> str:
        """Return the value of the header line for one request."""
        return self.form(asked).fill(asked.sha256).decode()

    def form(self, asked: Asked) -> mpp.ChallengeForm:
        return self.desk.form(self._request(asked), path=asked.path, now_s=asked.now_s)

    def _request(self, asked: Asked) -> str:
        return self.terms.request(asked.price.base_units(decimals=self.decimals))

    def identify(self, presented: Presented) -> Credential:
        credential = _mine(presented)
        self.desk.verify(credential.challenge)
        terms = _terms(credential.challenge.request)
        assert terms is not None, "a challenge of ours asks for an amount"
        signed = _transaction(credential)
        if signed.valid_before is None:
            raise mpp.TransferRefused("The signed transaction must have a validBefore.")
        if not signed.proved:
            # Only the chain could tell whether these hold, after the order was opened in the named account's name.
            raise mpp.TransferRefused("The transaction must be signed by the account's own secp256k1 key.")
        wallet = Wallet(namespace="eip155", address=signed.sender)
        payment = TempoPayment(transaction=signed, token=self._token, recipient=self._pay_to, amount=terms.amount)
        return Credential(
            # What the chain itself takes once: two accounts may sign the same content, and a signature has spellings.
            key=f"{signed.sender}:0x{signed.signing_hash.hex()}",
            wallet=wallet,
            payer=wallet.display,
            network=self.network,
            asset=self._token,
            amount=terms.amount,
            saved=payment.save(),
            expires_at=signed.valid_before,
        )

    def check(self, presented: Presented, asked: Asked) -> None:
        credential = _mine(presented)
        request = self._request(asked)
        self.desk.require(
            credential.challenge,
            request,
            path=asked.path,
            now_s=asked.now_s,
            digest=mpp.body_digest(asked.body),
        )
        signed = _transaction(credential)
        if signed.sponsored:
            raise mpp.TransferRefused("The signed transaction must pay its own fee; sponsored ones are not taken.")
        _check_time(signed, now_s=asked.now_s)
        mpp_pympp.require_payment(credential, mpp.read_part(request).value)

    async def admit(self, credential: Credential, *, held: int = 0) -> Rejected | None:
        payment = TempoPayment.load(credential.saved)
        if payment.cost is None:
            return None
        balance = await self._chain.balance(self._token, payment.transaction.sender)
        return INSUFFICIENT if balance is not None and balance < payment.cost + held else None

    async def funds(self, credential: Credential) -> int | None:
        return await self._chain.balance(self._token, credential.payer)

    async def settle(self, saved: str) -> Outcome:
        return await self._settlement.settle(TempoPayment.load(saved))

    async def find(self, saved: str) -> Outcome:
        return await self._settlement.find(TempoPayment.load(saved))

    async def sign_refund(self, *, order_id: str, recipient: str, amount: int, now_s: int) -> str:
        return self._refunds.sign(order_id=order_id, recipient=recipient, amount=amount, now_s=now_s)

    async def send_refund(self, signed: str) -> Outcome:
        return await self._refunds.send(signed)

    async def find_refund(self, signed: str) -> Outcome:
        return await self._refunds.find(signed)

    async def start(self) -> None:
        await self._chain.start(self._token)
        # Imported after the rush of the start and before the first payment, or that one would wait for it.
        self._warm_up = asyncio.create_task(_load_later())

    async def stop(self) -> None:
        if self._warm_up is not None:
            self._warm_up.cancel()
            await asyncio.gather(self._warm_up, return_exceptions=True)
        await self._chain.stop()


async def _load_later() -> None:
    await asyncio.sleep(_WARM_UP_SECONDS)
    await asyncio.to_thread(mpp_pympp.load)


def _mine(presented: Presented) -> mpp.Credential:
    assert isinstance(presented, mpp.Credential), "a rail is only asked about what it takes"
    return presented


@lru_cache(maxsize=1024)
def _terms(request: str) -> _Terms | None:
    """Return what a request says, before it is known whether we said it."""
    try:
        fields = mpp.read_part(request).value
    except StudioError:
        return None
    details, currency, amount = fields.get("methodDetails"), fields.get("currency"), fields.get("amount")
    if not isinstance(details, dict) or not isinstance(currency, str) or not isinstance(amount, str):
        return None
    if not re.fullmatch(r"[0-9]{1,78}", amount):
        return None
    return _Terms(currency=currency.lower(), chain_id=details.get("chainId"), amount=int(amount))


def _transaction(credential: mpp.Credential) -> TempoTransaction:
    payload = credential.payload
    if payload.get("type") == "hash":
        raise mpp.PushUnsupported
    signed = payload.get("signature")
    if payload.get("type") != "transaction" or not isinstance(signed, str) or not _SIGNED.fullmatch(signed):
        raise mpp.TransferRefused("The payload must be of type transaction, with the signed bytes in hexadecimal.")
    try:
        return decode(bytes.fromhex(signed[2:]))
    except BadTransaction as error:
        raise mpp.TransferRefused(f"The signed transaction was refused: {error}.") from None


def _check_time(signed: TempoTransaction, *, now_s: int) -> None:
    # No Tempo transaction outlives the work, so none is held for it: the sale settles it at once.
    assert signed.valid_before is not None, "identified before"
    left = signed.valid_before - now_s
    if left < _LEAST_LEFT_SECONDS:
        raise mpp.TransferExpired
    if left > _MOST_LEFT_SECONDS:
        raise mpp.TransferRefused(f"The signed transaction must end within {_MOST_LEFT_SECONDS} seconds.")
    if signed.valid_after is not None and signed.valid_after > now_s:
        raise mpp.TransferRefused("The signed transaction is not valid yet; leave validAfter out.")
