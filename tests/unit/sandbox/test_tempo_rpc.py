"""What Tempo's clients ask of the embedded chain: the questions of mppx 0.11.0 and 0.8.19, viem 2.57.1 and pympp 0.16.0."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from Crypto.Hash import keccak
from eth_abi.abi import decode, encode
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic_core import to_json

from stablestudio.protocols import tempo
from stablestudio.sandbox.tempo_ledger import PATH_USD, USDC_E, TempoLedger
from stablestudio.sandbox.tempo_rpc import TempoRpc
from stablestudio.store.database import Database
from tests.doubles import BUYER, NOW_MS, PAY_TO, ManualClock, open_database
from tests.unit.sandbox.test_tempo_ledger import FUNDS, MEMO, NOW, STRANGER, signed

pytestmark = pytest.mark.anyio

TOKEN = USDC_E.address
MULTICALL = "0xcA11bde05977b3631167028862bE2a173976CA11"
# viem 2.57.1, `deploylessCallViaBytecodeBytecode`: deploys a contract and calls it.
DEPLOYING = bytes.fromhex(
    "608060405234801561001057600080fd5b5060405161018e38038061018e83398101604081905261002f91610124565b6000808351602085"
    "016000f59050803b61004857600080fd5b6000808351602085016000855af16040513d6000823e81610067573d81fd5b3d81f35b634e487b"
    "7160e01b600052604160045260246000fd5b600082601f83011261009257600080fd5b81516001600160401b038111156100ab576100ab61"
    "006b565b604051601f8201601f19908116603f011681016001600160401b03811182821017156100d9576100d961006b565b604052818152"
    "8382016020018510156100f157600080fd5b60005b82811015610110576020818601810151838301820152016100f4565b50600091810160"
    "2001919091529392505050565b6000806040838503121561013757600080fd5b82516001600160401b0381111561014d57600080fd5b6101"
    "5985828601610081565b602085015190935090506001600160401b0381111561017757600080fd5b61018385828601610081565b91505092"
    "5092905056fe"
)


def selector(signature: str) -> bytes:
    return keccak.new(digest_bits=256, data=signature.encode()).digest()[:4]


def word(address: str) -> str:
    return address[2:].lower().rjust(64, "0")


@pytest.fixture
async def ledger(database: Database, clock: ManualClock) -> TempoLedger:
    made = TempoLedger(database, clock=clock)
    await made.mint(TOKEN, BUYER.address, FUNDS)
    return made


@pytest.fixture
def rpc(ledger: TempoLedger) -> TempoRpc:
    return TempoRpc(ledger)


async def told(rpc: TempoRpc, method: str, *parameters: Any) -> dict[str, Any]:
    answer = await rpc.answer({"jsonrpc": "2.0", "id": 7, "method": method, "params": list(parameters)})
    assert isinstance(answer, dict)
    assert to_json(answer)
    return answer


async def ask(rpc: TempoRpc, method: str, *parameters: Any) -> Any:
    answer = await told(rpc, method, *parameters)
    assert "error" not in answer, answer
    return answer["result"]


async def view(rpc: TempoRpc, data: bytes, *, to: str | None = TOKEN) -> bytes:
    call = {"data": "0x" + data.hex()} | ({} if to is None else {"to": to})
    result: str = await ask(rpc, "eth_call", call, "latest")
    return bytes.fromhex(result[2:])


async def test_the_chain_names_itself_the_test_network(rpc: TempoRpc) -> None:
    assert await ask(rpc, "eth_chainId") == "0xa5bf"
    assert await ask(rpc, "net_version") == "42431"


async def test_a_client_learns_before_it_signs_that_gas_is_free(rpc: TempoRpc) -> None:
    transfer = {"from": BUYER.address, "to": TOKEN, "data": "0x" + tempo.transfer_with_memo(PAY_TO, 5, MEMO).hex()}
    several = {
        "from": BUYER.address,
        "calls": [{"to": TOKEN, "data": transfer["data"], "value": "0x0"}] * 2,
        "nonceKey": hex(2**256 - 1),
        "validBefore": hex(NOW + 25),
    }
    assert [await ask(rpc, method) for method in ("eth_gasPrice", "eth_maxPriorityFeePerGas")] == ["0x0", "0x0"]
    assert (await ask(rpc, "eth_getBlockByNumber", "latest"))["baseFeePerGas"] == "0x0"
    one, two = [int(await ask(rpc, "eth_estimateGas", call, "latest"), 16) for call in (transfer, several)]
    assert 21_000 < one < two


async def test_a_transfer_that_would_fail_is_told_before_it_is_signed(rpc: TempoRpc) -> None:
    data = "0x" + tempo.transfer_with_memo(PAY_TO, FUNDS + 1, MEMO).hex()
    for method in ("eth_estimateGas", "eth_call"):
        answer = await told(rpc, method, {"from": BUYER.address, "to": TOKEN, "data": data})
        assert answer["error"]["code"] == 3
        error = bytes.fromhex(answer["error"]["data"][2:])
        assert error[:4] == selector("InsufficientBalance(uint256,uint256,address)")
        assert decode(["uint256", "uint256", "address"], error[4:]) == (FUNDS, FUNDS + 1, TOKEN)


async def test_a_transfer_to_nobody_is_told_to_fail(rpc: TempoRpc) -> None:
    data = "0x" + tempo.transfer_with_memo("0x" + "0" * 40, 1, MEMO).hex()
    answer = await told(rpc, "eth_call", {"from": BUYER.address, "to": TOKEN, "data": data})
    assert answer["error"]["data"] == "0x" + selector("InvalidRecipient()").hex()


async def test_a_simulated_transfer_returns_what_the_token_returns(rpc: TempoRpc) -> None:
    plain = selector("transfer(address,uint256)") + bytes.fromhex(word(PAY_TO)) + (5).to_bytes(32)
    for data, returned in ((plain, (1).to_bytes(32)), (tempo.transfer_with_memo(PAY_TO, 5, MEMO), b"")):
        call = {"from": BUYER.address, "to": TOKEN, "data": "0x" + data.hex()}
        assert await ask(rpc, "eth_call", call, "latest") == "0x" + returned.hex()
    assert await ask(rpc, "eth_blockNumber") == "0x1"


async def test_a_transaction_is_mined_with_its_receipt(rpc: TempoRpc) -> None:
    made = signed()
    receipt = await ask(rpc, "eth_sendRawTransactionSync", "0x" + made.raw.hex(), 5000)

    assert receipt == await ask(rpc, "eth_getTransactionReceipt", made.hash)
    assert (receipt["status"], receipt["transactionHash"], receipt["type"]) == ("0x1", made.hash, "0x76")
    assert (receipt["from"], receipt["to"], receipt["gasUsed"]) == (BUYER.address.lower(), TOKEN, "0x0")
    moved, noted = receipt["logs"]
    parties = ["0x" + word(BUYER.address), "0x" + word(PAY_TO)]
    topics = [
        "0x" + keccak.new(digest_bits=256, data=name.encode()).hexdigest()
        for name in ("Transfer(address,address,uint256)", "TransferWithMemo(address,address,uint256,bytes32)")
    ]
    assert moved["topics"] == [topics[0], *parties]
    assert noted["topics"] == [topics[1], *parties, "0x" + MEMO.hex()]
    assert {log["address"] for log in (moved, noted)} == {TOKEN}
    assert [int(log["data"], 16) for log in (moved, noted)] == [45_000, 45_000]


async def test_sending_without_waiting_returns_the_hash_also_of_a_failure(rpc: TempoRpc) -> None:
    good, bad = signed(), signed(amount=FUNDS + 1)
    for made, status in ((good, "0x1"), (good, "0x1"), (bad, "0x0"), (bad, "0x0")):
        assert await ask(rpc, "eth_sendRawTransaction", "0x" + made.raw.hex()) == made.hash
        receipt = await ask(rpc, "eth_getTransactionReceipt", made.hash)
        assert (receipt["status"], bool(receipt["logs"])) == (status, status == "0x1")


@pytest.mark.parametrize("raw", ["0x", "0x76", "0x02c0", "0x" + signed(valid_before=NOW).raw.hex()])
async def test_what_the_chain_does_not_take_is_an_error_with_the_nodes_code(rpc: TempoRpc, raw: str) -> None:
    for method in ("eth_sendRawTransaction", "eth_sendRawTransactionSync"):
        answer = await told(rpc, method, raw)
        assert answer["error"]["code"] == -32003
        assert answer["error"]["message"]


async def test_a_transaction_is_told_with_its_call(rpc: TempoRpc) -> None:
    plain, counted = signed(), signed(nonce_key=5, nonce=0, valid_before=None, memo=bytes(32))
    for made, key in ((plain, hex(2**256 - 1)), (counted, "0x5")):
        await ask(rpc, "eth_sendRawTransaction", "0x" + made.raw.hex())
        found = await ask(rpc, "eth_getTransactionByHash", made.hash)
        assert found["calls"] == [{"to": TOKEN, "value": "0x0", "input": "0x" + made.calls[0].data.hex()}]
        assert (found["nonceKey"], found["type"], found["from"]) == (key, "0x76", BUYER.address.lower())


async def test_a_plain_transfer_is_told_without_a_memo(rpc: TempoRpc, ledger: TempoLedger) -> None:
    data = selector("transfer(address,uint256)") + bytes.fromhex(word(PAY_TO)) + (5).to_bytes(32)
    call = tempo.TempoCall(to=TOKEN, data=data)
    made = tempo.sign(
        BUYER,
        chain_id=42431,
        calls=[call],
        gas_limit=100_000,
        max_fee_per_gas=0,
        max_priority_fee_per_gas=0,
        valid_before=NOW + 25,
    )

    receipt = await ask(rpc, "eth_sendRawTransactionSync", "0x" + made.raw.hex())
    found = await ask(rpc, "eth_getTransactionByHash", made.hash)
    assert len(receipt["logs"]) == 1
    assert found["calls"][0]["input"] == "0x" + data.hex()


async def test_blocks_are_where_receipts_say(rpc: TempoRpc, ledger: TempoLedger, clock: ManualClock) -> None:
    made = signed()
    receipt = await ask(rpc, "eth_sendRawTransactionSync", "0x" + made.raw.hex())
    clock.advance(10)
    await ledger.mint(TOKEN, PAY_TO, 1)
    clock.advance(10)

    brief, in_full = [False], [True]
    by_number = await ask(rpc, "eth_getBlockByNumber", receipt["blockNumber"], *brief)
    full = await ask(rpc, "eth_getBlockByHash", receipt["blockHash"], *in_full)
    newest = await ask(rpc, "eth_getBlockByNumber", "latest")
    assert by_number["transactions"] == [made.hash] == [each["hash"] for each in full["transactions"]]
    assert by_number["hash"] == receipt["blockHash"] == newest["parentHash"]
    assert [int(block["timestamp"], 16) for block in (by_number, newest)] == [NOW, NOW + 20]
    assert await ask(rpc, "eth_getBlockByNumber", "0x4") is None
    assert await ask(rpc, "eth_getBlockByHash", "0x" + "11" * 32) is None
    assert (await ask(rpc, "eth_getBlockByNumber", "earliest"))["number"] == "0x0"


async def test_nonces_are_told_by_key(rpc: TempoRpc) -> None:
    for key in (0, 5):
        made = signed(nonce_key=key, nonce=0, valid_before=None, memo=bytes([key]) * 32)
        await ask(rpc, "eth_sendRawTransaction", "0x" + made.raw.hex())
    assert await ask(rpc, "eth_getTransactionCount", BUYER.address, "latest") == "0x1"
    nonces = "0x4E4F4E4345000000000000000000000000000000"
    for key, nonce in ((5, 1), (6, 0)):
        data = selector("getNonce(address,uint256)") + encode(["address", "uint256"], [BUYER.address, key])
        assert int.from_bytes(await view(rpc, data, to=nonces)) == nonce


@pytest.mark.parametrize(
    ("name", "kind", "value"),
    [
        ("name()", "string", "Bridged USDC"),
        ("symbol()", "string", "USDC.e"),
        ("currency()", "string", "USD"),
        ("decimals()", "uint8", 6),
        ("totalSupply()", "uint256", FUNDS),
        ("paused()", "bool", False),
        ("quoteToken()", "address", PATH_USD.address),
    ],
)
async def test_a_token_describes_itself(rpc: TempoRpc, name: str, kind: str, value: Any) -> None:
    assert decode([kind], await view(rpc, selector(name))) == (value,)


def aggregate(*calls: tuple[str, bool, bytes]) -> bytes:
    return selector("aggregate3((address,bool,bytes)[])") + encode(["(address,bool,bytes)[]"], [calls])


async def test_many_views_are_answered_in_one_call(rpc: TempoRpc) -> None:
    balance = selector("balanceOf(address)") + bytes.fromhex(word(BUYER.address))
    calls = aggregate(
        (TOKEN, True, balance), (PATH_USD.address, True, balance), (TOKEN, True, b"\1\2\3\4"), (PAY_TO, True, b"")
    )
    deployed = DEPLOYING + encode(["bytes", "bytes"], [b"\x60\x80", calls])
    for result in (await view(rpc, calls, to=MULTICALL), await view(rpc, deployed, to=None)):
        (results,) = decode(["(bool,bytes)[]"], result)
        assert results == ((True, FUNDS.to_bytes(32)), (True, bytes(32)), (False, b""), (True, b""))


@pytest.mark.parametrize(
    "data",
    [
        aggregate((TOKEN, False, b"\1\2\3\4")),
        aggregate((TOKEN, True, b""))[:-33],
        aggregate((TOKEN, True, b""))[:40],
        aggregate()[:4] + b"\xff" * 64,
        aggregate()[:4] + (32).to_bytes(32) + (2**200).to_bytes(32),
        b"\1\2\3\4",
        b"",
    ],
)
async def test_a_broken_bundle_reverts(rpc: TempoRpc, data: bytes) -> None:
    answer = await told(rpc, "eth_call", {"to": MULTICALL, "data": "0x" + data.hex()}, "latest")
    assert answer["error"]["code"] == 3


@pytest.mark.parametrize(
    ("method", "parameters", "code"),
    [
        ("tempo_simulateV1", [{}], -32601),
        ("eth_sendRawTransaction", [], -32602),
        ("eth_sendRawTransaction", ["76"], -32602),
        ("eth_getTransactionReceipt", ["0x12"], -32602),
        ("eth_getTransactionCount", ["0x12"], -32602),
        ("eth_getBlockByNumber", ["newest"], -32602),
        ("eth_getBlockByNumber", ["0x" + "f" * 17], -32602),
        ("eth_feeHistory", [None, "latest", []], -32602),
        ("eth_feeHistory", ["0x1", "latest", 5], -32602),
        ("eth_call", [[]], -32602),
        ("eth_call", [{"to": 5}], -32602),
        ("eth_call", [{"to": TOKEN, "data": 5}], -32602),
        ("eth_call", [{"to": TOKEN, "from": "x"}], -32602),
        ("eth_call", [{"calls": [{}] * 33}], -32602),
        ("eth_call", [{"calls": "x"}], -32602),
        ("eth_call", [{"calls": [5]}], -32602),
        ("eth_call", [{"to": TOKEN, "data": "0x70a08231"}], 3),
        ("eth_call", [{"to": TOKEN}], 3),
    ],
)
async def test_what_cannot_be_read_is_an_error_answer(
    rpc: TempoRpc, method: str, parameters: list[Any], code: int
) -> None:
    assert (await told(rpc, method, *parameters))["error"]["code"] == code


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
_WORDS = st.lists(st.sampled_from([0, 1, 32, 64, 96, 2**256 - 1]).map(lambda value: value.to_bytes(32)), max_size=9)
_DATA = st.builds(
    lambda start, words, rest: "0x" + (start + b"".join(words) + rest).hex(),
    st.sampled_from([b"", DEPLOYING, bytes.fromhex("95777d59"), bytes.fromhex("70a08231"), aggregate()[:4]]),
    _WORDS,
    st.binary(max_size=40),
)
_TO = st.sampled_from([TOKEN, MULTICALL, PAY_TO, "0x4e4f4e4345000000000000000000000000000000"]) | _JSON
_CALL = st.fixed_dictionaries({}, optional={"to": _TO, "data": _DATA | _JSON, "from": _TO, "calls": _JSON})
_RAW = st.binary(max_size=60).map(lambda data: "0x76" + data.hex()) | st.just("0x" + signed(key=STRANGER).raw.hex())
_METHODS = [
    *("eth_call", "eth_estimateGas", "eth_sendRawTransaction", "eth_sendRawTransactionSync", "eth_feeHistory"),
    *("eth_getBlockByNumber", "eth_getBlockByHash", "eth_getTransactionByHash", "eth_getTransactionReceipt"),
    *("eth_getTransactionCount", "eth_getBalance", "eth_getCode"),
]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TempoRpc]:
    database = open_database(tmp_path_factory.mktemp("rpc"))
    yield TempoRpc(TempoLedger(database, clock=ManualClock(NOW_MS)))
    database.close()


@settings(max_examples=300)
@given(method=st.sampled_from(_METHODS), parameters=st.lists(_CALL | _RAW | _TO | _JSON, max_size=3))
def test_no_call_breaks_it(shared: TempoRpc, method: str, parameters: list[Any]) -> None:
    answer = asyncio.run(shared.answer({"id": 1, "method": method, "params": parameters}))
    assert isinstance(answer, dict)
    assert ("result" in answer) != ("error" in answer)
    assert to_json(answer)
