"""The JSON-RPC of the embedded Solana: what wallets, SDKs and our own chain adapter ask of a node.

Methods and their answers: https://solana.com/docs/rpc/http. Whatever is executed is final at once.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any

from stablestudio.protocols.solana import b58decode, b58encode, is_address
from stablestudio.protocols.solana_programs import MEMO, TOKEN, is_on_curve, token_account
from stablestudio.protocols.solana_transaction import BadTransaction, decode
from stablestudio.sandbox.rpc import INVALID_PARAMS, Parameters, Rpc, RpcError
from stablestudio.sandbox.solana_ledger import BLOCKHASH_LIFE, SLOT_MS, Executed, NotTaken, SolanaLedger
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
_PREFLIGHT_FAILED, _SIGNATURE_FAILED = -32002, -32003
_SYSTEM = "11111111111111111111111111111111"
_EPOCH_SLOTS = 432_000
_MOST_ACCOUNTS, _MOST_SIGNATURES = 100, 256
_NO_RENT = 2**64 - 1


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
        return _number(parameters, 0) * SLOT_MS // 1000

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
        return (128 + _number(parameters, 0)) * 6_960

    async def _latest_blockhash(self, _: Parameters) -> dict[str, Any]:
        height = self._ledger.blocks.height
        last = height + BLOCKHASH_LIFE
        return self._here({"blockhash": self._ledger.blocks.hash(height), "lastValidBlockHeight": last})

    async def _is_blockhash_valid(self, parameters: Parameters) -> dict[str, Any]:
        return self._here(self._ledger.blocks.is_recent(_address(parameters, 0)))

    async def _balance(self, parameters: Parameters) -> dict[str, Any]:
        state = await self._state(_address(parameters, 0))
        return self._here(state["lamports"] if state else 0)

    async def _account_info(self, parameters: Parameters) -> dict[str, Any]:
        return self._here(await self._state(_address(parameters, 0)))

    async def _accounts(self, parameters: Parameters) -> dict[str, Any]:
        wanted = _list(parameters, 0, most=_MOST_ACCOUNTS)
        return self._here([await self._state(_address(wanted, place)) for place in range(len(wanted))])

    async def _state(self, address: str) -> dict[str, Any] | None:
        if address == self._ledger.token:
            return _state(mint_data(self._ledger.decimals), owner=b58encode(TOKEN), lamports=MINT_LAMPORTS)
        holding = await self._ledger.holding(address)
        if holding is not None:
            return self._held(holding)
        # An address that some key may have is somebody's wallet; any other is an account that nobody opened.
        if is_on_curve(b58decode(address)):
            return _state(b"", owner=_SYSTEM, lamports=WALLET_LAMPORTS)
        return None

    def _held(self, holding: Holding) -> dict[str, Any]:
        data = token_account_data(b58decode(self._ledger.token), holding)
        return _state(data, owner=b58encode(TOKEN), lamports=TOKEN_ACCOUNT_LAMPORTS)

    async def _token_balance(self, parameters: Parameters) -> dict[str, Any]:
        holding = await self._ledger.holding(_address(parameters, 0))
        if holding is None:
            raise RpcError(INVALID_PARAMS, "Invalid param: could not find account")
        return self._here(self._amount(holding.amount))

    async def _token_accounts(self, parameters: Parameters) -> dict[str, Any]:
        owner = _address(parameters, 0)
        which = _terms(parameters, 1)
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
        terms = _terms(parameters, 1)
        raw = _raw(parameters, terms)
        signature = _signature_of(raw)
        try:
            if not terms.get("skipPreflight"):
                run = await self._ledger.simulate(raw)
                if run.err is not None:
                    raise _preflight(run.err, logs=run.logs, units=run.units)
            await self._ledger.execute(raw)
        except NotTaken as fault:
            if fault.err == "SignatureFailure":
                raise RpcError(_SIGNATURE_FAILED, "Transaction signature verification failure") from None
            if fault.err is None:
                raise RpcError(INVALID_PARAMS, str(fault)) from None
            if not terms.get("skipPreflight"):
                raise _preflight(fault.err) from None
            # A node that was told not to look first takes it, and the cluster drops it in silence.
        return signature

    async def _simulate(self, parameters: Parameters) -> dict[str, Any]:
        terms = _terms(parameters, 1)
        raw = _raw(parameters, terms)
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
        wanted = _list(parameters, 0, most=_MOST_SIGNATURES)
        found = [await self._ledger.find(str(signature)[:128]) for signature in wanted]
        return self._here([None if one is None else _status(one) for one in found])

    async def _history(self, parameters: Parameters) -> list[dict[str, Any]]:
        address, terms = _address(parameters, 0), _terms(parameters, 1)
        limit, before = terms.get("limit", 1_000), terms.get("before")
        if not isinstance(limit, int) or not 0 < limit <= 1_000 or not isinstance(before, str | None):
            raise RpcError(INVALID_PARAMS, "limit is 1 to 1000, and before a signature")
        found = await self._ledger.history(address, limit=limit, before=before)
        return [_entry(one) for one in found]

    async def _transaction(self, parameters: Parameters) -> dict[str, Any] | None:
        signature = parameters[0] if parameters else None
        found = await self._ledger.find(signature) if isinstance(signature, str) else None
        if found is None:
            return None
        meta = {
            **_outcome(found),
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


def _state(data: bytes, *, owner: str, lamports: int) -> dict[str, Any]:
    return {
        "data": [base64.b64encode(data).decode(), "base64"],
        "executable": False,
        "lamports": lamports,
        "owner": owner,
        "rentEpoch": _NO_RENT,
        "space": len(data),
    }


def _outcome(executed: Executed) -> dict[str, Any]:
    return {"err": executed.err, "status": {"Ok": None} if executed.err is None else {"Err": executed.err}}


def _status(executed: Executed) -> dict[str, Any]:
    return {"slot": executed.slot, "confirmations": None, "confirmationStatus": "finalized", **_outcome(executed)}


def _entry(executed: Executed) -> dict[str, Any]:
    message = decode(executed.raw).message
    memos = [call.data for call in message.calls if message.keys[call.program] == MEMO]
    told = [f"[{len(memo)}] {memo.decode(errors='replace')}" for memo in memos]
    return {
        "signature": executed.signature,
        "slot": executed.slot,
        "err": executed.err,
        "memo": "; ".join(told) or None,
        "blockTime": executed.mined_at // 1000,
        "confirmationStatus": "finalized",
    }


def _preflight(err: Any, *, logs: tuple[str, ...] = (), units: int = 0) -> RpcError:
    data: Any = {"accounts": None, "err": err, "logs": list(logs), "returnData": None, "unitsConsumed": units}
    return RpcError(_PREFLIGHT_FAILED, f"Transaction simulation failed: {err}", data=data)


def _terms(parameters: Parameters, place: int) -> dict[str, Any]:
    value = parameters[place] if len(parameters) > place else None
    if value is not None and not isinstance(value, dict):
        raise RpcError(INVALID_PARAMS, f"parameter {place + 1} is not an object")
    return value or {}


def _address(parameters: Parameters, place: int) -> str:
    value = parameters[place] if len(parameters) > place else None
    if not isinstance(value, str) or not is_address(value):
        raise RpcError(INVALID_PARAMS, f"parameter {place + 1} is not base58 of 32 bytes")
    return value


def _number(parameters: Parameters, place: int) -> int:
    value = parameters[place] if len(parameters) > place else None
    if not isinstance(value, int) or not 0 <= value < 2**53:
        raise RpcError(INVALID_PARAMS, f"parameter {place + 1} is not a whole number")
    return value


def _list(parameters: Parameters, place: int, *, most: int) -> list[Any]:
    value = parameters[place] if len(parameters) > place else None
    if not isinstance(value, list) or len(value) > most:
        raise RpcError(INVALID_PARAMS, f"parameter {place + 1} is not a list of at most {most}")
    return value


def _raw(parameters: Parameters, terms: dict[str, Any]) -> bytes:
    text = parameters[0] if parameters else None
    if not isinstance(text, str) or terms.get("encoding") != "base64":
        raise RpcError(INVALID_PARAMS, "a transaction is text, and its encoding base64")
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError:
        raise RpcError(INVALID_PARAMS, "the transaction is not base64") from None


def _signature_of(raw: bytes) -> str:
    try:
        return b58encode(decode(raw).signatures[0])
    except BadTransaction as fault:
        raise RpcError(INVALID_PARAMS, f"failed to deserialize the transaction: {fault}") from None


class LedgerWire:
    """The ledger as a node in the same process, for `payments.solana_rpc`."""

    host = "embedded"

    def __init__(self, rpc: SolanaLedgerRpc) -> None:
        self._rpc = rpc

    async def exchange(self, question: dict[str, Any]) -> object:
        return await self._rpc.answer(question)

    async def close(self) -> None:
        """There is no connection to close."""
