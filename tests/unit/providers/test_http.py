"""The client of vendors: a submission is sent once, a question is patient, each loop has its own connections."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Awaitable, Callable

import httpx2
import pytest

from stablestudio.providers.http import (
    Ambiguous,
    TooLarge,
    Unanswered,
    VendorHttp,
)
from stablestudio.providers.leaving import Leave, leave
from stablestudio.providers.provider import FailureKind, NotAccepted
from tests.providers.clients import OK, client, in_turn
from tests.providers.loopback import Answer, Silence, serving

pytestmark = pytest.mark.anyio

# What is known after a submission


async def test_an_answer_comes_back_whole_with_the_vendors_request_id() -> None:
    async with serving(lambda _: Answer(json={"id": 7}, headers={"X-Request-ID": "req_9"})) as vendor:
        http = client(vendor.url + "/v1")
        reply = await http.submit("POST", "/things", json={"a": "ü"}, headers={"X-Mode": "async"})
        await http.close()

    assert (reply.status, reply.json(), reply.request_id) == (200, {"id": 7}, "req_9")
    assert (vendor.asked[0].path, vendor.asked[0].json) == ("/v1/things", {"a": "ü"})
    assert vendor.asked[0].headers["authorization"] == "Bearer sk-secret"
    assert vendor.asked[0].headers["x-mode"] == "async"


@pytest.mark.parametrize("status", [200, 201, 202, 400, 401, 402, 403, 404, 410, 413, 415, 422])
async def test_a_vendors_decision_is_the_adapters_to_judge(status: int) -> None:
    async with serving(lambda _: Answer(status=status, json={})) as vendor:
        http = client(vendor.url)
        assert (await http.submit("POST", "/")).status == status
        await http.close()

    assert vendor.submits() == 1


@pytest.mark.parametrize("how", [Silence.RESET, Silence.HANG, Silence.CUT, Silence.TRICKLE])
async def test_no_answer_after_the_request_was_sent_is_ambiguous_and_never_repeated(how: Silence) -> None:
    async with serving(lambda _: how) as vendor:
        http = client(vendor.url)
        with pytest.raises(Ambiguous):
            await http.submit("POST", "/", json={})
        await http.close()

    assert vendor.submits() == 1


@pytest.mark.parametrize(
    "status", [301, 302, 303, 307, 308, 405, 408, 409, 418, 424, 425, 499, 500, 502, 503, 504, 529]
)
async def test_a_status_that_proves_nothing_is_ambiguous_and_keeps_its_answer(status: int) -> None:
    async with serving(lambda _: Answer(status=status, json={"error": "x"})) as vendor:
        http = client(vendor.url)
        with pytest.raises(Ambiguous) as caught:
            await http.submit("POST", "/", json={})
        await http.close()

    assert caught.value.reply is not None
    assert caught.value.reply.status == status
    assert vendor.submits() == 1


@pytest.mark.parametrize("status", [301, 307, 308])
async def test_a_redirected_submission_is_not_followed_and_nobody_knows(status: int) -> None:
    async with serving(lambda _: Answer(status=status, headers={"location": "/elsewhere"})) as vendor:
        http = client(vendor.url)
        with pytest.raises(Ambiguous):
            await http.submit("POST", "/", json={})
        await http.close()

    assert [request.path for request in vendor.asked] == ["/"]


class Gone(Exception):
    """Whoever asked may not ask any more."""


@pytest.mark.parametrize("looks", [0, 1, 3], ids=["before the head", "between head and body", "in the body"])
async def test_nothing_that_a_vendor_could_act_on_leaves_once_its_asker_lost_the_right(looks: int) -> None:
    left = [None] * looks

    def look() -> None:
        if not left:
            raise Gone
        left.pop()

    async with serving(lambda _: OK) as vendor:
        http = client(vendor.url)
        token = leave.set(Leave(look))
        with pytest.raises(Gone):
            await http.submit("POST", "/", json={"prompt": "a fox" * 100_000})
        leave.reset(token)
        assert (await http.submit("POST", "/", json={"prompt": "a cat"})).ok
        await http.close()

    assert (vendor.connections, [request.json for request in vendor.asked]) == (2, [{"prompt": "a cat"}])


async def test_a_question_leaves_whole_while_its_asker_has_the_right() -> None:
    looked = []
    async with serving(lambda _: OK) as vendor:
        http = client(vendor.url)
        token = leave.set(Leave(lambda: looked.append(len(vendor.asked))))
        for prompt in ("a fox", "a fox" * 100_000):
            assert (await http.submit("POST", "/", json={"prompt": prompt})).ok
        assert (await http.submit("POST", "/")).ok
        leave.reset(token)
        await http.close()

    assert [request.body for request in vendor.asked[:2]] == [
        json.dumps({"prompt": prompt}, separators=(",", ":")).encode() for prompt in ("a fox", "a fox" * 100_000)
    ]
    assert all("transfer-encoding" not in request.headers for request in vendor.asked)
    assert (looked.count(0), looked.count(1), looked.count(2)) == (2, 9, 1)  # each head, and each 64 KiB of a body


async def test_without_a_connection_nothing_was_accepted() -> None:
    async with serving(lambda _: OK) as vendor:
        pass
    http = client(vendor.url)

    with pytest.raises(NotAccepted) as caught:
        await http.submit("POST", "/", json={})

    assert caught.value.kind is FailureKind.UPSTREAM_ERROR
    await http.close()


@pytest.mark.parametrize(
    ("fault", "raised"),
    [
        (httpx2.ConnectError, NotAccepted),
        (httpx2.ConnectTimeout, NotAccepted),
        (httpx2.PoolTimeout, NotAccepted),
        (httpx2.WriteError, Ambiguous),
        (httpx2.WriteTimeout, Ambiguous),
        (httpx2.ReadError, Ambiguous),
        (httpx2.ReadTimeout, Ambiguous),
        (httpx2.RemoteProtocolError, Ambiguous),
    ],
)
async def test_only_what_was_certainly_not_sent_may_be_asked_again(
    fault: type[httpx2.TransportError], raised: type[Exception]
) -> None:
    def refuse(request: httpx2.Request) -> httpx2.Response:
        raise fault("no", request=request)

    http = client("https://api.example.com", transport=httpx2.MockTransport(refuse))
    with pytest.raises(raised):
        await http.submit("POST", "/", json={})


async def test_a_submission_never_takes_a_used_connection() -> None:
    """The vendor may be closing it at this moment, and then nobody would know."""
    async with serving(lambda _: OK) as vendor:
        http = client(vendor.url)
        for _ in range(3):
            await http.submit("POST", "/", json={})
        assert vendor.connections == 3
        for _ in range(3):
            await http.ask("GET", "/")
        assert vendor.connections == 4
        await http.close()


async def test_an_answer_without_end_is_not_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stablestudio.providers.http.MAX_ANSWER_BYTES", 1000)
    async with serving(lambda _: Answer(body=b"x" * 5000)) as vendor:
        http = client(vendor.url)
        with pytest.raises(Ambiguous, match="larger"):
            await http.submit("POST", "/", json={})
        with pytest.raises(TooLarge):
            await http.ask("GET", "/", max_bytes=1000)
        await http.close()


# Questions


async def test_a_question_is_repeated_through_everything_transient() -> None:
    troubles: list[Answer | Silence] = [Silence.RESET, Silence.CUT]
    troubles += [Answer(status=each) for each in (408, 425, 429, 500, 502, 503, 504)]
    async with serving(in_turn(*troubles, OK)) as vendor:
        http = client(vendor.url)
        reply = await http.ask("GET", "/task", deadline_seconds=5)
        await http.close()

    assert reply.ok
    assert len(vendor.asked) == len(troubles) + 1


@pytest.mark.parametrize("status", [200, 202, 302, 400, 401, 404, 410])
async def test_a_plain_answer_to_a_question_is_final_whatever_it_says(status: int) -> None:
    async with serving(lambda _: Answer(status=status)) as vendor:
        http = client(vendor.url)
        assert (await http.ask("GET", "/task")).status == status
        await http.close()

    assert len(vendor.asked) == 1


async def test_a_question_ends_at_its_deadline() -> None:
    async with serving(lambda _: Answer(status=503)) as vendor:
        http = client(vendor.url)
        began = time.monotonic()
        with pytest.raises(Unanswered, match="503"):
            await http.ask("GET", "/task", deadline_seconds=0.1)
        assert time.monotonic() - began < 1
        await http.close()

    assert len(vendor.asked) > 2


async def test_a_question_to_a_silent_host_ends_at_its_deadline() -> None:
    async with serving(lambda _: Silence.HANG) as vendor:
        http = client(vendor.url)
        with pytest.raises(Unanswered, match="time-out"):
            await http.ask("GET", "/task", deadline_seconds=0.2)
        await http.close()


async def test_a_question_waits_as_long_as_the_vendor_says() -> None:
    async with serving(in_turn(Answer(status=429, headers={"retry-after-ms": "150"}), OK)) as vendor:
        http = client(vendor.url)
        began = time.monotonic()
        await http.ask("GET", "/task", deadline_seconds=5)
        assert time.monotonic() - began >= 0.15
        await http.close()


async def test_a_vendor_that_says_to_come_back_after_the_deadline_is_not_waited_for() -> None:
    async with serving(lambda _: Answer(status=429, headers={"retry-after": "60"})) as vendor:
        http = client(vendor.url)
        with pytest.raises(Unanswered):
            await http.ask("GET", "/task", deadline_seconds=5)
        await http.close()

    assert len(vendor.asked) == 1


async def test_a_trickle_does_not_hold_a_question_or_a_file_beyond_its_deadline() -> None:
    """Each byte renews the time-out of a read, so a vendor could keep a job for ever."""
    async with serving(lambda _: Silence.TRICKLE) as vendor:
        http = client(vendor.url)
        began = time.monotonic()
        with pytest.raises(Unanswered, match="time-out"):
            await http.ask("GET", "/task", deadline_seconds=0.2)
        with pytest.raises(Unanswered, match="time-out"):
            await http.download("/file", deadline_seconds=0.2)
        assert time.monotonic() - began < 5
        await http.close()


async def test_a_trickle_is_transient_and_asked_again() -> None:
    async with serving(in_turn(Silence.TRICKLE, OK)) as vendor:
        http = client(vendor.url)
        assert (await http.ask("GET", "/task", deadline_seconds=20, try_seconds=0.3)).ok
        await http.close()

    assert len(vendor.asked) == 2


async def test_an_answer_without_a_result_has_no_room_for_one() -> None:
    async with serving(lambda _: Answer(body=b" " * (4 * 1024 * 1024 + 1))) as vendor:
        http = client(vendor.url)
        with pytest.raises(TooLarge):
            await http.ask("GET", "/task", deadline_seconds=20)
        await http.close()


@pytest.mark.parametrize(
    "body",
    [
        {"code": "InvalidURL.DownloadTimeout"},
        {"error": {"code": "RequestTimeOut"}},
        {"error": {"status": "DEADLINE_EXCEEDED"}},
        {"error": {"type": "timeout"}},
        {"detail": [{"type": "startup_timeout"}]},
    ],
)
async def test_a_refusal_because_time_ran_out_may_be_of_work_that_has_begun(body: object) -> None:
    async with serving(lambda _: Answer(status=400, json=body)) as vendor:
        http = client(vendor.url)
        with pytest.raises(Ambiguous):
            await http.submit("POST", "/", json={})
        await http.close()


# Loops


async def test_each_loop_has_connections_of_its_own() -> None:
    """The engine makes jobs on its own loop, health is checked on the server's."""
    async with serving(lambda _: OK) as vendor:
        http = client(vendor.url, timeout_seconds=5)
        await http.ask("GET", "/")
        for _ in range(2):
            await asyncio.to_thread(asyncio.run, _ask_and_submit(http))
        await http.ask("GET", "/")
        await http.close()
        await http.close()

    assert len(vendor.asked) == 6


async def _ask_and_submit(http: VendorHttp) -> None:
    assert (await http.ask("GET", "/")).ok
    assert (await http.submit("POST", "/")).ok
    await http.close()


async def test_closing_closes_the_connections_of_other_loops_too() -> None:
    ready, over = threading.Event(), threading.Event()

    async def elsewhere(work: Callable[[], Awaitable[object]]) -> None:
        await work()
        ready.set()
        await asyncio.to_thread(over.wait)

    async with serving(lambda _: OK) as vendor:
        http = client(vendor.url, timeout_seconds=5)
        thread = threading.Thread(target=asyncio.run, args=(elsewhere(lambda: http.ask("GET", "/")),))
        thread.start()
        await asyncio.to_thread(ready.wait)
        await http.close()
        over.set()
        await asyncio.to_thread(thread.join)
