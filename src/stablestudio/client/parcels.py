"""Orders whose inputs name files: small ones go inside the order, large ones are uploaded first, and the limit covers both."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote as quoted

from stablestudio.client.errors import BuyerError, FileUnusable, PaidUpload, PurchaseDeclined, UnreadableAnswer
from stablestudio.client.files import MediaFile, Source, files_at_hand, inline, open_file, sources_in, with_links
from stablestudio.client.jobs import Job
from stablestudio.client.menu import dish
from stablestudio.client.offers import Quote, Wish, check_before_signing, origin
from stablestudio.client.prices import Price, ask_price
from stablestudio.client.sending import Tell
from stablestudio.client.slots import placed
from stablestudio.client.steps import Flow
from stablestudio.client.till import Approve, Till
from stablestudio.client.uploads import Courier
from stablestudio.client.webhooks import checked
from stablestudio.errors import StudioError
from stablestudio.money import Money


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """An input and its files: links to those that need no upload, what is to be bought for the others, and what was paid."""

    model: str
    operation: str
    fields: Mapping[str, Any]
    links: dict[Source, str]
    wishes: dict[Source, tuple[Wish, MediaFile]]
    webhook: str | None = None
    paid: list[PaidUpload] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcels:
    """Quotes and buys inputs that may name files."""

    till: Till
    courier: Courier

    def quote(self, model: str, operation: str, fields: Mapping[str, Any]) -> Flow[Quote]:
        """Ask what an input costs, and what the uploads of its files; nothing is signed and no large file is sent."""
        load = yield from self._load(model, operation, fields)
        try:
            return (yield from self._quote(load))
        except BuyerError as error:
            _name_files(error, fields)
            raise

    def price(self, model: str, operation: str, fields: Mapping[str, Any]) -> Flow[Price | None]:
        """Ask the same with its reasons; None where the service does not tell them."""
        load = yield from self._load(model, operation, fields)
        try:
            price = yield from ask_price(self.till.base_url, self._provisional(load))
        except BuyerError as error:
            _name_files(error, fields)
            raise
        if price is None or not load.wishes:
            return price
        uploads = yield from self._quote_uploads(load)
        total = sum((each.amount for each in uploads), Money.parse(price.price))
        return price.model_copy(update={"uploads": len(uploads), "total": str(total)})

    def buy(
        self,
        model: str,
        operation: str,
        fields: Mapping[str, Any],
        *,
        limit: Money | None,
        approve: Approve | None,
        tell: Tell | None,
        webhook: str | None = None,
    ) -> Flow[Job]:
        """Buy one job, after the uploads that its files need; the limit is for all of it, and held before any payment.

        An error after an upload tells what was paid for it.
        """
        load = replace((yield from self._load(model, operation, fields)), webhook=checked(webhook))
        try:
            if load.wishes:
                limit, approve = (yield from self._upload(load, limit=limit, approve=approve, tell=tell)), None
            wish = self._wish(load, load.links)
            job = yield from self.till.buy(wish, limit=limit, approve=approve)
        except StudioError as error:
            # What is no error of this side is an offer that cannot be read.
            told = error if isinstance(error, BuyerError) else UnreadableAnswer(error.message)
            self._forget_unknown(told, load)
            _name_files(told, fields)
            if load.paid:
                told.after(load.paid)
            raise told from error.__cause__
        self.courier.forget(wish.body.decode())
        return job

    def _load(self, model: str, operation: str, given: Mapping[str, Any]) -> Flow[Load]:
        """Look at the files of an input; what an earlier call has uploaded is not bought again."""
        fields = files_at_hand(given)
        named = list(sources_in(fields))
        files = {source: open_file(source) for source in named}
        if files and (found := (yield from dish(self.till.base_url, model=model, operation=operation))) is not None:
            fields = placed(fields, files, dish=found)
        inside = inline(files[source] for source in named)
        links = {source: file.data_uri() for source, file in files.items() if file in inside}
        load = Load(model=model, operation=operation, fields=fields, links=links, wishes={})
        for source, file in files.items():
            if file in inside:
                continue
            wanted = self.courier.wish(file, wanted_for=f"{model}/{operation}")
            if (upload := self.courier.known(wanted)) is not None:
                load.links[source] = upload.blob_url
            else:
                load.wishes[source] = (wanted, file)
        return load

    def _upload(self, load: Load, *, limit: Money | None, approve: Approve | None, tell: Tell | None) -> Flow[Money]:
        """Agree to the whole price, upload what has to be, and return what the order itself may cost."""
        quote = yield from self._quote(load)
        self._agree(quote, limit=limit, approve=approve)
        for (source, (place, file)), price in zip(load.wishes.items(), quote.uploads, strict=True):
            upload = yield from self.courier.upload(place, file=file, limit=price.amount, approve=None, tell=tell)
            load.links[source] = upload.blob_url
            load.paid.append(self.courier.paid(upload, file=file))
        return quote.amount

    def _quote(self, load: Load) -> Flow[Quote]:
        quote = yield from self.till.quote(self._provisional(load))
        return replace(quote, uploads=(yield from self._quote_uploads(load)))

    def _quote_uploads(self, load: Load) -> Flow[tuple[Quote, ...]]:
        uploads: list[Quote] = []
        for wanted, file in load.wishes.values():
            uploads.append((yield from self.courier.quote(wanted, file=file)))
        return tuple(uploads)

    def _provisional(self, load: Load) -> Wish:
        """Return a wish that costs what the order will, before its large files are uploaded."""
        return self._wish(load, load.links | {source: self._address(file) for source, (_, file) in load.wishes.items()})

    def _agree(self, quote: Quote, *, limit: Money | None, approve: Approve | None) -> None:
        check_before_signing(
            quote,
            limit=self.till.limit if limit is None else limit,
            allow_mainnet=self.till.allow_mainnet,
            base_url=self.till.base_url,
        )
        if approve is not None and not approve(quote):
            raise PurchaseDeclined

    def _forget_unknown(self, error: BuyerError, load: Load) -> None:
        """Let go of uploads that the service does not know any more: the next order uploads their files anew."""
        links = with_links(load.fields, dict.fromkeys(load.wishes, "") | load.links)
        for issue in error.issues:
            link = _at(links, issue.path)
            if issue.code == "upload_not_found" and isinstance(link, str):
                self.courier.forget(link)

    def _wish(self, load: Load, links: Mapping[Source, str]) -> Wish:
        path = "/".join(quoted(part, safe="") for part in ("api", "generate", load.model, load.operation))
        fields = with_links(load.fields, links)
        body = json.dumps(fields, ensure_ascii=False, separators=(",", ":"), default=_no_value).encode()
        return Wish(
            model=load.model,
            operation=load.operation,
            url=f"{self.till.base_url}/{path}",
            body=body,
            webhook=load.webhook,
        )

    def _address(self, file: MediaFile) -> str:
        """Return an address like the one that an upload will have, which is all that a price may depend on."""
        return f"{origin(self.till.base_url)}/blob/uploads/{'0' * 32}/file{file.suffix}"


def _name_files(error: BuyerError, fields: Mapping[str, Any]) -> None:
    """Where a link is refused that is the name of a file here, say how files are handed over."""
    for issue in error.issues:
        value = _at(fields, issue.path)
        if issue.code == "invalid_link" and isinstance(value, str) and _is_file(value):
            error.advice = (
                f"{value} is a file here, and is handed over as -p {issue.path[0]}=@{value} on the command line, "
                f"as Path({value!r}) in Python; nothing was charged."
            )


def _at(value: Any, path: tuple[str | int, ...]) -> Any:
    """Return what lies at a path of an input; None where nothing does."""
    for part in path:
        try:
            value = value[part]
        except (LookupError, TypeError):
            return None
    return value


def _is_file(name: str) -> bool:
    with contextlib.suppress(OSError, ValueError, RuntimeError):  # too long, with a zero byte, of no known user
        return Path(name).expanduser().is_file()
    return False


def _no_value(value: object) -> None:
    raise FileUnusable(
        f"{type(value).__name__} is no value of an input.",
        hint="Give text, numbers, lists, and for a file a pathlib.Path, bytes, or one opened with mode 'rb'.",
    )
