"""What a buyer does with an order by the Python client: cancels it, has its end told, asks why its price is what it is."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from stablestudio.client import CancelTooLate, PaymentOutcomeUnknown, StudioApiError, StudioClient, Webhooks
from stablestudio.client.errors import InvalidAddress
from tests.doubles import png
from tests.fakes.receiver import Receiver
from tests.integration.shop import Shop, let_a_minute_pass
from tests.service import Service

MODEL = ("nano-banana", "generate")
WISH = {"prompt": "a cat", "imageSize": "512"}
SLOW = {"prompt": "a cat [sandbox:delay=3600]", "imageSize": "512"}
STUBBORN = {"prompt": "a cat [sandbox:delay=3][sandbox:stubborn]", "imageSize": "512"}
PRICE = 45_000  # millionths of a dollar
PAID = "POST /api/generate/nano-banana/generate +"


@pytest.fixture
def shop(inside: Service, tmp_path: Path) -> Iterator[Shop]:
    made = Shop(inside, tmp_path)
    with made.client:
        yield made


def loading(client: StudioClient, wish: dict[str, str]) -> str:
    """Buy and return the job once a vendor works on it."""
    job = client.submit(*MODEL, wish)
    deadline = time.monotonic() + 60
    while client.job(job.id).status == "pending":
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return job.id


def delivered(client: StudioClient, job_id: str) -> Webhooks:
    """Return the log once its first message has arrived: a receiver knows of it before the log does."""
    deadline = time.monotonic() + 60
    while not (log := client.webhooks(job_id)).messages or log.messages[0].state != "delivered":
        assert time.monotonic() < deadline, log
        time.sleep(0.1)
    return log


def test_a_cancelled_job_is_paid_back_once_whatever_becomes_of_the_answer(shop: Shop) -> None:
    job_id = loading(shop.client, SLOW)
    cancel = f"POST /api/jobs/{job_id}/cancel"
    shop.line.lose = lambda call: call == cancel and shop.line.count(call) == 2  # the one that was signed
    job = shop.client.cancel(job_id)
    assert (job.status, job.cancelled, shop.line.count(cancel)) == ("failed", True, 4)
    refunded = shop.client.wait_for_refund(job)
    assert (refunded.refunded, shop.spent, shop.journal.orders()) == (True, 0, [])
    assert shop.next_process().cancel(job_id).refunded
    assert shop.spent == 0


def test_what_cannot_be_cancelled_goes_on_and_is_charged(shop: Shop) -> None:
    job_id = loading(shop.client, STUBBORN)
    with pytest.raises(CancelTooLate, match=r"^Too late to cancel\. ") as caught:
        shop.client.cancel(job_id)
    assert (caught.value.code, caught.value.money_moved, caught.value.job.id) == ("cancel_too_late", True, job_id)
    assert shop.client.wait(job_id).status == "complete"
    with pytest.raises(CancelTooLate) as caught:
        shop.client.cancel(job_id)
    assert (caught.value.job.status, shop.spent) == ("complete", PRICE)


def test_a_job_of_nobody_is_not_cancelled(shop: Shop) -> None:
    with pytest.raises(StudioApiError) as caught:
        shop.client.cancel("job_0")
    assert caught.value.code == "job_not_found"


def test_the_end_of_a_job_is_told_and_told_again(shop: Shop) -> None:
    with Receiver() as receiver:
        job = shop.client.run(*MODEL, WISH, webhook=receiver.url)
        receiver.wait(1)
        log = delivered(shop.client, job.id)
        assert (log.url, log.secret.startswith("whsec_"), log.messages[0].type) == (receiver.url, True, "job.complete")
        assert log.secret not in repr(log)
        let_a_minute_pass(shop.studio)
        assert [message.id for message in shop.client.redeliver(job.id).messages] == [log.messages[0].id]
        first, second = receiver.wait(2)
    assert first.headers["webhook-id"] == second.headers["webhook-id"] == log.messages[0].id


def test_an_order_that_was_cut_off_is_paid_once_and_keeps_its_webhook(shop: Shop) -> None:
    shop.line.cut = lambda call: call == PAID
    with Receiver() as receiver:
        with pytest.raises(PaymentOutcomeUnknown) as caught:
            shop.client.submit(*MODEL, WISH, webhook=receiver.url)
        assert caught.value.order.webhook == receiver.url
        shop.line.cut = lambda _: False
        (resumed,) = shop.next_process().resume()
        (delivery,) = receiver.wait(1)
    assert resumed.job is not None
    assert delivery.message["data"]["jobId"] == resumed.job.id
    assert (resumed.job.webhook, shop.spent) == (receiver.url, PRICE)


def test_another_webhook_makes_no_second_order(shop: Shop) -> None:
    shop.line.lose = lambda call: call == PAID
    with pytest.raises(PaymentOutcomeUnknown):
        shop.client.submit(*MODEL, WISH, webhook="https://one.example/hook")
    shop.line.lose = lambda _: False
    job = shop.next_process().submit(*MODEL, WISH, webhook="https://two.example/hook")
    assert (job.webhook, shop.client.webhooks(job.id).url) == ("https://one.example/hook",) * 2
    assert shop.spent == PRICE


def test_an_address_that_is_never_called_is_refused_before_anything_is_paid(studio: Service, tmp_path: Path) -> None:
    shop, large = Shop(studio, tmp_path), tmp_path / "b.png"
    large.write_bytes(png((64, 48)).ljust(4_000_000, b"\0"))
    wish = {"prompt": "x", "images": [large], "imageSize": "512"}
    with pytest.raises(StudioApiError, match="Webhook-Url") as caught:
        shop.client.submit("nano-banana", "edit", wish, webhook="https://127.0.0.1/hook")
    assert (caught.value.money_moved, shop.spent, shop.journal.orders()) == (False, 0, [])
    assert not any(call.endswith("+") for call in shop.line.calls)
    shop.client.close()


@pytest.mark.parametrize("url", ["", "nonsense", "ftp://a.example/", "https://a.example/ b", "https://ä.example/",
                                 "https://a.example/\r\nPAYMENT-SIGNATURE: x", "https://[::1/"])  # fmt: skip
def test_what_is_no_address_is_not_even_sent(shop: Shop, url: str) -> None:
    before = len(shop.line.calls)
    with pytest.raises(InvalidAddress):
        shop.client.submit(*MODEL, WISH, webhook=url)
    assert len(shop.line.calls) == before


def test_a_price_tells_its_reasons_and_is_what_the_order_costs(shop: Shop, tmp_path: Path) -> None:
    wish = {"prompt": "a boat", "durationSeconds": "4"}
    price, quote = (
        shop.client.price("veo-3.1-fast", "generate", wish),
        shop.client.quote("veo-3.1-fast", "generate", wish),
    )
    assert price is not None
    (line,) = price.breakdown
    assert (price.price, line.unit, line.unit_price, line.quantity) == (str(quote.amount), "second", "0.25", 4)
    assert line.because == {"durationSeconds": "4"}
    way = next(each for each in price.rails if (each.protocol, each.network) == ("x402", quote.network))
    assert (way.amount, way.asset) == (quote.offer.amount, quote.offer.asset)

    (tmp_path / "b.png").write_bytes(png((64, 48)).ljust(4_000_000, b"\0"))
    edit = {"prompt": "x", "images": [tmp_path / "b.png"], "imageSize": "512"}
    whole = shop.client.price("nano-banana", "edit", edit)
    assert whole is not None
    assert (whole.price, whole.uploads, whole.total) == ("0.045", 1, "0.055")
    assert shop.spent == 0


def test_a_price_refuses_what_an_order_refuses_in_the_same_words(shop: Shop) -> None:
    told = []
    for ask in (shop.client.price, shop.client.quote):
        with pytest.raises(StudioApiError) as caught:
            ask(*MODEL, {"prompt": "x", "imageSize": "9K"})
        told.append((caught.value.message, caught.value.issues))
    assert told[0] == told[1]


def test_the_price_is_the_service_s_answer_as_it_is(shop: Shop) -> None:
    price = shop.client.price(*MODEL, WISH)
    assert price is not None
    question = {"model": MODEL[0], "operation": MODEL[1], "input": WISH}
    answer = httpx2.post(f"{shop.studio.url}/api/quote", json=question, trust_env=False).json()
    told = price.model_dump(by_alias=True, exclude_unset=True)
    del answer["expiresAt"], told["expiresAt"]  # the minute may be over between the two
    assert told == answer
