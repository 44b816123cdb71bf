"""The call of a pipeline: what it is given, what becomes of what it makes, and what its faults mean."""

from __future__ import annotations

import io
from types import SimpleNamespace
from typing import Any

import av
import pytest
from PIL import Image

from stablestudio.local.faults import InvalidValue, ModerationBlocked, Refused, ServerError, Stopped
from stablestudio.local.files import Format, encode_clip, encode_image
from stablestudio.local.orders import Order
from stablestudio.local.pipes import Pipe
from stablestudio.media.probe import open_image, probe
from tests.local.stand_in import Filmer, Painter, pipe_of

PICTURE = Order(prompt="a cat", size=(64, 64))
CLIP = Order(prompt="a cat", size=(64, 48), seconds=2)


def unheard(_: float) -> None:
    """Take no note of a step."""


@pytest.mark.parametrize(
    ("size", "made"), [((64, 64), (64, 64)), ((65, 63), (80, 64)), ((1920, 1080), (1920, 1088)), ((16, 16), (16, 16))]
)
def test_a_picture_is_made_in_the_pipelines_steps_and_cut_to_size(size: tuple[int, int], made: tuple[int, int]) -> None:
    painter = Painter()
    (picture,) = pipe_of(painter).run(Order(prompt="a cat", size=size), unheard)

    assert picture.size == size
    assert painter.calls[0]["size"] == made


@pytest.mark.parametrize(
    ("scale", "patch", "side"), [(8, (1, 2, 2), 16), (16, (1, 2, 2), 32), (32, 1, 32), (8, 2, 16), (4, 1, 16)]
)
def test_the_sides_of_a_clip_are_multiples_of_latents_and_patches(scale: int, patch: Any, side: int) -> None:
    filmer: Any = Filmer()
    filmer.vae_scale_factor_spatial = scale
    filmer.transformer = SimpleNamespace(config=SimpleNamespace(patch_size=patch))

    assert pipe_of(filmer).side == side


@pytest.mark.parametrize(("seconds", "rate", "frames"), [(2, 4, 9), (1, 4, 5), (4, 16, 65), (5, 16, 81), (1, 1, 1)])
def test_a_clip_is_made_in_whole_groups_of_frames_and_cut_to_length(seconds: int, rate: int, frames: int) -> None:
    filmer = Filmer()
    made = pipe_of(filmer, rate=rate).run(Order(prompt="a cat", size=(16, 16), seconds=seconds), unheard)

    assert len(made) == seconds * rate
    assert filmer.calls[0]["frames"] == frames


def test_steps_are_the_orders_then_the_workers_then_the_pipelines() -> None:
    painter = Painter()
    pipe_of(painter, steps=6).run(Order(prompt="a cat", size=(64, 64), steps=2), unheard)
    pipe_of(painter, steps=6).run(PICTURE, unheard)
    pipe_of(painter).run(PICTURE, unheard)

    assert [call["steps"] for call in painter.calls] == [2, 6, 4]


def test_each_step_is_told_as_a_share() -> None:
    told: list[float] = []
    pipe_of(Painter()).run(PICTURE, told.append)

    assert told == [0.25, 0.5, 0.75, 1.0]


def test_a_seed_makes_the_same_picture_and_none_makes_another() -> None:
    seeds: list[int] = []

    def seeded(seed: int) -> int:
        seeds.append(seed)
        return seed

    pipe = Pipe(Painter(), seeded=seeded)
    for seed in (7, None, None):
        pipe.run(Order(prompt="a cat", size=(64, 64), seed=seed), unheard)

    assert seeds[0] == 7
    assert len(set(seeds)) == 3


def test_a_pipeline_is_given_only_what_it_takes() -> None:
    filmer = Filmer()
    pipe_of(filmer).run(Order(prompt="a cat", size=(64, 48), seconds=1, negative_prompt="fog"), unheard)
    # A Painter takes no negative prompt.
    pipe_of(Painter()).run(Order(prompt="a cat", size=(64, 64), negative_prompt="fog"), unheard)

    assert filmer.calls[0]["negative"] == "fog"


@pytest.mark.parametrize("count", [1, 2])
def test_images_reach_the_pipeline_one_alone_or_several_as_a_list(count: int) -> None:
    painter = Painter()
    given = tuple(Image.new("RGB", (80, 64 + index)) for index in range(count))
    pipe_of(painter).run(Order(prompt="a cat", size=(64, 64), images=given), unheard)

    assert painter.calls[0]["image"] == (given[0] if count == 1 else list(given))


def test_what_a_pipeline_cannot_make_is_refused_before_the_queue() -> None:
    with pytest.raises(InvalidValue, match="makes images, not videos"):
        pipe_of(Painter()).admit(CLIP)
    with pytest.raises(InvalidValue, match="makes videos, not images"):
        pipe_of(Filmer()).admit(PICTURE)
    with pytest.raises(InvalidValue, match="takes no images"):
        pipe_of(Filmer()).admit(Order(prompt="", size=(64, 48), seconds=1, images=(Image.new("RGB", (64, 48)),)))
    pipe_of(Painter()).admit(PICTURE)


def test_a_pipeline_that_starts_from_an_image_is_not_called_without() -> None:
    def edit(prompt: str, image: Any, width: int, height: int) -> Any:
        raise AssertionError

    with pytest.raises(InvalidValue, match="needs an image"):
        Pipe(SimpleNamespaceCall(edit), seeded=lambda seed: seed).admit(PICTURE)


class SimpleNamespaceCall:
    """An object whose call is a function's."""

    def __init__(self, function: Any) -> None:
        self.__call__ = function


@pytest.mark.parametrize(
    ("error", "after", "refused"),
    [
        (ValueError("Image too small"), 0, InvalidValue),
        (ValueError("nan"), 2, ServerError),
        (RuntimeError("out of memory"), 0, ServerError),
        (KeyError("x"), 1, ServerError),
    ],
)
def test_a_pipelines_fault_is_the_inputs_only_before_the_first_step(
    error: Exception, after: int, refused: type[Refused]
) -> None:
    painter = Painter()
    painter.error, painter.error_after = error, after

    with pytest.raises(refused):
        pipe_of(painter).run(PICTURE, unheard)


def test_a_fault_frees_the_device_and_holds_none_of_its_frames() -> None:
    painter = Painter()
    painter.error = RuntimeError("out of memory")

    with pytest.raises(ServerError) as caught:
        pipe_of(painter).run(PICTURE, unheard)

    assert painter.freed == 1
    assert caught.value.__context__ is None
    assert "_steps" not in [entry.name for entry in caught.traceback]


def test_a_stop_ends_the_call_between_two_steps() -> None:
    painter = Painter()

    def stop(share: float) -> None:
        if share >= 0.5:
            raise Stopped

    with pytest.raises(Stopped) as caught:
        pipe_of(painter).run(PICTURE, stop)

    assert painter.stepped._value == 2
    assert painter.freed == 1
    assert "_steps" not in [entry.name for entry in caught.traceback]


def test_what_the_models_own_filter_withholds_is_moderation() -> None:
    class Prudish(Painter):
        def __call__(self, *args: Any, **options: Any) -> Any:
            return SimpleNamespace(images=[Image.new("RGB", (64, 64))], nsfw_content_detected=[True])

    with pytest.raises(ModerationBlocked):
        pipe_of(Prudish()).run(PICTURE, unheard)


def test_less_than_was_ordered_is_a_failure() -> None:
    class Lazy(Painter):
        def __call__(self, width: int, height: int) -> Any:  # type: ignore[override]
            return SimpleNamespace(images=[Image.new("RGB", (width - 16, height))])

    with pytest.raises(ServerError, match="less than was asked for"):
        pipe_of(Lazy()).run(PICTURE, unheard)


@pytest.mark.parametrize(("kind", "type_"), [("png", "image/png"), ("jpeg", "image/jpeg"), ("webp", "image/webp")])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
def test_a_picture_is_written_in_each_format(kind: Format, type_: str, mode: str) -> None:
    data = encode_image(Image.new(mode, (40, 30)), kind, quality=0)

    seen = probe(data)
    assert (seen.content_type, seen.width, seen.height) == (type_, 40, 30)


def test_a_transparent_picture_lies_on_white_where_the_format_has_none() -> None:
    data = encode_image(Image.new("RGBA", (16, 16), (0, 0, 0, 0)), "jpeg", quality=90)

    assert open_image(data).getpixel((8, 8)) == (255, 255, 255)


def test_a_clip_has_its_frames_at_their_rate_and_colours() -> None:
    colours = [(200, 30, 30), (30, 200, 30), (30, 30, 200), (90, 90, 90)]
    data = encode_clip([Image.new("RGB", (64, 48), colour) for colour in colours], rate=4)

    seen = probe(data)
    assert (seen.content_type, seen.width, seen.height, seen.seconds) == ("video/mp4", 64, 48, 1.0)
    with av.open(io.BytesIO(data), "r") as container:
        decoded: Any = list(container.decode(video=0))
        shown = [frame.to_image().getpixel((32, 24)) for frame in decoded]
    for colour, seen_colour in zip(colours, shown, strict=True):
        assert all(abs(a - b) < 12 for a, b in zip(colour, seen_colour, strict=True))
