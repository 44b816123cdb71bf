"""The JSON-RPC of the embedded EVM chain and its dollar token. It reads only; money moves through the rail."""

from __future__ import annotations

from collections.abc import Mapping

from stablestudio.clock import Clock, SystemClock
from stablestudio.protocols import eip3009
from stablestudio.sandbox.abi import (
    Contract,
    View,
    address_word,
    contract_of,
    read_address,
    read_word,
    selector,
    text,
    topic,
    word,
)
from stablestudio.sandbox.eth_rpc import EthMethods, Log, Mined
from stablestudio.sandbox.ledger import LedgerChain, Transfer
from stablestudio.sandbox.rpc import Rpc

_TRANSFER = topic("Transfer(address,address,uint256)")
_AUTHORIZATION_USED = topic("AuthorizationUsed(address,bytes32)")


class LedgerRpc(Rpc):
    """Answers about a ledger with an EIP-3009 token."""

    def __init__(self, ledger: LedgerChain, *, clock: Clock | None = None) -> None:
        super().__init__(EthMethods(_EvmLedger(ledger, clock=clock or SystemClock())).table())


class _EvmLedger:
    """The ledger in Ethereum's words."""

    def __init__(self, ledger: LedgerChain, *, clock: Clock) -> None:
        self._ledger = ledger
        self._token = ledger.domain.contract.lower()
        self.now_ms = clock.now_ms
        self.chain_id = ledger.domain.chain_id
        self.contracts: Mapping[str, Contract] = {self._token: contract_of(self._views())}

    async def height(self) -> int:
        return await self._ledger.height()

    async def mined(self, transaction: str) -> Mined | None:
        found = await self._ledger.find_transaction(transaction)
        return None if found is None else self._tell(found)

    async def mined_in(self, _block: int) -> Mined | None:
        return None  # the ledger does not look its transfers up by block

    async def nonce_of(self, _owner: str) -> int:
        """Nobody sends transactions here: a payer signs, and the rail hands in."""
        return 0

    def _views(self) -> dict[bytes, View | bytes]:
        domain = self._ledger.domain
        return {
            selector("name()"): text(domain.name),
            selector("version()"): text(domain.version),
            selector("symbol()"): text("USDC"),
            selector("decimals()"): word(6),
            selector("DOMAIN_SEPARATOR()"): eip3009.separator(domain),
            selector("balanceOf(address)"): self._balance_of,
            selector("authorizationState(address,bytes32)"): self._authorization_state,
            # Neither approvals nor permits exist here, so nobody has used one.
            selector("allowance(address,address)"): word(0),
            selector("nonces(address)"): word(0),
        }

    async def _balance_of(self, arguments: bytes) -> bytes:
        return word(await self._ledger.balance_of(read_address(arguments, 0)))

    async def _authorization_state(self, arguments: bytes) -> bytes:
        found = await self._ledger.find_authorization(read_address(arguments, 0), read_word(arguments, 1))
        return word(found is not None)

    def _tell(self, transfer: Transfer) -> Mined:
        sender, recipient = transfer.sender.lower(), transfer.recipient.lower()
        topics = (_TRANSFER, _indexed(sender), _indexed(recipient))
        logs = [Log(address=self._token, topics=topics, data=word(transfer.amount))]
        if transfer.nonce is not None:
            used = (_AUTHORIZATION_USED, _indexed(sender), transfer.nonce)
            logs.insert(0, Log(address=self._token, topics=used, data=b""))
        return Mined(
            hash=transfer.hash,
            block=transfer.block,
            sender=sender,
            to=self._token,
            succeeded=True,
            mined_at=transfer.mined_at,
            type="0x2",
            logs=tuple(logs),
            more={"r": "0x0", "s": "0x0", "v": "0x0", "yParity": "0x0"},
        )


def _indexed(address: str) -> str:
    return "0x" + address_word(address).hex()
