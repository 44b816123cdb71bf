"""Files handed over by the Python client: inline, uploaded, cut off anywhere, continued, and never paid twice."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest

from stablestudio.cli.faults import next_step
from stablestudio.cli.generate import interruptible
from stablestudio.cli.output import Progress
from stablestudio.client import (
    FileChanged,
    FileUnusable,
    PaymentOutcomeUnknown,
    PaymentRejected,
    PriceAboveLimit,
    Sent,
    ServiceUnreachable,
    UploadExpired,
    UploadInterrupted,
    UploadNotOpen,
    UploadRefused,
)
from stablestudio.client.sending import PART_BYTES
from stablestudio.money import Money
from tests.doubles import png
from tests.integration.shop import Shop
from tests.service import Service

PLACE = 10_000  # millionths of a dollar
EDIT = ("nano-banana", "edit")


@pytest.fixture
def shop(studio: Service, tmp_path: Path) -> Iterator[Shop]:
    made = Shop(studio, tmp_path)
    yield made
    made.line.close()


def picture(folder: Path, size: int = 0, *, name: str = "cat.png") -> Path:
    """Return a real picture, filled up to a size."""
    path = folder / name
    path.write_bytes(png((64, 48)))
    if size:
        with path.open("r+b") as file:
            file.truncate(size)
    return path


@pytest.mark.parametrize("size", [0, 5_000_000, PART_BYTES, 3 * PART_BYTES + 1])
def test_a_file_of_any_size_is_handed_over_and_used(shop: Shop, tmp_path: Path, size: int) -> None:
    seen: list[Sent] = []
    upload = shop.client.upload(picture(tmp_path, size), on_progress=seen.append)

    assert (upload.content_type, upload.size) == ("image/png", size or len(png((64, 48))))
    assert upload.expires_at is not None
    assert [seen[0].sent, seen[-1].sent] == [0, upload.size]
    assert shop.line.count("PUT /api/blob") == (0 if size > PART_BYTES else 1)
    assert (shop.spent, shop.journal.orders()) == (PLACE, [])
    job = shop.client.run(*EDIT, {"prompt": "bluer", "images": [upload], "imageSize": "512"})
    assert job.status == "complete"


def test_bytes_are_taken_as_well_as_a_path(shop: Shop) -> None:
    assert shop.client.upload(png((64, 48))).content_type == "image/png"


def test_no_more_than_some_parts_are_in_memory(shop: Shop, tmp_path: Path) -> None:
    path = picture(tmp_path, 12 * PART_BYTES)
    tracemalloc.start()
    try:
        shop.client.upload(path)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most < 4 * PART_BYTES


@pytest.mark.parametrize(
    "data", [b"", b"x", b"<html>", b"GIF89a" + bytes(9)], ids=["nothing", "one byte", "a page", "an animation"]
)
def test_what_is_no_file_for_the_service_is_refused_before_anything_is_paid(shop: Shop, data: bytes) -> None:
    with pytest.raises(Exception, match=r"empty|known type|not accepted|contentType|body") as caught:
        shop.client.upload(data)
    assert caught.value.money_moved is False  # type: ignore[attr-defined]
    assert (shop.spent, shop.journal.orders()) == (0, [])


def test_a_file_above_the_services_limit_costs_nothing(shop: Shop, tmp_path: Path) -> None:
    with pytest.raises(FileUnusable, match="at most"):
        shop.client.upload(picture(tmp_path, 500_000_001))
    assert shop.spent == 0


def test_the_price_cap_holds_for_an_upload(shop: Shop, tmp_path: Path) -> None:
    with pytest.raises(PriceAboveLimit):
        shop.client.upload(picture(tmp_path), max_price=Money.parse("0.009"))
    assert (shop.spent, shop.journal.orders()) == (0, [])


def test_a_wrong_file_is_refused_and_its_place_takes_a_right_one(shop: Shop, tmp_path: Path) -> None:
    path = tmp_path / "cat.png"
    path.write_bytes(png((64, 64))[:60])
    with pytest.raises(UploadRefused) as caught:
        shop.client.upload(path)
    assert caught.value.money_moved is True
    assert shop.client.pending() == [], "there is nothing to send"
    with pytest.raises(UploadRefused):
        shop.client.upload(b"x", content_type="image/png")
    assert shop.spent == 2 * PLACE

    path.write_bytes(png((64, 48)))
    assert shop.client.upload(path).size == len(png((64, 48)))
    assert shop.spent == 2 * PLACE


class Killed(BaseException):
    """What a process dies of."""


@pytest.mark.parametrize(
    ("size", "moment"),
    [
        (0, "PUT /api/blob"),
        (0, "POST /api/upload/confirm"),
        (2 * PART_BYTES + 5, "POST /api/blob/mpu create"),
        (2 * PART_BYTES + 5, "POST /api/blob/mpu upload2"),
        (2 * PART_BYTES + 5, "POST /api/blob/mpu complete"),
    ],
)
def test_a_process_that_dies_after_paying_is_continued_by_the_next(
    shop: Shop, tmp_path: Path, size: int, moment: str
) -> None:
    path = picture(tmp_path, size)

    def die(call: str) -> bool:
        if call.startswith(moment):
            raise Killed
        return False

    shop.line.cut = die
    with pytest.raises(Killed):
        shop.client.upload(path)
    assert shop.spent == PLACE
    shop.line.cut = lambda _: False

    next_process = shop.next_process()
    (left,) = next_process.pending()
    assert left.transaction is not None
    (resumed,) = next_process.resume()
    assert resumed.upload is not None
    assert resumed.upload.size == path.stat().st_size
    assert (shop.spent, shop.journal.orders()) == (PLACE, [])


def test_a_service_that_is_gone_after_the_payment_leaves_no_doubt_about_it(shop: Shop, tmp_path: Path) -> None:
    shop.line.cut = lambda call: "PUT" in call
    with pytest.raises(UploadInterrupted):
        shop.client.upload(picture(tmp_path))
    shop.line.cut = lambda _: True
    (resumed,) = shop.client.resume()
    assert isinstance(resumed.error, UploadInterrupted)
    assert resumed.error.money_moved is True


def test_a_process_that_dies_before_the_answer_to_its_payment_gets_that_place(shop: Shop, tmp_path: Path) -> None:
    def die(call: str) -> bool:
        if call.endswith("/upload +"):
            raise Killed
        return False

    shop.line.lose = die
    with pytest.raises(Killed):
        shop.client.upload(picture(tmp_path))
    shop.line.lose = lambda _: False
    assert shop.next_process().upload(tmp_path / "cat.png").id
    assert (shop.spent, shop.journal.orders()) == (PLACE, [])


def test_parts_that_arrived_are_not_sent_again(shop: Shop, tmp_path: Path) -> None:
    path = picture(tmp_path, 4 * PART_BYTES)
    shop.line.cut = lambda call: call.endswith("upload3")
    with pytest.raises(UploadInterrupted) as caught:
        shop.client.upload(path)
    assert (caught.value.money_moved, caught.value.retryable) == (True, True)
    shop.line.cut = lambda _: False

    shop.next_process().upload(path)
    assert [shop.line.count(f"POST /api/blob/mpu upload{number}") for number in (1, 2, 4)] == [1, 1, 1]
    assert (shop.spent, shop.journal.orders()) == (PLACE, [])


@pytest.mark.parametrize("size", [0, 2 * PART_BYTES])
def test_each_answer_may_be_lost_once_and_one_place_is_paid(shop: Shop, tmp_path: Path, size: int) -> None:
    shop.line.lose = lambda call: shop.line.count(call) == 1
    assert shop.client.upload(picture(tmp_path, size)).size
    assert shop.spent == PLACE


def test_an_upload_that_has_arrived_is_confirmed_even_if_its_file_is_gone(shop: Shop, tmp_path: Path) -> None:
    path = picture(tmp_path)
    shop.line.cut = lambda call: "confirm" in call
    with pytest.raises(UploadInterrupted):
        shop.client.upload(path)
    path.unlink()
    shop.line.cut = lambda _: False
    (resumed,) = shop.client.resume()
    assert resumed.upload is not None


@pytest.mark.parametrize("change", ["other", "gone", "memory"])
def test_another_file_is_not_sent_in_place_of_the_one_that_was_cut_off(shop: Shop, tmp_path: Path, change: str) -> None:
    path = picture(tmp_path)
    shop.line.cut = lambda call: "PUT" in call
    with pytest.raises(UploadInterrupted):
        shop.client.upload(path.read_bytes() if change == "memory" else path)
    shop.line.cut = lambda _: False
    if change == "other":
        path.write_bytes(png((8, 8)))
    if change == "gone":
        path.unlink()
    (resumed,) = shop.client.resume()
    assert isinstance(resumed.error, FileChanged)
    assert resumed.error.money_moved is True
    assert len(shop.client.pending()) == 1


def test_a_place_whose_time_is_over_is_given_up_and_a_new_call_buys_another(shop: Shop, tmp_path: Path) -> None:
    path = picture(tmp_path)
    for again in (shop.client.resume, lambda: shop.client.upload(path)):
        shop.line.cut = lambda call: "PUT" in call
        with pytest.raises(UploadInterrupted):
            shop.client.upload(path)
        shop.line.cut = lambda _: False
        shop.end_token()
        spent = shop.spent
        told = again()
        if isinstance(told, list):
            assert isinstance(told[0].error, UploadExpired)
            assert (told[0].error.money_moved, shop.spent) == (True, spent)
        else:
            assert shop.spent == spent + PLACE
        assert shop.journal.orders() == []


def test_small_files_go_inside_the_order_and_large_ones_by_upload(shop: Shop, tmp_path: Path) -> None:
    small, large = picture(tmp_path, name="a.png"), picture(tmp_path, 4_000_000, name="b.png")
    earlier = shop.client.run("nano-banana", "generate", {"prompt": "a cat", "imageSize": "512"})
    spent = shop.spent
    wish = {"prompt": "both", "images": [small, large, small, f"job:{earlier.id}", large], "imageSize": "512"}
    job = shop.client.run(*EDIT, wish)
    assert job.status == "complete"
    quote = shop.client.quote(*EDIT, wish)
    assert (quote.amount.micros, quote.total.micros) == (45_000, 45_000 + PLACE)
    assert shop.spent == spent + quote.total.micros
    assert shop.line.count("PUT /api/blob") == 1


def test_the_cap_covers_order_and_uploads_before_anything_is_paid(shop: Shop, tmp_path: Path) -> None:
    wish = {"prompt": "x", "images": [picture(tmp_path, 4_000_000)], "imageSize": "512"}
    with pytest.raises(PriceAboveLimit, match=r"0\.055 with its uploads"):
        shop.client.run(*EDIT, wish, max_price=Money.parse("0.054"))
    assert (shop.spent, shop.journal.orders()) == (0, [])
    assert shop.client.run(*EDIT, wish, max_price=Money.parse("0.055")).status == "complete"


def test_a_bad_input_is_told_before_its_files_are_uploaded(shop: Shop, tmp_path: Path) -> None:
    wish = {"prompt": "x", "images": [picture(tmp_path, 4_000_000)], "imageSize": "9K"}
    with pytest.raises(Exception, match="imageSize"):
        shop.client.run(*EDIT, wish)
    assert shop.spent == 0


def test_an_order_without_an_answer_is_continued_with_the_upload_that_it_names(shop: Shop, tmp_path: Path) -> None:
    wish = {"prompt": "x", "images": [picture(tmp_path, 4_000_000)], "imageSize": "512"}
    shop.line.lose = lambda call: call.endswith("edit +")
    with pytest.raises(PaymentOutcomeUnknown):
        shop.client.submit(*EDIT, wish)
    shop.line.lose = lambda _: False
    job = shop.next_process().submit(*EDIT, wish)
    assert shop.line.count("PUT /api/blob") == 1
    assert shop.spent == 45_000 + PLACE
    assert [order.job_id for order in shop.journal.orders()] == [job.id]


def test_an_upload_outlives_an_order_that_came_to_nothing(shop: Shop, tmp_path: Path) -> None:
    wish = {"prompt": "x", "images": [picture(tmp_path, 4_000_000)], "imageSize": "512"}

    def refuse(call: str) -> bool:
        if call.endswith("edit +"):
            raise httpx2.ConnectError("refused")
        return False

    shop.line.cut = refuse
    with pytest.raises(ServiceUnreachable):
        shop.client.submit(*EDIT, wish)
    shop.line.cut = lambda _: False
    assert (shop.spent, shop.client.pending()) == (PLACE, [])
    shop.next_process().submit(*EDIT, wish)
    assert shop.spent == 45_000 + PLACE
    assert [order.sending for order in shop.journal.orders()] == [None]


def cut(moment: str) -> Callable[[str], bool]:
    """Return what breaks the line before requests whose description ends so leave this machine."""

    def refuse(call: str) -> bool:
        if call.endswith(moment):
            raise httpx2.ConnectError("refused")
        return False

    return refuse


def test_an_order_that_is_refused_after_its_upload_tells_what_was_paid_for_it(shop: Shop, tmp_path: Path) -> None:
    wish = {"prompt": "x", "image": picture(tmp_path, 4_000_000), "duration": "5"}
    with pytest.raises(PaymentRejected, match="each side needs at least 360") as caught:
        shop.client.submit("wan-2.6", "i2v", wish)
    (paid,) = caught.value.uploads
    assert (paid.file, paid.price.micros, shop.spent) == ("cat.png", PLACE, PLACE)
    assert f"$0.01 was paid for the upload of cat.png, which stays usable until {paid.usable_until}" in str(
        caught.value
    )
    assert (caught.value.money_moved, caught.value.body()["charged"]) == (True, True)
    with pytest.raises(PaymentRejected) as again:
        shop.next_process().submit("wan-2.6", "i2v", wish)
    assert (again.value.uploads, again.value.money_moved, shop.spent) == ((), False, PLACE)


def test_a_file_that_was_sent_by_resume_is_there_for_its_order(shop: Shop, tmp_path: Path) -> None:
    wish = {"prompt": "x", "images": [picture(tmp_path, 4_000_000)], "imageSize": "512"}
    shop.line.cut = lambda call: "PUT" in call
    with pytest.raises(UploadInterrupted):
        shop.client.submit(*EDIT, wish)
    shop.line.cut = lambda _: False
    (resumed,) = shop.next_process().resume()
    assert (resumed.upload is not None, resumed.wanted_for) == (True, "nano-banana/edit")
    shop.next_process().submit(*EDIT, wish)
    assert shop.spent == 45_000 + PLACE
    assert [order.sending for order in shop.journal.orders()] == [None]


def test_an_interrupt_between_upload_and_order_says_that_the_same_command_goes_on(shop: Shop, tmp_path: Path) -> None:
    wish = {"prompt": "x", "images": [picture(tmp_path, 4_000_000)], "imageSize": "512"}

    def interrupt(call: str) -> bool:
        if call.endswith("edit") and shop.line.count("POST /api/upload/confirm"):
            raise KeyboardInterrupt
        return False

    shop.line.cut = interrupt
    progress = Progress(lambda _: None, stream=None)
    with pytest.raises(UploadInterrupted, match="before the order was placed") as caught:
        interruptible(shop.client, lambda: shop.client.submit(*EDIT, wish), progress=progress)
    assert next_step(caught.value).startswith("the same command again, which does not pay for the upload again")
    shop.line.cut = lambda _: False
    shop.client.submit(*EDIT, wish)
    assert shop.spent == 45_000 + PLACE


def test_an_upload_that_the_service_does_not_know_any_more_is_forgotten(shop: Shop, tmp_path: Path) -> None:
    wish = {"prompt": "x", "images": [picture(tmp_path, 4_000_000)], "imageSize": "512"}
    shop.line.cut = cut("edit +")
    with pytest.raises(ServiceUnreachable):
        shop.client.submit(*EDIT, wish)
    shop.line.cut = lambda _: False
    shop.lose_uploads()
    with pytest.raises(PaymentRejected) as caught:
        shop.client.submit(*EDIT, wish)
    assert ([issue.code for issue in caught.value.issues], shop.journal.orders()) == (["upload_not_found"], [])
    shop.client.submit(*EDIT, wish)
    assert shop.spent == 45_000 + 2 * PLACE


def test_an_upload_that_cannot_be_sent_any_more_is_given_up_by_its_id(shop: Shop, tmp_path: Path) -> None:
    path = picture(tmp_path)
    shop.line.cut = lambda call: "PUT" in call
    with pytest.raises(UploadInterrupted):
        shop.client.upload(path)
    shop.line.cut = lambda _: False
    path.write_bytes(png((8, 8)))
    (left,) = shop.client.resume()
    assert left.error is not None
    assert f"`stablestudio resume --drop {left.order.key}`" in left.error.advice
    assert shop.client.drop(left.order.key) == left.order
    assert (shop.client.resume(), shop.journal.orders()) == ([], [])


def test_the_order_of_a_job_is_never_given_up(shop: Shop) -> None:
    shop.line.lose = lambda call: call.endswith("generate +")
    with pytest.raises(PaymentOutcomeUnknown) as caught:
        shop.client.submit("nano-banana", "generate", {"prompt": "x", "imageSize": "512"})
    shop.line.lose = lambda _: False
    with pytest.raises(UploadNotOpen):
        shop.client.drop(caught.value.order.key)
    assert len(shop.client.pending()) == 1


def test_a_file_that_is_named_twice_counts_twice_of_what_goes_inside(shop: Shop, tmp_path: Path) -> None:
    path = picture(tmp_path, 2_500_000)
    shop.client.submit(*EDIT, {"prompt": "x", "images": [path, path], "imageSize": "512"})
    assert shop.spent == 45_000 + PLACE


def test_names_and_open_files_are_uploaded_as_paths_are(shop: Shop, tmp_path: Path) -> None:
    path = picture(tmp_path)
    assert shop.client.upload(str(path)).size == path.stat().st_size
    with path.open("rb") as file:
        assert shop.client.upload(file).size == path.stat().st_size
        wish = {"prompt": "x", "images": [file, path.read_bytes()], "imageSize": "512"}
        shop.client.quote(*EDIT, wish)
        assert shop.client.submit(*EDIT, wish).id
