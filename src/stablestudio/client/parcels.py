"""Orders whose inputs name files: small ones go inside the order, large ones are uploaded first, and the limit covers both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from stablestudio.client.errors import PurchaseDeclined
from stablestudio.client.files import MediaFile, inline, open_file, paths_in, with_links
from stablestudio.client.jobs import Job
from stablestudio.client.offers import Quote, Wish, check_before_signing, origin
from stablestudio.client.sending import Tell
from stablestudio.client.steps import Flow
from stablestudio.client.till import Approve, Till
from stablestudio.client.uploads import Courier
from stablestudio.money import Money


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """The files of one input: links to those that need no upload, and what is to be bought for the others."""

    links: dict[Path, str]
    wishes: dict[Path, tuple[Wish, MediaFile]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcels:
    """Quotes and buys inputs that may name files."""

    till: Till
    courier: Courier

    def quote(self, fields: Any, *, wish: Callable[[Any], Wish]) -> Flow[Quote]:
        """Ask what an input costs, and what the uploads of its files; nothing is signed and no large file is sent."""
        return (yield from self._quote(fields, self._load(fields), wish=wish))

    def buy(
        self,
        fields: Any,
        *,
        wish: Callable[[Any], Wish],
        limit: Money | None,
        approve: Approve | None,
        tell: Tell | None,
    ) -> Flow[Job]:
        """Buy one job, after the uploads that its files need; the limit is for all of it, and held before any payment."""
        load = self._load(fields)
        if load.wishes:
            quote = yield from self._quote(fields, load, wish=wish)
            self._agree(quote, limit=limit, approve=approve)
            limit, approve = quote.amount, None
            for (path, (place, file)), price in zip(load.wishes.items(), quote.uploads, strict=True):
                upload = yield from self.courier.upload(place, file=file, limit=price.amount, approve=None, tell=tell)
                load.links[path] = upload.blob_url
        wanted = wish(with_links(fields, load.links))
        job = yield from self.till.buy(wanted, limit=limit, approve=approve)
        self.courier.forget(wanted.body.decode())
        return job

    def _load(self, fields: Any) -> Load:
        """Look at the files of an input; what an earlier call has uploaded is not bought again."""
        files = {path: open_file(path) for path in paths_in(fields)}
        inside = inline(files.values())
        load = Load(links={path: file.data_uri() for path, file in files.items() if file in inside}, wishes={})
        for path, file in files.items():
            if file in inside:
                continue
            wanted = self.courier.wish(file)
            if (upload := self.courier.known(wanted)) is not None:
                load.links[path] = upload.blob_url
            else:
                load.wishes[path] = (wanted, file)
        return load

    def _quote(self, fields: Any, load: Load, *, wish: Callable[[Any], Wish]) -> Flow[Quote]:
        links = {path: self._address(file) for path, (_, file) in load.wishes.items()}
        quote = yield from self.till.quote(wish(with_links(fields, load.links | links)))
        uploads: list[Quote] = []
        for wanted, file in load.wishes.values():
            uploads.append((yield from self.courier.quote(wanted, file=file)))
        return replace(quote, uploads=tuple(uploads))

    def _agree(self, quote: Quote, *, limit: Money | None, approve: Approve | None) -> None:
        check_before_signing(
            quote,
            limit=self.till.limit if limit is None else limit,
            allow_mainnet=self.till.allow_mainnet,
            base_url=self.till.base_url,
        )
        if approve is not None and not approve(quote):
            raise PurchaseDeclined

    def _address(self, file: MediaFile) -> str:
        """Return an address like the one that an upload will have, which is all that a price may depend on."""
        return f"{origin(self.till.base_url)}/blob/uploads/{'0' * 32}/file{file.suffix}"
