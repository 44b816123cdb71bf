"""The JSON-RPC of the embedded Solana, as wallets and SDKs read it."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from stablestudio.protocols import solana_programs as programs
from stablestudio.protocols.solana import b58decode, b58encode
from stablestudio.protocols.solana_transaction import Instruction, Transaction, compile_message
from stablestudio.sandbox.solana_ledger import SolanaLedger
from stablestudio.sandbox.solana_rpc import SolanaLedgerRpc
from stablestudio.store.database import Database
from tests.chain.solana_world import BUYER, FUNDS, SHOP, THIEF, USDC, account_of, bytes_of, transfer
from tests.doubles import ManualClock

pytest.importorskip("solders")
pytestmark = pytest.mark.anyio
MINE = b58encode(account_of(BUYER))
BASE64 = {"encoding": "base64"}


@pytest.fixture
async def ledger(database: Database, clock: ManualClock) -> SolanaLedger:
    opened = SolanaLedger(database, mint=USDC, clock=clock)
    await opened.mint(BUYER.address, FUNDS)
    await opened.mint(SHOP.address, 0)
    return opened


@pytest.fixture
def rpc(ledger: SolanaLedger) -> SolanaLedgerRpc:
    return SolanaLedgerRpc(ledger)


async def _ask(rpc: SolanaLedgerRpc, method: str, *parameters: Any) -> Any:
    answer = await rpc.answer({"jsonrpc": "2.0", "id": 1, "method": method, "params": list(parameters)})
    assert isinstance(answer, dict)
    assert "error" not in answer, answer
    json.dumps(answer)
    return answer["result"]


async def _refusal(rpc: SolanaLedgerRpc, method: str, *parameters: Any) -> dict[str, Any]:
    answer = await rpc.answer({"jsonrpc": "2.0", "id": 1, "method": method, "params": list(parameters)})
    assert isinstance(answer, dict)
    return dict(answer["error"])


def _signed(ledger: SolanaLedger, *instructions: Instruction, spoil: int | None = None) -> str:
    recent = b58decode(ledger.blocks.hash(ledger.blocks.height))
    message = compile_message(bytes_of(BUYER), list(instructions), blockhash=recent)
    signature = BUYER.sign(message.raw) if spoil is None else bytes(64)
    return base64.b64encode(Transaction(signatures=(signature,), message=message).raw()).decode()


def _transfer(ledger: SolanaLedger, amount: int = 7) -> str:
    return _signed(ledger, transfer(amount=amount), programs.memo("hello"))


async def test_heights_follow_the_clock(rpc: SolanaLedgerRpc, clock: ManualClock) -> None:
    before = [await _ask(rpc, "getSlot"), (await _ask(rpc, "getEpochInfo"))["blockHeight"]]
    clock.advance(4)

    assert await _ask(rpc, "getBlockHeight") == before[0] + 10 == before[1] + 10
    assert 0 <= clock.now_s - 4 - await _ask(rpc, "getBlockTime", before[0]) <= 1


async def test_a_blockhash_is_good_until_its_last_height(rpc: SolanaLedgerRpc, clock: ManualClock) -> None:
    recent = (await _ask(rpc, "getLatestBlockhash"))["value"]
    assert (await _ask(rpc, "isBlockhashValid", recent["blockhash"]))["value"] is True
    while await _ask(rpc, "getBlockHeight") < recent["lastValidBlockHeight"]:
        clock.advance(0.4)
    assert (await _ask(rpc, "isBlockhashValid", recent["blockhash"]))["value"] is True
    clock.advance(0.4)

    assert (await _ask(rpc, "isBlockhashValid", recent["blockhash"]))["value"] is False


async def test_the_mint_and_token_accounts_are_those_of_the_token_program(rpc: SolanaLedgerRpc) -> None:
    mint, mine, nobodys = (await _ask(rpc, "getMultipleAccounts", [USDC, MINE, b58encode(account_of(THIEF))]))["value"]

    assert programs.read_decimals(base64.b64decode(mint["data"][0])) == 6
    state = programs.read_token_account(base64.b64decode(mine["data"][0]))
    assert state == programs.TokenAccount(mint=b58decode(USDC), owner=bytes_of(BUYER), amount=FUNDS, usable=True)
    assert mint["owner"] == mine["owner"] == b58encode(programs.TOKEN)
    assert nobodys is None


async def test_every_wallet_has_sol(rpc: SolanaLedgerRpc) -> None:
    assert (await _ask(rpc, "getBalance", THIEF.address))["value"] > 10**9
    assert (await _ask(rpc, "getAccountInfo", THIEF.address, BASE64))["value"]["owner"] == "1" * 32
    assert await _ask(rpc, "getMinimumBalanceForRentExemption", 165) == 2_039_280


async def test_a_token_balance_is_told_in_full(rpc: SolanaLedgerRpc, ledger: SolanaLedger) -> None:
    await ledger.mint(BUYER.address, 500_001)
    told = (await _ask(rpc, "getTokenAccountBalance", MINE))["value"]

    assert told == {"amount": "1500001", "decimals": 6, "uiAmount": 1.500001, "uiAmountString": "1.500001"}
    refusal = await _refusal(rpc, "getTokenAccountBalance", b58encode(account_of(THIEF)))
    assert (refusal["code"], refusal["message"]) == (-32602, "Invalid param: could not find account")


@pytest.mark.parametrize("which", [{"mint": USDC}, {"programId": b58encode(programs.TOKEN)}])
async def test_a_wallets_accounts_are_listed(rpc: SolanaLedgerRpc, which: dict[str, str]) -> None:
    listed = (await _ask(rpc, "getTokenAccountsByOwner", BUYER.address, which, BASE64))["value"]

    assert [entry["pubkey"] for entry in listed] == [MINE]
    assert (await _ask(rpc, "getTokenAccountsByOwner", THIEF.address, which, BASE64))["value"] == []


async def test_a_sent_transaction_is_final_at_once(
    rpc: SolanaLedgerRpc, ledger: SolanaLedger, clock: ManualClock
) -> None:
    signature = await _ask(rpc, "sendTransaction", _transfer(ledger), BASE64)

    [status] = (await _ask(rpc, "getSignatureStatuses", [signature]))["value"]
    assert (status["err"], status["confirmationStatus"], status["status"]) == (None, "finalized", {"Ok": None})
    told = await _ask(rpc, "getTransaction", signature, BASE64)
    assert (told["meta"]["err"], told["blockTime"], told["version"]) == (None, clock.now_s, 0)
    [entry] = await _ask(rpc, "getSignaturesForAddress", MINE, {"limit": 5})
    assert (entry["signature"], entry["memo"], entry["blockTime"]) == (signature, "[5] hello", clock.now_s)


async def test_balances_before_and_after_are_told_by_account(rpc: SolanaLedgerRpc, ledger: SolanaLedger) -> None:
    signature = await _ask(rpc, "sendTransaction", _transfer(ledger), BASE64)
    meta = (await _ask(rpc, "getTransaction", signature, BASE64))["meta"]

    def held(entries: list[dict[str, Any]]) -> dict[str, str]:
        return {entry["owner"]: entry["uiTokenAmount"]["amount"] for entry in entries}

    assert held(meta["preTokenBalances"]) == {BUYER.address: str(FUNDS), SHOP.address: "0"}
    assert held(meta["postTokenBalances"]) == {BUYER.address: str(FUNDS - 7), SHOP.address: "7"}


async def test_what_fails_before_it_is_sent_is_not_sent(rpc: SolanaLedgerRpc, ledger: SolanaLedger) -> None:
    refusal = await _refusal(rpc, "sendTransaction", _transfer(ledger, FUNDS + 1), BASE64)

    assert refusal["code"] == -32002
    assert refusal["data"]["err"] == {"InstructionError": [0, {"Custom": 1}]}
    assert any("insufficient funds" in line or "0x1" in line for line in refusal["data"]["logs"])
    assert await _ask(rpc, "getSignaturesForAddress", MINE) == []


async def test_what_is_sent_unseen_fails_on_the_chain(rpc: SolanaLedgerRpc, ledger: SolanaLedger) -> None:
    signature = await _ask(rpc, "sendTransaction", _transfer(ledger, FUNDS + 1), {**BASE64, "skipPreflight": True})

    [status] = (await _ask(rpc, "getSignatureStatuses", [signature]))["value"]
    assert status["err"] == {"InstructionError": [0, {"Custom": 1}]}
    assert status["status"] == {"Err": status["err"]}


async def test_an_expired_transaction_is_refused_or_dropped(
    rpc: SolanaLedgerRpc, ledger: SolanaLedger, clock: ManualClock
) -> None:
    raw = _transfer(ledger)
    clock.advance(120)

    assert (await _refusal(rpc, "sendTransaction", raw, BASE64))["data"]["err"] == "BlockhashNotFound"
    signature = await _ask(rpc, "sendTransaction", raw, {**BASE64, "skipPreflight": True})
    assert (await _ask(rpc, "getSignatureStatuses", [signature]))["value"] == [None]
    assert await _ask(rpc, "getTransaction", signature, BASE64) is None


async def test_a_copy_is_refused_or_ignored(rpc: SolanaLedgerRpc, ledger: SolanaLedger) -> None:
    raw = _transfer(ledger)
    signature = await _ask(rpc, "sendTransaction", raw, BASE64)

    assert (await _refusal(rpc, "sendTransaction", raw, BASE64))["data"]["err"] == "AlreadyProcessed"
    assert await _ask(rpc, "sendTransaction", raw, {**BASE64, "skipPreflight": True}) == signature
    assert await ledger.balance_of(SHOP.address) == 7


async def test_a_bad_signature_is_refused(rpc: SolanaLedgerRpc, ledger: SolanaLedger) -> None:
    raw = _signed(ledger, transfer(amount=7), spoil=1)

    for terms in (BASE64, {**BASE64, "skipPreflight": True}):
        assert (await _refusal(rpc, "sendTransaction", raw, terms))["code"] in (-32002, -32003)
    assert await ledger.balance_of(SHOP.address) == 0


async def test_a_simulation_looks_at_signatures_and_blockhash_if_it_is_asked_to(
    rpc: SolanaLedgerRpc, ledger: SolanaLedger, clock: ManualClock
) -> None:
    unsigned = _signed(ledger, transfer(amount=7), spoil=1)
    clock.advance(120)
    loose = {**BASE64, "sigVerify": False, "replaceRecentBlockhash": True}

    assert (await _ask(rpc, "simulateTransaction", unsigned, loose))["value"]["err"] is None
    strict = (await _ask(rpc, "simulateTransaction", unsigned, {**loose, "sigVerify": True}))["value"]
    assert strict["err"] == "SignatureFailure"
    stale = (await _ask(rpc, "simulateTransaction", unsigned, {**loose, "replaceRecentBlockhash": False}))["value"]
    assert stale["err"] == "BlockhashNotFound"


@pytest.mark.parametrize(
    ("method", "parameters"),
    [
        ("getAccountInfo", []),
        ("getAccountInfo", ["0x12"]),
        ("getAccountInfo", [7]),
        ("getBalance", ["l" * 44]),
        ("getMultipleAccounts", [[MINE] * 101]),
        ("getMultipleAccounts", ["all"]),
        ("getTokenAccountsByOwner", [MINE, "USDC"]),
        ("getSignaturesForAddress", [MINE, {"limit": 0}]),
        ("getSignaturesForAddress", [MINE, {"before": 7}]),
        ("getMinimumBalanceForRentExemption", [-1]),
        ("getBlockTime", ["now"]),
        ("getSignatureStatuses", [None]),
        ("sendTransaction", ["AAAA"]),
        ("sendTransaction", ["AAAA", BASE64]),
        ("sendTransaction", ["&", BASE64]),
        ("sendTransaction", [None, BASE64]),
        ("simulateTransaction", ["AAAA", BASE64]),
        ("isBlockhashValid", [None]),
    ],
)
async def test_nonsense_is_refused_in_the_protocols_words(
    rpc: SolanaLedgerRpc, method: str, parameters: list[Any]
) -> None:
    assert (await _refusal(rpc, method, *parameters))["code"] == -32602


@pytest.mark.parametrize("signature", [None, 7, "x" * 100_000, ""])
async def test_an_unknown_signature_is_nothing(rpc: SolanaLedgerRpc, signature: object) -> None:
    assert await _ask(rpc, "getTransaction", signature) is None
    assert (await _ask(rpc, "getSignatureStatuses", [signature]))["value"] == [None]


async def test_what_a_ledger_cannot_keep_is_refused_with_the_reason(rpc: SolanaLedgerRpc, ledger: SolanaLedger) -> None:
    raw = _signed(ledger, Instruction(program=b"\x0a" * 32, data=b""))

    for method in ("sendTransaction", "simulateTransaction"):
        assert "This ledger runs" in (await _refusal(rpc, method, raw, BASE64))["message"]


@pytest.mark.parametrize("method", ["getGenesisHash", "getHealth", "getVersion", "getFirstAvailableBlock"])
async def test_what_clients_ask_at_their_start_is_answered(rpc: SolanaLedgerRpc, method: str) -> None:
    assert await _ask(rpc, method) is not None
    assert (await _ask(rpc, "getFeeForMessage", "AA"))["value"] == 10_000
    assert await _ask(rpc, "getRecentPrioritizationFees")
