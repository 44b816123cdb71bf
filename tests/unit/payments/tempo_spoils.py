"""Credentials that are each wrong in one way, by what must be said of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import rlp
from pytempo import Call, TempoTransaction

from stablestudio.money import Money
from stablestudio.payments.tempo.rail import TempoRail
from stablestudio.protocols import mpp
from stablestudio.protocols.tempo import TempoCall
from tests.doubles import BUYER, PAY_TO
from tests.unit.payments.tempo_buyer import (
    ASKED,
    CHAIN_ID,
    NOW,
    OTHER_TOKEN,
    PRICE,
    STRANGER,
    TOKEN,
    credential,
    local_rail,
    memo_of,
    pay,
    pay_call,
    read_challenge,
    read_part,
    signed,
    with_challenge,
)

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
DEX = "0xdec0000000000000000000000000000000000000"

Spoil = Callable[[TempoRail], mpp.Credential]


def quote(rail: TempoRail, **changes: Any) -> mpp.ChallengeEcho:
    return read_challenge(rail.challenge(replace(ASKED, **changes)))


def called(*calls: Callable[[mpp.ChallengeEcho], TempoCall], **changes: Any) -> Spoil:
    """A credential whose transaction makes these calls."""

    def make(rail: TempoRail) -> mpp.Credential:
        challenge = quote(rail)
        return credential(challenge, signed(*(call(challenge) for call in calls), **changes).raw)

    return make


def paid_with(**changes: Any) -> Callable[[mpp.ChallengeEcho], TempoCall]:
    return lambda challenge: pay_call(challenge, **changes)


def words(selector: str, *words: str | int) -> bytes:
    encoded = [int(word, 16) if isinstance(word, str) else word for word in words]
    return bytes.fromhex(selector) + b"".join(word.to_bytes(32) for word in encoded)


def approve(spender: str = DEX, amount: int = 50_000, token: str = OTHER_TOKEN) -> TempoCall:
    return TempoCall(to=token, data=words("095ea7b3", spender, amount))


def swap(out: str = TOKEN, amount: int = PRICE.micros, most: int = 50_000, to: str = DEX) -> TempoCall:
    return TempoCall(to=to, data=words("b30d91d5", OTHER_TOKEN, out, amount, most))


def swapped(*before: TempoCall) -> Spoil:
    return called(*[lambda _, call=call: call for call in before], paid_with())


def respelt(spell: Callable[[bytes], bytes]) -> Spoil:
    """A good credential whose signed bytes are spelt otherwise."""

    def make(rail: TempoRail) -> mpp.Credential:
        challenge = quote(rail)
        return credential(challenge, spell(signed(pay_call(challenge)).raw))

    return make


def high_s(raw: bytes) -> bytes:
    s = ORDER - int.from_bytes(raw[-33:-1])
    return raw[:-33] + s.to_bytes(32) + bytes([55 - raw[-1]])


def edited(place: int, value: Any) -> Callable[[bytes], bytes]:
    def edit(raw: bytes) -> bytes:
        fields = rlp.decode(raw[1:])
        fields[place] = value
        return b"\x76" + rlp.encode(fields)  # type: ignore[no-any-return]

    return edit


def echoed(**changes: Any) -> Spoil:
    return lambda rail: with_challenge(pay(rail.challenge(ASKED)), **changes)


def asked_for(**changes: Any) -> Spoil:
    """A good payment of a challenge that was issued for something else."""
    return lambda rail: pay(rail.challenge(replace(ASKED, **changes)))


def payload(**changes: Any) -> Spoil:
    def make(rail: TempoRail) -> mpp.Credential:
        given = pay(rail.challenge(ASKED))
        return replace(given, payload={**given.payload, **changes})

    return make


def from_rail(**changes: Any) -> Spoil:
    """A good payment of a challenge of another rail."""

    def make(rail: TempoRail) -> mpp.Credential:
        return pay(local_rail(**changes).challenge(ASKED))

    return make


def request_of(**changes: Any) -> Spoil:
    """A challenge with another request, under the id of the one that was issued."""

    def make(rail: TempoRail) -> mpp.Credential:
        challenge = quote(rail)
        changed = read_part(challenge.request) | changes
        spoiled = replace(challenge, request=mpp.messages.canonical(changed))
        return credential(spoiled, signed(pay_call(spoiled)).raw)

    return make


def sponsored(rail: TempoRail) -> mpp.Credential:
    challenge = quote(rail)
    call = pay_call(challenge)
    unsigned = TempoTransaction.create(
        chain_id=CHAIN_ID,
        gas_limit=500_000,
        max_fee_per_gas=1,
        nonce_key=2**256 - 1,
        valid_before=NOW + 25,
        awaiting_fee_payer=True,
        calls=(Call.create(to=call.to, data=call.data),),
    )
    by_buyer = unsigned.sign(BUYER.hex())
    return credential(challenge, by_buyer.sign(STRANGER.hex(), for_fee_payer=True).encode())


NOT_ISSUED: dict[str, Spoil] = {
    "a tampered id": echoed(id="A" * 43),
    "no text of an HMAC at all": echoed(id="x"),
    "another realm": echoed(realm="evil.test"),
    "a realm that swallows the method": echoed(realm="studio.test|tempo", method="charge"),
    "another expiry": echoed(expires="2030-01-01T00:00:00Z"),
    "no expiry": echoed(expires=None),
    "another digest": echoed(digest=mpp.body_digest(b"other")),
    "no digest": echoed(digest=None),
    "another opaque": echoed(opaque=mpp.messages.canonical({"path": ASKED.path})),
    "no opaque": echoed(opaque=None),
    "a smaller amount": request_of(amount="1"),
    "the payer as recipient": request_of(recipient=BUYER.address),
    "push allowed": request_of(methodDetails={"chainId": CHAIN_ID, "supportedModes": ["push"]}),
    "a fee payer": request_of(methodDetails={"chainId": CHAIN_ID, "feePayer": True}),
    "a key that is no longer ours": from_rail(keys=[b"replaced" * 4]),
    "a challenge of another realm": from_rail(realm="other.test"),
}
MISMATCH: dict[str, Spoil] = {
    "a cheaper price": asked_for(price=Money(44_999)),
    "a dearer price": asked_for(price=Money(45_001)),
    "another body": asked_for(body=b'{"prompt":"a dog"}'),
    "no body": asked_for(body=b""),
    "another path": asked_for(path="/api/generate/nano-banana/generate"),
    "another recipient of ours": from_rail(pay_to=STRANGER.address),
    "a zero-amount proof's challenge": lambda rail: pay(
        mpp.proof_challenge(rail.desk, rail.terms, path=ASKED.path, now_s=NOW)
    ),
}
REFUSED: dict[str, dict[str, Spoil]] = {
    "chain ID does not match": {
        "another chain's transaction": called(paid_with(), chain_id=4217),
    },
    "no matching payment call": {
        "another token": called(paid_with(token=OTHER_TOKEN)),
        "another payee": called(paid_with(to=STRANGER.address)),
        "one unit less": called(paid_with(amount=PRICE.micros - 1)),
        "one unit more": called(paid_with(amount=PRICE.micros + 1)),
        "value": called(paid_with(value=1)),
        "bytes behind the call data": called(
            lambda challenge: replace(pay_call(challenge), data=pay_call(challenge).data + b"\0")
        ),
        "bytes above the recipient": called(
            lambda challenge: replace(
                pay_call(challenge), data=pay_call(challenge).data[:4] + b"\1" + pay_call(challenge).data[5:]
            )
        ),
    },
    "unauthorized extra calls": {
        "the call twice": called(paid_with(), paid_with()),
        "an extra transfer": called(paid_with(), paid_with(to=STRANGER.address, amount=1)),
    },
    "disallowed call pattern": {
        "an extra call before": called(lambda _: TempoCall(to=STRANGER.address.lower()), paid_with()),
        "an approval before": swapped(approve()),
        "a swap without approval": swapped(swap()),
        "the swap alone": called(lambda _: approve(), lambda _: swap()),
    },
    "approve spender is not": {
        "a swap to another spender": swapped(approve(spender=STRANGER.address), swap()),
    },
    "approve target does not match": {
        "a swap of another token": swapped(approve(token=TOKEN), swap()),
    },
    "swap output token does not match": {
        "a swap into another token": swapped(approve(), swap(out=OTHER_TOKEN)),
    },
    "swap output must be positive": {
        "a swap of more than the price": swapped(approve(), swap(amount=PRICE.micros + 1)),
    },
    "swap target is not": {
        "a swap elsewhere": swapped(approve(), swap(to=STRANGER.address.lower())),
    },
    "approval must match": {
        "an approval above the swap": swapped(approve(amount=60_000), swap()),
    },
    "memo is not bound to this challenge": {
        "no memo": called(
            lambda challenge: TempoCall(to=TOKEN, data=words("a9059cbb", PAY_TO, PRICE.micros)),
        ),
        "an empty memo": called(paid_with(memo=bytes(32))),
        "a memo of another challenge": lambda rail: credential(quote(rail), signed(pay_call(quote(rail))).raw),
        "a memo of another realm": called(
            lambda challenge: pay_call(challenge, memo=memo_of(replace(challenge, realm="other.test")))
        ),
        "a memo without the tag": called(lambda challenge: pay_call(challenge, memo=bytes(4) + memo_of(challenge)[4:])),
    },
    "lower half of the curve": {
        "high s": respelt(high_s),
    },
    "belongs to no key": {
        "a signature of zeros": respelt(lambda raw: raw[:-65] + bytes(65)),
    },
    "is cut off": {
        "a cut signature": respelt(lambda raw: raw[:-1]),
    },
    "bytes behind the item": {
        "bytes behind the end": respelt(lambda raw: raw + b"\0"),
    },
    "type must be 0x76": {
        "another type": respelt(lambda raw: b"\x02" + raw[1:]),
    },
    "[Ss]ponsored": {
        "a sponsor's envelope": respelt(lambda raw: b"\x78" + raw[1:]),
        "a sponsor's signature": sponsored,
    },
    "has no calls": {
        "no calls": respelt(edited(4, [])),
    },
    "address has 20 bytes": {
        "a contract creation": respelt(edited(4, [[b"", b"", b""]])),
    },
    "no leading zeros": {
        "a leading zero": respelt(edited(3, b"\0\1")),
    },
    "14 or 15 fields": {
        "a field too few": respelt(lambda raw: b"\x76" + rlp.encode(rlp.decode(raw[1:])[:-2])),
    },
    "source does not match": {
        "a source of another account": lambda rail: replace(
            pay(rail.challenge(ASKED)), source=f"did:pkh:eip155:{CHAIN_ID}:{STRANGER.address}"
        ),
        "a stranger's signature": lambda rail: replace(
            pay(rail.challenge(ASKED), key=STRANGER), source=f"did:pkh:eip155:{CHAIN_ID}:{BUYER.address}"
        ),
    },
    "source is invalid": {
        "a source on another chain": lambda rail: replace(
            pay(rail.challenge(ASKED)), source=f"did:pkh:eip155:1:{BUYER.address}"
        ),
        "a source of another kind": lambda rail: replace(pay(rail.challenge(ASKED)), source="did:key:z6Mk"),
    },
    "of type transaction": {
        "no bytes": payload(signature="0x"),
        "no hexadecimal": payload(signature="0xzz"),
        "no text": payload(signature=7),
        "no signature": payload(signature=None),
        "no type": payload(type=None),
        "a proof": payload(type="proof"),
        "an unknown type": payload(type="cheque"),
    },
    "must have a validBefore": {
        "a lifetime without end": called(paid_with(), valid_before=None, nonce_key=7),
    },
    "end within 300 seconds": {
        "a lifetime too long": called(paid_with(), valid_before=NOW + 301),
    },
    "not valid yet": {
        "a beginning in the future": called(paid_with(), valid_after=NOW + 1),
    },
}
