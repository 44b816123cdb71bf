"""JSON-RPC 2.0 for the embedded chains: one dispatcher, to which each chain brings its table of methods."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
NOT_FOUND = -32601
INVALID_PARAMS = -32602
MAX_BATCH = 100

Parameters = list[Any]
Method = Callable[[Parameters], Awaitable[Any]]
_HEX = re.compile(r"0x(?:[0-9a-fA-F]{2})*")


class RpcError(Exception):
    """An error answer of JSON-RPC 2.0."""

    def __init__(self, code: int, message: str, *, data: object = None) -> None:
        self.code = code
        self.message = message
        self.data = data
        super().__init__(message)


class Rpc:
    """Answers calls, one or a batch of at most 100, from a table of methods; a fault becomes an error answer."""

    def __init__(self, methods: Mapping[str, Method]) -> None:
        self._methods = dict(methods)

    async def answer(self, question: object) -> dict[str, Any] | list[dict[str, Any]]:
        """Answer whatever was sent, read from its JSON. A call without an id is answered too."""
        if not isinstance(question, list):
            return await self._one(question)
        if not 0 < len(question) <= MAX_BATCH:
            return _failure(None, RpcError(INVALID_REQUEST, f"a batch has 1 to {MAX_BATCH} calls"))
        return [await self._one(call) for call in question]

    async def _one(self, call: object) -> dict[str, Any]:
        if not isinstance(call, dict):
            return _failure(None, RpcError(INVALID_REQUEST, "a call is a JSON object"))
        identifier = _identifier(call)
        try:
            return {"jsonrpc": "2.0", "id": identifier, "result": await self._run(call)}
        except RpcError as error:
            return _failure(identifier, error)

    async def _run(self, call: Mapping[str, Any]) -> Any:
        method, parameters = call.get("method"), call.get("params", [])
        if not isinstance(method, str) or not isinstance(parameters, list):
            raise RpcError(INVALID_PARAMS, "method is text and params a list")
        serve = self._methods.get(method)
        if serve is None:
            raise RpcError(NOT_FOUND, f"this embedded chain does not speak {method[:64]!r}")
        return await serve(parameters)


def hex_at(parameters: Parameters, index: int, *, size: int | None = None) -> str:
    """Return bytes in hexadecimal, in lower case, perhaps so many of them; raise `RpcError`."""
    value = parameters[index] if len(parameters) > index else None
    if not isinstance(value, str) or not _HEX.fullmatch(value) or size not in (None, len(value) // 2 - 1):
        what = "hexadecimal text" if size is None else f"hexadecimal text of {size} bytes"
        raise RpcError(INVALID_PARAMS, f"parameter {index + 1} is not {what}")
    return value.lower()


def object_at(parameters: Parameters, index: int) -> dict[str, Any]:
    """Return a JSON object; raise `RpcError`."""
    value = parameters[index] if len(parameters) > index else None
    if not isinstance(value, dict):
        raise RpcError(INVALID_PARAMS, f"parameter {index + 1} is not an object")
    return value


def _identifier(call: Mapping[str, Any]) -> str | int | None:
    # JSON-RPC knows no other ids, and another one might not even be JSON when it comes back.
    identifier = call.get("id")
    if isinstance(identifier, str):
        return identifier if identifier.isprintable() else None  # which a lone surrogate is not
    return identifier if isinstance(identifier, int) else None


def _failure(identifier: str | int | None, error: RpcError) -> dict[str, Any]:
    told: dict[str, Any] = {"code": error.code, "message": error.message}
    if error.data is not None:
        told["data"] = error.data
    return {"jsonrpc": "2.0", "id": identifier, "error": told}
