"""The last touch: the file that was ordered, in the format and size that was ordered, or a failure."""

from __future__ import annotations

import io
from typing import Any

import pytest
from PIL import Image

from stablestudio.catalog.values import ImageOutput
from stablestudio.media.probe import probe
from stablestudio.providers.finish import collect, finish, finish_image
from stablestudio.providers.http import VendorHttp
from stablestudio.providers.provider import Failed, FailureKind, Output
from tests import media_samples as samples
from tests.providers.loopback import Answer, serving
from tests.providers.works import work

pytestmark = pytest.mark.anyio


async def test_a_file_in_the_right_format_is_not_touched() -> None:
    data = samples.usual_image("PNG")

    assert await finish(data, work("gpt-image-2/generate")) == Output(data=data, content_type="image/png")


@pytest.mark.parametrize(("format_", "type_"), [("png", "image/png"), ("jpeg", "image/jpeg"), ("webp", "image/webp")])
@pytest.mark.parametrize("came", ["PNG", "JPEG", "WEBP", "GIF"])
async def test_a_file_in_another_format_is_written_anew(format_: str, type_: str, came: str) -> None:
    output = await finish(samples.usual_image(came), work("gpt-image-2/generate", output_format=format_))

    assert isinstance(output, Output)
    assert output.content_type == type_ == probe(output.data).content_type


async def test_the_quality_asked_for_is_the_one_written() -> None:
    noise = Image.effect_noise((128, 128), 80).convert("RGB")
    out = io.BytesIO()
    noise.save(out, "PNG")

    async def size(**wanted: Any) -> int:
        return len((await finish_image(out.getvalue(), ImageOutput(width=128, height=128, **wanted))).data)

    for format_ in ("jpeg", "webp"):
        rough, usual, fine = [await size(format=format_, quality=quality) for quality in (0, 50, 100)]
        assert rough < usual < fine


async def test_transparency_stays_where_the_format_has_it_and_lies_on_white_elsewhere() -> None:
    clear = samples.image(mode="RGBA", colour=(0, 0, 0, 0))
    kept = await finish_image(clear, ImageOutput(width=64, height=48, format="webp", transparent=True))
    flat = await finish_image(clear, ImageOutput(width=64, height=48, format="jpeg"))

    assert Image.open(io.BytesIO(kept.data)).mode == "RGBA"
    assert Image.open(io.BytesIO(flat.data)).getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize(
    ("size", "result"), [((1024, 1024), (512, 512)), ((1024, 384), (512, 192)), ((512, 512), None)]
)
async def test_an_image_shrinks_to_lie_within_and_never_grows(
    size: tuple[int, int], result: tuple[int, int] | None
) -> None:
    data = samples.image(size=size)
    output = await finish(data, work("nano-banana/generate", aspectRatio="1:1"), within=(512, 512))

    assert isinstance(output, Output)
    assert Image.open(io.BytesIO(output.data)).size == (result or size)
    assert (output.data == data) is (result is None)


@pytest.mark.parametrize(
    ("key", "data"),
    [
        ("grok/generate", samples.clip()),
        ("grok-video/generate", samples.image()),
        ("grok-video/generate", samples.clip()[:-300]),
        ("grok/generate", b"<html>sorry</html>"),
        ("grok/generate", b""),
        ("grok/generate", samples.image()[:-60]),
    ],
)
async def test_what_was_not_ordered_or_cannot_be_read_is_a_failure(key: str, data: bytes) -> None:
    output = await finish(data, work(key))

    assert isinstance(output, Failed)
    assert output.kind is FailureKind.UPSTREAM_ERROR


async def test_a_result_is_fetched_and_finished() -> None:
    async with serving(lambda request: Answer(body=samples.usual_image(request.path[1:].upper()))) as files:
        http = VendorHttp(name="vendor", base_url=files.url, auth={})
        output = await collect(http, files.url + "/png", work("grok/generate"))
        await http.close()

    assert isinstance(output, Output)
    assert output.content_type == "image/jpeg"


async def test_a_clip_comes_as_it_is() -> None:
    clip = samples.usual_clip()
    async with serving(lambda _: Answer(body=clip)) as files:
        http = VendorHttp(name="vendor", base_url=files.url, auth={})
        output = await collect(http, "/clip", work("grok-video/generate"))
        await http.close()

    assert output == Output(data=clip, content_type="video/mp4")


async def test_a_result_on_a_private_address_is_a_failure() -> None:
    http = VendorHttp(name="vendor", base_url="https://api.example.com", auth={})

    output = await collect(http, "https://169.254.169.254/clip", work("grok-video/generate"))

    assert isinstance(output, Failed)
    assert output.kind is FailureKind.UPSTREAM_ERROR
    assert "169.254" in output.detail
    assert "169.254" not in output.message


async def test_a_clip_of_less_than_half_the_seconds_is_a_failure_so_that_the_money_goes_back() -> None:
    output = await finish(
        samples.clip(size=(640, 360), seconds=3), work("veo-3.1/generate", durationSeconds="8", resolution="720p")
    )

    assert isinstance(output, Failed)
    assert (output.kind, output.message) == (FailureKind.UPSTREAM_ERROR, "The vendor made much less than was ordered.")
    assert output.detail == "seconds: 8 ordered, 3 came"


async def test_a_picture_of_less_than_a_quarter_of_the_pixels_is_a_failure_so_that_the_money_goes_back() -> None:
    output = await finish(samples.image(size=(511, 512)), work("gpt-image-2/generate", size="1024x1024"))

    assert isinstance(output, Failed)
    assert output.kind is FailureKind.UPSTREAM_ERROR
    assert output.detail.startswith("pixels: ")


async def test_less_than_was_ordered_is_delivered_and_told_to_the_operator(caplog: pytest.LogCaptureFixture) -> None:
    clip = samples.clip(size=(640, 360), seconds=6)
    order = work("veo-3.1/generate", model="veo-x", durationSeconds="8", resolution="720p")

    assert await finish(clip, order) == Output(data=clip, content_type="video/mp4")
    told = [vars(record) for record in caplog.records if record.message == "made_less_than_ordered"]
    assert {(each["measure"], each["ordered"], each["made"]) for each in told} == {
        ("pixels", 1280 * 720, 640 * 360),
        ("seconds", 8, 6.0),
        ("sound", 1.0, 0.0),
    }
    assert {(each["job"], each["offering"], each["model"]) for each in told} == {
        (order.job_id, "veo-3.1/generate", "veo-x")
    }


async def test_what_was_ordered_is_not_complained_about(caplog: pytest.LogCaptureFixture) -> None:
    clip = samples.clip(size=(1280, 720), seconds=4, sound="aac")

    assert isinstance(await finish(clip, work("veo-3.1/generate", durationSeconds="4", resolution="720p")), Output)
    assert caplog.records == []
