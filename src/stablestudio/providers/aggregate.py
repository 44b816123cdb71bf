"""What the vendors of many models share: an order is read from work, and the first route that takes it is used."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

from stablestudio.providers.inputs import MediaFile, shrink
from stablestudio.providers.lacks import accept, objections
from stablestudio.providers.provider import Work
from stablestudio.providers.routes import Link, Offer, Order, Route, seed_of

_MOST_BYTES = 8 * 1024 * 1024  # of one picture: more of it shows nothing more


def routed(work: Work, offers: Mapping[str, Offer], *, vendor: str) -> Route:
    """Return the route of work; raise `NotAccepted` where the vendor's model lacks what the input asks for."""
    offer = offers[work.offering.key]
    accept(objections(offer.lacks, work.input), vendor=vendor)
    return offer.route(work.input)


def fitting(work: Work, *, total_bytes: int) -> Callable[[MediaFile], Awaitable[MediaFile]]:
    """Return what makes each picture of work small enough that all of them together fit into one request."""
    pictures = sum(media.kind == "image" for media in work.input.media())

    async def fit(file: MediaFile) -> MediaFile:
        return await shrink(file, max_bytes=min(_MOST_BYTES, total_bytes // pictures)) if file.kind == "image" else file

    return fit


def order_of(work: Work, files: Sequence[MediaFile], urls: Sequence[str], *, user: Callable[[str], str]) -> Order:
    """Return the order that a route is filled from; `urls` are how the vendor gets the files."""
    links = tuple(
        Link(kind=file.kind, role=file.role, url=url, width=file.width, height=file.height)
        for file, url in zip(files, urls, strict=True)
    )
    return Order(input=work.input, links=links, user=user(work.wallet), seed=seed_of(work.input, work.job_id))
