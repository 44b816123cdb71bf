"""How a token contract is spoken to about authorizations: call data, event topics, and revert reasons (Solidity ABI)."""

from __future__ import annotations

from stablestudio.protocols.eip3009 import Authorization
from stablestudio.protocols.evm import SIGNATURE_BYTES, keccak256

_WORD = 32
_FIELDS = "address,address,uint256,uint256,uint256,bytes32"
_ERROR = keccak256(b"Error(string)")[:4]


def _selector(signature: str) -> bytes:
    return keccak256(signature.encode())[:4]


def _topic(signature: str) -> str:
    return "0x" + keccak256(signature.encode()).hex()


_BY_PARTS = _selector(f"transferWithAuthorization({_FIELDS},uint8,bytes32,bytes32)")
_BY_BYTES = _selector(f"transferWithAuthorization({_FIELDS},bytes)")
_STATE = _selector("authorizationState(address,bytes32)")
_BALANCE = _selector("balanceOf(address)")

NAME = _selector("name()")
VERSION = _selector("version()")
DOMAIN_SEPARATOR = _selector("DOMAIN_SEPARATOR()")

TRANSFER = _topic("Transfer(address,address,uint256)")
AUTHORIZATION_USED = _topic("AuthorizationUsed(address,bytes32)")
AUTHORIZATION_CANCELED = _topic("AuthorizationCanceled(address,bytes32)")


def transfer_call(authorization: Authorization, signature: bytes) -> bytes:
    """Return the call data of `transferWithAuthorization`.

    65 bytes go to the overload (v, r, s) of EIP-3009, which every such token has; any other length is a contract
    wallet's (EIP-1271) and goes to FiatTokenV2_2's overload with bytes.
    """
    fields = b"".join(
        (
            address_word(authorization.sender),
            address_word(authorization.recipient),
            authorization.value.to_bytes(_WORD),
            authorization.valid_after.to_bytes(_WORD),
            authorization.valid_before.to_bytes(_WORD),
            authorization.nonce,
        )
    )
    if len(signature) == SIGNATURE_BYTES:
        return _BY_PARTS + fields + signature[64].to_bytes(_WORD) + signature[:64]
    padding = bytes(-len(signature) % _WORD)
    return _BY_BYTES + fields + (7 * _WORD).to_bytes(_WORD) + len(signature).to_bytes(_WORD) + signature + padding


def state_call(authorization: Authorization) -> bytes:
    """Return the call data of `authorizationState`: whether the nonce was used or cancelled."""
    return _STATE + address_word(authorization.sender) + authorization.nonce


def balance_call(owner: str) -> bytes:
    """Return the call data of `balanceOf`."""
    return _BALANCE + address_word(owner)


def address_word(address: str) -> bytes:
    """Return an address as 32 bytes, as call data and topics hold it."""
    return bytes(12) + bytes.fromhex(address[2:])


def read_text(data: bytes) -> str | None:
    """Return the one string that a call returned, or None where the bytes hold no such thing."""
    if len(data) < 2 * _WORD or int.from_bytes(data[:_WORD]) != _WORD:
        return None
    length = int.from_bytes(data[_WORD : 2 * _WORD])
    text = data[2 * _WORD : 2 * _WORD + length]
    return text.decode(errors="replace") if len(text) == length else None


def revert_reason(data: bytes) -> str | None:
    """Return the text of `Error(string)` in revert data, or None where the contract gave no text."""
    return read_text(data[4:]) if data[:4] == _ERROR else None
