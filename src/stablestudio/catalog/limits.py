"""What the files of an input may measure, checked once they are there and before anything is paid. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from stablestudio.catalog.spelling import label
from stablestudio.catalog.values import MediaInput, MediaKind
from stablestudio.errors import Issue

# Containers round: a sound cut to 15 seconds comes out a frame longer.
_SLACK_SECONDS = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A file of an input and what it turned out to be: pixels as displayed, seconds where it has a length."""

    media: MediaInput
    kind: MediaKind
    content_type: str
    width: int
    height: int
    seconds: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FileLimit:
    """What each file of a kind may measure, and all of them together; None where nothing is asked.

    `side` is the least length of the shorter side in pixels, `ratio` the least and the most of width by height.
    """

    kind: MediaKind
    seconds: tuple[int, int] | None = None
    together: int | None = None
    side: int | None = None
    ratio: tuple[float, float] | None = None

    def issues(self, files: Sequence[Measured]) -> Iterator[Issue]:
        """Name each file that is outside, and the first one that is too much."""
        total = 0.0
        for file in files:
            if file.kind != self.kind:
                continue
            if alone := list(self._issues_of(file)):
                yield from alone
                continue
            before, total = total, total + (file.seconds or 0.0)
            if self.together is not None and before <= self.together + _SLACK_SECONDS < total:
                told = (
                    f"all {self.kind} files together may last {self.together} seconds; up to this one it is {total:.1f}"
                )
                yield _misfit(file, told)

    def _issues_of(self, file: Measured) -> Iterator[Issue]:
        if self.seconds is not None and file.seconds is not None:
            least, most = self.seconds
            if not least - _SLACK_SECONDS <= file.seconds <= most + _SLACK_SECONDS:
                yield _misfit(file, f"it lasts {file.seconds:.1f} seconds; {least} to {most} are taken")
        if self.side is not None and min(file.width, file.height) < self.side:
            yield _misfit(file, f"it has {file.width}x{file.height} pixels; each side needs at least {self.side}")
        if self.ratio is not None and file.height:
            least_ratio, most_ratio = self.ratio
            if not least_ratio <= file.width / file.height <= most_ratio:
                told = (
                    f"its width is {file.width / file.height:.2f} of its height; {least_ratio} to {most_ratio} is taken"
                )
                yield _misfit(file, told)


def _misfit(file: Measured, message: str) -> Issue:
    return Issue(file.media.path, "file_out_of_limits", f"{label(file.media.path)}: {message}")
