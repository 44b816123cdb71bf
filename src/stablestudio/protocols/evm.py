"""Keys, addresses and signatures of Ethereum-like chains; no transactions, no network."""

from __future__ import annotations

import re
from functools import lru_cache

from coincurve import PrivateKey, PublicKey
from Crypto.Hash import keccak

SIGNATURE_BYTES = 65
_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}")
_SECRET = re.compile(r"(?:0x)?[0-9a-fA-F]{64}")
_HALF_ORDER = bytes.fromhex("7fffffffffffffffffffffffffffffff5d576e7357a4501ddfe92f46681b20a0")


class BadSignature(ValueError):
    """The bytes are no signature that a token contract would take."""


class HighSignature(BadSignature):
    """The signature's s lies in the upper half of the curve order: a forgeable twin, refused since EIP-2."""


def keccak256(data: bytes) -> bytes:
    """Return the Keccak-256 hash (Ethereum's, not SHA3-256)."""
    return keccak.new(digest_bits=256, data=data).digest()


def is_address(text: str) -> bool:
    """Tell whether `text` is `0x` and 40 hexadecimal digits, in any case; a checksum is not asked for."""
    return _ADDRESS.fullmatch(text) is not None


@lru_cache(maxsize=4096)
def checksum_address(address: str) -> str:
    """Return the EIP-55 spelling of an address in any case; raise `ValueError` for anything else."""
    if not is_address(address):
        raise ValueError("An address is 0x and 40 hexadecimal digits")
    digits = address[2:].lower()
    marks = keccak256(digits.encode()).hex()
    return "0x" + "".join(digit.upper() if mark >= "8" else digit for digit, mark in zip(digits, marks, strict=False))


def recover_address(digest: bytes, signature: bytes) -> str:
    """Return the EIP-55 address that signed a 32-byte digest; raise `BadSignature` as `recover_account` does."""
    return checksum_address("0x" + recover_account(digest, signature).hex())


@lru_cache(maxsize=1024)  # a pure function, and a chain asks about what a buyer's payment was admitted by
def recover_account(digest: bytes, signature: bytes) -> bytes:
    """Return the 20 bytes of the address that signed a 32-byte digest.

    Taken are 65 bytes r, s, v with v 27 or 28 (or 0 or 1, as hardware wallets send) and s in the lower half, as USDC
    demands; everything else raises `BadSignature`.
    """
    if len(signature) != SIGNATURE_BYTES:
        raise BadSignature(f"A signature has {SIGNATURE_BYTES} bytes, not {len(signature)}")
    if signature[64] not in (0, 1, 27, 28):
        raise BadSignature("The signature's last byte must be 27 or 28")
    if signature[32:64] > _HALF_ORDER:
        raise HighSignature("The signature's s must lie in the lower half of the curve order")
    recoverable = signature[:64] + bytes((signature[64] % 27,))
    try:
        key = PublicKey.from_signature_and_message(recoverable, digest, hasher=None)
    except ValueError:
        raise BadSignature("The signature belongs to no key") from None
    return keccak256(key.format(compressed=False)[1:])[12:]


def personal_digest(text: str) -> bytes:
    """Return the EIP-191 digest that wallets sign for a text (`personal_sign`)."""
    data = text.encode()
    return keccak256(b"\x19Ethereum Signed Message:\n%d%s" % (len(data), data))


class EvmKey:
    """A private key; it never shows itself in `repr`."""

    __slots__ = ("_key", "address")

    def __init__(self, secret: bytes) -> None:
        self._key = PrivateKey(secret)
        self.address = checksum_address("0x" + keccak256(self._key.public_key.format(compressed=False)[1:])[12:].hex())

    @classmethod
    def from_hex(cls, text: str) -> EvmKey:
        """Read 64 hexadecimal digits, with or without `0x`; raise `ValueError` without repeating them."""
        if not _SECRET.fullmatch(text):
            raise ValueError("A private key is 64 hexadecimal digits")
        return cls(bytes.fromhex(text[-64:]))

    @classmethod
    def generate(cls) -> EvmKey:
        return cls(PrivateKey().secret)

    def hex(self) -> str:
        """Return the secret as `0x` and 64 digits."""
        return "0x" + self._key.secret.hex()

    def sign_digest(self, digest: bytes) -> bytes:
        """Sign a 32-byte digest: 65 bytes r, s, v with v 27 or 28 and s in the lower half."""
        signature = self._key.sign_recoverable(digest, hasher=None)
        return signature[:64] + bytes((signature[64] + 27,))

    def __repr__(self) -> str:
        return f"EvmKey({self.address})"
