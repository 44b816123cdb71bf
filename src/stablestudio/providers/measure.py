"""Whether what came is what was ordered: pixels, length and sound of a file, held against its order. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from stablestudio.catalog.values import ImageOutput, VideoOutput
from stablestudio.media.probe import Probe

Measure = Literal["pixels", "seconds", "sound"]

# What share of the order a file must have: below `_USUAL` it is told, because vendors' own sizes only come near to an
# area and clips end on a frame; below `_LEAST` it is certainly not what was paid for.
_USUAL: Mapping[Measure, float] = {"pixels": 0.75, "seconds": 0.9, "sound": 1.0}
_LEAST: Mapping[Measure, float] = {"pixels": 0.25, "seconds": 0.5, "sound": 0.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortfall:
    """What a file lacks of its order; `share` is what it has."""

    measure: Measure
    ordered: float
    made: float
    share: float

    @property
    def is_breach(self) -> bool:
        """Tell whether this is certainly not what was paid for."""
        return self.share < _LEAST[self.measure]


def shortfalls(wanted: ImageOutput | VideoOutput, seen: Probe) -> tuple[Shortfall, ...]:
    """Return where a file has less of its order than is usual."""
    return tuple(each for each in _measured(wanted, seen) if each.share < _USUAL[each.measure])


def _measured(wanted: ImageOutput | VideoOutput, seen: Probe) -> Iterator[Shortfall]:
    ordered, made = wanted.width * wanted.height, seen.width * seen.height
    share = made / ordered
    if isinstance(wanted, VideoOutput):
        # A clip's tier is its short side, and its first image may give it another shape than the order could know.
        share = max(share, (min(seen.width, seen.height) / min(wanted.width, wanted.height)) ** 2)
    yield Shortfall(measure="pixels", ordered=ordered, made=made, share=share)
    if isinstance(wanted, VideoOutput):
        seconds = round(seen.seconds or 0.0, 2)
        yield Shortfall(measure="seconds", ordered=wanted.seconds, made=seconds, share=seconds / wanted.seconds)
        if wanted.audio:
            heard = float(seen.has_audio)
            yield Shortfall(measure="sound", ordered=1.0, made=heard, share=heard)
