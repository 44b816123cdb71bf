"""Files in a folder of this machine: written beside their final name, synced, then linked, so that a name shows the whole or nothing."""

from __future__ import annotations

import hashlib
import math
import os
import tempfile
from collections.abc import AsyncGenerator, AsyncIterable
from contextlib import suppress
from pathlib import Path
from typing import IO

import anyio.to_thread

_BATCH = 2 * 1024 * 1024  # bytes handed to a thread at a time
_BEHIND = 16 * 1024 * 1024  # bytes after which the system is told to write what it has; parts of uploads are smaller

_PREFIX, _SUFFIX = ".", ".part"
_COARSE = 0.1  # seconds: a file system's clock goes in steps, and is behind by up to one
_TRIES = 100


def create_file(directory: Path, key: str, data: bytes) -> bool:
    """Write a file; return False where there is one already.

    obstore's local store links likewise but never syncs, so that a paid file could be lost after its job was recorded.
    """
    draft = _Draft(directory, key)
    try:
        draft.write([data])
        draft.sync_and_link()
    except FileExistsError:
        return False
    finally:
        draft.close()
    return True


async def write_file(directory: Path, key: str, pieces: AsyncIterable[bytes], *, lasting: bool = True) -> str:
    """Write a file as its pieces come; return its SHA-256 in lower hex. Raises `FileExistsError`.

    A file that is not `lasting` may be lost, or be cut short, by a power cut.
    """
    draft = _Draft(directory, key)
    try:
        batch: list[bytes] = []
        size = 0
        async for piece in pieces:
            batch.append(piece)
            size += len(piece)
            if size >= _BATCH:
                await anyio.to_thread.run_sync(draft.write, batch)
                batch, size = [], 0
        await anyio.to_thread.run_sync(draft.write, batch)
        await anyio.to_thread.run_sync(draft.sync_and_link if lasting else draft.link)
    finally:
        draft.close()
    return draft.sha256


async def read_file(directory: Path, key: str, start: int, end: int, *, step: int) -> AsyncGenerator[bytes]:
    """Yield bytes `start` to `end` (exclusive) in pieces of `step`; raise `FileNotFoundError`, also where it ends early."""
    file = await anyio.to_thread.run_sync((directory / key).open, "rb", 0)
    try:
        for offset in range(start, end, step):
            piece = await anyio.to_thread.run_sync(os.pread, file.fileno(), min(step, end - offset), offset)
            if not piece:
                raise FileNotFoundError(f"{key} ends before {end} bytes")
            yield piece
    finally:
        file.close()


def prune(directory: Path, key: str) -> None:
    """Remove the folders of a key that are empty; who is about to write into one makes it again."""
    for folder in (directory / key).parents:
        if folder == directory:
            return
        try:
            folder.rmdir()
        except FileNotFoundError:
            continue
        except OSError:
            return  # it has other files


def sweep(directory: Path, before_s: float) -> int:
    """Remove the files without a name that were last written to before that moment (s); return how many there were."""
    count = 0
    for folder, _, names in os.walk(directory):
        for name in names:
            draft = Path(folder, name)
            if name.startswith(_PREFIX) and name.endswith(_SUFFIX) and _written_s(draft) < before_s - _COARSE:
                draft.unlink(missing_ok=True)
                prune(directory, str(draft.relative_to(directory)))
                count += 1
    return count


def _written_s(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return math.inf  # it has its name by now


class _Draft:
    """A file that has no name yet."""

    def __init__(self, directory: Path, key: str) -> None:
        self._directory = directory
        self._key = key
        self._path = directory / key
        self._file = self._open()
        self._hash = hashlib.sha256()
        self._behind = 0

    def _open(self) -> IO[bytes]:
        for _ in range(_TRIES):
            # Whoever deletes the last file of a folder takes the folder along, until there is something in it: it may
            # go while it is made, which `mkdir` takes for a file of its name, and after.
            with suppress(FileNotFoundError, FileExistsError):
                self._path.parent.mkdir(parents=True, exist_ok=True)
                return tempfile.NamedTemporaryFile(dir=self._path.parent, prefix=_PREFIX, suffix=_SUFFIX)
        raise FileNotFoundError(self._path.parent)

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def write(self, pieces: list[bytes]) -> None:
        for piece in pieces:
            self._hash.update(piece)
            self._behind += len(piece)
        self._file.writelines(pieces)
        if self._behind >= _BEHIND:
            self._write_behind()

    def _write_behind(self) -> None:
        """Have the system write what it has so far, and keep none of it in memory.

        It would else hold the whole file until it is synced, which takes twice the time and counts against the
        memory of a container.
        """
        self._behind = 0
        if hasattr(os, "posix_fadvise"):  # not on macOS
            os.posix_fadvise(self._file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    def link(self) -> None:
        """Give it its name; raise `FileExistsError`."""
        self._file.flush()
        os.link(self._file.name, self._path)

    def sync_and_link(self) -> None:
        """Give it its name, so that both are there after a power cut; raise `FileExistsError`."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self.link()
        for folder in self._path.parents:
            _sync_folder(folder)
            if folder == self._directory:
                break

    def close(self) -> None:
        self._file.close()
        prune(self._directory, self._key)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
