"""Input files: read once, named by their bytes, made to fit a vendor's limits."""

from __future__ import annotations

import base64
import io

import pytest
from PIL import Image

from stablestudio.catalog import MediaInput
from stablestudio.media.decoding import DecoderUnavailable
from stablestudio.media.fetch import FetchFailed
from stablestudio.media.probe import UnreadableMedia
from stablestudio.providers.inputs import (
    InputFiles,
    MediaFile,
    crop_to,
    data_url,
    public_url,
    read_files,
    shrink,
)
from stablestudio.providers.provider import Failed, FailureKind, NotAccepted, Work
from tests import media_samples as samples
from tests.doubles import NOW_MS, WALLET
from tests.providers.works import Files, work

pytestmark = pytest.mark.anyio


class Reader:
    """Stands in for the service's own reader."""

    def __init__(self, *files: bytes) -> None:
        self._files = list(files)
        self.asked: list[tuple[str, str, str, int]] = []

    async def read(self, url: str, *, wallet: str, order_id: str, as_of_ms: int) -> bytes:
        self.asked.append((url, wallet, order_id, as_of_ms))
        return self._files[len(self.asked) - 1]


def files_of(reader: Reader, **options: object) -> InputFiles:
    return InputFiles(reader, **options)  # type: ignore[arg-type] # a stand-in


def image_file(data: bytes, content_type: str = "image/png") -> MediaFile:
    return MediaFile(
        path=("image",), kind="image", role="reference", data=data, content_type=content_type, url="https://a.example/x"
    )


def opened(file: MediaFile) -> Image.Image:
    return Image.open(io.BytesIO(file.data))


async def test_files_come_in_the_order_of_the_input_with_their_real_types() -> None:
    reader = Reader(samples.image("WEBP", size=(30, 20)), samples.image("JPEG"))
    order = work("grok/edit", images=["https://example.com/a.png", "job:job_1"])

    first, second = await files_of(reader).read(order)

    assert (first.path, first.content_type, first.width, first.height) == (("images", 0), "image/webp", 30, 20)
    assert (second.path, second.content_type) == (("images", 1), "image/jpeg")
    assert (first.url, second.url) == ("https://example.com/a.png", None)
    assert reader.asked[0] == ("https://example.com/a.png", WALLET, order.job_id, NOW_MS)


async def test_a_vendor_gets_the_address_of_the_file_that_was_checked_where_it_has_one() -> None:
    links = {"job:job_1": "https://studio.example/1", "https://example.com/a.png": "https://studio.example/copy"}

    async def publish(work: Work, media: MediaInput) -> str | None:
        return links.get(media.url)

    order = work("grok/edit", images=["job:job_1", "https://example.com/a.png", "https://example.com/b.png"])
    files = await files_of(Reader(*[samples.image()] * 3), publish=publish).read(order)

    assert [file.url for file in files] == [*links.values(), "https://example.com/b.png"]


@pytest.mark.parametrize("data", [samples.clip(), b"<html>", samples.image("JPEG")[:-400] + b""])
async def test_a_file_of_another_kind_or_a_broken_one_fails_the_work_before_a_vendor_is_asked(data: bytes) -> None:
    failure = await read_files(files_of(Reader(data)), work("grok/edit"))

    assert isinstance(failure, Failed)
    assert failure.kind is FailureKind.INVALID_INPUT


async def test_a_file_that_cannot_be_fetched_is_the_buyers_to_hear() -> None:
    failure = await read_files(Files(FetchFailed("example.com answered with status 404.")), work("grok/edit"))

    assert failure == Failed(kind=FailureKind.INVALID_INPUT, message="example.com answered with status 404.")


async def test_a_fault_of_our_own_is_no_fault_of_the_file_and_may_pass() -> None:
    with pytest.raises(NotAccepted) as refusal:
        await read_files(Files(DecoderUnavailable()), work("grok/edit"))

    assert refusal.value.kind is FailureKind.RATE_LIMITED


@pytest.mark.parametrize(
    ("url", "public"),
    [
        ("https://example.com/a.png?x=1", True),
        ("http://example.com/a.png", False),
        ("https://localhost/a.png", False),
        ("https://192.168.0.1/a.png", False),
        ("https://example.com:8443/a.png", False),
        ("job:job_1", False),
        ("data:image/png;base64,AAAA", False),
    ],
)
def test_only_a_public_https_address_is_given_to_vendors(url: str, public: bool) -> None:  # noqa: FBT001 - a column
    assert public_url(url) == (url if public else None)


def test_a_data_url_holds_the_file() -> None:
    head, _, text = data_url(image_file(b"abc")).partition(",")

    assert head == "data:image/png;base64"
    assert base64.b64decode(text) == b"abc"


async def test_an_image_that_fits_is_not_touched() -> None:
    file = image_file(samples.image())

    assert await shrink(file, max_bytes=10_000) is file
    assert await shrink(file, max_bytes=10_000, longest=64) is file


async def test_an_image_over_the_limit_gets_smaller_until_it_fits() -> None:
    noise = Image.effect_noise((600, 400), 90).convert("RGB")
    out = io.BytesIO()
    noise.save(out, "PNG")

    file = await shrink(image_file(out.getvalue()), max_bytes=30_000)

    assert len(file.data) <= 30_000
    assert file.content_type == "image/jpeg"
    assert opened(file).size == (file.width, file.height)
    assert file.width / file.height == pytest.approx(1.5, abs=0.02)
    assert file.url is None, "the address leads to the file as it was"


async def test_a_type_that_the_vendor_does_not_take_is_written_anew() -> None:
    assert (await shrink(image_file(samples.image("GIF"), "image/gif"), max_bytes=10_000)).content_type == "image/jpeg"
    clear = samples.image("WEBP", mode="RGBA", colour=(0, 0, 0, 0))
    kept = await shrink(image_file(clear, "image/webp"), max_bytes=10_000, types=("image/png", "image/jpeg"))
    assert kept.content_type == "image/png"
    assert opened(kept).mode == "RGBA"
    flat = await shrink(image_file(clear, "image/webp"), max_bytes=10_000, types=("image/jpeg",))
    assert opened(flat).getpixel((0, 0)) == (255, 255, 255)


async def test_the_longer_side_can_be_limited() -> None:
    file = await shrink(image_file(samples.image(size=(300, 100))), max_bytes=10_000, longest=150)

    assert opened(file).size == (150, 50)


async def test_what_cannot_be_made_to_fit_says_so() -> None:
    with pytest.raises(UnreadableMedia, match="small enough"):
        await shrink(image_file(samples.image()), max_bytes=10)


@pytest.mark.parametrize("size", [(1280, 720), (720, 1280), (64, 48)])
async def test_a_crop_has_exactly_the_size_and_keeps_the_middle(size: tuple[int, int]) -> None:
    wide = Image.new("RGB", (900, 300), "red")
    wide.paste("blue", (300, 0, 600, 300))
    out = io.BytesIO()
    wide.save(out, "PNG")

    file = await crop_to(image_file(out.getvalue()), size)

    assert opened(file).size == size == (file.width, file.height)
    assert opened(file).getpixel((size[0] // 2, size[1] // 2)) == (0, 0, 255)


async def test_a_crop_is_upright_and_opaque() -> None:
    turned = samples.image("JPEG", size=(48, 64), orientation=6)
    assert opened(await crop_to(image_file(turned, "image/jpeg"), (64, 48))).size == (64, 48)
    clear = image_file(samples.image(mode="RGBA", colour=(0, 0, 0, 0)))
    assert opened(await crop_to(clear, (32, 32))).getpixel((0, 0)) == (255, 255, 255)


async def test_a_frame_of_the_right_size_is_not_touched() -> None:
    file = image_file(samples.image(size=(64, 48)))

    assert await crop_to(file, (64, 48)) is file
