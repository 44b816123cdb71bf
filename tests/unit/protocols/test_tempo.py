"""Tempo transactions are read and signed as pytempo signs them, and nothing else is taken for one."""

from __future__ import annotations

from typing import Any

import pytest
import rlp
from hypothesis import given
from hypothesis import strategies as st
from pytempo import Call, TempoTransaction

from stablestudio.protocols import tempo
from stablestudio.protocols.evm import EvmKey, keccak256

KEY = EvmKey.from_hex("0x" + "4c" * 32)
OTHER = EvmKey.from_hex("0x" + "5d" * 32)
TOKEN = "0x20c0000000000000000000000000000000000000"
PAYEE = "0x209693bc6afc0c5328ba36faf03c514ef312287c"
MEMO = bytes(range(32))
DATA = tempo.transfer_with_memo(PAYEE, 45_000, MEMO)
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
NOW = 1_795_204_441
U64, U128, U256 = 2**64 - 1, 2**128 - 1, 2**256 - 1


def _theirs(*, key: EvmKey = KEY, **changes: Any) -> TempoTransaction:
    fields: dict[str, Any] = {
        "chain_id": 42431,
        "gas_limit": 300_000,
        "max_fee_per_gas": 10**10,
        "max_priority_fee_per_gas": 1,
        "nonce_key": U256,
        "valid_before": NOW + 25,
        "fee_token": TOKEN,
        "calls": (Call.create(to=TOKEN, data=DATA),),
        **changes,
    }
    return TempoTransaction.create(**fields).sign(key.hex())


GOOD: bytes = _theirs().encode()


def _edited(place: int, value: Any, raw: bytes = GOOD) -> bytes:
    fields = rlp.decode(raw[1:])
    fields[place] = value
    return b"\x76" + rlp.encode(fields)  # type: ignore[no-any-return]


def _with_signature(signature: bytes) -> bytes:
    return _edited(-1, signature)


@given(
    chain_id=st.integers(1, U64),
    gas_limit=st.integers(1, U64),
    max_fee_per_gas=st.integers(1, U128),
    nonce_key=st.integers(0, U256),
    nonce=st.integers(0, U64),
    valid_before=st.none() | st.integers(NOW, U64),
    valid_after=st.none() | st.integers(1, NOW),
    fee_token=st.none() | st.just(TOKEN),
    data=st.lists(st.binary(max_size=100), min_size=1, max_size=3),
)
def test_what_pytempo_signs_is_read_as_it_was_meant(data: list[bytes], **fields: Any) -> None:
    calls = tuple(Call.create(to=TOKEN, value=index, data=each) for index, each in enumerate(data))
    theirs = _theirs(calls=calls, max_priority_fee_per_gas=0, **fields)
    read = tempo.decode(theirs.encode())
    assert {name: getattr(read, name) for name in fields} == fields
    assert read.calls == tuple(tempo.TempoCall(to=TOKEN, value=index, data=each) for index, each in enumerate(data))
    assert (read.sender, read.proved, read.sponsored) == (KEY.address.lower(), True, False)
    assert (read.raw, read.hash) == (theirs.encode(), "0x" + theirs.hash().hex())
    assert read.signing_hash == theirs.get_signing_hash()


def test_we_sign_the_bytes_that_pytempo_signs() -> None:
    ours = tempo.sign(
        KEY,
        chain_id=42431,
        calls=[tempo.TempoCall(to=TOKEN, data=DATA)],
        gas_limit=300_000,
        max_fee_per_gas=10**10,
        max_priority_fee_per_gas=1,
        valid_before=NOW + 25,
        fee_token=TOKEN,
    )
    assert ours.raw == GOOD
    assert ours.expiring
    plain = tempo.sign(
        KEY,
        chain_id=1,
        calls=[tempo.TempoCall(to=TOKEN), tempo.TempoCall(to=PAYEE, value=5, data=b"\1")],
        gas_limit=1,
        max_fee_per_gas=0,
        max_priority_fee_per_gas=0,
        nonce_key=7,
        nonce=3,
        valid_after=9,
    )
    calls = (Call.create(to=TOKEN), Call.create(to=PAYEE, value=5, data=b"\1"))
    theirs = _theirs(
        chain_id=1, calls=calls, gas_limit=1, max_fee_per_gas=0, max_priority_fee_per_gas=0,
        nonce_key=7, nonce=3, valid_before=None, valid_after=9, fee_token=None,
    )  # fmt: skip
    assert plain.raw == theirs.encode()
    assert not plain.expiring


def test_either_spelling_of_a_signature_is_one_transaction() -> None:
    respelt = GOOD[:-1] + bytes([GOOD[-1] - 27])
    assert tempo.decode(respelt) == tempo.decode(GOOD)
    assert tempo.decode(respelt).raw == GOOD


def test_a_keychain_signature_names_its_account_and_proves_nothing() -> None:
    unsigned = TempoTransaction.create(chain_id=42431, calls=(Call.create(to=TOKEN, data=DATA),))
    theirs = unsigned.sign_access_key(OTHER.hex(), KEY.address)
    read = tempo.decode(theirs.encode())
    assert (read.sender, read.proved) == (KEY.address.lower(), False)
    assert read.hash == "0x" + keccak256(read.raw).hex()
    assert read.raw[-1] in (27, 28)


@pytest.mark.parametrize(
    ("signature", "account"),
    [
        (b"\x01" + bytes(64) + b"\7" * 64 + b"\0", keccak256(b"\7" * 64)[12:]),
        (b"\x02" + b"authenticator" + bytes(128) + b"\7" * 64, keccak256(b"\7" * 64)[12:]),
        (b"\x03" + b"\5" * 20 + bytes(65), b"\5" * 20),
        (b"\x04" + b"\5" * 20 + bytes(65), b"\5" * 20),
        (b"\x05" + rlp.encode([b"\5" * 20, [b"x"]]), b"\5" * 20),
    ],
    ids=["P256", "WebAuthn", "keychain", "keychain 2", "multisig"],
)
def test_other_signatures_name_accounts_that_only_the_chain_can_prove(signature: bytes, account: bytes) -> None:
    read = tempo.decode(_with_signature(signature))
    assert (read.sender, read.proved) == ("0x" + account.hex(), False)
    assert read.signing_hash == tempo.decode(GOOD).signing_hash


@pytest.mark.parametrize(
    "signature",
    [
        b"",
        b"\x06" + bytes(100),
        b"\x01" + bytes(128),
        b"\x02" + bytes(127),
        b"\x03" + bytes(20),
        b"\x05" + b"\xc0",
        b"\x05" + b"\x81",
        b"\x05" + rlp.encode([b"\5" * 19]),
        bytes(65),
        bytes(64),
        GOOD[-65:-1] + b"\2",
        b"\xff" * 65,
    ],
)
def test_what_is_no_signature_is_refused(signature: bytes) -> None:
    with pytest.raises(tempo.BadTransaction):
        tempo.decode(_with_signature(signature))


def test_the_forgeable_twin_of_a_signature_is_refused() -> None:
    s = ORDER - int.from_bytes(GOOD[-33:-1])
    with pytest.raises(tempo.BadTransaction, match="lower half"):
        tempo.decode(GOOD[:-33] + s.to_bytes(32) + bytes([55 - GOOD[-1]]))


def test_a_sponsored_transaction_is_marked_and_its_sender_is_still_known() -> None:
    unsigned = TempoTransaction.create(
        chain_id=42431, calls=(Call.create(to=TOKEN, data=DATA),), awaiting_fee_payer=True, fee_token=TOKEN
    )
    theirs = unsigned.sign(KEY.hex()).sign(OTHER.hex(), for_fee_payer=True)
    read = tempo.decode(theirs.encode())
    assert (read.sender, read.sponsored) == (KEY.address.lower(), True)
    assert read.signing_hash == theirs.get_signing_hash()
    with pytest.raises(tempo.BadTransaction, match="0x78"):
        tempo.decode(b"\x78" + GOOD[1:])


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (0, b"\0\1"),
        (0, b"\1" * 9),
        (1, b"\1" * 17),
        (2, []),
        (3, b"\1" * 9),
        (4, b""),
        (4, []),
        (4, [b"x"]),
        (4, [[b"\1" * 20, b""]]),
        (4, [[b"\1" * 19, b"", b""]]),
        (4, [[b"", b"", b""]]),
        (4, [[b"\1" * 20, b"\1" * 33, b""]]),
        (4, [[b"\1" * 20, b"", []]]),
        (5, b""),
        (6, b"\1" * 33),
        (7, b"\1" * 9),
        (8, b"\1" * 9),
        (9, [b""]),
        (10, b"\1" * 19),
        (10, [b"\1"]),
        (12, b""),
        (13, []),
    ],
)
def test_fields_of_another_kind_are_refused(place: int, value: Any) -> None:
    with pytest.raises(tempo.BadTransaction):
        tempo.decode(_edited(place, value))


@given(edits=st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), max_size=4), cut=st.integers(0, 9))
def test_damaged_bytes_are_refused_or_another_transaction(edits: list[tuple[int, int]], cut: int) -> None:
    raw = bytearray(GOOD[: len(GOOD) - cut])
    for place, byte in edits:
        if place < len(raw):
            raw[place] = byte
    try:
        read = tempo.decode(bytes(raw))
    except tempo.BadTransaction:
        return
    same = (read.signing_hash, read.sender) == (tempo.decode(GOOD).signing_hash, KEY.address.lower())
    assert same == (read.raw == GOOD)


@given(raw=st.binary(max_size=200))
def test_any_other_bytes_are_refused(raw: bytes) -> None:
    for each in (raw, b"\x76" + raw):
        with pytest.raises(tempo.BadTransaction):
            tempo.decode(each)


def test_endless_bytes_are_refused_unread() -> None:
    with pytest.raises(tempo.BadTransaction, match="at most"):
        tempo.decode(b"\x76" + b"\xf8" * tempo.MAX_BYTES)


def test_a_transfer_is_read_from_its_call() -> None:
    plain = bytes.fromhex("a9059cbb") + bytes(12) + bytes.fromhex(PAYEE[2:]) + (45_000).to_bytes(32)
    assert tempo.read_transfer(plain) == (PAYEE, 45_000, None)
    assert tempo.read_transfer(DATA) == (PAYEE, 45_000, MEMO)
    assert tempo.read_transfer(tempo.transfer_with_memo(PAYEE, 0, bytes(32))) == (PAYEE, 0, bytes(32))


@pytest.mark.parametrize(
    "data",
    [b"", DATA[:-1], DATA + b"\0", DATA[:68], DATA[4:], b"\1" + DATA[1:], DATA[:4] + b"\1" + DATA[5:]],
)
def test_what_is_no_transfer_is_none(data: bytes) -> None:
    assert tempo.read_transfer(data) is None


def test_a_transfer_is_called_as_pytempo_calls_it() -> None:
    from pytempo.contracts import TIP20

    assert TIP20(TOKEN).transfer_with_memo(to=PAYEE, amount=45_000, memo=MEMO).data == DATA
