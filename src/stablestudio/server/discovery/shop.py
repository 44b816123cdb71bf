"""What all documents are made of: what is sold here at which prices, how it is paid for, and the limits in force."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from stablestudio.catalog import OFFERINGS, Kind, Lifecycle, LifecycleState, Offering, PriceTable
from stablestudio.config import Settings
from stablestudio.money import Money
from stablestudio.payments.rail import MppRail, Rail, X402Rail
from stablestudio.rail_settings import BASE, BASE_SEPOLIA, SOLANA, SOLANA_DEVNET, TEMPO, TEMPO_TESTNET, TEST_NETWORKS

_NETWORKS = {
    BASE: "Base",
    BASE_SEPOLIA: "Base Sepolia",
    SOLANA: "Solana",
    SOLANA_DEVNET: "Solana devnet",
    TEMPO: "Tempo",
    TEMPO_TESTNET: "Tempo testnet",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One way to be paid: a token on a network, by one of the two protocols."""

    protocol: Literal["x402", "mpp"]
    network: str
    asset: str
    decimals: int

    @property
    def place(self) -> str:
        """The network's name for people."""
        return _NETWORKS.get(self.network, self.network)

    def amount(self, price: Money) -> str:
        """Return a price in the token's base units."""
        return str(price.base_units(decimals=self.decimals))


@dataclass(frozen=True, slots=True, kw_only=True)
class Shop:
    """One service as its documents describe it; `offerings` are those that somebody configured here makes."""

    origin: str
    contact: str | None
    real_money: bool
    prices: PriceTable
    offerings: tuple[Offering, ...]
    ways: tuple[Way, ...]
    max_body_bytes: int
    max_upload_bytes: int
    link_seconds: int
    keep_days: dict[str, float]  # by what is kept: images, videos, uploads; 0 for ever

    @property
    def making(self) -> tuple[Offering, ...]:
        """The offerings that make something, all but the upload."""
        return tuple(offering for offering in self.offerings if offering.kind is not Kind.UPLOAD)

    @property
    def models(self) -> dict[str, list[Offering]]:
        """The offerings by their model."""
        grouped: dict[str, list[Offering]] = {}
        for offering in self.offerings:
            grouped.setdefault(offering.model, []).append(offering)
        return grouped

    @property
    def missing(self) -> dict[str, Lifecycle]:
        """The models of the catalog that nobody makes here, with what their vendors have decided."""
        sold = {offering.model for offering in self.offerings}
        return {offering.model: offering.lifecycle for offering in OFFERINGS if offering.model not in sold}

    def of(self, protocol: Literal["x402", "mpp"]) -> tuple[Way, ...]:
        """Return the ways of one protocol."""
        return tuple(way for way in self.ways if way.protocol == protocol)

    def span(self, offering: Offering) -> str:
        """Return what a route costs, from the lowest to the highest price, e.g. `$0.045-$0.151`."""
        floor, ceiling = self.prices.floor(offering), self.prices.ceiling(offering)
        return f"${floor}" if floor == ceiling else f"${floor}-${ceiling}"

    def cells(self, offering: Offering) -> str:
        """Return every price of a route in one line, e.g. `480p $0.09, 720p $0.24 a second`."""
        cells = self.prices.cells(offering)
        told = ", ".join(f"{name} ${price}" if len(cells) > 1 else f"${price}" for name, price in cells.items())
        return f"{told} a second" if offering.per_second else told


def open_shop(
    settings: Settings,
    *,
    prices: PriceTable,
    rails: tuple[Iterable[X402Rail], Iterable[MppRail]],
    makes: Callable[[Offering], bool],
) -> Shop:
    """Return the service of these settings; `makes` tells whether somebody does, able to at this moment or not."""
    x402, mpp = rails
    ways = (*(_way(rail, "x402") for rail in x402), *(_way(rail, "mpp") for rail in mpp))
    return Shop(
        origin=settings.origin,
        contact=settings.contact,
        real_money=TEST_NETWORKS.isdisjoint(way.network for way in ways),
        prices=prices,
        offerings=tuple(offering for offering in OFFERINGS if makes(offering)),
        ways=ways,
        max_body_bytes=settings.max_body_bytes,
        max_upload_bytes=settings.max_upload_bytes,
        link_seconds=settings.link_seconds,
        keep_days={
            "images": settings.keep_images_days,
            "clips": settings.keep_videos_days,
            "uploads": settings.keep_uploads_days,
        },
    )


def _way(rail: Rail, protocol: Literal["x402", "mpp"]) -> Way:
    return Way(protocol=protocol, network=rail.network, asset=rail.asset, decimals=rail.decimals)


def typical(offering: Offering) -> str:
    """Return how long a route usually takes, by the catalog, e.g. `60-180 s`."""
    shortest, longest = offering.typical_seconds
    if not longest:
        return "at once"
    return f"{longest} s" if shortest == longest else f"{shortest}-{longest} s"


def outlook(lifecycle: Lifecycle) -> str:
    """Return what a model's vendor has decided about it, empty where it lives on."""
    if lifecycle.state is LifecycleState.LIVE:
        return ""
    ends = f" on {lifecycle.ends.isoformat()}" if lifecycle.ends else ""
    what = "ended by its vendor" if lifecycle.state is LifecycleState.RETIRED else "its vendor ends it"
    successor = f"; successor {lifecycle.successor}" if lifecycle.successor else ""
    return f"{what}{ends}{successor}"
