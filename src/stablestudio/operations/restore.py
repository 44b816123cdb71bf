"""Put a backup in place: everything is unpacked beside it and compared first, then renamed; the database comes last.

As long as a mark is there, in the folder or in PostgreSQL, the place is half restored: the service does not start in it, and the
next restore clears it. The folder's mark goes last: the next restore first asks PostgreSQL whether all was done but that.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tarfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from stablestudio.clock import Clock
from stablestudio.config import RESTORING
from stablestudio.failpoints import reach
from stablestudio.operations.faults import (
    BackupDamaged,
    BackupFault,
    BackupNotRestored,
    DatabaseDiffers,
    PlaceNotEmpty,
    RestoreUncertain,
    StorageDiffers,
)
from stablestudio.operations.manifest import FILES, IN_BACKUP, MANIFEST, SECRET, SUMS, Manifest, check, read_manifest
from stablestudio.operations.parcels import create, sizes, unpack
from stablestudio.store import backup, migrate, restores, restoring
from stablestudio.store.database import is_file, words_of

_LOCK = "lock"
_LONGEST_LIST = 1 << 30
# What is in a backup besides its lists and the files.
_OTHERS = {backup.FILE, backup.DUMP, SECRET}


class PlaceInUse(BackupFault):
    """A service runs here."""

    hint = "Stop it first; or restore into another folder with --data."


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a backup goes: the data folder, the database's URL, and the folder of the files, None where they are in a bucket."""

    data: Path
    url: str
    files: Path | None


def restore(source: Path, place: Place, *, clock: Clock, stopped: bool) -> Manifest:
    """Restore a backup; raise a `BackupFault` for anything that speaks against it, before anything is in place.

    Unless the service was `stopped` when the backup was made, and has not run since, the books note that what they
    tell of open orders may be out of date.
    """
    folders = [place.data, *([place.files] if place.files is not None else [])]
    try:
        with _held(place.data):
            if (manifest := _whole(source, place, folders)) is None:
                # Nothing in the folders is touched before the database is known to be empty, and after a fault too.
                with _cleared_at_fault() as staged, nullcontext() if is_file(place.url) else _marked(place.url):
                    for folder in folders:
                        _stage(folder)
                        staged.append(folder)
                    _require_room(source, place)
                    manifest = _unpack(source, place)
                    reach("restore.checked")
                    _put_in_place(place, manifest, noted_at=None if stopped else clock.now_ms())
                    reach("restore.noted")
            for folder in reversed(folders):
                with suppress(FileNotFoundError):
                    (folder / RESTORING).rmdir()
    except tarfile.TarError as error:
        raise BackupDamaged(f"{source} is no whole tar file: {error}.") from None
    except backup.DatabaseNotCopied as error:
        raise BackupNotRestored(f"The database was not restored: {error}.") from None
    except sa.exc.DBAPIError as error:
        raise BackupNotRestored(f"The database was not restored: {words_of(error)}") from None
    except OSError as error:
        raise BackupNotRestored(f"The backup was not restored: {error.strerror or error}.") from None
    return manifest


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Hold the lock that a service holds, so that none runs here or starts meanwhile."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (folder / _LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise PlaceInUse(f"A service runs on {folder}.") from None
        yield


@contextmanager
def _marked(url: str) -> Iterator[None]:
    """Mark the database, as the folder is."""
    with backup.engine(url) as books:
        try:
            with restoring.marked(books):
                yield
        except restoring.Occupied:
            raise PlaceInUse("Another restore is at work on the database.") from None
        except restoring.NotEmpty as there:
            raise PlaceNotEmpty(f"The database is not empty: there is {there}.") from None
        except restoring.NotEmptied as fault:
            raise RestoreUncertain(f"Whether the restore came to its end is not known: {fault}") from None


def _whole(source: Path, place: Place, folders: list[Path]) -> Manifest | None:
    """Return what the last restore has put in place where it was this one, and lacked only that its stages were taken away."""
    stages = [folder / RESTORING for folder in folders]
    if is_file(place.url) or not stages[0].exists() or not (place.data / SECRET).exists():
        return None
    if any(stage.exists() and any(stage.iterdir()) for stage in stages):
        return None
    try:
        with backup.engine(place.url) as books, books.connect() as connection:
            sums = restoring.ended(connection)
    except sa.exc.DBAPIError as error:
        raise RestoreUncertain(f"Whether the last restore came to its end is not known: {words_of(error)}") from None
    manifest = _told(source) if sums is not None else None
    return manifest if manifest is not None and manifest.sums == sums else None


def _told(source: Path) -> Manifest:
    """Read the manifest of a backup, and nothing else of it."""
    for _ in sizes(source):
        pass  # as `unpack` asks for
    found = next((file.read(_LONGEST_LIST) for name, file in unpack(source) if name == MANIFEST), None)
    if found is None:
        raise BackupDamaged(f"It has no {MANIFEST}.")
    return read_manifest(found)


@contextmanager
def _cleared_at_fault() -> Iterator[list[Path]]:
    """Leave nothing in the folders that are listed meanwhile, whatever fails, unless they may be whole."""
    staged: list[Path] = []
    try:
        yield staged
    except RestoreUncertain:
        raise
    except BaseException:
        for folder in reversed(staged):
            _clear(folder)
        raise


def _stage(folder: Path) -> None:
    """Make the folder that is unpacked into."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    stage = folder / RESTORING
    if stage.exists():
        _clear(folder)  # of a restore that was cut off: it began in an empty place
    if there := sorted(path.name for path in folder.iterdir() if path.name != _LOCK):
        raise PlaceNotEmpty(f"{folder} is not empty: there is {', '.join(there[:5])}.")
    stage.mkdir(mode=0o700)


def _clear(folder: Path) -> None:
    """Remove all but the lock, and the mark last."""
    stage = folder / RESTORING
    for path in [*(path for path in folder.iterdir() if path not in (folder / _LOCK, stage)), stage]:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _require_room(source: Path, place: Place) -> None:
    """Look the whole backup through before anything is written: what is in it, and whether there is room for it."""
    needed: Counter[Path] = Counter()
    for name, size in sizes(source):
        needed[place.files if place.files is not None and name.startswith(FILES) else place.data] += size
    disks: Counter[int] = Counter()
    for folder, size in needed.items():
        disk = folder.stat().st_dev
        disks[disk] += size
        if disks[disk] > (free := shutil.disk_usage(folder).free):
            raise BackupNotRestored(f"It takes {disks[disk]:,} bytes, and {folder} has room for {free:,}.")


def _unpack(source: Path, place: Place) -> Manifest:
    """Unpack into the stages and compare every file with the list of the backup."""
    found: dict[str, str] = {}
    told: dict[str, bytes] = {}
    for name, file in unpack(source):
        if name in (MANIFEST, SUMS):
            told[name] = file.read(_LONGEST_LIST)
        elif name in _OTHERS:
            found[name] = create(place.data / RESTORING / name, file)
        elif not name.startswith(FILES):
            raise BackupDamaged(f"{name[:200]} does not belong in a backup.")
        elif place.files is None:
            raise StorageDiffers("The files are in this backup, and the settings name a bucket.")
        else:
            found[name] = create(place.files / RESTORING / name.removeprefix(FILES), file)
    if missing := {MANIFEST, SUMS} - told.keys():
        raise BackupDamaged(f"It has no {' and no '.join(sorted(missing))}.")
    manifest = read_manifest(told[MANIFEST])
    check(manifest, told[SUMS], found)
    if manifest.database == SECRET or _OTHERS & found.keys() != {manifest.database, SECRET}:
        raise BackupDamaged(
            f"It is to have {SECRET} and one database, and has {', '.join(sorted(_OTHERS & found.keys())) or 'none of them'}."
        )
    if manifest.storage != IN_BACKUP and place.files is not None:
        raise StorageDiffers(f"The files of this backup are in {manifest.storage}, and the settings name a folder.")
    if (manifest.database == backup.FILE) != place.url.startswith("sqlite:"):
        raise DatabaseDiffers(
            f"The database of this backup is {manifest.database}, and the settings name another kind."
        )
    return manifest


def _put_in_place(place: Place, manifest: Manifest, *, noted_at: int | None) -> None:
    stage = place.data / RESTORING
    books = stage / manifest.database
    if is_file(place.url):
        _finish(f"sqlite:///{books}", manifest, noted_at=noted_at)
        os.sync()
    if place.files is not None:
        for path in (place.files / RESTORING).iterdir():
            path.rename(place.files / path.name)
    (stage / SECRET).rename(place.data / SECRET)
    reach("restore.half")
    if is_file(place.url):
        books.rename(place.data / backup.FILE)
        reach("restore.loaded")
        os.sync()
    else:
        backup.load(books, place.url)
        reach("restore.loaded")
        books.unlink()
        os.sync()  # with the last commit all is whole, whatever comes after it
        _finish(place.url, manifest, noted_at=noted_at)


def _finish(url: str, manifest: Manifest, *, noted_at: int | None) -> None:
    """Bring the books up to date; with the mark gone, they bear the note."""
    migrate.upgrade(url, restoring_it=True)
    with backup.engine(url) as books, books.begin() as connection:
        if noted_at is not None:
            restores.note(connection, made_at=manifest.made_at_ms, now=noted_at)
        restoring.end(connection, sums=manifest.sums)
