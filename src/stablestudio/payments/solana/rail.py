"""The rail x402 v2 `exact` on Solana: the buyer signs a token transfer, a fee payer of ours completes it.

Source: specs/schemes/exact/scheme_exact_svm.md of github.com/x402-foundation/x402.
"""

from __future__ import annotations

import base64
import json
import re

from stablestudio.clock import Clock
from stablestudio.money import Money
from stablestudio.payments.rail import Asked, Credential, Outcome, Presented, Rejected
from stablestudio.payments.solana.chain import SolanaChain, Sought, WrongSolanaChain
from stablestudio.payments.solana.refunds import SolanaRefunds
from stablestudio.protocols import x402
from stablestudio.protocols.solana import SolanaKey, b58decode, b58encode, is_address
from stablestudio.protocols.solana_programs import TOKEN, read_decimals, read_token_account, token_account
from stablestudio.protocols.wallet import Wallet
from stablestudio.protocols.x402 import exact_svm, quote_memo
from stablestudio.protocols.x402.exact_svm import MAX_TIMEOUT_SECONDS, Limits, Transfer

_EARLIER = 900  # seconds
# What SDKs write that do not know `extra.memo`: 16 random bytes in hexadecimal.
_RANDOM_MEMO = re.compile(rb"[0-9a-f]{32}")


class MemoMismatch(x402.PaymentRefused):
    """The payment's memo was not made for this request."""

    hint = "Ask for the offer of this very body again and sign its extra.memo within a minute; nothing was charged."


class FeePayerMismatch(x402.PaymentRefused):
    """The payment names a fee payer that does not work for this service."""

    hint = "Sign with extra.feePayer of the offer in this answer's headers as fee payer; nothing was charged."


class ExactSvmRail:
    """One SPL token on one Solana cluster."""

    def __init__(
        self,
        chain: SolanaChain,
        *,
        mint: str,
        pay_to: str,
        refund_key: SolanaKey,
        secret: bytes,
        clock: Clock,
        decimals: int = 6,
        limits: Limits | None = None,
        unbound_memos: bool = False,
    ) -> None:
        """Take the chain and the seller's accounts; `pay_to` is a wallet, and its associated token account is paid.

        `unbound_memos` also takes the random memos of older SDKs, which do not know `extra.memo`: such a payment is
        bound to amount, payee and time only, as EIP-3009 authorizations are.
        """
        if not is_address(mint) or not is_address(pay_to):
            raise WrongSolanaChain("The token's mint and pay_to are base58 of 32 bytes.")
        self._chain = chain
        self._mint = mint
        self._pay_to = pay_to
        self._clock = clock
        self._limits = limits or Limits()
        self._unbound_memos = unbound_memos
        self.asset = mint
        self.decimals = decimals
        self.network = chain.network
        self.name = f"x402:{self.network}:{mint}"
        self._memos = quote_memo.QuoteMemos(secret, scope=f"{self.name}|{pay_to}")
        self._asked: tuple[Asked, str] | None = None
        self._refunds = SolanaRefunds(chain, mint=mint, decimals=decimals, key=refund_key)

    def _amount(self, price: Money) -> str:
        return str(price.base_units(decimals=self.decimals))

    @property
    def refund_address(self) -> str:
        """Return the wallet that refunds are paid from, and whose SOL pays their fees."""
        return self._refunds.address

    @property
    def fee_payer(self) -> str:
        """Return the fee payer that offers name now; another one may be named later."""
        return self._chain.fee_payer

    @property
    def edition(self) -> str:
        return self._chain.fee_payer

    def takes(self, presented: Presented) -> bool:
        if not isinstance(presented, x402.SolanaPayload):
            return False
        return presented.accepted.network == self.network and presented.accepted.asset == self._mint

    def offer(self, asked: Asked) -> x402.PaymentRequirements:
        # A blockhash lives for a minute, so there is no longer offer for a payment that must be held.
        return x402.PaymentRequirements(
            scheme="exact",
            network=self.network,
            amount=self._amount(asked.price),
            asset=self._mint,
            pay_to=self._pay_to,
            max_timeout_seconds=MAX_TIMEOUT_SECONDS,
            extra={"feePayer": self._chain.fee_payer, "memo": self.memo(asked)},
        )

    def memo(self, asked: Asked) -> str:
        # One for each request: asked about the same object, `offer` and `memo` tell the same.
        if self._asked is None or self._asked[0] is not asked:
            self._asked = (asked, self.form(asked).fill(asked.sha256).decode())
        return self._asked[1]

    def form(self, asked: Asked) -> quote_memo.MemoForm:
        return self._memos.form(path=asked.path, amount=self._amount(asked.price), now_s=asked.now_s)

    def identify(self, presented: Presented) -> Credential:
        payload = _mine(presented)
        transfer = exact_svm.read_transfer(payload.transaction)
        exact_svm.require_isolated(transfer)
        address = exact_svm.require_signature(transfer)
        return Credential(
            key=transfer.key,
            wallet=Wallet(namespace="solana", address=address),
            payer=address,
            network=self.network,
            asset=self._mint,
            amount=transfer.amount,
            saved=_save(payload.transaction, payee=self._pay_to, now_s=self._clock.now_ms() // 1000),
        )

    def check(self, presented: Presented, asked: Asked) -> None:
        payload = _mine(presented)
        transfer = exact_svm.read_transfer(payload.transaction)
        exact_svm.require_isolated(transfer)
        exact_svm.require_small_fee(transfer, self._limits)
        fee_payer = b58encode(transfer.fee_payer)
        if not self._chain.pays_fees(fee_payer):
            raise FeePayerMismatch(f"The fee payer is {fee_payer}, the offer names {self._chain.fee_payer}.")
        exact_svm.require_terms(transfer, payload.accepted, self.offer(asked), decimals=self.decimals)
        self._require_memo(transfer, asked)

    def _require_memo(self, transfer: Transfer, asked: Asked) -> None:
        if len(transfer.memos) != 1:
            raise MemoMismatch(f"The payment has {len(transfer.memos)} memos, and needs exactly one: the offer's.")
        [memo] = transfer.memos
        if self._unbound_memos and _RANDOM_MEMO.fullmatch(memo):
            return
        amount = self._amount(asked.price)
        if not self._memos.fits(memo, path=asked.path, body=asked.body, amount=amount, now_s=asked.now_s):
            raise MemoMismatch("The payment's memo was not made for this request, or longer ago than ten minutes.")

    async def admit(self, credential: Credential, *, held: int = 0) -> Rejected | None:
        balance = await self.funds(credential)
        if balance is None or balance >= credential.amount + held:
            return None
        return Rejected(reason="insufficient_funds", message="")

    async def funds(self, credential: Credential) -> int | None:
        source = token_account(b58decode(credential.payer), b58decode(self._mint))
        return await self._chain.balance(b58encode(source))

    async def settle(self, saved: str) -> Outcome:
        sought = _load(saved)
        # Once more before our key signs: it must be safe whatever was done with the saved text in between.
        exact_svm.require_isolated(sought.transfer)
        exact_svm.require_small_fee(sought.transfer, self._limits)
        return await self._chain.submit(sought)

    async def find(self, saved: str) -> Outcome:
        return await self._chain.find(_load(saved))

    async def sign_refund(self, *, order_id: str, recipient: str, amount: int, now_s: int) -> str:
        return await self._refunds.sign(order_id=order_id, recipient=recipient, amount=amount, now_s=now_s)

    async def send_refund(self, signed: str) -> Outcome:
        return await self._refunds.send(signed)

    async def find_refund(self, signed: str) -> Outcome:
        return await self._refunds.find(signed)

    async def start(self) -> None:
        await self._chain.start()
        await self._check_mint()
        await self._check_payee()
        await self._refunds.check()

    async def stop(self) -> None:
        await self._chain.stop()

    async def _check_mint(self) -> None:
        found = await self._chain.account(self._mint)
        decimals = read_decimals(found.data) if found is not None and found.owner == b58encode(TOKEN) else None
        if decimals is None:
            raise WrongSolanaChain(f"There is no SPL token {self._mint} on {self.network}.")
        if decimals != self.decimals:
            raise WrongSolanaChain(f"The token {self._mint} has {decimals} decimals, configured are {self.decimals}.")

    async def _check_payee(self) -> None:
        wallet = b58decode(self._pay_to)
        address = b58encode(token_account(wallet, b58decode(self._mint)))
        found = await self._chain.account(address)
        state = read_token_account(found.data) if found is not None and found.owner == b58encode(TOKEN) else None
        if state is None or state.owner != wallet or not state.usable:
            raise WrongSolanaChain(
                f"The wallet {self._pay_to} has no usable token account {address} for {self._mint}.",
                hint="Send it a little of the token once, which opens the account, then start again.",
            )


def _mine(presented: Presented) -> x402.SolanaPayload:
    assert isinstance(presented, x402.SolanaPayload), "a rail is only asked about what it takes"
    return presented


def _save(transaction: bytes, *, payee: str, now_s: int) -> str:
    text = base64.b64encode(transaction).decode()
    return json.dumps({"transaction": text, "payTo": payee, "presentedAt": now_s})


def _load(saved: str) -> Sought:
    fields = json.loads(saved)
    return Sought(
        transfer=exact_svm.read_transfer(base64.b64decode(fields["transaction"])),
        payee=fields["payTo"],
        # A buyer may have had a facilitator complete it before it came here, while its memo was good.
        since_s=fields["presentedAt"] - _EARLIER,
    )
