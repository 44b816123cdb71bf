"""The few JSON-RPC methods that wallets call, answered from the ledger chain."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from stablestudio.protocols.evm import keccak256
from stablestudio.sandbox.ledger import LedgerChain

_INVALID_PARAMS = -32602
_NOT_FOUND = -32601
_WORD = 64
_HEX = re.compile(r"0x(?:[0-9a-fA-F]{2})*")


class RpcError(Exception):
    """An error answer of JSON-RPC 2.0."""

    def __init__(self, code: int, message: str) -> None:
        self.code = code
        self.message = message
        super().__init__(message)


class LedgerRpc:
    """Reads only; money moves through the rail."""

    def __init__(self, ledger: LedgerChain) -> None:
        self._ledger = ledger
        self._methods: dict[str, Callable[[list[Any]], Awaitable[Any]]] = {
            "eth_chainId": self._chain_id,
            "net_version": self._version,
            "eth_blockNumber": self._block_number,
            "eth_getBalance": self._coins,
            "eth_getCode": self._code,
            "eth_call": self._call,
            "eth_getTransactionReceipt": self._receipt,
        }
        self._views = {
            _selector("balanceOf(address)"): self._balance_of,
            _selector("authorizationState(address,bytes32)"): self._authorization_state,
        }
        domain = ledger.domain
        self._constants = {
            _selector("name()"): _text(domain.name),
            _selector("version()"): _text(domain.version),
            _selector("symbol()"): _text("USDC"),
            _selector("decimals()"): _word(6),
        }

    async def answer(self, call: Mapping[str, Any]) -> dict[str, Any]:
        """Answer one call; a fault becomes an error answer."""
        identifier = call.get("id")
        # JSON-RPC knows no other ids, and another one might not even be JSON when it comes back.
        known = identifier if isinstance(identifier, int) or _is_text(identifier) else None
        answer: dict[str, Any] = {"jsonrpc": "2.0", "id": known}
        try:
            answer["result"] = await self._run(*_read(call))
        except RpcError as error:
            answer["error"] = {"code": error.code, "message": error.message}
        return answer

    async def _run(self, method: str, parameters: list[Any]) -> Any:
        serve = self._methods.get(method)
        if serve is None:
            raise RpcError(_NOT_FOUND, f"the ledger chain does not speak {method[:64]!r}")
        return await serve(parameters)

    async def _chain_id(self, _: list[Any]) -> str:
        return hex(self._ledger.domain.chain_id)

    async def _version(self, _: list[Any]) -> str:
        return str(self._ledger.domain.chain_id)

    async def _block_number(self, _: list[Any]) -> str:
        return hex(await self._ledger.height())

    async def _coins(self, _: list[Any]) -> str:
        return "0x0"

    async def _code(self, parameters: list[Any]) -> str:
        return "0xfe" if _hex(parameters, 0) == self._ledger.domain.contract.lower() else "0x"

    async def _call(self, parameters: list[Any]) -> str:
        call = parameters[0] if parameters and isinstance(parameters[0], dict) else {}
        data = _hex([call.get("data") or call.get("input")], 0)
        if _hex([call.get("to")], 0) != self._ledger.domain.contract.lower():
            return "0x"
        selector, arguments = data[:10], data[10:]
        if selector in self._constants:
            return self._constants[selector]
        view = self._views.get(selector)
        if view is None:
            raise RpcError(_INVALID_PARAMS, "the token has no such view here")
        return await view(arguments)

    async def _balance_of(self, arguments: str) -> str:
        return _word(await self._ledger.balance_of("0x" + arguments[24:_WORD]))

    async def _authorization_state(self, arguments: str) -> str:
        sender, nonce = "0x" + arguments[24:_WORD], arguments[_WORD : 2 * _WORD]
        if len(nonce) != _WORD:
            raise RpcError(_INVALID_PARAMS, "authorizationState takes an address and 32 bytes")
        return _word(int(await self._ledger.find_authorization(sender, bytes.fromhex(nonce)) is not None))

    async def _receipt(self, parameters: list[Any]) -> dict[str, Any] | None:
        found = await self._ledger.find_transaction(_hex(parameters, 0))
        if found is None:
            return None
        contract = self._ledger.domain.contract.lower()
        place = {"transactionHash": found.hash, "blockNumber": hex(found.block), "blockHash": found.hash}
        transfer = {
            **place,
            "address": contract,
            "topics": [
                "0x" + keccak256(b"Transfer(address,address,uint256)").hex(),
                _topic(found.sender),
                _topic(found.recipient),
            ],
            "data": _word(found.amount),
            "logIndex": "0x0",
            "transactionIndex": "0x0",
            "removed": False,
        }
        return {
            **place,
            "status": "0x1",
            "from": found.sender.lower(),
            "to": contract,
            "logs": [transfer],
            "transactionIndex": "0x0",
            "gasUsed": "0x0",
            "cumulativeGasUsed": "0x0",
            "effectiveGasPrice": "0x0",
            "contractAddress": None,
            "logsBloom": "0x" + "0" * 512,
            "type": "0x2",
        }


def _read(call: Mapping[str, Any]) -> tuple[str, list[Any]]:
    method, parameters = call.get("method"), call.get("params", [])
    if not isinstance(method, str) or not isinstance(parameters, list):
        raise RpcError(_INVALID_PARAMS, "method is text and params a list")
    return method, parameters


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value.isprintable()  # which a lone surrogate is not


def _selector(signature: str) -> str:
    return "0x" + keccak256(signature.encode())[:4].hex()


def _word(value: int) -> str:
    return f"0x{value:064x}"


def _topic(address: str) -> str:
    return "0x" + address[2:].lower().rjust(_WORD, "0")


def _text(value: str) -> str:
    data = value.encode().hex().ljust(_WORD, "0")
    return f"0x{32:064x}{len(value):064x}{data}"


def _hex(parameters: list[Any], index: int) -> str:
    value = parameters[index] if len(parameters) > index else None
    if not isinstance(value, str) or not _HEX.fullmatch(value):
        raise RpcError(_INVALID_PARAMS, "expected hexadecimal text")
    return value.lower()
