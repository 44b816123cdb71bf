"""EIP-3009 transfers by authorization: what a buyer of an x402 `exact` offer signs, as EIP-712 typed data."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from stablestudio.protocols import evm

_DOMAIN_TYPE = evm.keccak256(b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)")
_TRANSFER_TYPE = evm.keccak256(
    b"TransferWithAuthorization(address from,address to,uint256 value,"
    b"uint256 validAfter,uint256 validBefore,bytes32 nonce)"
)
_PAD = bytes(12)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenDomain:
    """The EIP-712 domain of a token contract; `name` differs between networks (`USDC`, `USD Coin`)."""

    name: str
    version: str
    chain_id: int
    contract: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Authorization:
    """A transfer of `value` base units, valid strictly between two moments in Unix seconds; `nonce` has 32 bytes."""

    sender: str
    recipient: str
    value: int
    valid_after: int
    valid_before: int
    nonce: bytes

    @property
    def key(self) -> str:
        """Return what a token contract accepts once: `0xsender:0xnonce`, lower case."""
        return f"{self.sender.lower()}:0x{self.nonce.hex()}"


@lru_cache(maxsize=64)
def separator(domain: TokenDomain) -> bytes:
    """Return the EIP-712 domain separator, as the contract's DOMAIN_SEPARATOR() does."""
    return evm.keccak256(
        b"".join(
            (
                _DOMAIN_TYPE,
                evm.keccak256(domain.name.encode()),
                evm.keccak256(domain.version.encode()),
                domain.chain_id.to_bytes(32),
                _PAD,
                bytes.fromhex(domain.contract[2:]),
            )
        )
    )


def digest(domain: TokenDomain, authorization: Authorization) -> bytes:
    """Return the 32 bytes that the sender signs."""
    message = b"".join(
        (
            _TRANSFER_TYPE,
            _PAD,
            bytes.fromhex(authorization.sender[2:]),
            _PAD,
            bytes.fromhex(authorization.recipient[2:]),
            authorization.value.to_bytes(32),
            authorization.valid_after.to_bytes(32),
            authorization.valid_before.to_bytes(32),
            authorization.nonce,
        )
    )
    return evm.keccak256(b"\x19\x01" + separator(domain) + evm.keccak256(message))


def recover(domain: TokenDomain, authorization: Authorization, signature: bytes) -> str:
    """Return the EIP-55 address that signed; it need not be the sender. Raise `evm.BadSignature`."""
    return evm.recover_address(digest(domain, authorization), signature)
