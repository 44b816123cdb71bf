from __future__ import annotations

import json
from pathlib import Path

import httpx2
import pytest

from stablestudio.client import (
    Journal,
    KeyWallet,
    PaymentOutcomeUnknown,
    PaymentRejected,
    ServiceUnreachable,
    StudioClient,
)
from stablestudio.client.fakes import FakeSeller, Fault, error_reply
from stablestudio.client.steps import Reply
from stablestudio.protocols import x402

from .builders import LOST, TAKEN_AND_LOST, WISH, buyer, journal_files


def test_one_call_presents_one_signature_whatever_the_network_does(tmp_path: Path) -> None:
    seller = FakeSeller()
    seller.faults = [
        TAKEN_AND_LOST,
        Fault(takes=True, reply=Reply(status=500, body=b"<html>")),
        Fault(reply=Reply(status=202, body=b"{}")),
        Fault(reply=Reply(status=429)),
    ]
    job = buyer(seller, tmp_path).submit("nano-banana", "generate", WISH)
    assert job.id == "job_0"
    assert len(seller.signatures) == 5
    assert len(set(seller.signatures)) == len(set(seller.bodies)) == len(set(seller.keys)) == 1
    assert seller.identifiers == seller.keys
    assert list(seller.transfers.values()) == ["job_0"]


def test_two_calls_are_two_orders(tmp_path: Path) -> None:
    seller = FakeSeller()
    client = buyer(seller, tmp_path)
    jobs = [client.submit("nano-banana", "generate", WISH).id for _ in range(2)]
    assert jobs == ["job_0", "job_1"]
    assert len(set(seller.signatures)) == len(set(seller.keys)) == 2


def test_the_receipt_names_price_and_transaction(tmp_path: Path) -> None:
    payment = buyer(FakeSeller(), tmp_path).submit("nano-banana", "generate", WISH).payment
    assert payment is not None
    assert (payment.amount, payment.network, payment.transaction) == ("0.067", "eip155:84532", "0xab")


def test_a_402_to_the_payment_is_an_error_and_never_a_second_signature(tmp_path: Path) -> None:
    seller = FakeSeller(faults=[Fault(reply=error_reply(402, "insufficient_funds", charged=False, hint="Fund it."))])
    with pytest.raises(PaymentRejected) as caught:
        buyer(seller, tmp_path).submit("nano-banana", "generate", WISH)
    assert (caught.value.code, caught.value.advice, caught.value.money_moved) == (
        "insufficient_funds",
        "Fund it.",
        False,
    )
    assert len(seller.signatures) == 1
    assert journal_files(tmp_path) == []


def test_a_402_that_says_nothing_of_money_after_a_lost_answer_leaves_the_outcome_unknown(tmp_path: Path) -> None:
    seller = FakeSeller(faults=[TAKEN_AND_LOST, Fault(reply=Reply(status=402, body=b"{}"))])
    client = buyer(seller, tmp_path)
    with pytest.raises(PaymentOutcomeUnknown) as caught:
        client.submit("nano-banana", "generate", WISH)
    assert (caught.value.charged, caught.value.money_moved) == (None, None)
    assert client.pending() == [caught.value.order]


def test_a_refusal_that_says_nothing_was_charged_is_believed_after_a_lost_answer(tmp_path: Path) -> None:
    seller = FakeSeller(faults=[LOST, Fault(reply=error_reply(402, "payment_expired", charged=False))])
    with pytest.raises(PaymentRejected):
        buyer(seller, tmp_path).submit("nano-banana", "generate", WISH)
    assert journal_files(tmp_path) == []


def test_an_error_that_says_it_charged_keeps_the_order(tmp_path: Path) -> None:
    seller = FakeSeller(faults=[Fault(takes=True, reply=error_reply(409, "odd", charged=True))])
    client = buyer(seller, tmp_path)
    with pytest.raises(PaymentOutcomeUnknown):
        client.submit("nano-banana", "generate", WISH)
    assert len(client.pending()) == 1


def test_silence_to_the_end_is_unknown_and_the_same_input_continues_that_order(tmp_path: Path) -> None:
    seller = FakeSeller(faults=[TAKEN_AND_LOST] * 11)
    client = buyer(seller, tmp_path)
    with pytest.raises(PaymentOutcomeUnknown):
        client.submit("nano-banana", "generate", WISH)
    assert client.submit("nano-banana", "generate", WISH).id == "job_0"
    assert len(set(seller.signatures)) == 1
    assert len(seller.transfers) == 1
    assert client.pending() == []


def test_another_input_does_not_continue_an_open_order(tmp_path: Path) -> None:
    seller = FakeSeller(faults=[TAKEN_AND_LOST] * 11)
    client = buyer(seller, tmp_path)
    with pytest.raises(PaymentOutcomeUnknown):
        client.submit("nano-banana", "generate", WISH)
    assert client.submit("nano-banana", "generate", {"prompt": "a hen"}).id == "job_1"


def test_an_order_that_another_is_working_on_is_left_to_it(tmp_path: Path) -> None:
    seller = FakeSeller(faults=[TAKEN_AND_LOST] * 11)
    client = buyer(seller, tmp_path)
    with pytest.raises(PaymentOutcomeUnknown) as caught:
        client.submit("nano-banana", "generate", WISH)
    with Journal(tmp_path / "orders").hold(caught.value.order.key):
        assert client.submit("nano-banana", "generate", WISH).id == "job_1"


def test_a_crash_between_payment_and_answer_is_continued_by_the_next_process(tmp_path: Path) -> None:
    seller = FakeSeller(faults=[TAKEN_AND_LOST])

    def die(_: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        buyer(seller, tmp_path, sleep=die).submit("nano-banana", "generate", WISH)
    (resumed,) = buyer(seller, tmp_path).resume()
    assert resumed.job is not None
    assert resumed.job.id == "job_0"
    assert len(set(seller.signatures)) == 1
    assert len(seller.transfers) == 1


def test_the_order_is_on_disk_before_its_payment_is_sent(tmp_path: Path) -> None:
    seller = FakeSeller()
    seen: list[str] = []

    def handle(request: httpx2.Request) -> httpx2.Response:
        if x402.PAYMENT_SIGNATURE in request.headers:
            (path,) = journal_files(tmp_path)
            seen.append(json.loads(path.read_text())["signature"])
        return inner.handle_request(request)

    inner = seller.transport()
    client = buyer(seller, tmp_path)
    client = StudioClient(
        seller.origin,
        client.wallet,
        journal=Journal(tmp_path / "orders"),
        transport=httpx2.MockTransport(handle),
        clock=seller.clock,
        sleep=seller.clock.sleep,
    )
    client.submit("nano-banana", "generate", WISH)
    assert seen == seller.signatures


def test_resume_outlives_the_signature_because_the_service_remembers(tmp_path: Path) -> None:
    seller = FakeSeller(faults=[TAKEN_AND_LOST] * 11)
    with pytest.raises(PaymentOutcomeUnknown):
        buyer(seller, tmp_path).submit("nano-banana", "generate", WISH)
    seller.clock.ms += 3_600_000
    (resumed,) = buyer(seller, tmp_path).resume()
    assert resumed.job is not None
    assert resumed.error is None


def test_resume_of_an_order_that_never_arrived_ends_it_uncharged(tmp_path: Path) -> None:
    seller = FakeSeller(faults=[LOST] * 11)
    client = buyer(seller, tmp_path)
    with pytest.raises(PaymentOutcomeUnknown):
        client.submit("nano-banana", "generate", WISH)
    seller.clock.ms += 3_600_000
    (resumed,) = client.resume()
    assert isinstance(resumed.error, PaymentRejected)
    assert resumed.error.code == "payment_expired"
    assert client.pending() == []


def test_an_order_that_ended_uncharged_does_not_stand_in_the_way_of_the_next_call(tmp_path: Path) -> None:
    seller = FakeSeller(faults=[LOST] * 11)
    client = buyer(seller, tmp_path)
    with pytest.raises(PaymentOutcomeUnknown):
        client.submit("nano-banana", "generate", WISH)
    seller.clock.ms += 3_600_000
    assert client.submit("nano-banana", "generate", WISH).id == "job_0"
    assert len(set(seller.signatures)) == 2
    assert len(seller.transfers) == 1
    assert len(journal_files(tmp_path)) == 1


def test_an_open_order_that_stays_unknown_is_never_paid_a_second_time(tmp_path: Path) -> None:
    seller = FakeSeller(faults=[TAKEN_AND_LOST] * 22)
    client = buyer(seller, tmp_path)
    for _ in range(2):
        with pytest.raises(PaymentOutcomeUnknown):
            client.submit("nano-banana", "generate", WISH)
    assert len(set(seller.signatures)) == 1
    assert len(seller.transfers) == 1


def test_an_order_of_another_wallet_is_not_continued(tmp_path: Path) -> None:
    seller = FakeSeller(faults=[TAKEN_AND_LOST] * 11)
    client = buyer(seller, tmp_path)
    with pytest.raises(PaymentOutcomeUnknown):
        client.submit("nano-banana", "generate", WISH)
    stranger = StudioClient(
        seller.origin,
        KeyWallet.generate(),
        journal=Journal(tmp_path / "orders"),
        transport=seller.transport(),
        clock=seller.clock,
        sleep=seller.clock.sleep,
    )
    assert stranger.resume() == []
    assert stranger.submit("nano-banana", "generate", WISH).id == "job_1"


@pytest.mark.parametrize("fault", [error_reply(503, "busy", charged=False), Reply(status=429)])
def test_a_service_that_never_took_the_payment_leaves_nothing_behind(tmp_path: Path, fault: Reply) -> None:
    seller = FakeSeller(faults=[Fault(reply=fault)] * 11)
    with pytest.raises(ServiceUnreachable) as caught:
        buyer(seller, tmp_path).submit("nano-banana", "generate", WISH)
    assert caught.value.money_moved is False
    assert journal_files(tmp_path) == []
    assert len(set(seller.signatures)) == 1


def test_a_payment_that_never_left_this_machine_leaves_nothing_behind(tmp_path: Path) -> None:
    seller = FakeSeller()

    def handle(request: httpx2.Request) -> httpx2.Response:
        if x402.PAYMENT_SIGNATURE in request.headers:
            raise httpx2.ConnectError("refused", request=request)
        return inner.handle_request(request)

    inner = seller.transport()
    client = StudioClient(
        seller.origin,
        KeyWallet.generate(),
        journal=Journal(tmp_path / "orders"),
        transport=httpx2.MockTransport(handle),
        clock=seller.clock,
        sleep=seller.clock.sleep,
    )
    with pytest.raises(ServiceUnreachable):
        client.submit("nano-banana", "generate", WISH)
    assert journal_files(tmp_path) == []


def test_the_service_says_how_long_to_wait_before_the_next_try(tmp_path: Path) -> None:
    held = Reply(status=202, headers={"Retry-After": "7"}, body=b"{}")
    seller = FakeSeller(faults=[Fault(takes=True, reply=held)])
    buyer(seller, tmp_path).submit("nano-banana", "generate", WISH)
    assert seller.clock.slept == [7.0]


def test_tries_end_after_about_a_minute(tmp_path: Path) -> None:
    seller = FakeSeller(faults=[LOST] * 50)
    with pytest.raises(PaymentOutcomeUnknown):
        buyer(seller, tmp_path).submit("nano-banana", "generate", WISH)
    assert 45 < sum(seller.clock.slept) < 90
