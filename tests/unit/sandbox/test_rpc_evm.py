"""What wallets and x402 clients ask of the EVM ledger, in Ethereum's JSON-RPC."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest
from Crypto.Hash import keccak
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic_core import to_json

from stablestudio.protocols import eip3009
from stablestudio.protocols.eip3009 import Authorization
from stablestudio.sandbox.evm_rpc import LedgerRpc
from stablestudio.sandbox.ledger import LedgerChain
from stablestudio.store.database import Database
from tests.doubles import BUYER, PAY_TO, USDC, ManualClock, open_database

pytestmark = pytest.mark.anyio

NONCE = bytes(range(32))


def _selector(signature: str) -> str:
    return "0x" + keccak.new(digest_bits=256, data=signature.encode()).hexdigest()[:8]


def _word(address: str) -> str:
    return address[2:].lower().rjust(64, "0")


@pytest.fixture
def ledger(database: Database, clock: ManualClock) -> LedgerChain:
    return LedgerChain(database, domain=USDC, clock=clock)


@pytest.fixture
async def transaction(ledger: LedgerChain, clock: ManualClock) -> str:
    """The hash of a transfer of 0.045 from the buyer's dollar."""
    await ledger.mint(BUYER.address, 1_000_000)
    made = Authorization(
        sender=BUYER.address,
        recipient=PAY_TO,
        value=45_000,
        valid_after=0,
        valid_before=clock.now_s + 60,
        nonce=NONCE,
    )
    return await ledger.transfer_with_authorization(made, BUYER.sign_digest(eip3009.digest(USDC, made)))


async def ask(ledger: LedgerChain, method: str, *parameters: Any) -> Any:
    call = {"jsonrpc": "2.0", "id": 7, "method": method, "params": list(parameters)}
    answer = await LedgerRpc(ledger, clock=ManualClock()).answer(call)
    assert isinstance(answer, dict)
    assert (answer["jsonrpc"], answer["id"]) == ("2.0", 7)
    assert "error" not in answer, answer
    return answer["result"]


async def view(ledger: LedgerChain, data: str, *, to: str = USDC.contract) -> str:
    result: str = await ask(ledger, "eth_call", {"to": to, "data": data}, "latest")
    return result


async def test_the_chain_names_itself_a_test_network(ledger: LedgerChain) -> None:
    assert await ask(ledger, "eth_chainId") == "0x14a34"
    assert await ask(ledger, "net_version") == "84532"


@pytest.mark.usefixtures("transaction")
async def test_balances_are_the_tokens(ledger: LedgerChain) -> None:
    for address, units in ((BUYER.address, 955_000), (PAY_TO, 45_000), ("0x" + "11" * 20, 0)):
        assert int(await view(ledger, _selector("balanceOf(address)") + _word(address)), 16) == units
    assert await ask(ledger, "eth_getBalance", BUYER.address, "latest") == "0x0"
    assert await ask(ledger, "eth_blockNumber") == "0x2"


@pytest.mark.parametrize(("name", "text"), [("name()", "USDC"), ("version()", "2"), ("symbol()", "USDC")])
async def test_the_tokens_texts_are_abi_strings(ledger: LedgerChain, name: str, text: str) -> None:
    words = bytes.fromhex((await view(ledger, _selector(name)))[2:])
    assert (len(words), int.from_bytes(words[:32]), int.from_bytes(words[32:64])) == (96, 32, len(text))
    assert words[64:] == text.encode().ljust(32, b"\0")


async def test_the_token_has_six_decimals(ledger: LedgerChain) -> None:
    assert int(await view(ledger, _selector("decimals()")), 16) == 6


async def test_an_authorization_is_used_once_it_is_mined(ledger: LedgerChain, transaction: str) -> None:
    data = _selector("authorizationState(address,bytes32)") + _word(BUYER.address)
    assert int(await view(ledger, data + NONCE.hex()), 16) == 1
    assert int(await view(ledger, data + bytes(32).hex()), 16) == 0


async def test_only_the_token_has_code(ledger: LedgerChain) -> None:
    assert await ask(ledger, "eth_getCode", USDC.contract, "latest") != "0x"
    assert await ask(ledger, "eth_getCode", PAY_TO, "latest") == "0x"
    assert await view(ledger, _selector("decimals()"), to=PAY_TO) == "0x"


async def test_a_receipt_shows_the_transfer_as_its_event(ledger: LedgerChain, transaction: str) -> None:
    receipt = await ask(ledger, "eth_getTransactionReceipt", transaction.upper().replace("0X", "0x"))
    assert (receipt["status"], receipt["transactionHash"], receipt["blockNumber"]) == ("0x1", transaction, "0x2")
    used, event = receipt["logs"]
    assert used["topics"][1:] == ["0x" + _word(BUYER.address), "0x" + NONCE.hex()]
    assert [used["logIndex"], event["logIndex"]] == ["0x0", "0x1"]
    topic = keccak.new(digest_bits=256, data=b"Transfer(address,address,uint256)").hexdigest()
    assert event["topics"] == [f"0x{topic}", "0x" + _word(BUYER.address), "0x" + _word(PAY_TO)]
    assert (event["address"], int(event["data"], 16)) == (USDC.contract.lower(), 45_000)


async def test_an_unknown_transaction_has_no_receipt(ledger: LedgerChain) -> None:
    assert await ask(ledger, "eth_getTransactionReceipt", "0x" + "00" * 32) is None


@pytest.mark.parametrize(
    ("call", "code"),
    [
        ({"method": "eth_sendRawTransaction", "params": ["0x00"]}, -32601),
        ({"method": "eth_call", "params": []}, -32602),
        ({"method": "eth_call", "params": [{"to": USDC.contract, "data": "0xdeadbeef"}]}, 3),
        ({"method": "eth_call", "params": [{"to": USDC.contract, "data": "0x123"}]}, -32602),
        ({"method": "eth_getCode", "params": [None]}, -32602),
        ({"method": "eth_getTransactionReceipt", "params": []}, -32602),
        (
            {
                "method": "eth_call",
                "params": [
                    {"to": USDC.contract, "data": _selector("authorizationState(address,bytes32)") + _word(PAY_TO)}
                ],
            },
            3,
        ),
    ],
)
async def test_what_it_does_not_know_is_an_error_answer(ledger: LedgerChain, call: dict[str, Any], code: int) -> None:
    answer = await LedgerRpc(ledger).answer({"jsonrpc": "2.0", "id": "a"} | call)
    assert isinstance(answer, dict)
    assert (answer["id"], answer["error"]["code"]) == ("a", code)
    assert "result" not in answer


async def test_a_transaction_is_told_with_its_place(ledger: LedgerChain, transaction: str) -> None:
    told = await ask(ledger, "eth_getTransactionByHash", transaction)
    assert (told["hash"], told["from"], told["to"]) == (transaction, BUYER.address.lower(), USDC.contract.lower())
    assert (told["blockNumber"], told["chainId"], told["type"]) == ("0x2", "0x14a34", "0x2")
    block = await ask(ledger, "eth_getBlockByHash", told["blockHash"])
    assert (block["number"], block["baseFeePerGas"]) == ("0x2", "0x0")
    assert await ask(ledger, "eth_getTransactionByHash", "0x" + "00" * 32) is None


@pytest.mark.usefixtures("transaction")
async def test_what_wallets_ask_before_a_transfer_is_answered(ledger: LedgerChain) -> None:
    holder = BUYER.address
    balance = {"from": holder, "to": USDC.contract, "data": _selector("balanceOf(address)") + _word(holder)}
    asked = {
        "eth_gasPrice": "0x0",
        "eth_maxPriorityFeePerGas": "0x0",
        "eth_accounts": [],
        "eth_syncing": False,
    }
    assert {method: await ask(ledger, method) for method in asked} == asked
    assert await ask(ledger, "eth_getTransactionCount", holder, "pending") == "0x0"
    assert int(await ask(ledger, "eth_estimateGas", balance), 16) > 21_000
    history = await ask(ledger, "eth_feeHistory", "0x4", "latest", [25, 75])
    assert history == {
        "oldestBlock": "0x0",
        "baseFeePerGas": ["0x0"] * 4,
        "gasUsedRatio": [0.0] * 3,
        "reward": [["0x0", "0x0"]] * 3,
    }
    for allowance in ("allowance(address,address)", "nonces(address)"):
        assert int(await view(ledger, _selector(allowance) + _word(holder) + _word(PAY_TO)), 16) == 0


async def test_the_token_tells_its_domain_separator(ledger: LedgerChain) -> None:
    assert await view(ledger, _selector("DOMAIN_SEPARATOR()")) == "0x" + eip3009.separator(USDC).hex()


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
_SELECTORS = [_selector(name) for name in ("balanceOf(address)", "authorizationState(address,bytes32)", "name()")]
_DATA = st.builds(lambda selector, rest: selector + rest.hex(), st.sampled_from(_SELECTORS), st.binary(max_size=80))
_CALL = st.fixed_dictionaries(
    {}, optional={"to": st.just(USDC.contract) | _JSON, "data": _DATA | _JSON, "input": _DATA}
)
_METHODS = [
    *("eth_call", "eth_getCode", "eth_getTransactionReceipt", "eth_getBalance", "eth_chainId", "eth_estimateGas"),
    *("eth_feeHistory", "eth_getBlockByNumber", "eth_getBlockByHash", "eth_getTransactionByHash"),
]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LedgerChain]:
    database = open_database(tmp_path_factory.mktemp("rpc"))
    yield LedgerChain(database, domain=USDC, clock=ManualClock())
    database.close()


@settings(max_examples=150)
@given(
    call=st.fixed_dictionaries(
        {},
        optional={
            "id": _JSON,
            "method": st.sampled_from(_METHODS) | _JSON,
            "params": st.lists(_CALL | _JSON, max_size=3) | _JSON,
        },
    )
)
@example(call={"id": json.loads("[" * 300 + "]" * 300), "method": "eth_chainId"})
def test_no_call_breaks_it(shared: LedgerChain, call: dict[str, Any]) -> None:
    answer = asyncio.run(LedgerRpc(shared).answer(call))
    assert isinstance(answer, dict)
    assert ("result" in answer) != ("error" in answer)
    assert to_json(answer)
