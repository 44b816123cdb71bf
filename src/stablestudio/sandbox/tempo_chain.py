"""The Tempo ledger seen as a chain that rails can settle on."""

from __future__ import annotations

from stablestudio.payments.tempo.chain import TempoReceipt, TempoRefused, TempoTransfer, WrongTempoChain
from stablestudio.sandbox.tempo_ledger import Refused, Reverted, TempoLedger


class LedgerTempoChain:
    """Hand transactions in to the embedded ledger, which answers at once and never loses an answer."""

    def __init__(self, ledger: TempoLedger) -> None:
        self._ledger = ledger

    @property
    def chain_id(self) -> int:
        return self._ledger.chain_id

    async def send(self, raw: bytes) -> TempoReceipt | None:
        try:
            return await self.receipt(await self._ledger.send(raw))
        except Reverted as reverted:
            return TempoReceipt(transaction=reverted.transaction, succeeded=False, transfers=())
        except Refused as refused:
            raise TempoRefused(refused.reason) from None

    async def receipt(self, transaction: str) -> TempoReceipt | None:
        entry = await self._ledger.find(transaction)
        if entry is None:
            return None
        moved = TempoTransfer(token=entry.token, sender=entry.sender, recipient=entry.recipient, amount=entry.amount)
        succeeded = entry.failure is None
        return TempoReceipt(transaction=entry.hash, succeeded=succeeded, transfers=(moved,) if succeeded else ())

    async def now(self) -> int:
        return self._ledger.now_ms() // 1000

    async def balance(self, token: str, owner: str) -> int | None:
        return await self._ledger.balance_of(token, owner)

    async def start(self, token: str) -> None:
        if token.lower() not in self._ledger.tokens:
            raise WrongTempoChain(f"The embedded Tempo chain has no token at {token}.")

    async def stop(self) -> None:
        """Nothing is open."""
