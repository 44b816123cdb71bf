"""Refunds on Solana: a transfer from our own token account, signed once, stored by the caller, and sent at will.

Nothing on Solana knows a refund by its order, as a spent nonce does on an EVM token. So what keeps a refund single is:

- the caller stores the signed transfer before it is sent, and only ever sends what is stored;
- the chain takes one message once, so sending the stored one again is harmless;
- another one is signed only after `payment_expired` or `transaction_reverted`, which are said by chain facts alone: the
  final chain has passed the last block that may hold the old one and does not hold it, or holds it as failed;
- the memo names the order, and before anything is sent the purse's history is searched for that memo: this catches
  what a restored backup of the database has forgotten.
"""

from __future__ import annotations

import base64
import json
import logging

from stablestudio.errors import StudioError
from stablestudio.payments.rail import Outcome, Rejected, Unknown
from stablestudio.payments.solana.chain import ChainNotReadable, SolanaChain, Sought
from stablestudio.protocols import solana_programs
from stablestudio.protocols.solana import SolanaKey, b58decode, b58encode, is_address
from stablestudio.protocols.solana_transaction import Transaction, compile_message
from stablestudio.protocols.x402.exact_svm import read_transfer

log = logging.getLogger(__name__)
_UNITS, _UNIT_PRICE = 40_000, 10_000  # at most 400 lamports for priority: a refund may take its time
_GONE = Rejected(
    reason="recipient_account_missing",
    message="The recipient's token account does not exist any more; nothing was sent.",
)


class RefundRecipientInvalid(StudioError):
    """This recipient is no Solana wallet."""

    status = 500
    hint = "Pay this refund by hand."


class SolanaRefunds:
    """Pays one token back out of one wallet, which pays the fees of that in SOL, too."""

    def __init__(self, chain: SolanaChain, *, mint: str, decimals: int, key: SolanaKey) -> None:
        self._chain = chain
        self._mint = b58decode(mint)
        self._decimals = decimals
        self._key = key
        self.address = key.address

    async def sign(self, *, order_id: str, recipient: str, amount: int, now_s: int) -> str:
        """Sign the transfer back; raise `ChainNotReadable` where no recent blockhash can be had."""
        if not is_address(recipient):
            raise RefundRecipientInvalid(f"The recipient {recipient[:64]!r} is no Solana wallet.")
        # A final block's hash: its height is known for sure, and so is the last height that may hold the transfer.
        recent = await self._chain.blockhash()
        owner = b58decode(self.address)
        move = solana_programs.transfer_checked(
            source=solana_programs.token_account(owner, self._mint),
            mint=self._mint,
            destination=solana_programs.token_account(b58decode(recipient), self._mint),
            authority=owner,
            amount=amount,
            decimals=self._decimals,
        )
        budget = [solana_programs.unit_limit(_UNITS), solana_programs.unit_price(_UNIT_PRICE)]
        memo = solana_programs.memo(f"refund:{order_id}")
        message = compile_message(owner, [*budget, move, memo], blockhash=b58decode(recent.blockhash))
        transaction = Transaction(signatures=(self._key.sign(message.raw),), message=message)
        return _save(transaction, recipient=recipient, since_s=now_s, last_height=recent.last_valid_block_height)

    async def send(self, signed: str) -> Outcome:
        """Send a signed refund, or tell what became of it; sending it again is harmless."""
        sought = _load(signed)
        found = await self._chain.find_sent(sought)
        if not isinstance(found, Unknown):
            return found
        try:
            if (twin := await self._chain.find_twin(sought)) is not None:
                log.error("refund_paid_before", extra={"transaction": twin.transaction})
                return twin
        except ChainNotReadable:
            return Unknown(reason="chain_not_readable")
        outcome = await self._chain.send(sought)
        if isinstance(outcome, Rejected) and outcome.reason == "simulation_failed" and await self._is_gone(sought):
            return _GONE
        return outcome

    async def _is_gone(self, sought: Sought) -> bool:
        try:
            return await self._chain.account(b58encode(sought.transfer.destination)) is None
        except ChainNotReadable:
            return False

    async def find(self, signed: str) -> Outcome:
        """Tell from the chain alone what became of a signed refund."""
        return await self._chain.find_sent(_load(signed))

    async def check(self) -> None:
        """Log what a person should bring before the first refund; raise `ChainNotReadable`."""
        source = b58encode(solana_programs.token_account(b58decode(self.address), self._mint))
        if await self._chain.account(source) is None or await self._chain.account(self.address) is None:
            log.warning("solana_refunds_unfunded", extra={"wallet": self.address, "account": source})


def _save(transaction: Transaction, *, recipient: str, since_s: int, last_height: int) -> str:
    return json.dumps(
        {
            "transaction": base64.b64encode(transaction.raw()).decode(),
            "recipient": recipient,
            "signedAt": since_s,
            "lastValidBlockHeight": last_height,
        }
    )


def _load(signed: str) -> Sought:
    fields = json.loads(signed)
    return Sought(
        transfer=read_transfer(base64.b64decode(fields["transaction"])),
        payee=fields["recipient"],
        since_s=fields["signedAt"],
        last_valid_height=fields["lastValidBlockHeight"],
    )
