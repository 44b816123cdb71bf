"""The desk where paid uploads arrive: one file or parts of one, streamed into storage, taken once, confirmed by its owner."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial

import anyio.to_thread
import sqlalchemy as sa

from stablestudio.clock import Clock
from stablestudio.errors import StudioError
from stablestudio.failpoints import reach
from stablestudio.media.drafts import Drafts
from stablestudio.media.links import AssetGone
from stablestudio.media.looks import Looks
from stablestudio.media.probe import Probe, UnreadableMedia
from stablestudio.media.storage import Kept, Storage, TooLarge
from stablestudio.media.upload_ends import CONFIRM_MS, UploadEnds
from stablestudio.protocols.blob import BlobTokens, Grant
from stablestudio.store import uploads as store
from stablestudio.store.database import Database
from stablestudio.store.payments import Order
from stablestudio.store.uploads import Part, Upload

PATH = "/blob/"
_TOKEN_MS = 3_600_000
# Vercel's clients send 8 MiB; all but the last part of an S3 upload have 5 MiB.
_PART_BYTES = 64 * 1024 * 1024
_STEP = 2 * 1024 * 1024  # bytes of a part that are read and counted together at a time
MAX_PARTS = 10_000
_LONGEST_JOB_MS = 24 * 3600 * 1000  # nothing is made for longer
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


class PartEmpty(Exception):
    """A part has no bytes, which no file is made of."""


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
        self._drafts = Drafts(database, storage=storage, clock=clock, useless_ms=_TOKEN_MS + CONFIRM_MS)
        self._ends = UploadEnds(database, storage=storage, clock=clock, kept_ms=kept_ms)
        self._looks: Looks[Upload | None] = Looks()
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

    def confirmed_until(self, upload: Upload) -> int:
        """Return the moment (ms) from which an upload cannot be confirmed any more, and nothing is taken for it."""
        return upload.expires_at + CONFIRM_MS

    async def find(self, pathname: str) -> Upload | None:
        """Return the upload that a token was issued for."""
        return await self._database.read(lambda connection: store.find_by_pathname(connection, pathname))

    async def put(self, upload: Upload, pieces: AsyncIterable[bytes], *, max_bytes: int) -> Kept:
        """Take the file; the same file once more is no error. Raises `UploadTaken`, `TooLarge`."""
        return await self._write(upload, pieces, max_bytes=min(max_bytes, self.max_bytes))

    async def put_part(
        self, upload: Upload, session: str, number: int, pieces: AsyncIterable[bytes], *, size: int
    ) -> str:
        """Keep a part of `size` bytes until all are there; return its etag.

        Raises `UploadTaken`, `TooLarge`, `PartEmpty`, `UploadsBusy`.
        """
        if size > _PART_BYTES:
            raise TooLarge(f"A part has at most {_PART_BYTES} bytes.")
        if size == 0:
            raise PartEmpty
        part = Part(session=session, number=number, key="", etag="", size=size)
        try:
            async with self._drafts.open(upload.id, partial(self._note_part, upload, part)) as key:
                # Whether a part has outlived a power cut shows when the parts are joined: each is compared with its etag.
                kept = await self._storage.put_stream(
                    key, pieces, content_type="application/octet-stream", max_bytes=size, lasting=False
                )
                if kept.size == 0:
                    raise PartEmpty
                reach("upload.written")
                part = replace(part, key=key, etag=_etag(kept.sha256), size=kept.size)
                await self._database.write(partial(store.add_part, upload_id=upload.id, part=part))
        except store.Closed:
            raise UploadTaken from None
        except store.TooMuch:
            told = f"The parts are larger than {self.max_bytes} bytes together, or more than {MAX_PARTS}."
            raise TooLarge(told) from None
        return part.etag

    async def complete(self, upload: Upload, session: str, named: Collection[tuple[int, str]]) -> Kept:
        """Join parts, whatever order they are named in; again for what was joined. Raises `PartMissing`, `TooLarge`."""
        if upload.sha256 is not None:
            return Kept(size=upload.size or 0, sha256=upload.sha256)  # the answer was lost, and its parts are gone
        arrived = await self._database.read(partial(store.parts_of, upload_id=upload.id, session=session))
        wanted = frozenset(named)
        parts = [part for part in arrived if (part.number, part.etag) in wanted]
        if not named or len(parts) != len(named):
            raise PartMissing
        return await self._write(upload, self._joined(parts), max_bytes=self.max_bytes)

    async def confirm(self, upload_id: str, *, wallet: str, url: str) -> Upload:
        """Look at the file and let inputs point to it; again for one that is confirmed. Raises a `StudioError`."""
        upload = await self._database.read(lambda connection: store.find(connection, upload_id))
        if upload is None or upload.wallet != wallet or upload.state == "abandoned":
            raise UploadNotFound
        if upload.state != "confirmed" and self._clock.now_ms() >= self.confirmed_until(upload):
            raise UploadNotFound("This upload was not confirmed in time.", hint=UploadExpired.hint)
        if url != self.url(upload.pathname):
            raise BlobUrlMismatch(f"The blobUrl of this upload is {self.url(upload.pathname)}.")
        if upload.state == "expired":
            raise UploadExpired
        if upload.state == "reserved" or upload.key is None:
            raise UploadMissing
        if upload.state == "confirmed":
            return upload
        look = partial(self._look_and_confirm, upload, upload.key)
        seen = await self._looks.share(upload.key, look, wallet=wallet)
        # None where another came first, with this file or its end.
        return seen or await self.confirm(upload_id, wallet=wallet, url=url)

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
        ended = await self._ends.close()
        await self._drafts.clear()
        return ended

    def _ends_soon(self, upload: Upload) -> bool:
        """Tell whether a file may be gone before an order of now has been made."""
        until = self.kept_until(upload)
        return until is not None and self._clock.now_ms() >= until - _LONGEST_JOB_MS

    async def _write(self, upload: Upload, pieces: AsyncIterable[bytes], *, max_bytes: int) -> Kept:
        if upload.id in self._writing:
            raise UploadTaken  # one at a time, so that a token cannot fill the disk
        self._writing.add(upload.id)
        note = partial(self._note_file, upload)
        try:
            async with self._drafts.open(upload.id, note) as key:
                kept = await self._storage.put_stream(
                    key, pieces, content_type=upload.content_type, max_bytes=max_bytes
                )
                reach("upload.written")
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
            first = await self.find(upload.pathname)
            if first is None or first.sha256 != kept.sha256:
                raise UploadTaken

    def _note_file(self, upload: Upload, connection: sa.Connection, key: str) -> None:
        store.note(connection, upload_id=upload.id, key=key, now=self._clock.now_ms())

    def _note_part(self, upload: Upload, part: Part, connection: sa.Connection, key: str) -> None:
        store.note_part(
            connection,
            upload_id=upload.id,
            part=replace(part, key=key),
            max_bytes=self.max_bytes,
            max_parts=MAX_PARTS,
            now=self._clock.now_ms(),
        )

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

    async def _look_and_confirm(self, upload: Upload, key: str) -> Upload | None:
        """Return the upload once inputs may point to its file, None where that is not the upload's file any more."""
        try:
            seen = await self._look(key)
            told = None if seen.content_type == upload.content_type else f"it is {seen.content_type}"
        except UnreadableMedia as error:
            told = error.message
        except (AssetGone, FileNotFoundError):
            await self._give_back(upload, key)
            raise UploadMissing from None
        if told is not None:
            await self._give_back(upload, key)
            raise UploadNotMedia(f"The file was announced as {upload.content_type}, but: {told}")
        now = self._clock.now_ms()
        if not await self._database.write(partial(store.confirm, upload_id=upload.id, key=key, now=now)):
            return None
        return replace(upload, state="confirmed", confirmed_at=now)

    async def _give_back(self, upload: Upload, key: str) -> None:
        await self._database.write(partial(store.give_back, upload_id=upload.id, key=key))
        await self._drafts.clear(upload.id)


def _etag(sha256: str) -> str:
    return sha256[:32]


def _plain(filename: str) -> str:
    """Return a name that is the same in a path, a URL and a token."""
    plain = "".join(letter if letter in _KEPT else "-" for letter in filename).lstrip(".-") or "file"
    return plain[-_LONGEST_NAME:]
