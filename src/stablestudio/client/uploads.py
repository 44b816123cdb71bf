"""Uploads: the place for a file is bought like anything else, the file is sent to it, and the wallet confirms it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pydantic

from stablestudio.client.desk import Desk
from stablestudio.client.errors import (
    FileChanged,
    FileUnusable,
    PaidUpload,
    PaymentOutcomeUnknown,
    UnreadableAnswer,
    UploadError,
    UploadExpired,
    UploadInterrupted,
    UploadNotOpen,
    UploadRefused,
)
from stablestudio.client.files import MediaFile, open_file
from stablestudio.client.menu import menu
from stablestudio.client.offers import Quote, Wish
from stablestudio.client.orders import Order, Sending, Upload
from stablestudio.client.sending import Carrier, Place, Tell, read_place
from stablestudio.client.steps import Flow, Reply, pause
from stablestudio.client.till import Approve, Till, transaction_of
from stablestudio.clock import from_iso, iso
from stablestudio.errors import StudioError
from stablestudio.money import Money

_MODEL = "upload"
_PATH = "/api/upload"
# What is sent twice is put together by the service in some seconds, and only then there.
_PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0, 8.0)
# A service keeps files for two days at least, and takes them for orders until the day before.
_USABLE_MS = 86_400_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Courier:
    """Who brings the files of one wallet to one service."""

    till: Till
    desk: Desk

    def wish(self, file: MediaFile, *, wanted_for: str | None = None) -> Wish:
        """Return what is bought for a file, and for which order; this reads it once."""
        body = json.dumps(
            {"filename": file.name, "contentType": file.content_type}, ensure_ascii=False, separators=(",", ":")
        )
        path = str(file.source.absolute()) if isinstance(file.source, Path) else None
        return Wish(
            model=_MODEL,
            operation=_MODEL,
            url=f"{self.till.base_url}{_PATH}",
            body=body.encode(),
            sending=Sending(path=path, sha256=file.digest(), wanted_for=wanted_for),
        )

    def quote(self, wish: Wish, *, file: MediaFile) -> Flow[Quote]:
        """Ask what the place costs; raise `FileUnusable` for a file that the service does not take."""
        yield from self._require_room(file)
        return (yield from self.till.quote(wish))

    def known(self, wish: Wish) -> Upload | None:
        """Return the file of a wish that is in its place already, for an order that has not come to its end."""
        for order in self.till.left(wish):
            upload = order.sending.upload if order.sending else None
            if upload is not None and self._usable(order, upload):
                return upload
        return None

    def upload(
        self, wish: Wish, *, file: MediaFile, limit: Money | None, approve: Approve | None, tell: Tell | None
    ) -> Flow[Upload]:
        """Buy the place, send the file and confirm it; an upload that was cut off is continued, not paid anew.

        The order stays in the journal until `forget`, so that whatever the file is for can be repeated without it.
        """
        yield from self._require_room(file)
        fulfil = partial(self._fulfil, file=file, sending=wish.sending, tell=tell)
        return (yield from self.till.purchase(wish, limit=limit, approve=approve, fulfil=fulfil))

    def resume(self, order: Order, *, tell: Tell | None) -> Flow[Upload]:
        """Bring the file of an order to its end, from where it lay."""
        with self.till.journal.hold(order.key) as ours:
            if not ours:
                raise UploadInterrupted("Another process is sending this file.", order=order)
            return (yield from self._fulfil(order, doubt=True, file=None, sending=order.sending, tell=tell))

    def kept(self) -> list[Order]:
        """Return the orders of files that are in their places, for orders that have not come to their end."""
        return [order for order in self.till.left() if order.sending and order.sending.upload]

    def paid(self, upload: Upload, *, file: MediaFile) -> PaidUpload:
        """Return what was paid for a file that is kept."""
        order = next(each for each in self.kept() if each.sending and each.sending.upload == upload)
        return PaidUpload(
            file=file.name,
            price=order.amount,
            blob_url=upload.blob_url,
            usable_until=iso(from_iso(order.created_at) + _USABLE_MS),
        )

    def forget(self, text: str) -> None:
        """Let go of uploads that did what they were for: a text, such as the body of an answered order, names them."""
        for order in self.kept():
            if order.sending and order.sending.upload and order.sending.upload.blob_url in text:
                self.till.journal.discard(order.key)

    def drop(self, key: str) -> Order:
        """Give up an upload, its paid place with it; raise `UploadNotOpen`, also for the order of a job."""
        order = next((each for each in self.till.left() if each.key == key and each.sending), None)
        if order is None:
            raise UploadNotOpen(f"No upload that could be given up has the id {key!r}.")
        with self.till.journal.hold(key) as ours:
            if not ours:
                raise UploadInterrupted("Another process is sending this file.", order=order)
            self.till.journal.discard(key)
        return order

    def _require_room(self, file: MediaFile) -> Flow[None]:
        dishes = yield from menu(self.till.base_url)
        most = next((dish.max_bytes for dish in dishes if dish.model == _MODEL), None)
        if most is not None and file.size > most:
            raise FileUnusable(
                f"{file.name} has {file.size:,} bytes, and the service takes {most:,} at most.",
                hint="Make it smaller: no other way takes a larger one. Nothing was paid for it.",
            )

    def _fulfil(
        self, order: Order, *, doubt: bool, file: MediaFile | None, sending: Sending | None, tell: Tell | None
    ) -> Flow[Upload]:
        assert sending is not None, "only orders of uploads come here"
        before = order.sending or sending
        try:
            if before.upload is not None:
                return self._still(order, before.upload)
            reply = yield from self._pay(order, doubt=doubt)
            place = read_place(reply, order=order)
            now = sending.model_copy(update={"session": before.session, "etags": before.etags})
            order = order.model_copy(update={"sending": now, "transaction": transaction_of(reply)})
            self.till.journal.write(order)
            upload = yield from self._bring(order, place, doubt=doubt, file=file, tell=tell)
        except UploadExpired:
            self.till.journal.discard(order.key)
            raise
        except UploadRefused:
            free = Sending(path=None, sha256=None)
            self.till.journal.write(order.model_copy(update={"sending": free}))
            raise
        self.till.journal.write(order.model_copy(update={"sending": now.model_copy(update={"upload": upload})}))
        return upload

    def _pay(self, order: Order, *, doubt: bool) -> Flow[Reply]:
        """Pay, or have the place told again: what was answered once is no unknown payment."""
        try:
            return (yield from self.till.pay(order, doubt=doubt))
        except PaymentOutcomeUnknown as error:
            if order.transaction is None:
                raise
            raise UploadInterrupted(error.message, order=order) from None

    def _bring(
        self, order: Order, place: Place, *, doubt: bool, file: MediaFile | None, tell: Tell | None
    ) -> Flow[Upload]:
        """Send the file and confirm it; after a `doubt` it may have arrived, which a confirmation finds out first."""
        if doubt and (upload := (yield from self._confirm(order, place))) is not None:
            return upload
        carrier = Carrier(place=place, file=file or _reopen(order), keep=self.till.journal.write, tell=tell)
        for wait in (*_PAUSES, None):
            order = yield from carrier.send(order)
            upload = yield from self._confirm(order, place)
            if upload is not None:
                return upload
            if wait is not None:
                yield from pause(wait)
        raise UploadInterrupted("The service has not put the file into its place yet.", order=order)

    def _confirm(self, order: Order, place: Place) -> Flow[Upload | None]:
        """Ask the service to look at the file; None where none has arrived."""
        body = json.dumps({"uploadId": place.upload_id, "blobUrl": place.blob_url}).encode()
        try:
            upload = _read((yield from self.desk.post(f"{self.till.base_url}{_PATH}/confirm", body)))
        except StudioError as error:
            if error.code == "upload_missing":
                return None
            raise _unconfirmed(order, error) from None
        if order.sending and upload.sha256 not in (None, order.sending.sha256):
            self.till.journal.discard(order.key)
            told, hint = "Other bytes than those of this file have arrived.", "Upload the file anew, for a new payment."
            raise FileChanged(told, order=order, hint=hint, waits=False)
        return upload

    def _still(self, order: Order, upload: Upload) -> Upload:
        if not self._usable(order, upload):
            raise UploadExpired(order=order)
        return upload

    def _usable(self, order: Order, upload: Upload) -> bool:
        """Tell whether a file in its place may be pointed to: it is fresh, or an order that names it must be continued."""
        fresh = self.till.clock.now_ms() < from_iso(order.created_at) + _USABLE_MS
        return fresh or any(upload.blob_url in other.body for other in self.till.left() if other.sending is None)


def _unconfirmed(order: Order, error: StudioError) -> UploadError:
    if error.code in {"upload_not_found", "upload_expired"}:
        return UploadExpired(error.message, order=order)
    if error.code == "upload_not_media":
        return UploadRefused(error.message, order=order)
    return UploadInterrupted(f"The file was sent and could not be confirmed: {error.message}", order=order)


def _reopen(order: Order) -> MediaFile:
    """Open the file of an order again; raise `FileChanged` where it is not the same any more."""
    sending = order.sending
    if sending is None or sending.path is None:
        raise FileChanged(
            "The file came from a program's memory and cannot be read again.",
            order=order,
            hint="Let the program upload the same bytes again: they get the place that is paid.",
        )
    try:
        file = open_file(Path(sending.path), content_type=json.loads(order.body)["contentType"])
        same = file.digest() == sending.sha256
    except FileUnusable as error:
        raise FileChanged(error.message, order=order) from None
    if not same:
        raise FileChanged(f"{sending.path} is not the file that it was when its upload began.", order=order)
    return file


def _read(reply: Reply) -> Upload:
    try:
        return Upload.model_validate(reply.document().get("upload"))
    except pydantic.ValidationError as error:
        raise UnreadableAnswer("The service answered an upload that this client cannot read.") from error
