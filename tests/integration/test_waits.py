"""Waiting over HTTP: answers that are held back, streams of events, and the token that spares signatures."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from stablestudio.jobs.changes import MOST_EACH
from stablestudio.protocols import siwx
from tests.service import Buyer, Service

PATH = "/api/generate/nano-banana/generate"
QUICK = {"prompt": "a cat", "imageSize": "512"}
SLOW = {"prompt": "a cat [sandbox:delay=3600]", "imageSize": "512"}
SOON = {"prompt": "a cat [sandbox:delay=2]", "imageSize": "512"}
DOOMED = {"prompt": "a cat [sandbox:fail]", "imageSize": "512"}
Event = dict[str, Any]


def _paid(buyer: Buyer, body: dict[str, Any], **headers: str) -> httpx2.Response:
    return buyer.pay(PATH, body, buyer.sign(PATH, body), **headers)


@contextmanager
def _stream(buyer: Buyer, job_id: str, **headers: str) -> Iterator[Iterator[Event]]:
    path = f"/api/jobs/{job_id}/events"
    with buyer.http.stream("GET", path, headers=buyer.proof(path) | headers) as answer:
        assert answer.status_code == 200, answer.read()
        assert answer.headers["content-type"] == "text/event-stream"
        yield _events(answer)


def _events(answer: httpx2.Response) -> Iterator[Event]:
    """Read a stream as the standard says."""
    event: Event = {}
    for line in answer.iter_lines():
        name, _, value = line.partition(": ")
        if line == "" and "data" in event:
            yield event
        if line == "":
            event = {}
        elif name in ("event", "id", "retry"):
            event[name] = value
        elif name == "data":
            event["data"] = json.loads(value)


def test_a_held_read_answers_when_the_job_has_ended(buyer: Buyer) -> None:
    job_id = buyer.buy(PATH, SOON)
    path = f"/api/jobs/{job_id}"
    answer = buyer.http.get(path, headers=buyer.proof(path) | {"Prefer": "wait=60"}, timeout=90)
    assert (answer.status_code, answer.json()["status"]) == (200, "complete")
    assert answer.headers["preference-applied"] == "wait=60"
    assert buyer.http.get(answer.json()["result"]["imageUrl"]).status_code == 200


def test_a_held_read_answers_when_its_time_is_over(buyer: Buyer) -> None:
    job_id = buyer.buy(PATH, SLOW)
    path = f"/api/jobs/{job_id}"
    proof = buyer.proof(path)
    started = time.monotonic()
    answer = buyer.http.get(path, headers=proof | {"Prefer": "wait=1"})
    assert answer.json()["status"] in ("pending", "loading")
    assert answer.headers["preference-applied"] == "wait=1"
    assert answer.headers["retry-after"] == str(answer.json()["pollAfter"])
    assert time.monotonic() - started > 0.9


@pytest.mark.parametrize(
    ("given", "applied"),
    [
        (["respond-async, wait=1"], "wait=1"),
        (["return=minimal", "Wait = 1; strictly"], "wait=1"),
        (["wait=1, wait=60"], "wait=1"),
        (["wait=0"], None),
        (["wait=soon"], None),
        (["wait=-1"], None),
        (["respond-async"], None),
    ],
)
def test_preferences_are_read_as_rfc_7240_says(buyer: Buyer, given: list[str], applied: str | None) -> None:
    path = f"/api/jobs/{buyer.buy(PATH, SLOW)}"
    headers = [*buyer.proof(path).items(), *(("Prefer", each) for each in given)]
    answer = buyer.http.get(path, headers=headers)
    assert (answer.status_code, answer.headers.get("preference-applied")) == (200, applied)


def test_a_job_that_is_over_is_answered_at_once(buyer: Buyer) -> None:
    job_id = buyer.wait(buyer.buy(PATH, QUICK))["jobId"]
    path = f"/api/jobs/{job_id}"
    started = time.monotonic()
    answer = buyer.http.get(path, headers=buyer.proof(path) | {"Prefer": "wait=999999999"}, timeout=90)
    assert (answer.json()["status"], answer.headers["preference-applied"]) == ("complete", "wait=60")
    assert time.monotonic() - started < 30


def test_a_held_read_of_a_failed_job_waits_for_its_money(buyer: Buyer) -> None:
    path = f"/api/jobs/{buyer.buy(PATH, DOOMED)}"
    held = buyer.proof(path) | {"Prefer": "wait=60"}
    states: list[tuple[str, str]] = []
    while not states or states[-1] != ("failed", "refunded"):
        job = buyer.http.get(path, headers=held, timeout=90).json()
        states.append((job["status"], job["payment"]["state"]))
        assert len(states) < 3, states
    assert set(states) <= {("failed", "refund_pending"), ("failed", "refunded")}


def test_a_held_read_is_refused_as_any_other(buyer: Buyer, studio: Service) -> None:
    path = f"/api/jobs/{buyer.buy(PATH, SLOW)}"
    waits = {"Prefer": "wait=60"}
    assert buyer.http.get(path, headers=waits).json()["code"] == "siwx_missing"
    with Buyer(studio.url) as stranger:
        assert stranger.http.get(path, headers=stranger.proof(path) | waits).json()["code"] == "not_your_job"
        nobody = "/api/jobs/job_00000000000000000000000000"
        assert stranger.http.get(nobody, headers=stranger.proof(nobody) | waits).json()["code"] == "job_not_found"


def test_a_paid_request_can_wait_for_its_job(buyer: Buyer) -> None:
    payment = buyer.sign(PATH, QUICK)
    answer = buyer.http.post(PATH, json=QUICK, headers={"PAYMENT-SIGNATURE": payment, "Prefer": "wait=60"}, timeout=90)
    job = answer.json()
    assert (answer.status_code, job["status"], job["payment"]["state"]) == (200, "complete", "charged")
    assert answer.headers["preference-applied"] == "wait=60"
    assert answer.headers["payment-response"]
    assert buyer.http.get(job["result"]["imageUrl"]).status_code == 200
    again = buyer.pay(PATH, QUICK, payment, Prefer="wait=60")
    assert (again.json()["jobId"], again.json()["status"]) == (job["jobId"], "pending")
    assert "result" not in again.json()


def test_a_replay_of_a_payment_gets_neither_a_token_nor_the_result(buyer: Buyer) -> None:
    payment = buyer.sign(PATH, QUICK)
    first = buyer.pay(PATH, QUICK, payment)
    buyer.wait(first.json()["jobId"])
    again = buyer.pay(PATH, QUICK, payment, Prefer="wait=5")
    assert "poll-token" in first.headers
    assert "poll-token" not in again.headers
    assert again.content == first.content


def test_the_token_of_a_paid_answer_reads_its_job_without_a_signature(buyer: Buyer) -> None:
    answer = _paid(buyer, QUICK)
    path = f"/api/jobs/{answer.json()['jobId']}"
    headers = {"Authorization": f"Bearer {answer.headers['poll-token']}", "Prefer": "wait=60"}
    read = buyer.http.get(path, headers=headers, timeout=90)
    assert (read.status_code, read.json()["status"]) == (200, "complete")
    assert "pollToken" not in read.json()
    with buyer.http.stream("GET", f"{path}/events", headers=headers) as stream:
        assert [event["event"] for event in _events(stream)] == ["state", "payment", "end"]


def test_a_signed_read_gives_a_token_and_a_token_gives_none(buyer: Buyer) -> None:
    job_id = buyer.buy(PATH, SLOW)
    path = f"/api/jobs/{job_id}"
    signed = buyer.job(job_id)
    assert signed["pollToken"] == buyer.job(job_id)["pollToken"]
    answer = buyer.http.get(path, headers={"Authorization": f"bearer {signed['pollToken']}"})
    told = answer.json()
    assert (answer.status_code, told["jobId"]) == (200, job_id)
    assert "pollToken" not in told
    assert "pollTokenExpiresAt" not in told
    assert signed["pollToken"] not in json.dumps(buyer.jobs())


def test_a_token_opens_its_job_alone_and_changes_nothing(buyer: Buyer) -> None:
    failed, other = buyer.buy(PATH, DOOMED), buyer.buy(PATH, QUICK)
    buyer.wait(failed)
    token = {"Authorization": f"Bearer {buyer.job(failed)['pollToken']}"}
    assert buyer.http.get(f"/api/jobs/{failed}", headers=token).status_code == 200
    for method, path, code in (
        ("GET", f"/api/jobs/{other}", "poll_token_invalid"),
        ("GET", f"/api/jobs/{other}/events", "poll_token_invalid"),
        ("GET", "/api/jobs/job_00000000000000000000000000", "poll_token_invalid"),
        ("GET", "/api/jobs", "siwx_missing"),
        ("DELETE", f"/api/jobs/{failed}", "siwx_missing"),
    ):
        answer = buyer.http.request(method, path, headers=token)
        assert (answer.status_code, answer.json()["code"]) == (402, code), (method, path)
        assert "sign-in-with-x" in answer.json()["extensions"]


def test_whoever_is_told_that_a_token_is_bad_can_sign_at_once(buyer: Buyer) -> None:
    path = f"/api/jobs/{buyer.buy(PATH, SLOW)}"
    bad = {"Authorization": "Bearer poll_AAAA"}
    refused = buyer.http.get(path, headers=bad)
    proof = siwx.sign(refused.json()["extensions"]["sign-in-with-x"], buyer.key, origin=buyer.url)
    assert buyer.http.get(path, headers=bad | {"SIGN-IN-WITH-X": proof}).status_code == 200


def test_a_stream_tells_state_progress_and_money_and_ends(buyer: Buyer) -> None:
    with _stream(buyer, buyer.buy(PATH, SOON)) as stream:
        events = list(stream)
    assert events[0]["event"] == "state"
    assert events[-1]["event"] == "end"
    states = [event["data"]["status"] for event in events if event["event"] == "state"]
    assert states == sorted(set(states), key=("pending", "loading", "complete").index)
    assert states[-1] == "complete"
    done = [event["data"] for event in events if event["event"] == "state"][-1]
    assert buyer.http.get(done["result"]["imageUrl"]).status_code == 200
    progress = [event["data"]["progress"] for event in events if event["event"] == "progress"]
    assert progress
    assert progress == sorted(set(progress))
    assert [event["data"]["state"] for event in events if event["event"] == "payment"] == ["charged"]
    ids = [int(event["id"]) for event in events if "id" in event]
    assert ids == sorted(set(ids))
    assert "id" in events[-1]


def test_a_stream_of_a_failure_ends_when_the_money_is_back(buyer: Buyer) -> None:
    with _stream(buyer, buyer.buy(PATH, DOOMED)) as stream:
        events = list(stream)
    money = [event["data"]["state"] for event in events if event["event"] == "payment"]
    assert money[-1] == "refunded"
    assert money == sorted(set(money), key=("charged", "refund_pending", "refunded").index)
    assert (events[-1]["event"], events[-1]["data"]["status"]) == ("end", "failed")
    assert buyer.balance() == 100_000_000


def test_a_stream_goes_on_after_the_last_event_that_was_heard(buyer: Buyer) -> None:
    job_id = buyer.buy(PATH, SOON)
    with _stream(buyer, job_id) as stream:
        heard = next(event["id"] for event in stream if "id" in event)
    with _stream(buyer, job_id, **{"Last-Event-ID": heard}) as stream:
        later = list(stream)
    assert all(int(event["id"]) > int(heard) for event in later if "id" in event)
    assert later[-1]["event"] == "end"
    path = f"/api/jobs/{job_id}/events"
    over = buyer.http.get(path, headers=buyer.proof(path) | {"Last-Event-ID": later[-1]["id"]})
    assert (over.status_code, over.content) == (204, b"")  # which tells an EventSource not to come back


@pytest.mark.parametrize("unknown", ["", "nonsense", "-1", "9" * 40, "999999"])
def test_an_event_id_that_was_never_given_means_the_beginning(buyer: Buyer, unknown: str) -> None:
    with _stream(buyer, buyer.wait(buyer.buy(PATH, QUICK))["jobId"], **{"Last-Event-ID": unknown}) as stream:
        assert [event["event"] for event in stream] == ["state", "payment", "end"]


def test_a_stream_needs_what_a_read_needs(buyer: Buyer, studio: Service) -> None:
    path = f"/api/jobs/{buyer.buy(PATH, SLOW)}/events"
    assert buyer.http.get(path).json()["code"] == "siwx_missing"
    assert buyer.http.post(path).status_code == 405
    assert buyer.http.options(path).headers["allow"] == "GET, OPTIONS"
    with Buyer(studio.url) as stranger:
        assert stranger.http.get(path, headers=stranger.proof(path)).json()["code"] == "not_your_job"


def test_a_stop_answers_everybody_who_waits_at_once(tmp_path: Path) -> None:
    with Service(tmp_path / "data") as service, Buyer(service.url) as buyer:
        answer = _paid(buyer.fund(), SLOW)
        path, token = f"/api/jobs/{answer.json()['jobId']}", answer.headers["poll-token"]
        with (
            socket.create_connection(("127.0.0.1", service.port), timeout=60) as held,
            buyer.http.stream("GET", f"{path}/events", headers={"Authorization": f"Bearer {token}"}) as stream,
        ):
            request = f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nPrefer: wait=60\r\n\r\n"
            held.sendall(request.encode())
            events = _events(stream)
            assert next(events)["event"] == "state"
            httpx2.get(f"{service.url}/health", trust_env=False, timeout=30)  # by now the held one has arrived
            service.stop()
            # uvicorn alone would wait ten seconds and then cut both off.
            assert "end" not in {event["event"] for event in events}
            assert held.recv(65_536).startswith(b"HTTP/1.1 200")


def test_so_many_connections_may_wait_for_one_job_and_a_poll_is_answered_still(buyer: Buyer) -> None:
    job_id = buyer.buy(PATH, SLOW)
    path = f"/api/jobs/{job_id}"
    proof = buyer.proof(f"{path}/events")
    any_number = httpx2.Limits(max_connections=None)
    with (
        httpx2.Client(base_url=buyer.url, trust_env=False, limits=any_number, timeout=60) as http,
        ExitStack() as stack,
    ):
        streams = [
            stack.enter_context(http.stream("GET", f"{path}/events", headers=proof)).iter_lines()
            for _ in range(MOST_EACH)
        ]
        assert {next(stream) for stream in streams} == {"retry: 2000"}
        refused = buyer.http.get(f"{path}/events", headers=buyer.proof(f"{path}/events"))
        assert (refused.status_code, refused.json()["code"]) == (429, "too_many_waits")
        assert refused.headers["retry-after"] == "5"
        held = buyer.http.get(path, headers=buyer.proof(path) | {"Prefer": "wait=60"})
        assert (held.status_code, held.json()["status"]) == (200, "loading")
        assert "preference-applied" not in held.headers


def test_every_answer_has_a_request_id_of_its_own(buyer: Buyer) -> None:
    answers = [
        buyer.http.post(PATH, json=QUICK),
        buyer.http.post(PATH, json={}),
        buyer.http.get("/health"),
        buyer.http.get("/nothing"),
        buyer.http.get("/openapi.json"),
        buyer.http.options(PATH),
        _paid(buyer, QUICK),
    ]
    ids = {answer.headers["x-request-id"] for answer in answers}
    assert len(ids) == len(answers)
    assert answers[1].json()["requestId"] == answers[1].headers["x-request-id"]
