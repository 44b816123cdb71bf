"""What a chain says of a token's authorizations, from its state and events alone; nothing is sent from here."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import chain

from stablestudio.config import ConfigurationInvalid
from stablestudio.payments.evm import reverts
from stablestudio.payments.evm.chain import FINALITY_SECONDS
from stablestudio.payments.evm.contract_wallets import ContractWallets
from stablestudio.payments.evm.rpc import Block, EvmRpc, Log, Receipt, RpcError, RpcUnreachable
from stablestudio.payments.rail import Outcome, Rejected, Settled, Unknown
from stablestudio.protocols import eip3009_calls as calls
from stablestudio.protocols.eip3009 import Authorization, TokenDomain, separator

_LOG_WINDOW = 2_000  # blocks of one eth_getLogs; public nodes refuse long ranges
_LOOKBACK = 50_000  # blocks: more than a day at two seconds each


class WrongChain(ConfigurationInvalid):
    """The node behind this RPC address does not serve the chain and token that are configured."""

    hint = "Correct the RPC address, the network or the token's address, name and version, then start again."


def confirmations_by(steps: Sequence[tuple[int, int]]) -> Callable[[int], int]:
    """Return how many blocks an amount (base units) must rest under, from ascending rows (from amount, blocks).

    One block, the one that holds the transfer, is the least.
    """

    def depth(amount: int) -> int:
        return max([1, *(blocks for least, blocks in steps if amount >= least)])

    return depth


class TokenFacts:
    """Reads of one EIP-3009 token on one chain.

    `confirmations` tells how many blocks, counting its own, must hold a transfer of an amount before it is a fact; one
    if not given.
    `factories` are those whose wallets may pay before they are deployed; see `ContractWallets`.
    `log_window` and `lookback` are in blocks.
    """

    judges_contract_wallets = True

    def __init__(
        self,
        rpc: EvmRpc,
        *,
        domain: TokenDomain,
        confirmations: Callable[[int], int] | None = None,
        factories: Collection[str] = (),
        log_window: int = _LOG_WINDOW,
        lookback: int = _LOOKBACK,
    ) -> None:
        self.rpc = rpc
        self.domain = domain
        self.wallets = ContractWallets(rpc, domain=domain, factories=factories)
        self._contract = domain.contract.lower()
        self._confirmations = confirmations or confirmations_by(())
        self._log_window = log_window
        self._lookback = lookback

    async def find(self, authorization: Authorization) -> Outcome:
        """Tell what became of an authorization. Never raises for the node's faults: those are `Unknown`."""
        try:
            head = await self.rpc.block()
            if await self.is_used(authorization, at=head.hash):
                return await self.trace(authorization, head)
            if head.timestamp >= authorization.valid_before + FINALITY_SECONDS:
                return reverts.EXPIRED
        except (RpcUnreachable, RpcError):
            return Unknown(reason="chain_not_readable")
        return Unknown(reason="not_seen_on_chain")

    async def balance(self, owner: str) -> int | None:
        """Return what an address holds in base units, or None where the node does not tell."""
        try:
            answer = await self.rpc.call(self._contract, calls.balance_call(owner))
        except (RpcUnreachable, RpcError):
            return None
        return int.from_bytes(answer) if len(answer) == 32 else None

    async def judge_wallet(self, authorization: Authorization, signature: bytes) -> Rejected | None:
        """Return what the chain has against a signature that is not the sender's own key's, or None if it holds."""
        return await self.wallets.judge(authorization, signature)

    async def is_used(self, authorization: Authorization, *, at: str) -> bool:
        """Tell whether the nonce was used or cancelled, in the state after the block with the hash `at`."""
        answer = await self.rpc.call(self._contract, calls.state_call(authorization), at=at)
        if len(answer) != 32:
            raise RpcUnreachable(f"{self.rpc.host}: the token does not tell the state of authorizations")
        return any(answer)

    async def trace(self, authorization: Authorization, head: Block) -> Outcome:
        """Find out where a used nonce's money went; `Unknown` while the events or blocks for it are missing."""
        event = await self._find_event(authorization, head)
        receipt = await self.rpc.receipt(event.transaction_hash) if event else None
        if event is None or receipt is None:
            return Unknown(reason="used_without_trace")
        return self.judge(authorization, receipt, event.transaction_hash, height=head.number)

    def judge(self, authorization: Authorization, receipt: Receipt, transaction: str, *, height: int) -> Outcome:
        """Tell from a successful transaction's receipt whether this very authorization paid its recipient.

        The token emits AuthorizationUsed and then the Transfer it stands for. Any other Transfer in the receipt may
        belong to another authorization of a bundle, and counted here it would buy two orders.
        """
        if not self.is_deep(authorization, receipt, height=height):
            return Unknown(reason=f"awaiting_confirmations:{transaction}")
        sender, nonce = _topic(authorization.sender), "0x" + authorization.nonce.hex()
        events = sorted((log for log in receipt.logs if self._is_own(log)), key=lambda log: log.log_index)
        for place, event in enumerate(events):
            if event.topics == (calls.AUTHORIZATION_CANCELED, sender, nonce):
                return reverts.NONCE_CANCELLED
            if event.topics == (calls.AUTHORIZATION_USED, sender, nonce):
                return _read_transfer(events[place + 1 :], authorization, transaction)
        return Unknown(reason=f"authorization_not_in_receipt:{transaction}")

    def is_deep(self, authorization: Authorization, receipt: Receipt, *, height: int) -> bool:
        """Tell whether a transaction rests under as many blocks as the amount asks for."""
        return height - receipt.block_number + 1 >= self._confirmations(authorization.value)

    async def start(self) -> None:
        """Check that the node serves this chain and token; raise `WrongChain`."""
        await self.verify_network()

    async def stop(self) -> None:
        """Close the connections to the node, unless its HTTP client was given."""
        await self.rpc.close()

    async def verify_network(self) -> None:
        """Check that the node serves the configured chain and token; raise `WrongChain` with the difference."""
        try:
            await self._verify()
        except RpcUnreachable as fault:
            raise WrongChain(f"The node cannot be asked: {fault}.") from None
        except RpcError as fault:
            raise WrongChain(f"{self.rpc.host} cannot serve payments: {fault}.") from None

    async def _verify(self) -> None:
        chain_id = await self.rpc.chain_id()
        if chain_id != self.domain.chain_id:
            raise WrongChain(f"{self.rpc.host} serves chain {chain_id}, configured is {self.domain.chain_id}.")
        if not await self.rpc.code(self._contract):
            raise WrongChain(f"There is no contract at {self.domain.contract} on chain {chain_id}.")
        head = await self.rpc.block()
        if head.base_fee_per_gas is None:
            raise WrongChain(f"Chain {chain_id} has no base fee, so it takes no EIP-1559 transactions.")
        anybody = Authorization(
            sender="0x" + "0" * 40, recipient="0x" + "0" * 40, value=0, valid_after=0, valid_before=0, nonce=bytes(32)
        )
        try:
            await self.is_used(anybody, at=head.hash)
        except RpcError as fault:
            raise WrongChain(f"{self.domain.contract} is no EIP-3009 token: {fault.reason}.") from None
        await self._verify_domain(head)

    async def _verify_domain(self, head: Block) -> None:
        try:
            found = await self.rpc.call(self._contract, calls.DOMAIN_SEPARATOR, at=head.hash)
        except RpcError:
            found = b""
        if found == separator(self.domain):
            return
        name, version = [await self._text(call, head) for call in (calls.NAME, calls.VERSION)]
        if found or (name, version) != (self.domain.name, self.domain.version):
            raise WrongChain(
                f"{self.domain.contract} signs as {name!r} version {version!r}, "
                f"configured are {self.domain.name!r} and {self.domain.version!r}."
            )

    async def _text(self, call: bytes, head: Block) -> str | None:
        try:
            return calls.read_text(await self.rpc.call(self._contract, call, at=head.hash))
        except RpcError:
            return None

    async def _find_event(self, authorization: Authorization, head: Block) -> Log | None:
        topics = [
            [calls.AUTHORIZATION_USED, calls.AUTHORIZATION_CANCELED],
            _topic(authorization.sender),
            "0x" + authorization.nonce.hex(),
        ]
        for first, last in await self._windows(authorization, head):
            found = await self.rpc.logs(self._contract, topics, first=first, last=last)
            if kept := [log for log in found if not log.removed]:
                return kept[0]
        return None

    async def _windows(self, authorization: Authorization, head: Block) -> Iterable[tuple[int, int]]:
        """Return block ranges from the likeliest to the least: a use lies before the end of the validity."""
        if head.timestamp < authorization.valid_before:
            return _ranges(head.number, least=head.number - self._lookback, size=self._log_window)
        end = await self._first_block_at(authorization.valid_before, head)
        return chain(
            _ranges(end, least=end - self._lookback, size=self._log_window),
            # Later there can only be a cancellation.
            _ranges(head.number, least=max(end, head.number - self._lookback), size=self._log_window),
        )

    async def _first_block_at(self, timestamp: int, head: Block) -> int:
        low, high = 0, head.number
        while low < high:
            middle = (low + high) // 2
            if (await self.rpc.block(middle)).timestamp < timestamp:
                low = middle + 1
            else:
                high = middle
        return low

    def _is_own(self, log: Log) -> bool:
        return log.address.lower() == self._contract


def _read_transfer(following: Sequence[Log], authorization: Authorization, transaction: str) -> Outcome:
    sender, recipient = _topic(authorization.sender), _topic(authorization.recipient)
    event = following[0] if following else None
    if event is None or event.topics[:2] != (calls.TRANSFER, sender) or len(event.topics) != 3:
        return Unknown(reason=f"transfer_not_recognised:{transaction}")
    if event.topics[2] == recipient and int.from_bytes(event.data) == authorization.value:
        return Settled(transaction=transaction)
    return reverts.NONCE_SPENT


def _ranges(last: int, *, least: int, size: int) -> Iterator[tuple[int, int]]:
    least = max(0, least)
    while last >= least:
        yield max(least, last - size + 1), last
        last -= size


def _topic(address: str) -> str:
    return "0x" + calls.address_word(address).hex()
