"""JSON-RPC 2.0 itself, whatever the methods."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic_core import from_json, to_json

from stablestudio.sandbox.rpc import MAX_BATCH, Parameters, Rpc, RpcError, hex_at

pytestmark = pytest.mark.anyio


async def _echo(parameters: Parameters) -> Any:
    return parameters


async def _fail(parameters: Parameters) -> Any:
    raise RpcError(3, "no", data="0x01")


async def _hex(parameters: Parameters) -> str:
    return hex_at(parameters, 0, size=2)


RPC = Rpc({"echo": _echo, "fail": _fail, "hex": _hex})


def call(method: Any = "echo", *parameters: Any, **more: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 7, "method": method, "params": list(parameters), **more}


async def test_a_call_is_answered_under_its_id() -> None:
    assert await RPC.answer(call("echo", 1, "a")) == {"jsonrpc": "2.0", "id": 7, "result": [1, "a"]}
    assert await RPC.answer({"method": "echo"}) == {"jsonrpc": "2.0", "id": None, "result": []}


async def test_an_error_has_a_code_and_perhaps_data() -> None:
    told = await RPC.answer(call("fail", id="x"))
    assert told == {"jsonrpc": "2.0", "id": "x", "error": {"code": 3, "message": "no", "data": "0x01"}}


async def test_a_batch_is_answered_call_by_call_in_order() -> None:
    told = await RPC.answer([call(id=1), call("fail", id=2), 5, call("nope", id=3)])
    assert isinstance(told, list)
    assert [answer["id"] for answer in told] == [1, 2, None, 3]
    assert [answer.get("error", {}).get("code") for answer in told] == [None, 3, -32600, -32601]


@pytest.mark.parametrize(
    ("question", "code"),
    [
        ([], -32600),
        ([call()] * (MAX_BATCH + 1), -32600),
        (None, -32600),
        ("eth_chainId", -32600),
        (5, -32600),
        (call("nope"), -32601),
        (call(5), -32602),
        (call(None), -32602),
        ({"id": 1}, -32602),
        (call(params={"a": 1}), -32602),
        (call(params="x"), -32602),
        (call("hex"), -32602),
        (call("hex", 5), -32602),
        (call("hex", "0x123"), -32602),
        (call("hex", "0x1"), -32602),
        (call("hex", "0x123456"), -32602),
        (call("hex", "0xzzzz"), -32602),
        (call("hex", "0x12\n3"), -32602),
    ],
)
async def test_what_is_no_call_is_an_error_answer(question: Any, code: int) -> None:
    told = await RPC.answer(question)
    assert isinstance(told, dict)
    assert told["error"]["code"] == code
    assert "result" not in told


async def test_hexadecimal_is_read_in_any_case() -> None:
    assert (await RPC.answer(call("hex", "0xABcd")))["result"] == "0xabcd"  # type: ignore[call-overload]


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
_CALL = st.fixed_dictionaries(
    {}, optional={"id": _JSON, "method": st.sampled_from(["echo", "fail", "hex"]) | _JSON, "params": _JSON}
)


@settings(max_examples=150)
@given(question=_CALL | _JSON | st.lists(_CALL | _JSON, max_size=3))
@example(question={"id": json.loads("[" * 300 + "]" * 300), "method": "echo"})
@example(question={"id": "\ud800", "method": "\ud800"})
def test_any_json_gets_an_answer_that_is_json(question: Any) -> None:
    told = asyncio.run(RPC.answer(question))
    for answer in told if isinstance(told, list) else [told]:
        assert ("result" in answer) != ("error" in answer)
        assert isinstance(answer["id"], str | int | None)
        assert from_json(to_json({**answer, "result": None}))
