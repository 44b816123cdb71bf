"""Turns rounds into a table: medians, spread, ratios and whether the aims are met."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

OURS, BARE, PEER = "ours", "bare", "peer"
SINGLE = "one rail"  # ours with a single rail instead of all
NGINX, SOCKET, COPY = "nginx", "socket", "copy"


@dataclass(frozen=True, slots=True, kw_only=True)
class Aim:
    """Ours divided by the other one's rate should be at least this."""

    other: str
    ratio: float


@dataclass(slots=True, kw_only=True)
class Row:
    """One measure: by contender, rates per second and the server's CPU seconds an answer, one a round."""

    name: str
    aims: Sequence[Aim] = ()
    rates: dict[str, list[float]] = field(default_factory=dict)
    costs: dict[str, list[float]] = field(default_factory=dict)

    def add(self, contender: str, rate: float) -> None:
        """Note one round's rate."""
        self.rates.setdefault(contender, []).append(rate)

    def ratio(self, other: str) -> float | None:
        """Give our median divided by the other's; None where one was not measured."""
        if OURS not in self.rates or other not in self.rates:
            return None
        return median(self.rates[OURS]) / median(self.rates[other])

    def cost(self) -> str:
        """Tell the CPU time of the servers: other work on the machine moves it less than the rates."""
        shares = [f"{contender} {median(costs) * 1e6:,.0f} us" for contender, costs in self.costs.items()]
        return f"{self.name}, CPU time of the server an answer: {', '.join(shares)}"

    def cells(self, others: Sequence[str]) -> list[str]:
        """Give the row's texts, in the order of `headings`."""
        rates = [_rate(self.rates.get(contender)) for contender in (OURS, *others)]
        ratios = [_times(self.ratio(other)) for other in others]
        return [self.name, *rates, *ratios, "; ".join(self._verdicts())]

    def _verdicts(self) -> list[str]:
        return [
            f">= {aim.ratio:g} {aim.other}: {verdict(met=ratio >= aim.ratio)}"
            for aim in self.aims
            if (ratio := self.ratio(aim.other)) is not None
        ]


def headings(unit: str, others: Sequence[str]) -> list[str]:
    """Give the headings of a table that sets us beside others."""
    return [unit, OURS, *others, *(f"ours/{other}" for other in others), "aim"]


def verdict(*, met: bool) -> str:
    """Say whether an aim was met."""
    return "met" if met else "MISSED"


def table(rows: Sequence[Sequence[str]]) -> str:
    """Set the rows in columns, the first row being the headings."""
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    ruled = [rows[0], ["-" * width for width in widths], *rows[1:]]
    return "\n".join(_line(row, widths=widths) for row in ruled)


def _line(row: Sequence[str], *, widths: Sequence[int]) -> str:
    first, *numbers, last = zip(row, widths, strict=True)
    cells = [first[0].ljust(first[1]), *(text.rjust(width) for text, width in numbers), last[0]]
    return "  ".join(cells).rstrip()


def _rate(rates: list[float] | None) -> str:
    if not rates:
        return "-"
    middle = median(rates)
    return f"{middle:,.0f} ±{(max(rates) - min(rates)) / 2 / middle:.0%}"


def _times(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.2f}"
