"""The parameters and answers of Solana's JSON-RPC, as the embedded chain reads and writes them."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from stablestudio.protocols.solana import b58encode, is_address
from stablestudio.protocols.solana_programs import MEMO
from stablestudio.protocols.solana_transaction import BadTransaction, decode
from stablestudio.sandbox.rpc import INVALID_PARAMS, Parameters, RpcError
from stablestudio.sandbox.solana_blocks import Executed

_PREFLIGHT_FAILED = -32002
_NO_RENT = 2**64 - 1


def account_state(data: bytes, *, owner: str, lamports: int) -> dict[str, Any]:
    return {
        "data": [base64.b64encode(data).decode(), "base64"],
        "executable": False,
        "lamports": lamports,
        "owner": owner,
        "rentEpoch": _NO_RENT,
        "space": len(data),
    }


def outcome(executed: Executed) -> dict[str, Any]:
    return {"err": executed.err, "status": {"Ok": None} if executed.err is None else {"Err": executed.err}}


def status(executed: Executed) -> dict[str, Any]:
    return {"slot": executed.slot, "confirmations": None, "confirmationStatus": "finalized", **outcome(executed)}


def entry(executed: Executed) -> dict[str, Any]:
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


def preflight_failed(err: Any, *, logs: tuple[str, ...] = (), units: int = 0) -> RpcError:
    data: Any = {"accounts": None, "err": err, "logs": list(logs), "returnData": None, "unitsConsumed": units}
    return RpcError(_PREFLIGHT_FAILED, f"Transaction simulation failed: {err}", data=data)


def terms_at(parameters: Parameters, place: int) -> dict[str, Any]:
    value = parameters[place] if len(parameters) > place else None
    if value is not None and not isinstance(value, dict):
        raise RpcError(INVALID_PARAMS, f"parameter {place + 1} is not an object")
    return value or {}


def address_at(parameters: Parameters, place: int) -> str:
    value = parameters[place] if len(parameters) > place else None
    if not isinstance(value, str) or not is_address(value):
        raise RpcError(INVALID_PARAMS, f"parameter {place + 1} is not base58 of 32 bytes")
    return value


def number_at(parameters: Parameters, place: int) -> int:
    value = parameters[place] if len(parameters) > place else None
    if not isinstance(value, int) or not 0 <= value < 2**53:
        raise RpcError(INVALID_PARAMS, f"parameter {place + 1} is not a whole number")
    return value


def list_at(parameters: Parameters, place: int, *, most: int) -> list[Any]:
    value = parameters[place] if len(parameters) > place else None
    if not isinstance(value, list) or len(value) > most:
        raise RpcError(INVALID_PARAMS, f"parameter {place + 1} is not a list of at most {most}")
    return value


def transaction_at(parameters: Parameters, terms: dict[str, Any]) -> bytes:
    text = parameters[0] if parameters else None
    if not isinstance(text, str) or terms.get("encoding") != "base64":
        raise RpcError(INVALID_PARAMS, "a transaction is text, and its encoding base64")
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError:
        raise RpcError(INVALID_PARAMS, "the transaction is not base64") from None


def signature_of(raw: bytes) -> str:
    try:
        return b58encode(decode(raw).signatures[0])
    except BadTransaction as fault:
        raise RpcError(INVALID_PARAMS, f"failed to deserialize the transaction: {fault}") from None
