"""The JSON-RPC of the embedded Tempo chain: what its clients ask before they sign, and the way in for transactions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stablestudio.protocols import tempo
from stablestudio.sandbox.abi import (
    CallReverted,
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
from stablestudio.sandbox.rpc import Parameters, Rpc, RpcError, hex_at
from stablestudio.sandbox.tempo_books import TempoEntry
from stablestudio.sandbox.tempo_ledger import (
    INSUFFICIENT_BALANCE,
    INVALID_RECIPIENT,
    PATH_USD,
    TRANSFERS,
    Refused,
    Reverted,
    TempoLedger,
    TempoToken,
    judge,
)

_REJECTED = -32003  # EIP-1474: the transaction was not taken
_NONCES = "0x4e4f4e4345000000000000000000000000000000"  # the precompile that counts nonces by key
_FEES = "0xfeec000000000000000000000000000000000000"  # the precompile that knows who pays fees in which token
_NOBODY = "0x" + "0" * 40
_TRANSFER = topic("Transfer(address,address,uint256)")
_TRANSFER_WITH_MEMO = topic("TransferWithMemo(address,address,uint256,bytes32)")


class TempoRpc(Rpc):
    """Answers about a Tempo ledger, and mines what is handed in."""

    def __init__(self, ledger: TempoLedger) -> None:
        self._ledger = ledger
        self._eth = EthMethods(_TempoFace(ledger))
        send = {"eth_sendRawTransaction": self._send, "eth_sendRawTransactionSync": self._send_sync}
        super().__init__({**self._eth.table(), **send})

    async def _send(self, parameters: Parameters) -> str:
        try:
            return await self._ledger.send(bytes.fromhex(hex_at(parameters, 0)[2:]))
        except Reverted as reverted:
            return reverted.transaction  # it is mined; its receipt tells the rest
        except Refused as refused:
            raise RpcError(_REJECTED, refused.reason) from None

    async def _send_sync(self, parameters: Parameters) -> dict[str, Any] | None:
        return await self._eth.receipt_of(await self._send(parameters))


class _TempoFace:
    """The ledger in Ethereum's words."""

    def __init__(self, ledger: TempoLedger) -> None:
        self._ledger = ledger
        self._books = ledger.books
        self.chain_id = ledger.chain_id
        self.now_ms = ledger.now_ms
        tokens = {address: _token(ledger, token) for address, token in ledger.tokens.items()}
        nonces = contract_of({selector("getNonce(address,uint256)"): self._nonce_under})
        fees = contract_of({selector("userTokens(address)"): word(0)})  # nobody has chosen one
        self.contracts: Mapping[str, Contract] = {**tokens, _NONCES: nonces, _FEES: fees}

    async def height(self) -> int:
        return await self._books.height()

    async def mined(self, transaction: str) -> Mined | None:
        found = await self._books.find(transaction)
        return None if found is None else _tell(found)

    async def mined_in(self, block: int) -> Mined | None:
        found = await self._books.find_in(block)
        return None if found is None else _tell(found)

    async def nonce_of(self, owner: str) -> int:
        return await self._books.nonce_of(owner, 0)

    async def _nonce_under(self, arguments: bytes) -> bytes:
        key = int.from_bytes(read_word(arguments, 1))
        return word(await self._books.nonce_of(read_address(arguments, 0), key))


def _token(ledger: TempoLedger, token: TempoToken) -> Contract:
    views = contract_of(_views(ledger, token))

    async def contract(data: bytes, sender: str) -> bytes:
        if data[:4] not in TRANSFERS:
            return await views(data, sender)
        held = await ledger.balance_of(token.address, sender)
        judged = judge(data, held=held)
        if isinstance(judged, str):
            raise CallReverted(judged, data=_error(judged, held=held, data=data, token=token.address))
        return word(1) if judged.memo is None else b""

    return contract


def _views(ledger: TempoLedger, token: TempoToken) -> dict[bytes, View | bytes]:
    async def balance_of(arguments: bytes) -> bytes:
        return word(await ledger.balance_of(token.address, read_address(arguments, 0)))

    async def supply(_: bytes) -> bytes:
        return word(await ledger.books.supply_of(token.address))

    return {
        selector("name()"): text(token.name),
        selector("symbol()"): text(token.symbol),
        selector("currency()"): text("USD"),
        selector("decimals()"): word(6),
        selector("balanceOf(address)"): balance_of,
        selector("totalSupply()"): supply,
        selector("paused()"): word(0),
        selector("supplyCap()"): word(2**128 - 1),
        selector("transferPolicyId()"): word(1),  # everybody may
        selector("quoteToken()"): address_word(PATH_USD.address if token != PATH_USD else _NOBODY),
        selector("logoURI()"): text(""),
        selector("allowance(address,address)"): word(0),  # nobody can approve here
    }


def _error(name: str, *, held: int, data: bytes, token: str) -> bytes:
    """Return a token's error as the chain encodes it."""
    if name == INSUFFICIENT_BALANCE:
        return selector("InsufficientBalance(uint256,uint256,address)") + word(held) + data[36:68] + address_word(token)
    return selector("InvalidRecipient()") if name == INVALID_RECIPIENT else b""


def _tell(entry: TempoEntry) -> Mined:
    return Mined(
        hash=entry.hash,
        block=entry.block,
        sender=entry.sender,
        to=entry.token,
        succeeded=entry.failure is None,
        mined_at=entry.mined_at,
        type="0x76",
        nonce=entry.nonce,
        logs=() if entry.failure else _logs(entry),
        more={
            "nonceKey": hex(entry.nonce_key or 0),
            # What a failed transaction asked for is not kept.
            "calls": [] if entry.failure else [{"to": entry.token, "value": "0x0", "input": _input(entry)}],
        },
        receipt={"feePayer": entry.sender},
    )


def _logs(entry: TempoEntry) -> tuple[Log, ...]:
    parties = ("0x" + address_word(entry.sender).hex(), "0x" + address_word(entry.recipient).hex())
    amount = word(entry.amount)
    moved = Log(address=entry.token, topics=(_TRANSFER, *parties), data=amount)
    if entry.memo is None:
        return (moved,)
    noted = (_TRANSFER_WITH_MEMO, *parties, "0x" + entry.memo.hex())
    return (moved, Log(address=entry.token, topics=noted, data=amount))


def _input(entry: TempoEntry) -> str:
    if entry.memo is not None:
        return "0x" + tempo.transfer_with_memo(entry.recipient, entry.amount, entry.memo).hex()
    return "0x" + (selector("transfer(address,uint256)") + address_word(entry.recipient) + word(entry.amount)).hex()
