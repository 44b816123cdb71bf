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
    data = samples.image("PNG")

    assert await finish(data, work("gpt-image-2/generate")) == Output(data=data, content_type="image/png")


@pytest.mark.parametrize(("format_", "type_"), [("png", "image/png"), ("jpeg", "image/jpeg"), ("webp", "image/webp")])
@pytest.mark.parametrize("came", ["PNG", "JPEG", "WEBP", "GIF"])
async def test_a_file_in_another_format_is_written_anew(format_: str, type_: str, came: str) -> None:
    output = await finish(samples.image(came), work("gpt-image-2/generate", output_format=format_))

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
    ("size", "result"), [((1024, 1024), (512, 512)), ((1024, 256), (512, 128)), ((300, 300), None)]
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
    async with serving(lambda request: Answer(body=samples.image(request.path[1:].upper()))) as files:
        http = VendorHttp(name="vendor", base_url=files.url, auth={})
        output = await collect(http, files.url + "/png", work("grok/generate"))
        await http.close()

    assert isinstance(output, Output)
    assert output.content_type == "image/jpeg"


async def test_a_clip_comes_as_it_is() -> None:
    clip = samples.clip()
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
