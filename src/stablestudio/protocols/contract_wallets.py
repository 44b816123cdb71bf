"""Signatures of contract wallets: ERC-1271 asked of a wallet, ERC-6492 around that of one not deployed yet; all pure.

Sources: eips.ethereum.org/EIPS/eip-1271 and eip-6492.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stablestudio.protocols.evm import BadSignature, keccak256

# More than the signatures of a dozen owners, or a wrapped factory call, and little enough to be carried to a chain.
MAX_SIGNATURE = 4096
_WORD = 32
_IS_VALID = keccak256(b"isValidSignature(bytes32,bytes)")[:4]
_ACCEPTED = _IS_VALID.ljust(_WORD, b"\0")  # a wallet says yes with the function's own selector
_WRAPPED = bytes.fromhex("6492" * 16)
_MOST_CODE = 49_152  # bytes of a creation's code (EIP-3860)


@dataclass(frozen=True, slots=True, kw_only=True)
class Counterfactual:
    """What an ERC-6492 signature wraps: the call that deploys the wallet, and the signature that it then accepts."""

    factory: str
    call: bytes
    signature: bytes


def unwrap(signature: bytes) -> Counterfactual | None:
    """Return what an ERC-6492 signature wraps, or None for any other signature; raise `BadSignature` if it is damaged.

    Such a signature is abi.encode(address factory, bytes call, bytes signature) and then 16 times 0x6492.
    """
    if not signature.endswith(_WRAPPED):
        return None
    body = signature[: -len(_WRAPPED)]
    if len(body) < 3 * _WORD or any(body[:12]):
        raise BadSignature("An ERC-6492 signature holds a factory, its call and a signature")
    return Counterfactual(
        factory="0x" + body[12:_WORD].hex(), call=_read_bytes(body, _WORD), signature=_read_bytes(body, 2 * _WORD)
    )


def wrap(wrapped: Counterfactual) -> bytes:
    """Return the ERC-6492 signature of a wallet that is not deployed yet."""
    call, signature = _bytes(wrapped.call), _bytes(wrapped.signature)
    heads = (3 * _WORD, 3 * _WORD + len(call))
    factory = bytes(12) + bytes.fromhex(wrapped.factory[2:])
    return factory + b"".join(head.to_bytes(_WORD) for head in heads) + call + signature + _WRAPPED


def is_valid_call(digest: bytes, signature: bytes) -> bytes:
    """Return the call data of `isValidSignature` (ERC-1271) for a 32-byte digest."""
    return _IS_VALID + digest + (2 * _WORD).to_bytes(_WORD) + _bytes(signature)


def says_yes(answer: bytes) -> bool:
    """Tell whether a wallet's answer accepts the signature; a token's contract reads its first word only, too."""
    return answer[:_WORD] == _ACCEPTED


def rehearsal(calls: Sequence[tuple[str, bytes]]) -> bytes:
    """Return creation code that makes calls (address, data) in turn and returns what the last one returned.

    Run as an `eth_call` without an address, it shows what would follow if the calls were made, and leaves nothing
    behind. The first call that fails ends it with that call's own revert data. Raise `ValueError` if it is too long.
    """
    code = b""
    # Each call's data lies behind the code, whose length does not depend on the data.
    place, size = sum(_CALL_SIZE for _ in calls) + len(_END), sum(len(data) for _, data in calls)
    if place + size > _MOST_CODE:
        raise ValueError("these calls are too long to be rehearsed")
    failed = _CALL_SIZE * len(calls) + _FAILED
    for to, data in calls:
        code += _call(to, len(data), place=place, failed=failed)
        place += len(data)
    return code + _END + b"".join(data for _, data in calls)


def _call(to: str, size: int, *, place: int, failed: int) -> bytes:
    length = b"\x61" + size.to_bytes(2)  # PUSH2
    return b"".join(
        (
            length + b"\x61" + place.to_bytes(2) + b"\x5f\x39",  # CODECOPY(0, place, size)
            b"\x5f\x5f" + length + b"\x5f\x5f",  # no room for the answer yet, input, value 0
            b"\x73" + bytes.fromhex(to[2:]) + b"\x5a\xf1",  # PUSH20 address, GAS, CALL
            b"\x15\x61" + failed.to_bytes(2) + b"\x57",  # ISZERO, JUMPI
        )
    )


# RETURNDATACOPY(0, 0, RETURNDATASIZE), RETURN; then the same with REVERT, behind a JUMPDEST.
_GIVE = bytes.fromhex("3d5f5f3e3d5f")
_END = _GIVE + b"\xf3" + b"\x5b" + _GIVE + b"\xfd"
_FAILED = len(_GIVE) + 1
_CALL_SIZE = len(_call("0x" + "00" * 20, 0, place=0, failed=0))


def _bytes(data: bytes) -> bytes:
    return len(data).to_bytes(_WORD) + data + bytes(-len(data) % _WORD)


def _read_bytes(body: bytes, head: int) -> bytes:
    start = int.from_bytes(body[head : head + _WORD])
    size = int.from_bytes(body[start : start + _WORD]) if start <= len(body) - _WORD else len(body)
    data = body[start + _WORD : start + _WORD + size]
    if len(data) < size or start < 3 * _WORD:
        raise BadSignature("An ERC-6492 signature points outside of itself")
    return data
