"""Who is asked, in what order and how often: every call is counted, and none follows a doubtful one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from stablestudio.payments.facilitators import line as facilitator_line
from stablestudio.payments.facilitators.answers import Submission
from stablestudio.payments.facilitators.client import (
    Facilitator,
    FacilitatorUnreachable,
    FacilitatorUnusable,
    NetworkNotServed,
)
from stablestudio.payments.facilitators.line import FacilitatorLine, MemoryAttempts
from stablestudio.payments.rail import Outcome, Rejected, Settled, Unknown
from tests.doubles import BUYER, NOW_MS, ManualClock
from tests.fakes.facilitator import NETWORK, SUPPORTED

pytestmark = pytest.mark.anyio

TX = "0x" + "7a" * 32
OTHER_TX = "0x" + "22" * 32
PAID = (200, {"success": True, "transaction": TX, "network": NETWORK})
POOR = (200, {"success": False, "errorReason": "insufficient_funds", "transaction": ""})
PENDING = (500, {"success": False, "errorReason": "settlement_pending", "transaction": TX})
ELSEWHERE = (200, {"success": False, "errorReason": "unsupported_network", "transaction": ""})
EXPIRES = NOW_MS // 1000 + 300
UNSEEN = Unknown(reason="not_seen_on_chain")
ON_CHAIN = Settled(transaction=OTHER_TX)
Step = tuple[int, Any] | type[Exception]


def submission(*, key: str = "0xpayer:0xnonce", expires_at: int = EXPIRES) -> Submission:
    return Submission(
        key=key, network=NETWORK, payer=BUYER.address, amount=1, expires_at=expires_at, content=b'{"the":"bytes"}'
    )


class Script:
    """A facilitator that answers by a list; the last answer stays."""

    def __init__(
        self, *settle: Step, verify: Step = (200, {"isValid": True}), supported: Step = (200, SUPPORTED)
    ) -> None:
        self._settle = list(settle) or [PAID]
        self._others = {"verify": verify, "supported": supported}
        self.calls: list[str] = []
        self.bodies: list[bytes] = []

    def handle(self, request: httpx2.Request) -> httpx2.Response:
        call = request.url.path.rpartition("/")[2]
        self.calls.append(call)
        step = self._others.get(call) or self._settle[min(self.settles, len(self._settle)) - 1]
        self.bodies += [request.content] if call == "settle" else []
        if isinstance(step, type):
            raise step("fault")
        return httpx2.Response(step[0], content=_stream(step[1]))

    @property
    def settles(self) -> int:
        return self.calls.count("settle")


async def _stream(body: Any) -> AsyncIterator[bytes]:
    yield body if isinstance(body, bytes) else json.dumps(body).encode()


class Chain:
    """What the chain says, question by question; the last answer stays."""

    def __init__(self, *answers: Outcome) -> None:
        self._answers = list(answers) or [UNSEEN]
        self.asked = 0

    async def find(self) -> Outcome:
        self.asked += 1
        return self._answers[min(self.asked, len(self._answers)) - 1]


def line(*scripts: Script, clock: ManualClock | None = None, verify_first: bool = False) -> FacilitatorLine:
    facilitators = [
        Facilitator(f"https://{name}.example", transport=httpx2.MockTransport(script.handle))
        for name, script in zip("abc", scripts, strict=False)
    ]
    attempts = MemoryAttempts(clock=clock or ManualClock())
    return FacilitatorLine(facilitators, attempts=attempts, verify_first=verify_first)


async def test_first_facilitator_settles_and_nobody_else_hears_of_it() -> None:
    first, second, chain = Script(), Script(), Chain()

    assert await line(first, second).settle(submission(), find=chain.find) == Settled(transaction=TX)
    assert (first.calls, second.calls, chain.asked) == (["settle"], [], 0)


@pytest.mark.parametrize(
    "step",
    [
        httpx2.ConnectError,
        httpx2.ConnectTimeout,
        httpx2.PoolTimeout,
        (401, b""),
        (403, b"<html>"),
        (404, {"error": "no route"}),
        (429, {"error": "rate_limited"}),
        (503, b"upstream connect error"),
        ELSEWHERE,
    ],
)
async def test_next_facilitator_settles_what_the_first_certainly_did_not_touch(step: Step) -> None:
    first, second = Script(step), Script()

    assert await line(first, second).settle(submission(), find=Chain().find) == Settled(transaction=TX)
    assert (first.settles, second.settles) == (1, 1)
    assert first.bodies == second.bodies == [b'{"the":"bytes"}']


DOUBTFUL: list[Step] = [
    httpx2.ReadError,
    httpx2.WriteError,
    httpx2.RemoteProtocolError,
    PENDING,
    (500, b""),
    (502, b"bad gateway"),
    (504, b""),
    (500, {"success": False, "errorReason": "insufficient_funds"}),
    (503, {"success": False, "errorReason": "busy"}),
    (200, b"<html>"),
    (200, b'{"success": tr'),
    (200, {"success": True}),
    (200, {"success": False, "errorReason": "duplicate_settlement"}),
    (200, {"success": False, "errorReason": "transaction_failed"}),
    (200, {"success": False, "errorReason": "invalid_exact_evm_nonce_already_used"}),
    (302, b""),
    (400, b"?"),
    (408, b""),
]


@pytest.mark.parametrize("step", DOUBTFUL)
async def test_nobody_is_asked_again_after_a_doubtful_answer(step: Step) -> None:
    first, second, chain = Script(step, PAID), Script(), Chain()
    payments = line(first, second)

    outcomes = [await payments.settle(submission(), find=chain.find) for _ in range(4)]

    assert all(isinstance(outcome, Unknown) for outcome in outcomes)
    assert (first.settles, second.settles) == (1, 0)


@pytest.mark.parametrize("step", [*DOUBTFUL, POOR, httpx2.ReadTimeout])
async def test_chain_knows_better_than_any_facilitator(step: Step) -> None:
    first, second = Script(step), Script()

    assert await line(first, second).settle(submission(), find=Chain(ON_CHAIN).find) == ON_CHAIN
    assert (first.settles, second.settles) == (1, 0)


async def test_used_nonce_on_another_transfer_is_refused_by_the_chains_word() -> None:
    used = Rejected(reason="nonce_already_used", message="spent")
    first = Script((200, {"success": False, "errorReason": "invalid_exact_evm_nonce_already_used"}))

    assert await line(first).settle(submission(), find=Chain(used).find) == used


async def test_time_out_is_repeated_once_with_the_same_bytes_to_the_same_facilitator() -> None:
    first, second, chain = Script(httpx2.ReadTimeout, PAID), Script(), Chain()

    assert await line(first, second).settle(submission(), find=chain.find) == Settled(transaction=TX)
    assert first.bodies == [b'{"the":"bytes"}'] * 2
    assert second.calls == []


async def test_second_time_out_is_the_last() -> None:
    first, second, chain = Script(httpx2.ReadTimeout), Script(), Chain()
    payments = line(first, second)

    outcomes = [await payments.settle(submission(), find=chain.find) for _ in range(4)]

    assert outcomes[0] == Unknown(reason="facilitator_timed_out")
    assert outcomes[1:] == [Unknown(reason="settlement_awaited")] * 3
    assert (first.settles, second.settles) == (2, 0)


@pytest.mark.parametrize("step", [POOR, ELSEWHERE, httpx2.ConnectError, (401, b""), (503, b"")])
async def test_answer_to_the_repetition_says_nothing_about_the_first_copy(step: Step) -> None:
    first, second = Script(httpx2.ReadTimeout, step), Script()

    assert isinstance(await line(first, second).settle(submission(), find=Chain().find), Unknown)
    assert (first.settles, second.settles) == (2, 0)


async def test_payment_found_after_a_time_out_is_not_repeated() -> None:
    first = Script(httpx2.ReadTimeout)

    assert await line(first).settle(submission(), find=Chain(ON_CHAIN).find) == ON_CHAIN
    assert first.settles == 1


async def test_refusal_counts_if_no_answer_before_it_left_doubt() -> None:
    first, second, chain = Script((401, b"")), Script(POOR), Chain()
    outcome = await line(first, second).settle(submission(), find=chain.find)

    assert isinstance(outcome, Rejected)
    assert outcome.reason == "insufficient_funds"
    assert chain.asked == 1


async def test_refusal_after_an_unsure_no_stays_unknown() -> None:
    first, second = Script((503, b"upstream")), Script(POOR)

    assert await line(first, second).settle(submission(), find=Chain().find) == Unknown(reason="insufficient_funds")


async def test_compliance_refusal_is_not_taken_to_another_facilitator() -> None:
    reason = "invalid_exact_evm_payload_authorization_from_address_kyt"
    first, second = Script((200, {"success": False, "errorReason": reason})), Script()
    outcome = await line(first, second).settle(submission(), find=Chain().find)

    assert isinstance(outcome, Rejected)
    assert outcome.reason == "payer_refused"
    assert second.calls == []


async def test_nothing_moved_where_every_facilitator_surely_did_nothing() -> None:
    outcome = await line(Script(httpx2.ConnectError), Script((429, b""))).settle(submission(), find=Chain().find)

    assert isinstance(outcome, Rejected)
    assert outcome.reason == "settlement_unavailable"


async def test_unsure_no_of_everybody_is_unknown_and_may_be_tried_later() -> None:
    first = Script((503, b""), PAID)
    payments = line(first)

    assert await payments.settle(submission(), find=Chain().find) == Unknown(reason="facilitators_unavailable")
    assert await payments.settle(submission(), find=Chain().find) == Settled(transaction=TX)


async def test_refused_payment_may_be_tried_again_once_funds_are_there() -> None:
    first = Script(POOR, POOR, POOR, PAID)
    payments = line(first)

    for _ in range(3):
        assert isinstance(await payments.settle(submission(), find=Chain().find), Rejected)
    assert await payments.settle(submission(), find=Chain().find) == Settled(transaction=TX)


async def test_payment_in_doubt_stays_with_its_facilitator_even_if_others_come_first_later() -> None:
    clock = ManualClock()
    attempts = MemoryAttempts(clock=clock)
    first, second = Script(), Script(httpx2.ReadTimeout)
    a, b = (
        Facilitator(f"https://{name}.example", transport=httpx2.MockTransport(script.handle))
        for name, script in (("a", first), ("b", second))
    )
    await FacilitatorLine([b], attempts=attempts).settle(submission(), find=Chain().find)

    again = FacilitatorLine([a, b], attempts=attempts)
    assert await again.settle(submission(), find=Chain().find) == Unknown(reason="settlement_awaited")
    gone = FacilitatorLine([a], attempts=attempts)
    assert await gone.settle(submission(), find=Chain().find) == Unknown(reason="settlement_awaited")
    assert await gone.settle(submission(), find=Chain(ON_CHAIN).find) == ON_CHAIN
    assert (first.settles, second.settles) == (0, 2)


async def test_attempt_of_a_killed_process_is_finished_by_one_repetition() -> None:
    attempts = MemoryAttempts(clock=ManualClock())
    first, second = Script(), Script()
    await attempts.begin("0xpayer:0xnonce", facilitator="b.example", expires_at=EXPIRES)
    payments = FacilitatorLine(
        [
            Facilitator("https://a.example", transport=httpx2.MockTransport(first.handle)),
            Facilitator("https://b.example", transport=httpx2.MockTransport(second.handle)),
        ],
        attempts=attempts,
    )

    assert await payments.settle(submission(), find=Chain().find) == Settled(transaction=TX)
    assert (first.settles, second.settles) == (0, 1)


async def test_payment_signed_again_after_it_expired_starts_afresh() -> None:
    clock = ManualClock()
    first = Script((500, b""), PAID)
    payments = line(first, clock=clock)
    assert isinstance(await payments.settle(submission(), find=Chain().find), Unknown)

    clock.advance(300)
    renewed = submission(expires_at=EXPIRES + 600)

    assert await payments.settle(renewed, find=Chain().find) == Settled(transaction=TX)


async def test_twins_of_one_payment_make_two_calls_at_most() -> None:
    first, second = Script(httpx2.ReadTimeout), Script()
    payments = line(first, second)

    outcomes = await asyncio.gather(*(payments.settle(submission(), find=Chain().find) for _ in range(50)))

    assert all(isinstance(outcome, Unknown) for outcome in outcomes)
    assert (first.settles, second.settles) == (2, 0)


@pytest.mark.parametrize("step", [POOR, httpx2.ConnectError])
async def test_refusal_is_no_proof_while_a_twin_repeats_the_payment(step: Step) -> None:
    class Taken(MemoryAttempts):
        async def release(self, key: str, *, facilitator: str | None = None) -> bool:
            return False

    first, second = Script(step), Script()
    facilitators = [
        Facilitator(f"https://{name}.example", transport=httpx2.MockTransport(script.handle))
        for name, script in (("a", first), ("b", second))
    ]
    payments = FacilitatorLine(facilitators, attempts=Taken(clock=ManualClock()))

    assert await payments.settle(submission(), find=Chain().find) == Unknown(reason="settlement_awaited")
    assert second.calls == []


async def test_a_twin_that_comes_late_does_not_take_the_next_facilitators_repetition() -> None:
    """It heard of the first as the holder; meanwhile the first did nothing, and the second holds the payment."""
    attempts = MemoryAttempts(clock=ManualClock())
    first, second = Script(), Script()
    facilitators = [
        Facilitator(f"https://{name}.example", transport=httpx2.MockTransport(script.handle))
        for name, script in (("a", first), ("b", second))
    ]
    await attempts.begin("0xpayer:0xnonce", facilitator="a.example", expires_at=EXPIRES)

    async def find() -> Outcome:
        await attempts.release("0xpayer:0xnonce", facilitator="a.example")
        await attempts.begin("0xpayer:0xnonce", facilitator="b.example", expires_at=EXPIRES)
        return UNSEEN

    outcome = await FacilitatorLine(facilitators, attempts=attempts).settle(submission(), find=find)

    assert outcome == Unknown(reason="settlement_awaited")
    assert (first.calls, second.calls) == ([], [])


async def test_different_payments_do_not_wait_for_each_other() -> None:
    first = Script((500, b""), PAID)
    payments = line(first)
    await payments.settle(submission(key="one"), find=Chain().find)

    assert await payments.settle(submission(key="two"), find=Chain().find) == Settled(transaction=TX)


async def test_no_call_begins_after_the_time_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facilitator_line, "_LAST_CALL_SECONDS", 0.0)
    late = Script()
    assert await line(late).settle(submission(), find=Chain().find) == Unknown(reason="facilitators_too_slow")
    assert late.calls == []


@pytest.mark.parametrize(
    ("verdict", "first_settles", "second_settles", "kind"),
    [
        ((200, {"isValid": True}), 1, 0, Settled),
        ((200, {"isValid": False, "invalidReason": "insufficient_funds"}), 0, 0, Rejected),
        ((200, {"isValid": False, "invalidReason": "invalid_network"}), 0, 1, Settled),
        ((500, b""), 0, 1, Settled),
        (httpx2.ReadTimeout, 0, 1, Settled),
        ((200, {"isValid": False, "invalidReason": "invalid_exact_evm_nonce_already_used"}), 0, 0, Unknown),
    ],
)
async def test_verifying_first_never_makes_two_settlements(
    verdict: Step, first_settles: int, second_settles: int, kind: type[Outcome]
) -> None:
    first, second = Script(verify=verdict), Script()

    outcome = await line(first, second, verify_first=True).settle(submission(), find=Chain().find)

    assert isinstance(outcome, kind)
    assert (first.settles, second.settles) == (first_settles, second_settles)


async def test_check_names_what_each_facilitator_serves() -> None:
    served = await line(Script(), Script()).check(network=NETWORK)

    assert [each.facilitator for each in served] == ["a.example", "b.example"]


async def test_one_facilitator_that_is_away_does_not_stop_the_start() -> None:
    served = await line(Script(supported=httpx2.ConnectError), Script()).check(network=NETWORK)

    assert [each.facilitator for each in served] == ["b.example"]


async def test_start_fails_where_all_are_away() -> None:
    with pytest.raises(FacilitatorUnreachable):
        await line(Script(supported=httpx2.ConnectError), Script(supported=(503, b""))).check(network=NETWORK)


async def test_start_fails_where_one_does_not_serve_the_network() -> None:
    with pytest.raises(NetworkNotServed):
        await line(Script(), Script(supported=(200, {"kinds": []}))).check(network=NETWORK)


@pytest.mark.parametrize("names", [(), ("a", "a")])
def test_list_without_order_is_refused(names: tuple[str, ...]) -> None:
    facilitators = [
        Facilitator(f"https://{name}.example", transport=httpx2.MockTransport(Script().handle)) for name in names
    ]

    with pytest.raises(FacilitatorUnusable):
        FacilitatorLine(facilitators, attempts=MemoryAttempts(clock=ManualClock()))


async def test_memory_forgets_what_has_expired(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = ManualClock()
    attempts = MemoryAttempts(clock=clock)
    for number in range(300):
        await attempts.begin(f"old-{number}", facilitator="a", expires_at=EXPIRES)
    clock.advance(301)
    for number in range(300):
        await attempts.begin(f"new-{number}", facilitator="a", expires_at=EXPIRES + 301)

    assert {key.partition("-")[0] for key in attempts._attempts} == {"new"}
