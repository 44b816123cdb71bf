"""Keys, addresses and signatures of Solana: base58 and ed25519; no transactions, no network."""

from __future__ import annotations

from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

ADDRESS_BYTES = 32
SIGNATURE_BYTES = 64
_ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_DIGITS = {character: value for value, character in enumerate(_ALPHABET)}
_MAX_TEXT = 128  # the work grows with the square of the length; keys and signatures need 88


def b58encode(data: bytes) -> str:
    number = int.from_bytes(data)
    text = ""
    while number:
        number, digit = divmod(number, 58)
        text = _ALPHABET[digit] + text
    return "1" * (len(data) - len(data.lstrip(b"\0"))) + text


def b58decode(text: str) -> bytes:
    """Read at most 128 base58 characters (Bitcoin's alphabet); raise `ValueError` for any other character."""
    if len(text) > _MAX_TEXT:
        raise ValueError(f"Base58 of keys and signatures has at most {_MAX_TEXT} characters")
    number = 0
    try:
        for character in text:
            number = number * 58 + _DIGITS[character]
    except KeyError:
        raise ValueError("Base58 has letters and digits only, and none of 0, O, I, l") from None
    zeros = len(text) - len(text.lstrip("1"))
    return bytes(zeros) + number.to_bytes((number.bit_length() + 7) // 8)


def is_address(text: str) -> bool:
    """Tell whether `text` is base58 of 32 bytes; case matters, every address has one spelling."""
    try:
        return len(b58decode(text)) == ADDRESS_BYTES
    except ValueError:
        return False


def verify(address: str, message: bytes, signature: bytes) -> bool:
    """Tell whether the owner of `address` signed `message`; anything unfit for that is a no."""
    if len(signature) != SIGNATURE_BYTES:
        return False
    try:
        VerifyKey(b58decode(address)).verify(message, signature)
    except (ValueError, BadSignatureError):
        return False
    return True


class SolanaKey:
    """An ed25519 key; it never shows itself in `repr`."""

    __slots__ = ("_key", "address")

    def __init__(self, seed: bytes) -> None:
        self._key = SigningKey(seed)
        self.address = b58encode(bytes(self._key.verify_key))

    @classmethod
    def from_base58(cls, text: str) -> SolanaKey:
        """Read base58 of a 32-byte seed or of the 64 bytes seed and public key that wallets export."""
        secret = b58decode(text)
        if len(secret) not in (ADDRESS_BYTES, SIGNATURE_BYTES):
            raise ValueError("A Solana key is base58 of 32 or 64 bytes")
        key = cls(secret[:ADDRESS_BYTES])
        if len(secret) == SIGNATURE_BYTES and key.address != b58encode(secret[ADDRESS_BYTES:]):
            raise ValueError("The two halves of this Solana key do not belong together")
        return key

    @classmethod
    def generate(cls) -> SolanaKey:
        return cls(bytes(SigningKey.generate()))

    def base58(self) -> str:
        """Return the secret as wallets export it: base58 of seed and public key."""
        return b58encode(bytes(self._key) + bytes(self._key.verify_key))

    def sign(self, message: bytes) -> bytes:
        """Sign bytes: 64 bytes."""
        return self._key.sign(message).signature

    def __repr__(self) -> str:
        return f"SolanaKey({self.address})"
