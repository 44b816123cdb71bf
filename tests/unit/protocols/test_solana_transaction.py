"""Transactions are read as the chain's own code reads them, and written as it writes them."""

from __future__ import annotations

import random
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stablestudio.protocols import solana_programs as programs
from stablestudio.protocols.solana_transaction import (
    MAX_BYTES,
    Account,
    BadTransaction,
    Instruction,
    Message,
    Transaction,
    compile_message,
    decode,
)

PAYER, SOURCE, MINT, DESTINATION, OWNER = (bytes((number,)) * 32 for number in range(1, 6))
MOVE = programs.transfer_checked(
    source=SOURCE, mint=MINT, destination=DESTINATION, authority=OWNER, amount=45_000, decimals=6
)
INSTRUCTIONS = [programs.unit_limit(20_000), programs.unit_price(1), MOVE, programs.memo("0123456789abcdef" * 2)]
BLOCKHASH = b"\x0b" * 32


def _message(*, version: int | None = 0) -> Message:
    return compile_message(PAYER, INSTRUCTIONS, blockhash=BLOCKHASH, version=version)


def _raw(*, version: int | None = 0) -> bytes:
    return Transaction(signatures=(bytes(64), b"\x07" * 64), message=_message(version=version)).raw()


@pytest.mark.parametrize("version", [0, None])
def test_what_is_written_is_read_back(version: int | None) -> None:
    transaction = decode(_raw(version=version))

    assert transaction.raw() == _raw(version=version)
    assert transaction.message == _message(version=version)
    assert transaction.message.keys[0] == PAYER
    assert transaction.message.keys[1] == OWNER
    assert transaction.message.blockhash == BLOCKHASH
    assert [call.data for call in transaction.message.calls] == [call.data for call in INSTRUCTIONS]


@pytest.mark.parametrize("version", [0, None])
def test_messages_are_byte_for_byte_those_of_the_chains_own_library(version: int | None) -> None:
    solders = pytest.importorskip("solders")
    from solders.hash import Hash
    from solders.instruction import AccountMeta
    from solders.instruction import Instruction as TheirInstruction
    from solders.message import Message as Legacy
    from solders.message import MessageV0, to_bytes_versioned
    from solders.pubkey import Pubkey

    assert solders
    theirs = [
        TheirInstruction(
            Pubkey(call.program),
            call.data,
            [AccountMeta(Pubkey(account.key), account.signer, account.writable) for account in call.accounts],
        )
        for call in INSTRUCTIONS
    ]
    if version == 0:
        expected = to_bytes_versioned(MessageV0.try_compile(Pubkey(PAYER), theirs, [], Hash(BLOCKHASH)))
    else:
        expected = to_bytes_versioned(Legacy.new_with_blockhash(theirs, Pubkey(PAYER), Hash(BLOCKHASH)))

    assert _message(version=version).raw == expected


@pytest.mark.parametrize("seed", range(4))
def test_mutations_are_refused_exactly_where_the_chains_own_library_refuses_them(seed: int) -> None:
    pytest.importorskip("solders")
    chance = random.Random(seed)
    accepted = 0
    for _ in range(4_000):
        mutant = _mutate(_raw(version=chance.choice([0, None])), chance)
        assert _is_read(mutant) == _is_taken(mutant), mutant.hex()
        accepted += _is_read(mutant)

    assert 400 < accepted < 3_600  # or nothing was compared


def _mutate(raw: bytes, chance: random.Random) -> bytes:
    mutant = bytearray(raw)
    for _ in range(chance.choice([1, 1, 2])):
        kind = chance.random()
        if kind < 0.1:
            del mutant[chance.randrange(len(mutant)) :]
        elif kind < 0.2:
            mutant += chance.randbytes(chance.choice([1, 2]))
        elif len(mutant) > 200:
            heads = [*range(3), *range(129, 140), *range(len(mutant) - 60, len(mutant))]
            place = chance.choice([chance.randrange(len(mutant)), chance.choice(heads)])
            mutant[place] = chance.choice([0, 1, 2, 3, 4, 5, 7, 0x7F, 0x80, 0x81, 0xFF, chance.randrange(256)])
    return bytes(mutant)


def _is_read(raw: bytes) -> bool:
    try:
        return decode(raw).raw() == raw
    except BadTransaction:
        return False


def _is_taken(raw: bytes) -> bool:
    from solders.transaction import VersionedTransaction

    try:
        transaction = VersionedTransaction.from_bytes(raw)
        transaction.sanitize()
    except Exception:  # noqa: BLE001 - the library has many
        return False
    return bytes(transaction) == raw


@given(st.binary(max_size=MAX_BYTES + 50))
def test_noise_is_refused_and_never_breaks_the_reader(noise: bytes) -> None:
    for raw in (noise, _raw()[:140] + noise):
        with suppress(BadTransaction):
            assert decode(raw).raw() == raw


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda raw: raw + bytes(MAX_BYTES), "fit into a packet"),
        (lambda raw: raw + b"\0", "bytes follow"),
        (lambda raw: raw[:-1], "too early"),
        (lambda raw: b"\x82\x00" + raw[1:], "shortest form"),
        (lambda raw: b"\xff\xff\x04" + raw[1:], "shortest form"),
        (lambda raw: b"\x01" + raw[65:], "1 signatures for 2 signers"),
        (lambda raw: raw[:129] + b"\x81" + raw[130:], "version 1"),
        (lambda raw: raw[:131] + b"\x02" + raw[132:], "no writable signer"),
        (lambda raw: raw[:132] + b"\x20" + raw[133:], "counts of accounts"),
        (lambda raw: raw.replace(SOURCE, MINT, 1), "lists an account twice"),
    ],
)
def test_a_refusal_says_what_is_wrong(spoil: object, told: str) -> None:
    assert callable(spoil)
    with pytest.raises(BadTransaction, match=told):
        decode(spoil(_raw()))


def test_accounts_from_lookup_tables_are_counted() -> None:
    message = _message().raw[:-1] + b"\x01" + b"\x09" * 32 + b"\x01\x00" + b"\x02\x01\x02"
    raw = b"\x02" + bytes(128) + message

    assert decode(raw).message.looked_up == 3


def test_a_lookup_table_that_nothing_is_taken_from_is_refused() -> None:
    raw = b"\x02" + bytes(128) + _message().raw[:-1] + b"\x01" + b"\x09" * 32 + b"\x00\x00"

    with pytest.raises(BadTransaction, match="takes nothing from"):
        decode(raw)


def test_a_signature_does_not_change_a_messages_name() -> None:
    transaction = decode(_raw())

    assert transaction.signed(0, b"\x01" * 64).message.hash == transaction.message.hash
    assert transaction.signed(0, b"\x01" * 64).signatures == (b"\x01" * 64, b"\x07" * 64)


def test_an_account_named_twice_keeps_its_strongest_role() -> None:
    weak = Instruction(
        program=b"\x0c" * 32, accounts=(Account(key=OWNER), Account(key=SOURCE, writable=True)), data=b""
    )
    strong = Instruction(
        program=b"\x0c" * 32, accounts=(Account(key=OWNER, signer=True, writable=True),), data=b"x" * 200
    )

    message = compile_message(PAYER, [weak, strong], blockhash=BLOCKHASH)

    assert (message.signers, message.readonly_signers, message.readonly_others) == (2, 0, 1)
    assert message.keys == (PAYER, OWNER, SOURCE, b"\x0c" * 32)
    assert message.calls[1].data == b"x" * 200
