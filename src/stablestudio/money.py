"""Money: exact US-dollar amounts as integer micro-dollars. Decimals exist at the edges only."""

from __future__ import annotations

import re
from dataclasses import dataclass

DECIMALS = 6
_SCALE = 10**DECIMALS
_DOLLARS = re.compile(r"\$?(-?[0-9]{1,30})(?:\.([0-9]{1,60}))?")


@dataclass(frozen=True, slots=True, order=True)
class Money:
    """A non-negative amount of US dollars, counted in millionths (`micros`)."""

    micros: int

    def __post_init__(self) -> None:
        if self.micros < 0:
            raise ValueError(f"Money cannot be negative: {self.micros!r} micros")

    @classmethod
    def parse(cls, text: str) -> Money:
        """Read a decimal such as `0.134` or `$0.134`; more than six decimals are refused, never rounded."""
        match = _DOLLARS.fullmatch(text.strip())
        if match is None:
            raise ValueError(f"Not an amount of dollars: {text!r}")
        whole, places = match[1], (match[2] or "").rstrip("0")
        if len(places) > DECIMALS:
            raise ValueError(f"An amount of dollars has at most {DECIMALS} decimals: {text!r}")
        return cls(int(whole + places.ljust(DECIMALS, "0")))

    @classmethod
    def from_base_units(cls, units: int, *, decimals: int) -> Money:
        """Read an amount of a dollar token with `decimals` decimals; dust below a millionth is refused."""
        if decimals <= DECIMALS:
            return cls(units * 10 ** (DECIMALS - decimals))
        micros, dust = divmod(units, 10 ** (decimals - DECIMALS))
        if dust:
            raise ValueError(f"{units!r} units at {decimals} decimals are not whole millionths of a dollar")
        return cls(micros)

    def base_units(self, *, decimals: int) -> int:
        """Return the amount in a token's base units; a token too coarse for it is refused."""
        scale: int = 10 ** abs(decimals - DECIMALS)
        if decimals >= DECIMALS:
            return self.micros * scale
        units, rest = divmod(self.micros, scale)
        if rest:
            raise ValueError(f"{self} is not a whole amount at {decimals} decimals")
        return units

    def __add__(self, other: Money) -> Money:
        return Money(self.micros + other.micros)

    def __mul__(self, count: int) -> Money:
        return Money(self.micros * count)

    def __str__(self) -> str:
        """Return the shortest decimal with at least two places, e.g. `0.10`, `0.134`, `6.00`."""
        whole, micros = divmod(self.micros, _SCALE)
        return f"{whole}.{f'{micros:06d}'.rstrip('0').ljust(2, '0')}"
