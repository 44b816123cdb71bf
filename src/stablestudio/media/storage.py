"""Where assets are kept: a directory, memory, or a bucket, behind five verbs. Type, size and hash live in the store's table."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import AsyncGenerator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import anyio.to_thread
import obstore
from obstore.exceptions import AlreadyExistsError
from obstore.store import LocalStore, ObjectStore, from_url

from stablestudio.errors import StudioError
from stablestudio.media.links import AssetGone

CHUNK = 256 * 1024
# Lower case only: some file systems take two spellings for one file.
_KEY = re.compile(r"(?:[a-z0-9][a-z0-9_-]*/)+[a-z0-9][a-z0-9_-]*(?:\.[a-z0-9]+)*")
_LONGEST_KEY = 200


class AssetExists(StudioError):
    """Another file is kept under this key already."""

    status = 409
    hint = "A file is written once; tell the operator the request id."


class Storage:
    """Keep files under keys such as `jobs/job_abc/0.png`; each is written once, whole or not at all.

    A key outside the pattern is a mistake of ours and raises `ValueError`.
    """

    def __init__(self, store: ObjectStore, *, directory: Path | None = None) -> None:
        self._store = store
        self._directory = directory

    @classmethod
    def at(cls, location: str) -> Storage:
        """Open a directory (made if missing) or a URL: `file:///srv/assets`, `memory:///`, `s3://bucket/prefix`."""
        if "://" in location and not location.startswith("file://"):
            return cls(from_url(location))
        path = unquote(urlsplit(location).path) if location.startswith("file://") else location
        directory = Path(path).absolute()
        return cls(LocalStore(directory, mkdir=True), directory=directory)

    async def put_once(self, key: str, data: bytes, *, content_type: str) -> bool:
        """Keep `data`; return False if exactly these bytes were there, raise `AssetExists` if others were."""
        if await self._create(_checked(key), data, content_type):
            return True
        if await self.size(key) != len(data) or await self.read(key) != data:
            raise AssetExists(f"Another file is kept as {key} already.")
        return False

    async def size(self, key: str) -> int | None:
        """Return the size in bytes, or None if there is no such file."""
        try:
            return (await obstore.head_async(self._store, _checked(key)))["size"]
        except FileNotFoundError:
            return None

    async def read(self, key: str) -> bytes:
        """Return the whole file; raise `AssetGone`."""
        try:
            result = await obstore.get_async(self._store, _checked(key))
            return bytes(await result.bytes_async())
        except FileNotFoundError:
            raise AssetGone from None

    def path(self, key: str) -> Path | None:
        """Return where a file lies on this machine, None where files are kept elsewhere."""
        return self._directory / _checked(key) if self._directory else None

    async def stream(self, key: str, start: int, end: int) -> AsyncGenerator[bytes]:
        """Yield bytes `start` to `end` (exclusive, within the file) in pieces; raise `AssetGone`."""
        pieces = self._local_pieces if self._directory else self._remote_pieces
        try:
            async for piece in pieces(_checked(key), start, end):
                yield piece
        except FileNotFoundError:
            raise AssetGone from None

    async def delete(self, key: str) -> None:
        """Remove the file; one that is not there is no error."""
        try:
            await obstore.delete_async(self._store, _checked(key))
        except FileNotFoundError:
            return

    async def _local_pieces(self, key: str, start: int, end: int) -> AsyncGenerator[bytes]:
        # One read a piece: obstore's own stream of a local file goes in steps of 8 KB and costs seven times as much.
        for offset in range(start, end, CHUNK):
            yield bytes(await obstore.get_range_async(self._store, key, start=offset, end=min(offset + CHUNK, end)))

    async def _remote_pieces(self, key: str, start: int, end: int) -> AsyncGenerator[bytes]:
        if start >= end:
            return
        result = await obstore.get_async(self._store, key, options={"range": (start, end)})
        async for piece in result.stream(min_chunk_size=CHUNK):
            yield bytes(piece)

    async def _create(self, key: str, data: bytes, content_type: str) -> bool:
        if self._directory:
            return await anyio.to_thread.run_sync(_create_file, self._directory, key, data)
        try:
            await obstore.put_async(
                self._store, key, data, mode="create", use_multipart=False, attributes={"Content-Type": content_type}
            )
        except AlreadyExistsError:
            return False
        return True


def _create_file(directory: Path, key: str, data: bytes) -> bool:
    """Write beside the final name, sync, then link: the name never shows less than the whole, even after a power cut.

    obstore's local store links likewise but never syncs, so that a paid file could be lost after its job was recorded.
    """
    path = directory / key
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".", suffix=".part") as part:
        part.write(data)
        part.flush()
        os.fsync(part.fileno())
        try:
            os.link(part.name, path)
        except FileExistsError:
            return False
    for folder in path.parents:
        _sync_folder(folder)
        if folder == directory:
            break
    return True


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _checked(key: str) -> str:
    if len(key) > _LONGEST_KEY or not _KEY.fullmatch(key):
        raise ValueError(f"Not a key of an asset: {key!r}")
    return key
