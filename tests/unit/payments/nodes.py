"""A node that answers from a table: each method has a list of results, the last of which holds for ever."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from typing import Any

import httpx2

from stablestudio.payments.evm.rpc import EvmRpc

HASH = "0x" + "b1" * 32
BLOCK = {"number": "0x64", "hash": HASH, "timestamp": "0x6b009b99", "baseFeePerGas": "0xf4240"}
Answer = Any | Callable[[list[Any]], Any]


class Refusal(Exception):
    """Raised by an answer: the node's error."""

    def __init__(self, code: int, message: str, data: object = None) -> None:
        self.body = {"code": code, "message": message} | ({} if data is None else {"data": data})
        super().__init__(message)


class Node:
    """Results by method; an exception is raised, a function called with the parameters, also an asynchronous one."""

    def __init__(self, **answers: Answer | list[Answer]) -> None:
        self._answers = {name: given if isinstance(given, list) else [given] for name, given in answers.items()}
        self.asked: list[tuple[str, list[Any]]] = []
        self.http = httpx2.AsyncClient(transport=httpx2.MockTransport(self._serve))
        self.rpc = EvmRpc("https://node.example/v2/secret", http=self.http)

    def count(self, method: str) -> int:
        return sum(asked == method for asked, _ in self.asked)

    def parameters(self, method: str) -> list[list[Any]]:
        return [parameters for asked, parameters in self.asked if asked == method]

    async def _serve(self, request: httpx2.Request) -> httpx2.Response:
        question = json.loads(request.content)
        method, parameters = question["method"], question["params"]
        self.asked.append((method, parameters))
        answers = self._answers[method]
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        head = {"jsonrpc": "2.0", "id": question["id"]}
        try:
            if callable(answer):
                answer = answer(parameters)
            if inspect.isawaitable(answer):
                answer = await answer
            if isinstance(answer, Exception):
                raise answer
        except Refusal as refusal:
            return httpx2.Response(200, json=head | {"error": refusal.body})
        return answer if isinstance(answer, httpx2.Response) else httpx2.Response(200, json=head | {"result": answer})
