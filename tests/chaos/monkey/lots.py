"""Chances that a seed decides, and a tally of what they decided."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping


class Lots:
    """One concern's own chances: what others draw does not change them."""

    def __init__(self, seed: int, concern: str, *tables: Mapping[str, float], usual: str = "") -> None:
        """Take the tables that will be drawn from; what is usual in them is no fault."""
        self.random = random.Random(f"{seed}:{concern}")
        self.drawn: Counter[str] = Counter()
        self.calm = False
        self._possible = {word for table in tables for word in table} - {usual}

    @property
    def missing(self) -> list[str]:
        """What could have been drawn and never was."""
        return sorted(self._possible - set(self.drawn))

    def draw(self, weights: Mapping[str, float], *, usual: str = "") -> str:
        """Draw one of the words by their weights and count it, unless it is the usual one, which alone comes in calm times."""
        if self.calm and usual:
            return usual
        word = self.random.choices(list(weights), list(weights.values()))[0]
        if word != usual:
            self.drawn[word] += 1
        return word

    def between(self, least: float, most: float) -> float:
        return self.random.uniform(least, most)
