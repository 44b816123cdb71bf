"""The desk where paid uploads arrive: one file or parts of one, streamed into storage, taken once, confirmed by its owner."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

import anyio.to_thread
import sqlalchemy as sa

from stablestudio.clock import Clock
from stablestudio.errors import StudioError
from stablestudio.media.links import AssetGone
from stablestudio.media.probe import Probe, UnreadableMedia
from stablestudio.media.storage import Kept, Storage, TooLarge
from stablestudio.protocols.blob import BlobTokens, Grant
from stablestudio.store import uploads as store
from stablestudio.store.database import Database
from stablestudio.store.payments import Order
from stablestudio.store.uploads import Part, Upload

PATH = "/blob/"
_TOKEN_MS = 3_600_000
# A buyer may still be sending when the token ends, and confirms within the hour; what is not confirmed goes an hour later,
# so that no file goes while somebody looks at it.
_CONFIRM_MS = 3_600_000
_ABANDONED_MS = 2 * _CONFIRM_MS
# Vercel's clients send 8 MiB. Parts are counted together once they are there, so each by itself has to be small.
_PART_BYTES = 64 * 1024 * 1024
_STEP = 2 * 1024 * 1024  # bytes of a part that are read and counted together at a time
_LONGEST_JOB_MS = 24 * 3600 * 1000  # nothing is made for longer
_BATCH = 100
MAX_PARTS = 10_000
# Vercel's own clients send 8 MiB; all but the last part of an S3 upload have 5 MiB.
_LONGEST_NAME = 80
_KEPT = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")

Look = Callable[[str], Awaitable[Probe]]


class UploadNotFound(StudioError):
    """There is no such upload of this wallet."""

    status = 404
    hint = "Use the uploadId of the answer to your paid POST /api/upload, and the wallet that paid it."


class UploadMissing(StudioError):
    """The file of this upload has not arrived."""

    status = 409
    hint = "PUT the file to uploadUrl with the clientToken first, then confirm; the upload stays paid."


class BlobUrlMismatch(StudioError):
    """This blobUrl is not the one of this upload."""

    status = 400
    hint = "Send the `url` that the PUT answered with; the upload stays paid."


class UploadNotMedia(StudioError):
    """The file that arrived is not what was announced."""

    status = 400
    hint = "PUT a file of the announced contentType to the same uploadUrl while the clientToken holds; nothing more is charged."


class UploadExpired(StudioError):
    """This upload is not kept any more."""

    status = 400
    hint = "Order another upload with POST /api/upload, or name a public https address."


class UploadTaken(Exception):
    """A file is there already, and a file is never overwritten."""


class PartMissing(Exception):
    """A part that the last request names has not arrived, or is another one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """What a paid order for an upload is answered with."""

    upload: Upload
    token: str


class UploadDesk:
    """Opens places for files, takes the files, and knows which of them inputs may point to."""

    def __init__(
        self,
        database: Database,
        *,
        storage: Storage,
        tokens: BlobTokens,
        clock: Clock,
        origin: str,
        max_bytes: int,
        look: Look,
        kept_ms: int | None = None,
    ) -> None:
        """Take the parts; `look` finds out what a kept file is, by its key; `max_bytes` is the largest file.

        `kept_ms` is how long a confirmed file is kept, for ever where it is None.
        """
        self._database = database
        self._storage = storage
        self._tokens = tokens
        self._clock = clock
        self._look = look
        self._kept_ms = kept_ms
        self.max_bytes = max_bytes
        self._prefix = origin + PATH
        self._writing: set[str] = set()

    def reserve(self, connection: sa.Connection, order: Order) -> None:
        """Open the place that an order paid for, in the transaction that records the payment."""
        wanted = json.loads(order.input)
        upload_id = secrets.token_hex(16)
        now = self._clock.now_ms()
        store.reserve(
            connection,
            Upload(
                id=upload_id,
                order_id=order.id,
                wallet=order.wallet,
                pathname=f"uploads/{upload_id}/{_plain(wanted['filename'])}",
                content_type=wanted["contentType"],
                state="reserved",
                key=None,
                size=None,
                sha256=None,
                created_at=now,
                expires_at=now + _TOKEN_MS,
                stored_at=None,
                confirmed_at=None,
            ),
        )

    async def ticket(self, order_id: str) -> Ticket | None:
        """Return what an order's buyer gets; the same order always gets an equal one."""
        upload = await self._database.read(lambda connection: store.find_by_order(connection, order_id))
        if upload is None:
            return None
        grant = Grant(
            pathname=upload.pathname,
            valid_until_ms=upload.expires_at,
            content_types=(upload.content_type,),
            max_bytes=self.max_bytes,
        )
        return Ticket(upload=upload, token=self._tokens.issue(grant))

    def url(self, pathname: str) -> str:
        """Return the blobUrl of an upload: a name for it, by which inputs point to it; nothing is served there."""
        return self._prefix + pathname

    def kept_until(self, upload: Upload) -> int | None:
        """Return the moment (ms) at which a confirmed file goes; None where it stays."""
        if self._kept_ms is None or upload.confirmed_at is None:
            return None
        return upload.confirmed_at + self._kept_ms

    async def find(self, pathname: str) -> Upload | None:
        """Return the upload that a token was issued for."""
        return await self._database.read(lambda connection: store.find_by_pathname(connection, pathname))

    async def put(self, upload: Upload, pieces: AsyncIterable[bytes], *, max_bytes: int) -> Kept:
        """Take the file; the same file once more is no error. Raises `UploadTaken`, `TooLarge`."""
        return await self._write(upload, pieces, max_bytes=min(max_bytes, self.max_bytes))

    async def put_part(self, upload: Upload, session: str, number: int, pieces: AsyncIterable[bytes]) -> str:
        """Keep a part until all are there; return its etag. Raises `UploadTaken`, `TooLarge`."""
        if upload.state != "reserved":
            raise UploadTaken
        key = _fresh_key(upload)
        most = min(self.max_bytes, _PART_BYTES)
        # Whether a part has outlived a power cut shows when the parts are joined: each is compared with its etag.
        kept = await self._storage.put_stream(
            key, pieces, content_type="application/octet-stream", max_bytes=most, lasting=False
        )
        part = Part(session=session, number=number, key=key, etag=_etag(kept.sha256), size=kept.size)
        now, most = self._clock.now_ms(), self.max_bytes
        try:
            earlier = await self._database.write(
                lambda connection: store.add_part(connection, upload_id=upload.id, part=part, max_bytes=most, now=now)
            )
        except store.TooMuch:
            await self._storage.delete(key)
            raise TooLarge(f"The parts are larger than {most} bytes together.") from None
        if earlier is not None:
            await self._storage.delete(earlier)
        return part.etag

    async def complete(self, upload: Upload, session: str, named: Sequence[tuple[int, str]]) -> Kept:
        """Join parts, whatever order they are named in; again for what was joined. Raises `PartMissing`, `TooLarge`."""
        if upload.sha256 is not None:
            return Kept(size=upload.size or 0, sha256=upload.sha256)  # the answer was lost, and its parts are gone
        arrived = await self._database.read(
            lambda connection: store.parts_of(connection, upload_id=upload.id, session=session)
        )
        parts = [part for part in arrived if (part.number, part.etag) in set(named)]
        if not named or len(parts) != len(named):
            raise PartMissing
        kept = await self._write(upload, self._joined(parts), max_bytes=self.max_bytes)
        await self._drop_parts(upload)
        return kept

    async def confirm(self, upload_id: str, *, wallet: str, url: str) -> Upload:
        """Look at the file and let inputs point to it; again for one that is confirmed. Raises a `StudioError`."""
        upload = await self._database.read(lambda connection: store.find(connection, upload_id))
        if upload is None or upload.wallet != wallet or upload.state == "abandoned":
            raise UploadNotFound
        if upload.state != "confirmed" and self._clock.now_ms() >= upload.expires_at + _CONFIRM_MS:
            raise UploadNotFound("This upload was not confirmed in time.", hint=UploadExpired.hint)
        if url != self.url(upload.pathname):
            raise BlobUrlMismatch(f"The blobUrl of this upload is {self.url(upload.pathname)}.")
        if upload.state == "expired":
            raise UploadExpired
        if upload.state == "reserved" or upload.key is None:
            raise UploadMissing
        if upload.state == "stored":
            await self._require_announced(upload, upload.key)
            key, now = upload.key, self._clock.now_ms()
            if not await self._database.write(
                lambda connection: store.confirm(connection, upload_id=upload.id, key=key, now=now)
            ):
                return await self.confirm(
                    upload_id, wallet=wallet, url=url
                )  # another was first, with this file or its end
            return replace(upload, state="confirmed", confirmed_at=now)
        return upload

    async def resolve(self, url: str, *, wallet: str, new: bool = False) -> Upload | None:
        """Return the confirmed upload that a blobUrl names, None for any other address; `new` is for an order to be.

        Raises a `StudioError` where there is none, or it will not be there long enough for a new order.
        """
        if not url.startswith(self._prefix):
            return None
        found = await self.find(url[len(self._prefix) :])
        if found is None or found.wallet != wallet:
            raise UploadNotFound(f"{url[:300]} is not an upload of this wallet.")
        if found.state == "expired" or (new and self._ends_soon(found)):
            raise UploadExpired
        if found.state != "confirmed":
            raise UploadMissing(
                f"{url[:300]} is not confirmed.",
                hint="POST /api/upload/confirm with its uploadId first, then pay again.",
            )
        return found

    async def purge(self) -> int:
        """Drop what was never confirmed, some time after its token ended, and what is kept no longer; return how many."""
        before = self._clock.now_ms() - _ABANDONED_MS
        old = await self._database.read(lambda connection: store.abandoned(connection, before=before, limit=_BATCH))
        for upload in old:
            await self._drop_parts(upload)
            if upload.key is not None:
                await self._storage.delete(upload.key)
            await self._database.write(lambda connection: store.abandon(connection, upload_id=upload.id))  # noqa: B023
        return len(old) + await self._purge_confirmed()

    async def _purge_confirmed(self) -> int:
        if self._kept_ms is None:
            return 0
        before = self._clock.now_ms() - self._kept_ms
        old = await self._database.read(lambda connection: store.due(connection, before=before, limit=_BATCH))
        for upload in old:
            if upload.key is not None:
                await self._storage.delete(upload.key)
            await self._database.write(lambda connection: store.expire(connection, upload_id=upload.id))  # noqa: B023
        return len(old)

    def _ends_soon(self, upload: Upload) -> bool:
        """Tell whether a file may be gone before an order of now has been made."""
        until = self.kept_until(upload)
        return until is not None and self._clock.now_ms() >= until - _LONGEST_JOB_MS

    async def _write(self, upload: Upload, pieces: AsyncIterable[bytes], *, max_bytes: int) -> Kept:
        if upload.id in self._writing:
            raise UploadTaken  # one at a time, so that a token cannot fill the disk
        self._writing.add(upload.id)
        try:
            key = _fresh_key(upload)
            kept = await self._storage.put_stream(key, pieces, content_type=upload.content_type, max_bytes=max_bytes)
            await self._take(upload, key, kept)
        finally:
            self._writing.discard(upload.id)
        return kept

    async def _take(self, upload: Upload, key: str, kept: Kept) -> None:
        now = self._clock.now_ms()
        if not await self._database.write(
            lambda connection: store.store(
                connection, upload_id=upload.id, key=key, size=kept.size, sha256=kept.sha256, now=now
            )
        ):
            await self._storage.delete(key)
            first = await self.find(upload.pathname)
            if first is None or first.sha256 != kept.sha256:
                raise UploadTaken

    async def _drop_parts(self, upload: Upload) -> None:
        for key in await self._database.write(lambda connection: store.drop_parts(connection, upload_id=upload.id)):
            await self._storage.delete(key)

    async def _joined(self, parts: Sequence[Part]) -> AsyncIterator[bytes]:
        for part in parts:
            digest = hashlib.sha256()
            try:
                async for piece in self._storage.stream(part.key, 0, part.size, step=_STEP):
                    await anyio.to_thread.run_sync(digest.update, piece)
                    yield piece
            except AssetGone:
                raise PartMissing from None
            if _etag(digest.hexdigest()) != part.etag:
                raise PartMissing

    async def _require_announced(self, upload: Upload, key: str) -> None:
        try:
            seen = await self._look(key)
            told = None if seen.content_type == upload.content_type else f"it is {seen.content_type}"
        except UnreadableMedia as error:
            told = error.message
        if told is None:
            return
        if await self._database.write(lambda connection: store.give_back(connection, upload_id=upload.id, key=key)):
            await self._storage.delete(key)
        raise UploadNotMedia(f"The file was announced as {upload.content_type}, but: {told}")


def _fresh_key(upload: Upload) -> str:
    """Return a key that nobody wrote before: which file is taken is the table's word, not the storage's."""
    return f"uploads/{upload.id}/{secrets.token_hex(8)}"


def _etag(sha256: str) -> str:
    return sha256[:32]


def _plain(filename: str) -> str:
    """Return a name that is the same in a path, a URL and a token."""
    plain = "".join(letter if letter in _KEPT else "-" for letter in filename).lstrip(".-") or "file"
    return plain[-_LONGEST_NAME:]
