"""The client of a Solana node: what is asked, what an answer means, and that no answer is taken for another."""

from __future__ import annotations

import base64
import json
from collections.abc import Awaitable, Callable
from typing import Any

import httpx2
import pytest

from stablestudio.payments.solana.answers import Status
from stablestudio.payments.solana.broadcast import meaning_of
from stablestudio.payments.solana.rpc import HttpWire, NodeRefused, NodeUnreachable, SolanaRpc

pytestmark = pytest.mark.anyio
URL = "https://node.example/v2/secret-key"
KEY = "4zMMC9srt5Ri5X14GAgXhaHii3GnPAEERYPJgZJDncDU"


class Node:
    """Answers every question with one body, and remembers what was asked."""

    def __init__(
        self, body: Any = None, *, result: Any = None, status: int = 200, raises: Exception | None = None
    ) -> None:
        self.asked: list[dict[str, Any]] = []
        self._body = {"jsonrpc": "2.0", "id": 1, "result": result} if body is None else body
        self._status = status
        self._raises = raises
        http = httpx2.AsyncClient(transport=httpx2.MockTransport(self._serve))
        self.rpc = SolanaRpc(HttpWire(URL, http=http))

    def _serve(self, request: httpx2.Request) -> httpx2.Response:
        self.asked.append(json.loads(request.content))
        if self._raises is not None:
            raise self._raises
        content = self._body if isinstance(self._body, bytes) else json.dumps(self._body).encode()
        return httpx2.Response(self._status, content=content)


def _value(value: Any) -> dict[str, Any]:
    return {"context": {"slot": 5, "apiVersion": "2.1"}, "value": value}


Ask = Callable[[SolanaRpc], Awaitable[Any]]
ASKS: list[tuple[Ask, str, list[Any], Any]] = [
    (lambda rpc: rpc.genesis_hash(), "getGenesisHash", [], "abc"),
    (lambda rpc: rpc.first_block(), "getFirstAvailableBlock", [], 7),
    (lambda rpc: rpc.block_time(9), "getBlockTime", [9], 1_700_000_000),
    (lambda rpc: rpc.head("finalized"), "getEpochInfo", [{"commitment": "finalized"}],
     {"absoluteSlot": 9, "blockHeight": 8, "epoch": 0}),
    (lambda rpc: rpc.latest_blockhash("finalized"), "getLatestBlockhash", [{"commitment": "finalized"}],
     _value({"blockhash": KEY, "lastValidBlockHeight": 158})),
    (lambda rpc: rpc.is_blockhash_valid(KEY, min_slot=4), "isBlockhashValid",
     [KEY, {"commitment": "processed", "minContextSlot": 4}], _value(True)),  # noqa: FBT003
    (lambda rpc: rpc.lamports(KEY), "getBalance", [KEY, {"commitment": "confirmed"}], _value(12)),
    (lambda rpc: rpc.token_balance(KEY), "getTokenAccountBalance", [KEY, {"commitment": "processed"}],
     _value({"amount": "45000", "decimals": 6, "uiAmount": 0.045})),
    (lambda rpc: rpc.simulate(b"tx"), "simulateTransaction",
     ["dHg=", {"encoding": "base64", "sigVerify": True, "commitment": "processed"}], _value({"err": None, "logs": []})),
    (lambda rpc: rpc.send(b"tx"), "sendTransaction", ["dHg=", {"encoding": "base64", "skipPreflight": True}], "5sig"),
    (lambda rpc: rpc.status("5sig"), "getSignatureStatuses", [["5sig"], {"searchTransactionHistory": True}],
     _value([None])),
    (lambda rpc: rpc.transaction("5sig", commitment="confirmed"), "getTransaction",
     ["5sig", {"encoding": "base64", "commitment": "confirmed", "maxSupportedTransactionVersion": 0}], None),
    (lambda rpc: rpc.history(KEY, commitment="confirmed", limit=5, before="4sig"), "getSignaturesForAddress",
     [KEY, {"commitment": "confirmed", "limit": 5, "minContextSlot": 0, "before": "4sig"}], []),
    (lambda rpc: rpc.account(KEY, commitment="confirmed"), "getAccountInfo",
     [KEY, {"encoding": "base64", "commitment": "confirmed"}],
     _value({"owner": KEY, "data": ["dHg=", "base64"], "lamports": 3, "rentEpoch": 2**64 - 1})),
]  # fmt: skip


@pytest.mark.parametrize(("ask", "method", "parameters", "result"), ASKS, ids=[method for _, method, _, _ in ASKS])
async def test_a_question_is_put_as_the_node_wants_it(
    ask: Ask, method: str, parameters: list[Any], result: Any
) -> None:
    node = Node(result=result)
    await ask(node.rpc)

    assert [(asked["method"], asked["params"]) for asked in node.asked] == [(method, parameters)]


@pytest.mark.parametrize(("ask", "method", "parameters", "result"), ASKS, ids=[method for _, method, _, _ in ASKS])
@pytest.mark.parametrize("wrong", [[{"x": 1}], {"value": "x"}, [[]], {"context": {}, "value": [1, 2]}])
async def test_an_answer_of_another_kind_is_no_answer(
    ask: Ask, method: str, parameters: list[Any], result: Any, wrong: Any
) -> None:
    with pytest.raises(NodeUnreachable):
        await ask(Node(result=wrong).rpc)


@pytest.mark.parametrize(
    "node",
    [
        Node(b"<html>"),
        Node(b""),
        Node([]),
        Node({}),
        Node({"error": "no"}),
        Node({"error": {"code": "x", "message": "y"}}),
        Node({"jsonrpc": "2.0"}, status=502),
        Node(raises=httpx2.ConnectError("refused")),
        Node(raises=httpx2.ReadTimeout("late")),
        Node(raises=httpx2.RemoteProtocolError("reset")),
    ],
    ids=range(10),
)
async def test_what_is_no_answer_is_unreachable_and_tells_no_secret(node: Node) -> None:
    with pytest.raises(NodeUnreachable) as fault:
        await node.rpc.genesis_hash()

    assert "secret-key" not in str(fault.value)
    assert str(fault.value).startswith("node.example")


async def test_a_refusal_is_told_in_the_nodes_words() -> None:
    node = Node({"jsonrpc": "2.0", "id": 1, "error": {"code": -32005, "message": "behind" * 100, "data": {"n": 4}}})

    with pytest.raises(NodeRefused) as fault:
        await node.rpc.health()
    assert (fault.value.code, len(fault.value.message), fault.value.data) == (-32005, 200, {"n": 4})


async def test_a_token_account_that_is_not_there_holds_nothing() -> None:
    missing = {"code": -32602, "message": "Invalid param: could not find account"}
    assert await Node({"error": missing}).rpc.token_balance(KEY) == 0

    with pytest.raises(NodeRefused):
        await Node({"error": {"code": -32602, "message": "Invalid param: not a Token account"}}).rpc.token_balance(KEY)


async def test_balances_of_a_transaction_are_by_place() -> None:
    def held(place: int, amount: str) -> dict[str, Any]:
        return {"accountIndex": place, "mint": KEY, "uiTokenAmount": {"amount": amount, "decimals": 6}}

    meta = {
        "err": None,
        "preTokenBalances": [held(2, "10"), held(3, "5")],
        "postTokenBalances": [held(2, "4"), held(3, "11"), held(4, "1")],
    }
    told = {"slot": 1, "meta": meta, "transaction": [base64.b64encode(b"tx").decode(), "base64"], "blockTime": None}
    landed = await Node(result=told).rpc.transaction("5sig", commitment="confirmed")

    assert landed is not None
    assert [landed.change(place) for place in (2, 3, 4, 5)] == [-6, 6, 1, 0]
    assert landed.transaction == b"tx"


@pytest.mark.parametrize(
    ("status", "confirmed", "finalized"),
    [("processed", False, False), ("confirmed", True, False), ("finalized", True, True), (None, True, True)],
)
def test_a_block_settles_by_degrees(status: Any, confirmed: bool, finalized: bool) -> None:  # noqa: FBT001
    told = Status.model_validate({"slot": 1, "err": None, "confirmationStatus": status})

    assert (told.reached("confirmed"), told.reached("finalized")) == (confirmed, finalized)


@pytest.mark.parametrize(
    ("err", "reason"),
    [
        (None, None),
        ("AlreadyProcessed", None),
        ("BlockhashNotFound", "payment_expired"),
        ("SignatureFailure", "invalid_signature"),
        ("AccountNotFound", "settlement_unavailable"),
        ("InsufficientFundsForFee", "settlement_unavailable"),
        ({"InsufficientFundsForRent": {"account_index": 0}}, "settlement_unavailable"),
        ({"InstructionError": [2, {"Custom": 1}]}, "insufficient_funds"),
        ({"InstructionError": [3, {"Custom": 1}]}, "simulation_failed"),
        ({"InstructionError": [2, {"Custom": 17}]}, "account_frozen"),
        ({"InstructionError": [2, {"Custom": 4}]}, "simulation_failed"),
        ({"InstructionError": [2, "InvalidAccountData"]}, "simulation_failed"),
        ("ProgramAccountNotFound", "simulation_failed"),
        ({"DuplicateInstruction": 3}, "simulation_failed"),
        (17, "simulation_failed"),
    ],
)
def test_a_simulations_fault_is_told_from_ours(err: Any, reason: str | None) -> None:
    meaning = meaning_of(err)

    assert (meaning and meaning.reason) == reason
