"""The outer form of a backup, a folder or one tar file: written beside its name and renamed, read one member after another."""

from __future__ import annotations

import hashlib
import io
import os
import re
import shutil
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Protocol

from stablestudio.operations.faults import BackupDamaged, BackupMissing

_STEP = 1024 * 1024
_PRIVATE = 0o600
_NAME = re.compile(r"(?:[A-Za-z0-9][A-Za-z0-9_-]*/)*[A-Za-z0-9][A-Za-z0-9_-]*(?:\.[A-Za-z0-9]+)*")


class Parcel(Protocol):
    """What a backup is packed into."""

    def add(self, name: str, source: IO[bytes]) -> str:
        """Take a file that its owner alone may read; return its SHA-256 in lower hex."""
        ...


@contextmanager
def pack(target: Path) -> Iterator[Parcel]:
    """Pack a folder, or a tar file where the name ends in `.tar`; it has its name when it is whole, and not before."""
    draft = target.with_name(f".{target.name}.part")
    _remove(draft)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        if target.suffix == ".tar":
            with open(draft, "xb", opener=_private) as file, tarfile.open(fileobj=file, mode="w|") as tar:
                yield _Tar(tar)
        else:
            draft.mkdir(mode=0o700)
            yield _Folder(draft)
        os.sync()  # once for all of its files, and before it has its name
        draft.rename(target)
    finally:
        _remove(draft)


def unpack(source: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """Return the members of a backup, each to be read before the next.

    Raises `BackupMissing`, `BackupDamaged`, and here or while a member is read `tarfile.TarError`.
    """
    if source.is_dir():
        members = _of_folder(source)
    elif source.is_file():
        members = _of_tar(source)
    else:
        raise BackupMissing(f"There is no backup at {source}.")
    for name, file in members:
        if not _NAME.fullmatch(name):
            raise BackupDamaged(f"{name[:200]!r} is no name of a file in a backup.")
        yield name, file


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
    for path in sorted(path for path in folder.rglob("*") if not path.is_dir()):
        with path.open("rb") as file:
            yield path.relative_to(folder).as_posix(), file


def _of_tar(path: Path) -> Iterator[tuple[str, IO[bytes]]]:
    with tarfile.open(path, "r|") as tar:
        for member in tar:
            file = tar.extractfile(member) if member.isreg() else None
            if file is None:
                raise BackupDamaged(f"{member.name[:200]!r} is no file.")
            yield member.name, file


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        with suppress(FileNotFoundError):
            path.unlink()


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, _PRIVATE)
