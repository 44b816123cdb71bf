"""Raw Tempo transactions, and what a chain must make of each: one table for the ledger and for a real node."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from attrs import evolve
from coincurve import PrivateKey
from pytempo import Call, TempoTransaction, as_address

from stablestudio.sandbox.tempo_ledger import PATH_USD
from tests.chain.anvil import NOW
from tests.doubles import BUYER, PAY_TO

CHAIN = 42431
FUNDS = 1_000_000
PRICE = 45_000
TOKEN = PATH_USD.address
EXPIRING = 2**256 - 1
OTHER = "0x000000000000000000000000000000000000dEaD"
NOBODY = "0x" + "0" * 40
SECRET, POOR_SECRET = "0x" + "4c" * 32, "0x" + "5d" * 32
RICH_SECRET = "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"  # anvil's first account
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
# The hardfork that this node has; the test network's own is 300 s since a later one.
WINDOW = 30

MINED, FAILED, REFUSED = "mined", "mined and failed", "not taken"


def transfer(to: str = PAY_TO, amount: int = PRICE, memo: bytes | None = None) -> bytes:
    selector = "a9059cbb" if memo is None else "95777d59"
    return bytes.fromhex(selector + to[2:].lower().rjust(64, "0") + f"{amount:064x}") + (memo or b"")


def unsigned(data: bytes | None = None, *, to: str = TOKEN, value: int = 0, **changes: Any) -> TempoTransaction:
    return of_calls(Call.create(to=to, value=value, data=transfer() if data is None else data), **changes)


def of_calls(*calls: Call, **changes: Any) -> TempoTransaction:
    fields: dict[str, Any] = {
        "chain_id": CHAIN,
        "gas_limit": 1_000_000,
        "nonce_key": EXPIRING,
        "valid_before": NOW + 25,
        "fee_token": TOKEN,
        **changes,
    }
    return TempoTransaction.create(calls=calls, **fields)


def signed(data: bytes | None = None, *, key: str = SECRET, **changes: Any) -> bytes:
    raw: bytes = unsigned(data, **changes).sign(key).encode()
    return raw


def ordered(nonce: int, *, key: int = 7, amount: int = PRICE) -> bytes:
    """A transaction under a nonce that counts."""
    return signed(transfer(amount=amount), nonce_key=key, nonce=nonce, valid_before=None)


def respelt(raw: bytes) -> bytes:
    """The same transaction with the other spelling of its signature's last byte."""
    return raw[:-1] + bytes([raw[-1] - 27])


def resigned() -> bytes:
    """The same words under another signature of the same key: another hash, but no other transaction."""
    digest = unsigned().get_signing_hash()
    again = PrivateKey(bytes.fromhex(SECRET[2:])).sign_recoverable(digest, hasher=None, custom_nonce=_salted_nonce())
    return with_signature(again[:64] + bytes([again[64] + 27]))


def _salted_nonce() -> Any:
    from coincurve._libsecp256k1 import ffi, lib

    return lib.secp256k1_nonce_function_rfc6979, ffi.new("unsigned char[32]", bytes(31) + b"\1")


def with_signature(signature: bytes) -> bytes:
    """The good transaction with this in its signature's place, which is at its end."""
    raw = signed()
    return raw[:-65] + signature


def high_s(raw: bytes) -> bytes:
    s = ORDER - int.from_bytes(raw[-33:-1])
    return raw[:-33] + s.to_bytes(32) + bytes([55 - raw[-1]])


def tampered(raw: bytes) -> bytes:
    """One unit more than was signed: another key is recovered from the signature, which holds nothing."""
    return raw.replace(PRICE.to_bytes(32), (PRICE + 1).to_bytes(32))


@dataclass(frozen=True, slots=True, kw_only=True)
class Vector:
    """A transaction, perhaps after others that are mined and some time, and what it comes to."""

    name: str
    told: str
    raw: Callable[[], bytes]
    before: tuple[Callable[[], bytes], ...] = ()
    later: int = 0

    def __str__(self) -> str:
        return self.name


def _of(*, told: str, **vectors: Callable[[], bytes]) -> list[Vector]:
    return [Vector(name=name.replace("_", " "), told=told, raw=raw) for name, raw in vectors.items()]


VECTORS = [
    *_of(
        told=MINED,
        transfer=signed,
        transfer_with_memo=lambda: signed(transfer(memo=bytes(range(32)))),
        the_whole_balance=lambda: signed(transfer(amount=FUNDS)),
        nothing=lambda: signed(transfer(amount=0)),
        nothing_from_an_empty_account=lambda: signed(transfer(amount=0), key=POOR_SECRET),
        to_oneself=lambda: signed(transfer(BUYER.address)),
        bytes_behind_the_arguments=lambda: signed(transfer() + b"\0" * 7),
        bytes_above_the_address=lambda: signed(transfer()[:4] + b"\1" * 12 + transfer()[16:]),
        the_other_spelling_of_the_signature=lambda: respelt(signed()),
        ends_after_the_margin=lambda: signed(valid_before=NOW + 4),
        ends_with_the_window=lambda: signed(valid_before=NOW + WINDOW),
        begins_now=lambda: signed(valid_after=NOW),
        began_before=lambda: signed(valid_after=NOW - 100),
        the_first_of_a_nonce_key=lambda: ordered(0),
        the_first_of_the_protocol_nonce=lambda: ordered(0, key=0),
        a_nonce_key_without_end=lambda: signed(nonce_key=9, valid_before=None),
        a_nonce_key_with_a_far_end=lambda: signed(nonce_key=9, valid_before=NOW + 100_000),
        a_fee_that_it_holds=lambda: signed(max_fee_per_gas=FUNDS * 10**6),
        no_fee_token_named=lambda: signed(fee_token=None),
    ),
    *_of(
        told=FAILED,
        one_unit_too_much=lambda: signed(transfer(amount=FUNDS + 1)),
        from_an_empty_account=lambda: signed(key=POOR_SECRET),
        more_than_there_ever_was=lambda: signed(transfer(amount=2**256 - 1)),
        to_nobody=lambda: signed(transfer(NOBODY)),
        to_a_token=lambda: signed(transfer(TOKEN[:-1] + "1")),
        a_memo_cut_off=lambda: signed(transfer(memo=bytes(32))[:-1]),
        an_amount_cut_off=lambda: signed(transfer()[:-1]),
        no_arguments=lambda: signed(transfer()[:4]),
        too_much_under_a_nonce_key=lambda: ordered(0, amount=FUNDS + 1),
    ),
    *_of(
        told=REFUSED,
        ends_with_the_margin=lambda: signed(valid_before=NOW + 3),
        ends_now=lambda: signed(valid_before=NOW),
        ended_long_ago=lambda: signed(valid_before=1),
        ends_behind_the_window=lambda: signed(valid_before=NOW + WINDOW + 1),
        expiring_without_an_end=lambda: signed(valid_before=None),
        expiring_with_a_counted_nonce=lambda: signed(nonce=1),
        begins_in_a_second=lambda: signed(valid_after=NOW + 1),
        begins_after_its_end=lambda: signed(valid_after=NOW + 20, valid_before=NOW + 20),
        a_gap_in_a_nonce_key=lambda: ordered(1),
        a_gap_in_the_protocol_nonce=lambda: ordered(1, key=0),
        another_chain=lambda: signed(chain_id=4217),
        no_chain_we_know=lambda: signed(chain_id=1),
        a_native_coin=lambda: signed(value=1),
        a_fee_that_it_does_not_hold=lambda: signed(max_fee_per_gas=FUNDS * 10**6 + 1),
        a_fee_that_an_empty_account_does_not_hold=lambda: signed(transfer(amount=0), key=POOR_SECRET, max_fee_per_gas=1),
        a_fee_token_that_is_none=lambda: signed(fee_token=OTHER, max_fee_per_gas=1),
        too_little_gas=lambda: signed(gas_limit=20_000),
        high_s=lambda: high_s(signed()),
        s_of_zero=lambda: with_signature(b"\1" * 32 + bytes(32) + b"\x1b"),
        r_of_zero=lambda: with_signature(bytes(32) + b"\1" * 32 + b"\x1b"),
        a_byte_too_few=lambda: signed()[:-1],
        no_bytes=lambda: b"",
        the_type_alone=lambda: b"\x76",
        no_list=lambda: b"\x76\x80",
        a_type_nobody_knows=lambda: b"\x7f" + signed()[1:],
    ),
    Vector(name="one unit more than was signed", told=FAILED, raw=lambda: tampered(signed())),
    Vector(name="copied", told=MINED, before=(signed,), raw=signed),
    Vector(name="copied in the other spelling", told=MINED, before=(signed,), raw=lambda: respelt(signed())),
    Vector(name="copied after it failed", told=FAILED, before=(lambda: ordered(0, amount=FUNDS + 1),), raw=lambda: ordered(0, amount=FUNDS + 1)),
    Vector(name="signed a second time", told=REFUSED, before=(signed,), raw=resigned),
    Vector(name="the same for longer", told=MINED, before=(signed,), raw=lambda: signed(valid_before=NOW + 26)),
    Vector(name="the next of a nonce key", told=MINED, before=(lambda: ordered(0),), raw=lambda: ordered(1)),
    Vector(name="after one that failed", told=MINED, before=(lambda: ordered(0, amount=FUNDS + 1),), raw=lambda: ordered(1)),
    Vector(name="a nonce a second time", told=REFUSED, before=(lambda: ordered(0),), raw=lambda: ordered(0, amount=1)),
    Vector(name="a spent nonce of a failed one", told=REFUSED, before=(lambda: ordered(0, amount=FUNDS + 1),), raw=lambda: ordered(0, amount=1)),
    Vector(name="keys count apart", told=MINED, before=(lambda: ordered(0),), raw=lambda: ordered(0, key=8)),
    Vector(name="the rest twice", told=FAILED, before=(lambda: signed(transfer(amount=FUNDS)),), raw=signed),
    Vector(name="after its end", told=REFUSED, raw=signed, later=25),
    Vector(name="in its last seconds", told=MINED, raw=signed, later=21),
]  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference(Vector):
    """Where the ledger does less than the chain, by choice: `told` is what the chain comes to."""

    ledger: str = REFUSED


def bundled() -> bytes:
    raw: bytes = of_calls(*[Call.create(to=TOKEN, data=transfer()) for _ in range(2)]).sign(SECRET).encode()
    return raw


def sponsored() -> bytes:
    """A transaction whose fee another one pays, who signed too."""
    mine = unsigned(awaiting_fee_payer=True, fee_token=None).sign(SECRET)
    both: bytes = evolve(mine, fee_token=as_address(TOKEN)).sign(RICH_SECRET, for_fee_payer=True).encode()
    return both


DIFFERENCES = [
    Difference(name="two calls", told=MINED, raw=bundled),
    Difference(name="somebody else pays the fee", told=MINED, raw=sponsored),
    Difference(name="a call of an account", told=MINED, raw=lambda: signed(b"", to=PAY_TO)),
    Difference(name="an approval", told=MINED, raw=lambda: signed(bytes.fromhex("095ea7b3") + transfer()[4:])),
    Difference(name="a function that no token has", told=FAILED, raw=lambda: signed(b"\x12\x34\x56\x78")),
    Difference(name="a token called without data", told=FAILED, raw=lambda: signed(b"")),
    # Whoever sends a refund again wants to hear of the first one.
    Difference(name="copied after its end", told=REFUSED, ledger=MINED, before=(signed,), raw=signed, later=60),
]
