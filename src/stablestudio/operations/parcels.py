"""The outer form of a backup, a folder or one tar file: written beside its name and renamed, read one member after another."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import io
import os
import re
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Protocol

from stablestudio.naming import link, settle
from stablestudio.operations.faults import BackupDamaged, BackupExists, BackupMissing

_STEP = 1024 * 1024
_PRIVATE = 0o600
_DRAFT = ".stablestudio-backup-"
_NAME = re.compile(r"(?:[A-Za-z0-9][A-Za-z0-9_-]*/)*[A-Za-z0-9][A-Za-z0-9_-]*(?:\.[A-Za-z0-9]+)*")


class Parcel(Protocol):
    """What a backup is packed into."""

    def add(self, name: str, source: IO[bytes]) -> str:
        """Take a file that its owner alone may read; return its SHA-256 in lower hex."""
        ...


@contextmanager
def pack(target: Path) -> Iterator[tuple[Parcel, Path]]:
    """Pack a folder, or a tar file where the name ends in `.tar`; it has its name when it is whole, and not before.

    Yields with it a folder for what is needed on the way. Raises `BackupExists` where something has the name by then.
    """
    _sweep(target.parent)
    with _draft(target.parent) as draft:
        made = draft / "made"
        (draft / "aside").mkdir()
        if target.suffix == ".tar":
            with open(made, "xb", opener=_private) as file, tarfile.open(fileobj=file, mode="w|") as tar:
                yield _Tar(tar), draft / "aside"
        else:
            made.mkdir(mode=0o700)
            yield _Folder(made), draft / "aside"
        os.sync()  # once for all of its files, and before it has its name
        _name(made, target)


@contextmanager
def _draft(parent: Path) -> Iterator[Path]:
    """Make a folder of our own, which is locked as long as we live; nothing is left of it."""
    while True:
        draft = Path(tempfile.mkdtemp(prefix=_DRAFT, dir=parent))
        with suppress(FileNotFoundError, BlockingIOError):  # swept before it was locked
            lock = _lock(draft)
            break
    try:
        yield draft
    finally:
        lock.close()
        shutil.rmtree(draft, ignore_errors=True)


def _sweep(parent: Path) -> None:
    """Remove the drafts of backups that were killed."""
    for draft in parent.glob(f"{_DRAFT}*"):
        with suppress(FileNotFoundError, BlockingIOError), _lock(draft):
            shutil.rmtree(draft, ignore_errors=True)


def _lock(draft: Path) -> IO[str]:
    """Lock a draft; raise `BlockingIOError` where somebody has it, `FileNotFoundError` where it is gone."""
    lock = (draft / "lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        (draft / "lock").stat()
    except OSError:
        lock.close()
        raise
    return lock


def _name(made: Path, target: Path) -> None:
    """Give a backup its name, unless something has it; it is to outlast a power cut once it is told of."""
    try:
        if made.is_dir():
            made.rename(target)  # over an empty folder at most
        else:
            link(made, target)
        settle(target.parent)
    except OSError as error:
        if error.errno in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
            raise BackupExists(f"There is {target} already.") from None
        raise


def sizes(source: Path) -> Iterator[tuple[str, int]]:
    """Return the names of a backup's members and their sizes in bytes, without reading or writing what is in them.

    Raises `BackupMissing`, `BackupDamaged`, `tarfile.TarError`.
    """
    if source.is_dir():
        members = _sizes_of_folder(source)
    elif source.is_file():
        members = _sizes_of_tar(source)
    else:
        raise BackupMissing(f"There is no backup at {source}.")
    for name, size in members:
        if not _NAME.fullmatch(name):
            raise BackupDamaged(f"{name[:200]!r} is no name of a file in a backup.")
        yield name, size


def unpack(source: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """Return the members of a backup whose `sizes` are good, each to be read before the next.

    Raises, here or while a member is read, `tarfile.TarError`.
    """
    return _of_folder(source) if source.is_dir() else _of_tar(source)


def copy(source: IO[bytes], target: IO[bytes]) -> str:
    """Copy a file; return its SHA-256 in lower hex."""
    digest = hashlib.sha256()
    while piece := source.read(_STEP):
        digest.update(piece)
        target.write(piece)
    return digest.hexdigest()


def create(path: Path, source: IO[bytes]) -> str:
    """Write a new file that its owner alone may read; return its SHA-256 in lower hex."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with open(path, "xb", opener=_private) as file:
        return copy(source, file)


class _Folder:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def add(self, name: str, source: IO[bytes]) -> str:
        return create(self._folder / name, source)


class _Tar:
    def __init__(self, tar: tarfile.TarFile) -> None:
        self._tar = tar

    def add(self, name: str, source: IO[bytes]) -> str:
        member = tarfile.TarInfo(name)
        member.mode = _PRIVATE
        member.size = source.seek(0, io.SEEK_END)
        source.seek(0)
        hashed = _Hashed(source)
        self._tar.addfile(member, hashed)
        return hashed.digest.hexdigest()


class _Hashed(io.RawIOBase):
    """Hashes what is read through it."""

    def __init__(self, source: IO[bytes]) -> None:
        self._source = source
        self.digest = hashlib.sha256()

    def read(self, size: int = -1, /) -> bytes:
        piece = self._source.read(size)
        self.digest.update(piece)
        return piece


def _of_folder(folder: Path) -> Iterator[tuple[str, IO[bytes]]]:
    for path in _paths(folder):
        with path.open("rb") as file:
            yield path.relative_to(folder).as_posix(), file


def _sizes_of_folder(folder: Path) -> Iterator[tuple[str, int]]:
    for path in _paths(folder):
        yield path.relative_to(folder).as_posix(), path.stat().st_size


def _paths(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if not path.is_dir())


def _of_tar(path: Path) -> Iterator[tuple[str, IO[bytes]]]:
    with tarfile.open(path, "r|") as tar:
        for member in tar:
            file = tar.extractfile(member)
            assert file is not None, "as _sizes_of_tar() has seen to"
            yield member.name, file


def _sizes_of_tar(path: Path) -> Iterator[tuple[str, int]]:
    whole = path.stat().st_size
    with tarfile.open(path, "r:") as tar:
        for member in tar:
            if not member.isreg() or member.issparse():
                raise BackupDamaged(f"{member.name[:200]!r} is no file as backups hold it.")
            if not 0 <= member.size <= whole - member.offset_data:
                raise BackupDamaged(f"{member.name[:200]!r} is longer than what there is of the backup.")
            yield member.name, member.size


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, _PRIVATE)
