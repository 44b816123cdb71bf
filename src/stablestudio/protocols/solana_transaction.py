"""Solana transactions as bytes: legacy and version 0 messages, read as strictly as the chain's own code reads them.

Source: the wire format of the crates solana-transaction and solana-message (https://solana.com/docs/core/transactions).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from stablestudio.protocols.solana import ADDRESS_BYTES, SIGNATURE_BYTES

MAX_BYTES = 1232  # one packet
EMPTY_SIGNATURE = bytes(SIGNATURE_BYTES)
_VERSIONED = 0x80


class BadTransaction(ValueError):
    """The bytes are no Solana transaction that the chain would take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """An account as an instruction names it."""

    key: bytes
    signer: bool = False
    writable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruction:
    """A call of one program, before it is part of a message."""

    program: bytes
    accounts: Sequence[Account] = ()
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """An instruction inside a message: `program` and each byte of `accounts` are places in the message's list of keys."""

    program: int
    accounts: bytes
    data: bytes


@dataclass(frozen=True, kw_only=True)
class Message:
    """What is signed. `version` is None for a legacy message; `looked_up` counts accounts that only a table on chain names."""

    version: int | None
    signers: int
    readonly_signers: int
    readonly_others: int
    keys: tuple[bytes, ...]
    blockhash: bytes
    calls: tuple[Call, ...]
    looked_up: int
    raw: bytes

    @cached_property
    def hash(self) -> str:
        """Return the SHA-256 of the message in hexadecimal: its name, which no signature can change."""
        return hashlib.sha256(self.raw).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Transaction:
    """A message with one signature for each signer; 64 zero bytes stand for one that is missing."""

    signatures: tuple[bytes, ...]
    message: Message

    def raw(self) -> bytes:
        return _length(len(self.signatures)) + b"".join(self.signatures) + self.message.raw

    def signed(self, place: int, signature: bytes) -> Transaction:
        """Return the transaction with a signature put at a place."""
        signatures = (*self.signatures[:place], signature, *self.signatures[place + 1 :])
        return Transaction(signatures=signatures, message=self.message)


class _Reader:
    """Takes bytes from the front; every shortage is a `BadTransaction`."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def rest(self) -> bytes:
        return self._data[self._at :]

    def take(self, count: int) -> bytes:
        taken = self._data[self._at : self._at + count]
        if len(taken) != count:
            raise BadTransaction("it ends too early")
        self._at += count
        return taken

    def byte(self) -> int:
        return self.take(1)[0]

    def length(self) -> int:
        """Read a compact-u16: seven bits a byte, low ones first, in the shortest form only."""
        value = 0
        for place in range(3):
            byte = self.byte()
            if byte == 0 and place:
                break
            value |= (byte & 0x7F) << (7 * place)
            if byte < 0x80:
                if value > 0xFFFF:
                    break
                return value
        raise BadTransaction("a length in it is not written in the shortest form")

    def list(self, size: int) -> tuple[bytes, ...]:
        return tuple(self.take(size) for _ in range(self.length()))

    def vector(self) -> bytes:
        return self.take(self.length())


def decode(raw: bytes) -> Transaction:
    """Read a transaction; raise `BadTransaction` for what the chain would refuse before running it."""
    if len(raw) > MAX_BYTES:
        raise BadTransaction(f"it has {len(raw)} bytes, at most {MAX_BYTES} fit into a packet")
    reader = _Reader(raw)
    signatures = reader.list(SIGNATURE_BYTES)
    message = decode_message(reader.rest)
    if len(signatures) != message.signers:
        raise BadTransaction(f"it has {len(signatures)} signatures for {message.signers} signers")
    return Transaction(signatures=signatures, message=message)


def decode_message(raw: bytes) -> Message:
    """Read the signed part of a transaction; raise `BadTransaction`."""
    reader = _Reader(raw)
    signers, version = reader.byte(), None
    if signers & _VERSIONED:
        version, signers = signers & ~_VERSIONED, reader.byte()
        if version != 0:
            raise BadTransaction(f"its message has version {version}, and only legacy and 0 are known")
    message = Message(
        version=version,
        signers=signers,
        readonly_signers=reader.byte(),
        readonly_others=reader.byte(),
        keys=reader.list(ADDRESS_BYTES),
        blockhash=reader.take(32),
        calls=tuple(
            Call(program=reader.byte(), accounts=reader.vector(), data=reader.vector()) for _ in range(reader.length())
        ),
        looked_up=_read_lookups(reader) if version == 0 else 0,
        raw=raw,
    )
    if reader.rest:
        raise BadTransaction("bytes follow its end")
    _check_places(message)
    return message


def _read_lookups(reader: _Reader) -> int:
    count = 0
    for _ in range(reader.length()):
        reader.take(ADDRESS_BYTES)
        loaded = len(reader.vector()) + len(reader.vector())
        if not loaded:
            raise BadTransaction("it names an address table that it takes nothing from")
        count += loaded
    return count


def _check_places(message: Message) -> None:
    named = len(message.keys) + message.looked_up
    if message.readonly_signers >= message.signers:
        raise BadTransaction("it has no writable signer to pay its fee")
    if message.signers + message.readonly_others > len(message.keys) or named > 256:
        raise BadTransaction("its counts of accounts do not fit its list of accounts")
    if len(set(message.keys)) != len(message.keys):
        raise BadTransaction("it lists an account twice")
    for call in message.calls:
        if not 0 < call.program < len(message.keys):
            raise BadTransaction("an instruction's program is none of its accounts, or is its fee payer")
        if call.accounts and max(call.accounts) >= named:
            raise BadTransaction("an instruction names an account that is not listed")


def compile_message(
    payer: bytes, instructions: Sequence[Instruction], *, blockhash: bytes, version: int | None = 0
) -> Message:
    """Return the message that runs these instructions in this order, paid by `payer`; version 0, or None for legacy."""
    roles = _roles(payer, instructions)
    keys = sorted(roles, key=lambda key: (key != payer, not roles[key][0], not roles[key][1], key))
    places = {key: place for place, key in enumerate(keys)}
    signers = [roles[key][1] for key in keys if roles[key][0]]
    others = [roles[key][1] for key in keys if not roles[key][0]]
    raw = b"".join(
        (
            b"" if version is None else bytes((_VERSIONED | version,)),
            bytes((len(signers), signers.count(False), others.count(False))),
            _length(len(keys)),
            *keys,
            blockhash,
            _length(len(instructions)),
            *(_call(instruction, places) for instruction in instructions),
            b"" if version is None else _length(0),
        )
    )
    return decode_message(raw)


def _roles(payer: bytes, instructions: Iterable[Instruction]) -> dict[bytes, tuple[bool, bool]]:
    """Return for each account whether it signs and whether it is written to."""
    roles = {payer: (True, True)}
    for instruction in instructions:
        for account in (*instruction.accounts, Account(key=instruction.program)):
            signer, writable = roles.get(account.key, (False, False))
            roles[account.key] = (signer or account.signer, writable or account.writable)
    return roles


def _call(instruction: Instruction, places: dict[bytes, int]) -> bytes:
    accounts = bytes(places[account.key] for account in instruction.accounts)
    program = bytes((places[instruction.program],))
    return b"".join((program, _length(len(accounts)), accounts, _length(len(instruction.data)), instruction.data))


def _length(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
