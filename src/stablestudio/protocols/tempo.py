"""Tempo transactions (type 0x76) and the TIP-20 transfers in them: reading, signing; no network, no clock.

Source: docs.tempo.xyz/protocol/transactions, checked against pytempo 0.6.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stablestudio.protocols import rlp
from stablestudio.protocols.evm import BadSignature, EvmKey, keccak256, recover_account

# A transaction with this nonce key is bound to its validity instead of an order: it lives for at most 30 seconds.
EXPIRING_NONCE_KEY = (1 << 256) - 1
MAX_BYTES = 12 * 1024
_TYPE = b"\x76"
_FEE_PAYER_ENVELOPE = 0x78
_TRANSFER, _TRANSFER_WITH_MEMO = bytes.fromhex("a9059cbb"), bytes.fromhex("95777d59")
_PAD = bytes(12)
_KEYCHAIN = (0x03, 0x04)
_P256, _WEBAUTHN, _MULTISIG = 0x01, 0x02, 0x05


class BadTransaction(ValueError):
    """The bytes are no Tempo transaction that can be settled here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TempoCall:
    """One call of a transaction; `to` in lower case, `value` always 0 on a chain without a native coin."""

    to: str
    value: int = 0
    data: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class TempoTransaction:
    """A signed transaction. Addresses are lower case, `valid_before` and `valid_after` Unix seconds, None for no bound.

    `sender` is whom the signature names, and `proved` is False where only the chain can tell whether it holds: a
    keychain, P256, WebAuthn or multisig signature. `raw` is as the chain keeps it, so `hash` is the chain's too.
    `signing_hash` is what the sender signed: the same for each spelling of a signature.
    """

    chain_id: int
    max_priority_fee_per_gas: int
    max_fee_per_gas: int
    gas_limit: int
    calls: tuple[TempoCall, ...]
    nonce_key: int
    nonce: int
    valid_before: int | None
    valid_after: int | None
    fee_token: str | None
    sender: str
    proved: bool
    sponsored: bool  # somebody else is asked to pay the fee
    raw: bytes
    hash: str
    signing_hash: bytes

    @property
    def expiring(self) -> bool:
        """Tell whether the nonce is one that expires: then the chain takes it only before `valid_before`."""
        return self.nonce_key == EXPIRING_NONCE_KEY


def decode(raw: bytes) -> TempoTransaction:
    """Read a signed transaction; raise `BadTransaction`."""
    if len(raw) > MAX_BYTES:
        raise BadTransaction(f"A transaction has at most {MAX_BYTES} bytes")
    if raw[:1] != _TYPE:
        sponsored = raw[:1] == bytes((_FEE_PAYER_ENVELOPE,))
        raise BadTransaction("Sponsored envelopes (0x78) are not taken" if sponsored else "The type must be 0x76")
    try:
        fields = rlp.decode(raw[1:])
        return _read(fields)
    except rlp.BadRlp as error:
        raise BadTransaction(f"The transaction cannot be read: {error}") from None
    except BadSignature as error:
        raise BadTransaction(f"The signature cannot be taken: {error}") from None


def sign(
    key: EvmKey,
    *,
    chain_id: int,
    calls: Sequence[TempoCall],
    gas_limit: int,
    max_fee_per_gas: int,
    max_priority_fee_per_gas: int,
    nonce_key: int = EXPIRING_NONCE_KEY,
    nonce: int = 0,
    valid_before: int | None = None,
    valid_after: int | None = None,
    fee_token: str | None = None,
) -> TempoTransaction:
    """Sign calls with a secp256k1 key, deterministically. Fees are in attodollars (10**-18) per unit of gas."""
    fields: list[rlp.Item] = [
        chain_id,
        max_priority_fee_per_gas,
        max_fee_per_gas,
        gas_limit,
        [[bytes.fromhex(call.to[2:]), call.value, call.data] for call in calls],
        [],
        nonce_key,
        nonce,
        valid_before or b"",
        valid_after or b"",
        bytes.fromhex(fee_token[2:]) if fee_token else b"",
        b"",
        [],
    ]
    signature = key.sign_digest(keccak256(_TYPE + rlp.encode(fields)))
    return decode(_TYPE + rlp.encode([*fields, signature]))


def transfer_with_memo(to: str, amount: int, memo: bytes) -> bytes:
    """Return the call data of TIP-20 `transferWithMemo(address,uint256,bytes32)`."""
    return _TRANSFER_WITH_MEMO + _PAD + bytes.fromhex(to[2:]) + amount.to_bytes(32) + memo


def read_transfer(data: bytes) -> tuple[str, int, bytes | None] | None:
    """Return recipient (lower case), amount and memo of a `transfer` or `transferWithMemo`, None for any other call."""
    if (data[:4], len(data)) not in ((_TRANSFER, 68), (_TRANSFER_WITH_MEMO, 100)) or data[4:16] != _PAD:
        return None
    return "0x" + data[16:36].hex(), int.from_bytes(data[36:68]), data[68:] or None


def _read(fields: rlp.Decoded) -> TempoTransaction:
    if not isinstance(fields, list) or len(fields) not in (14, 15):
        raise BadTransaction("A signed transaction has 14 or 15 fields")
    signature = fields[-1]
    if not isinstance(signature, bytes) or not isinstance(fields[5], list) or not isinstance(fields[12], list):
        raise BadTransaction("The transaction's fields are not of their kinds")
    sponsored = fields[11] != b""
    sponsor: list[rlp.Item] = [b"", b"\0"] if sponsored else [_address_or_empty(fields[10]), b""]
    signing_hash = keccak256(_TYPE + rlp.encode([*fields[:10], *sponsor, *fields[12:-1]]))
    raw = _TYPE + rlp.encode([*fields[:-1], _canonical(signature)])
    sender, proved = _signer(signing_hash, signature)
    return TempoTransaction(
        chain_id=_uint(fields[0], 8),
        max_priority_fee_per_gas=_uint(fields[1], 16),
        max_fee_per_gas=_uint(fields[2], 16),
        gas_limit=_uint(fields[3], 8),
        calls=_calls(fields[4]),
        nonce_key=_uint(fields[6], 32),
        nonce=_uint(fields[7], 8),
        valid_before=_uint(fields[8], 8) or None,
        valid_after=_uint(fields[9], 8) or None,
        fee_token=_address(fields[10]) if fields[10] else None,
        sender="0x" + sender.hex(),
        proved=proved,
        sponsored=sponsored,
        raw=raw,
        hash="0x" + keccak256(raw).hex(),
        signing_hash=signing_hash,
    )


def _calls(items: rlp.Decoded) -> tuple[TempoCall, ...]:
    if not isinstance(items, list) or not items:
        raise BadTransaction("The transaction has no calls")
    return tuple(_call(item) for item in items)


def _call(item: rlp.Decoded) -> TempoCall:
    if not isinstance(item, list) or len(item) != 3 or not isinstance(item[2], bytes):
        raise BadTransaction("A call is an address, a value and data")
    return TempoCall(to=_address(item[0]), value=_uint(item[1], 32), data=item[2])


def _uint(item: rlp.Decoded, size: int) -> int:
    value = rlp.number(item)
    if len(item) > size:
        raise BadTransaction(f"A number has more than {size} bytes")
    return value


def _address(item: rlp.Decoded) -> str:
    if not isinstance(item, bytes) or len(item) != 20:
        raise BadTransaction("An address has 20 bytes")
    return "0x" + item.hex()


def _address_or_empty(item: rlp.Decoded) -> bytes:
    return bytes.fromhex(_address(item)[2:]) if item else b""


def _canonical(signature: bytes) -> bytes:
    """Return a signature with secp256k1's last byte as 27 or 28, as nodes rewrite it before they take the hash."""
    if len(signature) == 65 and signature[64] in (0, 1):
        return signature[:64] + bytes((signature[64] + 27,))
    if len(signature) > 21 and signature[0] in _KEYCHAIN:
        return signature[:21] + _canonical(signature[21:])
    return signature


def _signer(signing_hash: bytes, signature: bytes) -> tuple[bytes, bool]:
    """Return whom a signature names, and whether it proves that."""
    if len(signature) == 65:
        return recover_account(signing_hash, signature), True
    kind, body = signature[:1], signature[1:]
    match kind[0] if kind else -1:
        case 0x03 | 0x04 if len(body) > 20:
            return body[:20], False
        case 0x01 if len(body) == 129:
            return keccak256(body[64:128])[12:], False
        case 0x02 if len(body) >= 128:
            return keccak256(body[-64:])[12:], False
        case 0x05:
            fields = rlp.decode(body)
            account = fields[0] if isinstance(fields, list) and fields else b""
            if isinstance(account, bytes) and len(account) == 20:
                return account, False
    raise BadSignature("It is of no kind that Tempo knows")
