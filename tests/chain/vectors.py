"""What may happen to an authorization, and what a chain must say of it: one table for every chain."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

from stablestudio.protocols.evm import EvmKey
from tests.chain.anvil import NOW
from tests.chain.signing import FUNDS, GOOD, PRICE, Call, high_s, nonce_of, signed, tampered
from tests.chain.worlds import World
from tests.doubles import BUYER, PAY_TO, USDC

OTHER = "0x000000000000000000000000000000000000dEaD"
NOBODY = "0x" + "0" * 40
THIEF = EvmKey.from_hex("0x" + "5d" * 32)  # holds nothing

OVER = NOW + 300  # the good authorization's end
LONG_OVER = OVER + 60  # when it is certain that no block lets it in any more

Step = Callable[[World], Awaitable[None]]
SETTLED = "settled"
UNSEEN = "not_seen_on_chain"
EARLY = "payment_not_yet_valid"
EXPIRED = "payment_expired"
USED = "nonce_already_used"
FORGED = "invalid_signature"
POOR = "insufficient_funds"
REFUSED = "simulation_failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Vector:
    """One submission: what happened before, what it is told, what a look-up says then, and whom it made richer.

    `paid` is what the merchant has at the end, `then` happens between the submission and the look-up.
    """

    name: str
    call: Call
    told: str
    found: str
    paid: int
    before: tuple[Step, ...] = ()
    then: tuple[Step, ...] = ()

    def __str__(self) -> str:
        return self.name


def _good(name: str, call: Call, *, paid: int = PRICE, **more: Any) -> Vector:
    return Vector(name=name, call=call, told=SETTLED, found=SETTLED, paid=paid, **more)


def _bad(name: str, told: str, call: Call, *, found: str = UNSEEN, paid: int = 0, **more: Any) -> Vector:
    return Vector(name=name, call=call, told=told, found=found, paid=paid, **more)


def sends(call: Call) -> Step:
    """A stranger submits this."""
    return lambda world: world.transfer(*call)


def submits(call: Call) -> Step:
    """We submit this."""

    async def step(world: World) -> None:
        await world.chain.submit(*call)

    return step


def cancels(number: int) -> Step:
    return lambda world: world.cancel(BUYER, nonce_of(number))


def moves_to(timestamp: int) -> Step:
    return lambda world: world.move_to(timestamp)


def funds(address: str, amount: int) -> Step:
    return lambda world: world.fund(address, amount)


def _spoiled(change: Callable[[bytes], bytes]) -> Call:
    made, signature = signed()
    return made, change(signature)


_SIX = nonce_of(6)

VECTORS = [
    _good("good", signed()),
    _good("the whole balance", signed(value=FUNDS), paid=FUNDS),
    _good("one unit", signed(value=1), paid=1),
    _good("nothing", signed(value=0), paid=0),
    _good("nothing from an empty account", signed(key=THIEF, sender=THIEF.address, value=0), paid=0),
    _good("to oneself", signed(recipient=BUYER.address), paid=0),
    _good("addresses in lower case", signed(sender=BUYER.address.lower(), recipient=PAY_TO.lower())),
    _good("in its first second", signed(valid_after=NOW - 1)),
    _good("in its last second", signed(valid_before=NOW + 1)),
    _good("in its only second", signed(valid_after=NOW - 1, valid_before=NOW + 1)),
    _good("for ever", signed(valid_after=0, valid_before=2**256 - 1)),
    _good("a nonce of ones", signed(nonce=b"\xff" * 32)),
    _good("a second nonce", signed(nonce=_SIX), before=(sends(signed()),), paid=2 * PRICE),
    _good("settled and looked up after its end", signed(), then=(moves_to(LONG_OVER + 1),)),
    _good("replayed by us", signed(), before=(submits(signed()),)),
    _good("replayed by us after its end", signed(), before=(submits(signed()), moves_to(LONG_OVER + 1))),
    _good("submitted first by a stranger", signed(), before=(sends(signed()),)),
    _good("submitted first by a stranger, the rest is gone", signed(value=FUNDS), paid=FUNDS, before=(
        sends(signed(value=FUNDS)),
    )),
    _good("submitted first by a stranger, and over", signed(), before=(sends(signed()), moves_to(OVER))),
    _good("forged copy of what was settled", (GOOD, bytes(65)), before=(sends(signed()),)),
    _good("funded just in time", signed(key=THIEF, sender=THIEF.address), before=(funds(THIEF.address, PRICE),)),
    _good("same nonce of another sender", signed(), before=(
        funds(THIEF.address, PRICE), sends(signed(key=THIEF, sender=THIEF.address)),
    ), paid=2 * PRICE),
    _bad("the second before its first", EARLY, signed(valid_after=NOW)),
    _bad("a year early", EARLY, signed(valid_after=NOW + 31_536_000, valid_before=NOW + 31_536_001)),
    _bad("early and already over", EARLY, signed(valid_after=NOW + 5, valid_before=NOW)),
    _bad("early and forged", EARLY, tampered(valid_after=NOW)),
    _bad("the second after its last", EXPIRED, signed(valid_before=NOW)),
    _bad("over, not yet for good", EXPIRED, signed(valid_before=NOW - 59)),
    _bad("over for good", EXPIRED, signed(valid_before=NOW - 60), found=EXPIRED),
    _bad("long expired", EXPIRED, signed(valid_after=0, valid_before=1), found=EXPIRED),
    _bad("expired and forged", EXPIRED, tampered(valid_before=NOW)),
    _bad("expired and poor", EXPIRED, signed(valid_before=NOW, value=FUNDS + 1)),
    _bad("never valid", EXPIRED, signed(valid_after=0, valid_before=0), found=EXPIRED),
    _bad("over before it was submitted", EXPIRED, signed(), before=(moves_to(OVER),)),
    _bad("over before it was submitted, then for good", EXPIRED, signed(), found=EXPIRED, before=(
        moves_to(OVER),
    ), then=(moves_to(LONG_OVER),)),
    _bad("refused, then over", POOR, signed(value=FUNDS + 1), then=(moves_to(OVER),)),
    _bad("refused, then over for good", POOR, signed(value=FUNDS + 1), then=(moves_to(LONG_OVER),), found=EXPIRED),
    _bad("another value under a used nonce", USED, signed(value=1), before=(sends(signed()),), found=USED, paid=PRICE),
    _bad("another recipient had the nonce", USED, signed(), before=(sends(signed(recipient=OTHER)),), found=USED),
    _bad("another value had the nonce", USED, signed(), before=(sends(signed(value=1)),), found=USED, paid=1),
    _bad("the nonce spent on others, and over", USED, signed(), found=USED, before=(
        sends(signed(recipient=OTHER)), moves_to(OVER),
    )),
    _bad("forged under a used nonce", USED, tampered(value=1), before=(sends(signed()),), found=USED, paid=PRICE),
    _bad("cancelled", USED, signed(), before=(cancels(1),), found=USED),
    _bad("cancelled, and over", USED, signed(), before=(cancels(1), moves_to(OVER)), found=USED),
    _bad("over, and then cancelled", USED, signed(), before=(moves_to(OVER), cancels(1)), found=USED),
    _bad("cancelled after it was refused", POOR, signed(value=FUNDS + 1), then=(cancels(1),), found=USED),
    _bad("value tampered", FORGED, tampered(value=PRICE - 1)),
    _bad("recipient tampered", FORGED, tampered(recipient=OTHER)),
    _bad("sender tampered", FORGED, tampered(sender=OTHER)),
    _bad("nonce tampered", FORGED, tampered(nonce=_SIX)),
    _bad("start tampered", FORGED, tampered(valid_after=0)),
    _bad("end tampered", FORGED, tampered(valid_before=2**40)),
    _bad("signed by a stranger", FORGED, signed(key=THIEF)),
    _bad("signed for another chain", FORGED, signed(domain=replace(USDC, chain_id=8453))),
    _bad("signed for another contract", FORGED, signed(domain=replace(USDC, contract=OTHER))),
    _bad("signed under another name", FORGED, signed(domain=replace(USDC, name="USD Coin"))),
    _bad("signed under another version", FORGED, signed(domain=replace(USDC, version="1"))),
    _bad("forged and poor", FORGED, signed(key=THIEF, value=FUNDS + 1)),
    _bad("high s", FORGED, _spoiled(high_s)),
    _bad("v of 0 or 1", FORGED, _spoiled(lambda s: s[:64] + bytes((s[64] - 27,)))),
    _bad("the other v", FORGED, _spoiled(lambda s: s[:64] + bytes((55 - s[64],)))),
    _bad("v of 29", FORGED, _spoiled(lambda s: s[:64] + b"\x1d")),
    _bad("r of zero", FORGED, _spoiled(lambda s: bytes(32) + s[32:])),
    _bad("s of zero", FORGED, _spoiled(lambda s: s[:32] + bytes(32) + s[64:])),
    _bad("zeros", FORGED, _spoiled(lambda _: bytes(65))),
    _bad("64 bytes", FORGED, _spoiled(lambda s: s[:64])),
    _bad("66 bytes", FORGED, _spoiled(lambda s: s + b"\0")),
    _bad("no signature", FORGED, _spoiled(lambda _: b"")),
    _bad("one unit too much", POOR, signed(value=FUNDS + 1)),
    _bad("from an empty account", POOR, signed(key=THIEF, sender=THIEF.address)),
    _bad("more than there ever was", POOR, signed(value=2**256 - 1)),
    _bad("one balance committed twice", POOR, signed(), paid=FUNDS, before=(sends(signed(value=FUNDS, nonce=_SIX)),)),
    _bad("a balance committed twice over, by a unit", POOR, signed(value=PRICE + 1), paid=FUNDS - PRICE, before=(
        submits(signed(value=FUNDS - PRICE, nonce=_SIX)),
    )),
    _bad("to nobody", REFUSED, signed(recipient=NOBODY)),
    _bad("nothing to nobody", REFUSED, signed(recipient=NOBODY, value=0)),
]  # fmt: skip
