"""Where assets are kept: a directory, memory, or a bucket, behind a few verbs. Type, size and hash live in the store's table."""

from __future__ import annotations

import errno
import hashlib
import logging
import re
import time
from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

import anyio.to_thread
import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, NotFoundError, PermissionDeniedError, UnauthenticatedError
from obstore.store import LocalStore, ObjectStore, from_url

from stablestudio.errors import StudioError
from stablestudio.media.folders import create_file, prune, read_file, sweep, write_file
from stablestudio.media.links import AssetGone, presentation

log = logging.getLogger(__name__)
# Of a disk that is full, by its size, a quota or a limit of the process; read-only; or broken.
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO})
CHUNK = 256 * 1024
_PARTS_AT_ONCE = 4  # of 5 MiB, on their way to a bucket; obstore's twelve are 60 MiB for every upload
# Lower case only: some file systems take two spellings for one file.
_KEY = re.compile(r"(?:[a-z0-9][a-z0-9_-]*/)+[a-z0-9][a-z0-9_-]*(?:\.[a-z0-9]+)*")
_LONGEST_KEY = 200
_REFUSAL = re.compile(
    r"status code: ((?:301|400|401|403|404)\b[^:\n]*)(?:.*?<Message>([^<]*?)\.?</Message>)?", re.DOTALL
)


class AssetExists(StudioError):
    """Another file is kept under this key already."""

    status = 409
    hint = "A file is written once; tell the operator the request id."


class StorageUnavailable(StudioError):
    """The place where files are kept does not answer."""

    status = 503
    retryable = True
    hint = "Try again in a minute; what is kept is not lost."


class StorageRefused(StudioError):
    """The bucket does not exist, or these keys may not use it."""

    hint = "Look at `storage` and the s3_ settings, and at what the keys may do: read, write, delete and list."


class TooLarge(StudioError):
    """The file is larger than may be kept here."""

    status = 413
    hint = "Send a smaller file; nothing was charged for this request."


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A file as it was written: its size in bytes, its SHA-256 in lower hex."""

    size: int
    sha256: str


class _Tally:
    """Counts what passes; ends it where there is too much."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self.size = 0
        self.fault: BaseException | None = None

    async def through(self, pieces: AsyncIterable[bytes]) -> AsyncGenerator[bytes]:
        try:
            async for piece in pieces:
                self._count(piece)
                yield piece
        except Exception as fault:
            self.fault = fault
            raise

    def _count(self, piece: bytes) -> None:
        self.size += len(piece)
        if self.size > self._max_bytes:
            raise TooLarge(f"The file is larger than {self._max_bytes} bytes.")


class Storage:
    """Keep files under keys such as `jobs/job_abc/0.png`; each is written once, whole or not at all.

    A key outside the pattern is a mistake of ours and raises `ValueError`.
    """

    def __init__(self, store: ObjectStore, *, directory: Path | None = None) -> None:
        self._store = store
        self._directory = directory
        self._opened_s = time.time()

    @classmethod
    def at(cls, location: str) -> Storage:
        """Open a directory (made if missing) or a URL: `file:///srv/assets`, `memory:///`. Buckets open themselves."""
        if "://" in location and not location.startswith("file://"):
            return cls(from_url(location))
        directory = folder_at(location)
        return cls(LocalStore(directory, mkdir=True), directory=directory)

    async def check(self) -> None:
        """Raise `StorageRefused` if the place certainly cannot be used, `StorageUnavailable` if it does not answer."""
        if self._directory:
            return
        try:
            async for _ in obstore.list(self._store, chunk_size=1):
                return
        except BaseError as error:
            # The library has no classes for what a list is answered with.
            refusal = _REFUSAL.search(str(error))
            if refusal is None:
                raise StorageUnavailable from error
            raise StorageRefused(f"The bucket cannot be used: {refusal[2] or refusal[1]}.") from None

    async def put_once(self, key: str, data: bytes, *, content_type: str) -> bool:
        """Keep `data`; return False if exactly these bytes were there, raise `AssetExists` if others were."""
        if await self._create(_checked(key), data, content_type):
            return True
        if await self.size(key) != len(data) or await self.read(key) != data:
            raise AssetExists(f"Another file is kept as {key} already.")
        return False

    async def put_stream(
        self, key: str, pieces: AsyncIterable[bytes], *, content_type: str, max_bytes: int, lasting: bool = True
    ) -> Kept:
        """Keep what comes, in constant memory, under a key that nobody else writes. Raises `TooLarge`.

        Nothing is kept where `pieces` raises, or ends too late. A file that is not `lasting` may suffer from a power cut.
        """
        tally = _Tally(max_bytes)
        counted = tally.through(pieces)
        if self._directory:
            with _writing():
                sha256 = await write_file(self._directory, _checked(key), counted, lasting=lasting)
        else:
            try:
                sha256 = await self._send(_checked(key), counted, content_type)
            except Exception:
                if tally.fault is not None:
                    raise tally.fault from None  # the store wraps what the stream raised
                raise
        return Kept(size=tally.size, sha256=sha256)

    async def size(self, key: str) -> int | None:
        """Return the size in bytes, or None if there is no such file."""
        try:
            with _reaching():
                return (await obstore.head_async(self._store, _checked(key)))["size"]
        except FileNotFoundError:
            return None

    async def read(self, key: str) -> bytes:
        """Return the whole file; raise `AssetGone`."""
        try:
            with _reaching():
                result = await obstore.get_async(self._store, _checked(key))
                return bytes(await result.bytes_async())
        except FileNotFoundError:
            raise AssetGone from None

    def path(self, key: str) -> Path | None:
        """Return where a file lies on this machine, None where files are kept elsewhere."""
        return self._directory / _checked(key) if self._directory else None

    async def stream(self, key: str, start: int, end: int, *, step: int = CHUNK) -> AsyncGenerator[bytes]:
        """Yield bytes `start` to `end` (exclusive, within the file) in pieces of about `step`; raise `AssetGone`."""
        try:
            with _reaching():
                async for piece in self._pieces(_checked(key), start, end, step):
                    yield piece
        except FileNotFoundError:
            raise AssetGone from None

    async def delete(self, key: str) -> None:
        """Remove the file; one that is not there is no error."""
        with suppress(FileNotFoundError), _reaching():
            await obstore.delete_async(self._store, _checked(key))
        if self._directory:
            await anyio.to_thread.run_sync(prune, self._directory, key)

    async def erase(self, keys: Iterable[str]) -> list[str]:
        """Remove files; return the keys of those that are gone. One that resists is logged and keeps no other."""
        gone = []
        for key in keys:
            try:
                await self.delete(key)
            except Exception:
                log.exception("file_not_erased", extra={"key": key})
            else:
                gone.append(key)
        return gone

    async def sweep(self, *, quiet_s: float = 0.0) -> None:
        """Remove what processes before this one left half written in a folder.

        Where others may be writing there, `quiet_s` is for how long one who still does may have written nothing.

        A bucket shows no unfinished uploads; a rule of its own ends them.
        """
        if self._directory is None:
            return
        try:
            count = await anyio.to_thread.run_sync(sweep, self._directory, self._opened_s - quiet_s)
        except OSError:
            log.exception("drafts_not_swept")
        else:
            log.info("drafts_swept", extra={"files": count})

    async def _pieces(self, key: str, start: int, end: int, step: int) -> AsyncGenerator[bytes]:
        if start >= end:
            return
        if self._directory:
            # obstore's own stream of a local file goes in steps of 8 KB and costs seven times as much.
            async for piece in read_file(self._directory, key, start, end, step=step):
                yield piece
            return
        result = await obstore.get_async(self._store, key, options={"range": (start, end)})
        async for each in result.stream(min_chunk_size=step):
            yield bytes(each)

    async def _send(self, key: str, pieces: AsyncIterable[bytes], content_type: str) -> str:
        digest = hashlib.sha256()

        async def hashed() -> AsyncGenerator[bytes]:
            async for piece in pieces:
                digest.update(piece)
                yield piece

        with _reaching():
            await obstore.put_async(
                self._store,
                key,
                hashed(),
                attributes={"Content-Type": content_type},
                max_concurrency=_PARTS_AT_ONCE,
            )
        return digest.hexdigest()

    async def _create(self, key: str, data: bytes, content_type: str) -> bool:
        if self._directory:
            with _writing():
                return await anyio.to_thread.run_sync(create_file, self._directory, key, data)
        # A bucket may hand a file out by itself: it is told what our own links would say.
        shown, disposition = presentation(key, content_type)
        attributes = {"Content-Type": shown, "Content-Disposition": disposition}
        try:
            with _reaching():
                await obstore.put_async(
                    self._store, key, data, mode="create", use_multipart=False, attributes=attributes
                )
        except AlreadyExistsError:
            return False
        return True


@contextmanager
def _writing() -> Iterator[None]:
    """Tell a folder that takes nothing at the moment, as on a full disk, apart from our own mistakes."""
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        log.warning("storage_unavailable", extra={"reason": error.strerror})
        raise StorageUnavailable from error


def folder_at(location: str) -> Path:
    """Return the folder that a path or a `file://` URL names; it is not made."""
    return Path(unquote(urlsplit(location).path) if location.startswith("file://") else location).absolute()


@contextmanager
def _reaching() -> Iterator[None]:
    """Tell a store that does not answer apart from one that says no, or that there is no such file."""
    try:
        yield
    except NotFoundError as error:
        raise FileNotFoundError(_first_line(error)) from None
    except (AlreadyExistsError, PermissionDeniedError, UnauthenticatedError):
        raise
    except BaseError as error:
        log.warning("storage_unavailable", extra={"reason": _first_line(error)})
        raise StorageUnavailable from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:300]


def _checked(key: str) -> str:
    if len(key) > _LONGEST_KEY or not _KEY.fullmatch(key):
        raise ValueError(f"Not a key of an asset: {key!r}")
    return key
