"""The JSON-RPC of the embedded Solana: what wallets, SDKs and our own chain adapter ask of a node.

Methods and their answers: https://solana.com/docs/rpc/http. Whatever is executed is final at once.
"""

from __future__ import annotations

import base64
from typing import Any

from stablestudio.protocols.solana import b58decode, b58encode
from stablestudio.protocols.solana_programs import TOKEN, is_on_curve, token_account
from stablestudio.protocols.solana_transaction import decode
from stablestudio.sandbox.rpc import INVALID_PARAMS, Parameters, Rpc, RpcError
from stablestudio.sandbox.solana_blocks import BLOCKHASH_LIFE, SLOT_MS, NotTaken
from stablestudio.sandbox.solana_json import (
    account_state,
    address_at,
    entry,
    list_at,
    number_at,
    outcome,
    preflight_failed,
    signature_of,
    status,
    terms_at,
    transaction_at,
)
from stablestudio.sandbox.solana_ledger import SolanaLedger
from stablestudio.sandbox.solana_machine import (
    MINT_LAMPORTS,
    TOKEN_ACCOUNT_LAMPORTS,
    WALLET_LAMPORTS,
    Holding,
    mint_data,
    token_account_data,
)

# Of the cluster whose tokens the ledger stands in for: devnet.
GENESIS = "EtWTRABZaYq6iMfeYKouRu166VU2xqa1wcaWoxPkrZBG"
_VERSION = "2.1.0"
_SIGNATURE_FAILED = -32003
_SYSTEM = "11111111111111111111111111111111"
_EPOCH_SLOTS = 432_000
_MOST_ACCOUNTS, _MOST_SIGNATURES = 100, 256


class SolanaLedgerRpc(Rpc):
    """Answers about the ledger, and executes what is handed in."""

    def __init__(self, ledger: SolanaLedger) -> None:
        self._ledger = ledger
        super().__init__(
            {
                "getAccountInfo": self._account_info,
                "getBalance": self._balance,
                "getBlockHeight": self._height,
                "getBlockTime": self._block_time,
                "getEpochInfo": self._epoch_info,
                "getFeeForMessage": self._fee,
                "getFirstAvailableBlock": self._first_block,
                "getGenesisHash": self._genesis,
                "getHealth": self._health,
                "getLatestBlockhash": self._latest_blockhash,
                "getMinimumBalanceForRentExemption": self._rent,
                "getMultipleAccounts": self._accounts,
                "getRecentPrioritizationFees": self._priority_fees,
                "getSignatureStatuses": self._statuses,
                "getSignaturesForAddress": self._history,
                "getSlot": self._height,
                "getTokenAccountBalance": self._token_balance,
                "getTokenAccountsByOwner": self._token_accounts,
                "getTransaction": self._transaction,
                "getVersion": self._version,
                "isBlockhashValid": self._is_blockhash_valid,
                "sendTransaction": self._send,
                "simulateTransaction": self._simulate,
            }
        )

    def _here(self, value: Any) -> dict[str, Any]:
        return {"context": {"apiVersion": _VERSION, "slot": self._ledger.blocks.height}, "value": value}

    async def _height(self, _: Parameters) -> int:
        return self._ledger.blocks.height

    async def _block_time(self, parameters: Parameters) -> int:
        return number_at(parameters, 0) * SLOT_MS // 1000

    async def _first_block(self, _: Parameters) -> int:
        return 0

    async def _genesis(self, _: Parameters) -> str:
        return GENESIS

    async def _health(self, _: Parameters) -> str:
        return "ok"

    async def _version(self, _: Parameters) -> dict[str, Any]:
        return {"solana-core": _VERSION, "feature-set": 0}

    async def _epoch_info(self, _: Parameters) -> dict[str, int]:
        height = self._ledger.blocks.height
        place = {"epoch": height // _EPOCH_SLOTS, "slotIndex": height % _EPOCH_SLOTS, "slotsInEpoch": _EPOCH_SLOTS}
        return {**place, "absoluteSlot": height, "blockHeight": height, "transactionCount": 0}

    async def _fee(self, _: Parameters) -> dict[str, Any]:
        return self._here(10_000)

    async def _priority_fees(self, _: Parameters) -> list[dict[str, int]]:
        return [{"slot": self._ledger.blocks.height, "prioritizationFee": 0}]

    async def _rent(self, parameters: Parameters) -> int:
        return (128 + number_at(parameters, 0)) * 6_960

    async def _latest_blockhash(self, _: Parameters) -> dict[str, Any]:
        height = self._ledger.blocks.height
        last = height + BLOCKHASH_LIFE
        return self._here({"blockhash": self._ledger.blocks.hash(height), "lastValidBlockHeight": last})

    async def _is_blockhash_valid(self, parameters: Parameters) -> dict[str, Any]:
        return self._here(self._ledger.blocks.is_recent(address_at(parameters, 0)))

    async def _balance(self, parameters: Parameters) -> dict[str, Any]:
        state = await self._state(address_at(parameters, 0))
        return self._here(state["lamports"] if state else 0)

    async def _account_info(self, parameters: Parameters) -> dict[str, Any]:
        return self._here(await self._state(address_at(parameters, 0)))

    async def _accounts(self, parameters: Parameters) -> dict[str, Any]:
        wanted = list_at(parameters, 0, most=_MOST_ACCOUNTS)
        return self._here([await self._state(address_at(wanted, place)) for place in range(len(wanted))])

    async def _state(self, address: str) -> dict[str, Any] | None:
        if address == self._ledger.token:
            return account_state(mint_data(self._ledger.decimals), owner=b58encode(TOKEN), lamports=MINT_LAMPORTS)
        holding = await self._ledger.holding(address)
        if holding is not None:
            return self._held(holding)
        # An address that some key may have is somebody's wallet; any other is an account that nobody opened.
        if is_on_curve(b58decode(address)):
            return account_state(b"", owner=_SYSTEM, lamports=WALLET_LAMPORTS)
        return None

    def _held(self, holding: Holding) -> dict[str, Any]:
        data = token_account_data(b58decode(self._ledger.token), holding)
        return account_state(data, owner=b58encode(TOKEN), lamports=TOKEN_ACCOUNT_LAMPORTS)

    async def _token_balance(self, parameters: Parameters) -> dict[str, Any]:
        holding = await self._ledger.holding(address_at(parameters, 0))
        if holding is None:
            raise RpcError(INVALID_PARAMS, "Invalid param: could not find account")
        return self._here(self._amount(holding.amount))

    async def _token_accounts(self, parameters: Parameters) -> dict[str, Any]:
        owner = address_at(parameters, 0)
        which = terms_at(parameters, 1)
        mine = which.get("mint") == self._ledger.token or which.get("programId") == b58encode(TOKEN)
        address = b58encode(token_account(b58decode(owner), b58decode(self._ledger.token)))
        holding = await self._ledger.holding(address) if mine else None
        return self._here([] if holding is None else [{"pubkey": address, "account": self._held(holding)}])

    def _amount(self, amount: int) -> dict[str, Any]:
        decimals = self._ledger.decimals
        whole, part = divmod(amount, 10**decimals)
        text = f"{whole}.{part:0{decimals}d}".rstrip("0").rstrip(".") if decimals else str(whole)
        return {"amount": str(amount), "decimals": decimals, "uiAmount": float(text), "uiAmountString": text}

    async def _send(self, parameters: Parameters) -> str:
        terms = terms_at(parameters, 1)
        raw = transaction_at(parameters, terms)
        signature = signature_of(raw)
        try:
            if not terms.get("skipPreflight"):
                run = await self._ledger.simulate(raw)
                if run.err is not None:
                    raise preflight_failed(run.err, logs=run.logs, units=run.units)
            await self._ledger.execute(raw)
        except NotTaken as fault:
            if fault.err == "SignatureFailure":
                raise RpcError(_SIGNATURE_FAILED, "Transaction signature verification failure") from None
            if fault.err is None:
                raise RpcError(INVALID_PARAMS, str(fault)) from None
            if not terms.get("skipPreflight"):
                raise preflight_failed(fault.err) from None
            # A node that was told not to look first takes it, and the cluster drops it in silence.
        return signature

    async def _simulate(self, parameters: Parameters) -> dict[str, Any]:
        terms = terms_at(parameters, 1)
        raw = transaction_at(parameters, terms)
        empty = {"accounts": None, "returnData": None, "innerInstructions": None}
        try:
            run = await self._ledger.simulate(
                raw,
                check_signatures=bool(terms.get("sigVerify")),
                check_blockhash=not terms.get("replaceRecentBlockhash"),
            )
        except NotTaken as fault:
            if fault.err is None:
                raise RpcError(INVALID_PARAMS, str(fault)) from None
            return self._here({**empty, "err": fault.err, "logs": [], "unitsConsumed": 0})
        return self._here({**empty, "err": run.err, "logs": list(run.logs), "unitsConsumed": run.units})

    async def _statuses(self, parameters: Parameters) -> dict[str, Any]:
        wanted = list_at(parameters, 0, most=_MOST_SIGNATURES)
        found = [await self._ledger.find(str(signature)[:128]) for signature in wanted]
        return self._here([None if one is None else status(one) for one in found])

    async def _history(self, parameters: Parameters) -> list[dict[str, Any]]:
        address, terms = address_at(parameters, 0), terms_at(parameters, 1)
        limit, before = terms.get("limit", 1_000), terms.get("before")
        if not isinstance(limit, int) or not 0 < limit <= 1_000 or not isinstance(before, str | None):
            raise RpcError(INVALID_PARAMS, "limit is 1 to 1000, and before a signature")
        found = await self._ledger.history(address, limit=limit, before=before)
        return [entry(one) for one in found]

    async def _transaction(self, parameters: Parameters) -> dict[str, Any] | None:
        signature = parameters[0] if parameters else None
        found = await self._ledger.find(signature) if isinstance(signature, str) else None
        if found is None:
            return None
        meta = {
            **outcome(found),
            "fee": found.meta["fee"],
            "computeUnitsConsumed": found.meta["units"],
            "logMessages": found.meta["logs"],
            "preTokenBalances": [self._token_entry(entry) for entry in found.meta["before"]],
            "postTokenBalances": [self._token_entry(entry) for entry in found.meta["after"]],
            "innerInstructions": [],
            "loadedAddresses": {"readonly": [], "writable": []},
            "preBalances": [WALLET_LAMPORTS for _ in found.meta["accounts"]],
            "postBalances": [WALLET_LAMPORTS for _ in found.meta["accounts"]],
            "rewards": [],
        }
        version = decode(found.raw).message.version
        return {
            "slot": found.slot,
            "blockTime": found.mined_at // 1000,
            "transaction": [base64.b64encode(found.raw).decode(), "base64"],
            "meta": meta,
            "version": "legacy" if version is None else version,
        }

    def _token_entry(self, entry: dict[str, Any]) -> dict[str, Any]:
        place = {"accountIndex": entry["accountIndex"], "mint": self._ledger.token, "owner": entry["owner"]}
        return {**place, "programId": b58encode(TOKEN), "uiTokenAmount": self._amount(entry["amount"])}


class LedgerWire:
    """The ledger as a node in the same process, for `payments.solana_rpc`."""

    host = "embedded"

    def __init__(self, rpc: SolanaLedgerRpc) -> None:
        self._rpc = rpc

    async def exchange(self, question: dict[str, Any]) -> object:
        return await self._rpc.answer(question)

    async def close(self) -> None:
        """There is no connection to close."""
