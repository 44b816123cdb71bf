"""What a Solana chain says of a transfer, from its statuses and history alone; nothing is sent from here."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator
from typing import Literal

from stablestudio.payments.rail import Outcome, Rejected, Settled, Unknown
from stablestudio.payments.solana.answers import Entry, Head, Landed, Status
from stablestudio.payments.solana.chain import Sought
from stablestudio.payments.solana.rpc import NodeRefused, NodeUnreachable, SolanaRpc
from stablestudio.protocols.solana import b58encode
from stablestudio.protocols.solana_transaction import BadTransaction, Message, decode
from stablestudio.protocols.x402.exact_svm import Transfer

EXPIRED = Rejected(reason="payment_expired", message="The transaction's blockhash expired before it was settled.")
# A transaction is good in the 150 blocks after the one whose hash it names.
BLOCKHASH_LIFE = 150
# A buyer's node may be that many blocks ahead of ours: a node calls itself healthy up to 128 behind.
_LAG = 300
# A transfer can only land this long after the time from which it is sought: an offer's age, a blockhash's, and some.
_LATEST = 1800
_CLOCKS_DIFFER = 120  # seconds between a block's estimated time and ours
_WATCHED = 10_000
_PAGE, _PAGES = 1_000, 20
_READS = 200  # transactions read in one search


class SolanaFacts:
    """Reads of one cluster. `commitment` is how settled a block must be before what it holds is a fact."""

    def __init__(self, rpc: SolanaRpc, *, commitment: Literal["confirmed", "finalized"] = "confirmed") -> None:
        self.rpc = rpc
        self.commitment: Literal["confirmed", "finalized"] = commitment
        self._ends: OrderedDict[str, int] = OrderedDict()  # by message: the last block height that may hold it

    async def find(self, sought: Sought, signature: str | None) -> Outcome:
        """Tell what became of a transfer, by its signature where that is known, else from its payer's history.

        Never raises for the node's faults: those are `Unknown`.
        """
        try:
            seen = await self.look(sought, signature)
            head = await self._head_beyond(sought) if isinstance(seen, Unknown) else None
            # Final blocks beyond its last came first: what the history does not hold after that, no block will ever hold.
            return seen if head is None else await self._look_last(sought, signature, head)
        except (NodeUnreachable, NodeRefused):
            return Unknown(reason="chain_not_readable")

    async def look(self, sought: Sought, signature: str | None) -> Outcome:
        """Look once, without a word on what may still come; raise the node's faults."""
        if signature is None:
            signature = await self._search(sought)
        if signature is None:
            return Unknown(reason="not_seen_on_chain")
        return await self._judge(sought.transfer, signature, (await self.rpc.status(signature)).value[0])

    async def find_twin(self, sought: Sought) -> Settled | None:
        """Return another transaction of late that made the same transfer under the same memo; raise the node's faults."""
        transfer = sought.transfer
        for entry in await self._history(transfer):
            if entry.err is None and _may_hold(entry, transfer) and _is_twin(await self._read(entry), transfer):
                return Settled(transaction=entry.signature)
        return None

    async def _judge(self, transfer: Transfer, signature: str, status: Status | None) -> Outcome:
        if status is None:
            return Unknown(reason="not_seen_on_chain")
        if not status.reached(self.commitment):
            return Unknown(reason=f"awaiting_confirmation:{signature}")
        if status.err is not None:
            # It landed and failed: the chain took the fee, moved nothing, and never takes the same message again.
            return Rejected(
                reason="transaction_reverted", message=f"The transfer failed on the chain in transaction {signature}."
            )
        landed = await self.rpc.transaction(signature, commitment=self.commitment)
        if landed is None:
            return Unknown(reason=f"awaiting_history:{signature}")
        message = _message_of(landed)
        if message is not None and message.raw == transfer.message.raw and _has_paid(landed, message, transfer):
            return Settled(transaction=signature)
        return Unknown(reason=f"transfer_not_recognised:{signature}")

    async def _head_beyond(self, sought: Sought) -> Head | None:
        """Return the final head once it has passed the last block that may hold the transfer.

        Where that block is not known, it is counted from the first time that the transfer was asked for: the buyer's
        blockhash was there before the buyer signed. After a restart the count begins anew, which only takes longer.
        """
        transfer = sought.transfer
        blockhash = b58encode(transfer.message.blockhash)
        end = sought.last_valid_height or self._ends.get(transfer.key)
        if end is None:
            await self._watch(transfer.key, blockhash)
            return None
        head = await self.rpc.head("finalized")
        if head.block_height <= end or await self.rpc.is_blockhash_valid(blockhash, min_slot=head.absolute_slot):
            return None
        return head

    async def _watch(self, key: str, blockhash: str) -> None:
        await self.rpc.health()
        head = await self.rpc.head("processed")
        known = await self.rpc.is_blockhash_valid(blockhash, min_slot=head.absolute_slot)
        # A blockhash that the node does not know is dead, or so young that another node's word of it came first.
        self._ends[key] = head.block_height + BLOCKHASH_LIFE + (0 if known else _LAG)
        while len(self._ends) > _WATCHED:
            self._ends.popitem(last=False)

    async def _look_last(self, sought: Sought, signature: str | None, head: Head) -> Outcome:
        """Look where it must be if it is anywhere: by a node that is up to date and remembers that far back."""
        if not await self._remembers(sought.since_s):
            return Unknown(reason="history_too_short")
        if signature is None:
            signature = await self._search(sought, min_slot=head.absolute_slot)
        if signature is None:
            return EXPIRED
        answer = await self.rpc.status(signature)
        if answer.value[0] is not None:
            return await self._judge(sought.transfer, signature, answer.value[0])
        return EXPIRED if answer.context.slot >= head.absolute_slot else Unknown(reason="node_lags")

    async def _remembers(self, since_s: int) -> bool:
        first = await self.rpc.first_block()
        time = 0 if first <= 1 else await self.rpc.block_time(first)
        return time is not None and time + _CLOCKS_DIFFER <= since_s

    async def _search(self, sought: Sought, *, min_slot: int = 0) -> str | None:
        """Return the signature under which the transfer's message was executed, whoever signed for the fee."""
        transfer, reads = sought.transfer, 0
        async for entry in self._entries(sought, min_slot=min_slot):
            if not _may_hold(entry, transfer):
                continue
            reads += 1
            if reads > _READS:
                raise self._endless(transfer)
            message = _message_of(await self._read(entry))
            if message is not None and message.raw == transfer.message.raw:
                return entry.signature
        return None

    async def _entries(self, sought: Sought, *, min_slot: int) -> AsyncIterator[Entry]:
        """Yield what happened to the paying account while the transfer could land, the newest first.

        Raise where that does not end: an incomplete search must not pass for one that found nothing.
        """
        before, since_s = None, sought.since_s - _CLOCKS_DIFFER
        for _ in range(_PAGES):
            page = await self._history(sought.transfer, before=before, min_slot=min_slot)
            for entry in page:
                at = entry.block_time
                if at is not None and at < since_s:
                    return
                if at is None or at <= since_s + _LATEST:
                    yield entry
            if len(page) < _PAGE:
                return
            before = page[-1].signature
        raise self._endless(sought.transfer)

    async def _history(self, transfer: Transfer, *, before: str | None = None, min_slot: int = 0) -> list[Entry]:
        # The account that pays has a shorter history than the one that all buyers pay to.
        source = b58encode(transfer.source)
        return await self.rpc.history(source, commitment=self.commitment, limit=_PAGE, before=before, min_slot=min_slot)

    async def _read(self, entry: Entry) -> Landed:
        landed = await self.rpc.transaction(entry.signature, commitment=self.commitment)
        if landed is None:
            raise NodeUnreachable(f"{self.rpc.host}: a transaction of the history cannot be read")
        return landed

    def _endless(self, transfer: Transfer) -> NodeUnreachable:
        return NodeUnreachable(f"{self.rpc.host}: the history of {b58encode(transfer.source)} is too long to search")


def _may_hold(entry: Entry, transfer: Transfer) -> bool:
    """Tell whether an entry's memo speaks for a transfer; a node that keeps no memos speaks for all."""
    if entry.memo is None:
        return True
    return all(memo.decode(errors="replace") in entry.memo for memo in transfer.memos)


def _message_of(landed: Landed) -> Message | None:
    try:
        return decode(landed.transaction).message
    except BadTransaction:
        return None


def _has_paid(landed: Landed, message: Message, transfer: Transfer) -> bool:
    """Tell whether the account to be paid has got exactly the amount. A failed transaction never has paid."""
    if landed.meta.err is not None or transfer.destination not in message.keys:
        return False
    return landed.change(message.keys.index(transfer.destination)) == transfer.amount


def _is_twin(landed: Landed, transfer: Transfer) -> bool:
    message = _message_of(landed)
    if message is None or message.keys[0] != transfer.fee_payer:
        return False  # a stranger may write any memo
    return set(transfer.memos) <= {call.data for call in message.calls} and _has_paid(landed, message, transfer)
