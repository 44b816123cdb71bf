"""The sound of the sandbox's clips: a soft chord each second, computed without any library."""

from __future__ import annotations

import math
import random
from array import array
from collections.abc import Iterator
from functools import lru_cache

#: Samples per second and channel.
RATE = 48_000

# Whole hertz, so that every second begins and ends at a zero crossing.
_CHORDS = ((220, 277, 330, 440), (185, 220, 277, 370), (147, 185, 220, 294), (165, 208, 247, 330))
_LOUDNESS = 5200


def seconds_of_sound(seconds: int, *, chance: random.Random) -> Iterator[bytes]:
    """Yield one block per second: signed 16 bit stereo, interleaved, in the machine's byte order."""
    start = chance.randrange(len(_CHORDS))
    for second in range(seconds):
        yield _bar(_CHORDS[(start + second) % len(_CHORDS)])


@lru_cache(maxsize=len(_CHORDS))
def _bar(chord: tuple[int, int, int, int]) -> bytes:
    root, third, fifth, octave = chord
    wave = [math.sin(math.tau * step / RATE) for step in range(RATE)]
    swell = [_LOUDNESS * wave[step // 2] ** 0.7 * math.exp(-1.6 * step / RATE) for step in range(RATE)]
    deep = [wave[root * step % RATE] + 0.35 * wave[octave * step % RATE] for step in range(RATE)]
    both = array("h", bytes(4 * RATE))
    for channel, note in enumerate((third, fifth)):
        both[channel::2] = array(
            "h",
            [int(swell[step] * (deep[step] + 0.7 * wave[note * step % RATE])) for step in range(RATE)],
        )
    return both.tobytes()
