"""Make a backup of a service that may be running: the database at one moment first, then the files that it refers to.

Files are written once, so that one which is read later than the database is still the one that the database means.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import sqlalchemy as sa

from stablestudio import __version__
from stablestudio.clock import Clock, iso
from stablestudio.media.storage import Storage
from stablestudio.operations.faults import BackupExists, BackupNotMade
from stablestudio.operations.manifest import FILES, FORMAT, IN_BACKUP, MANIFEST, SECRET, SUMS, Manifest, write_sums
from stablestudio.operations.parcels import Parcel, pack
from stablestudio.store import files
from stablestudio.store.backup import DatabaseNotCopied, snapshot
from stablestudio.store.tables import jobs, orders

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What is backed up: `bucket` is where the files are, where that is no folder; `still_kept` asks the books of now."""

    url: str
    secret: Path
    storage: Storage
    bucket: str | None
    still_kept: Callable[[str], bool]


@dataclass(slots=True, kw_only=True)
class _Tally:
    sums: dict[str, str] = field(default_factory=dict)
    files: int = 0
    size: int = 0
    purged: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)


def back_up(source: Source, target: Path, *, clock: Clock, progress: Progress) -> Manifest:
    """Write a backup to `target`; raise `BackupExists`, `BackupNotMade`. `progress` hears of files done, and of how many."""
    if target.exists():
        raise BackupExists(f"There is {target} already.")
    if not target.parent.is_dir():  # a name that is misspelt, or a disk that is not mounted
        raise BackupNotMade(f"There is no folder {target.parent}.", hint="Make the folder, or choose another place.")
    made_at = clock.now_ms()
    try:
        with (
            pack(target) as (parcel, aside),
            snapshot(source.url, aside) as (copy, connection),
        ):
            tally = _Tally()
            for name, path in ((copy.name, copy), (SECRET, source.secret)):
                with path.open("rb") as file:
                    tally.sums[name] = parcel.add(name, file)
            if source.bucket is None:
                _add_files(parcel, source, connection, tally, progress)
            listed = write_sums(tally.sums)
            manifest = Manifest(
                format=FORMAT,
                program=__version__,
                revision=connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar_one(),
                made_at=iso(made_at),
                made_at_ms=made_at,
                database=copy.name,
                storage=source.bucket or IN_BACKUP,
                counts=_count(connection) | {"files": tally.files, "bytes": tally.size},
                purged=tally.purged,
                lost=tally.lost,
                sums=hashlib.sha256(listed).hexdigest(),
            )
            parcel.add(SUMS, io.BytesIO(listed))
            parcel.add(MANIFEST, io.BytesIO(manifest.write()))
    except DatabaseNotCopied as error:
        raise BackupNotMade(f"The database was not copied: {error}.") from None
    except OSError as error:
        raise BackupNotMade(f"The backup was not written: {error.strerror or error}.") from None
    return manifest


def _add_files(parcel: Parcel, source: Source, connection: sa.Connection, tally: _Tally, progress: Progress) -> None:
    count = files.count(connection)
    for number, kept in enumerate(files.kept(connection), 1):
        path = source.storage.path(kept.key)
        assert path is not None, "files in a bucket stay there"
        try:
            file = path.open("rb")
        except FileNotFoundError:
            if kept.certain:
                (tally.lost if source.still_kept(kept.key) else tally.purged).append(kept.key)
            continue
        with file:
            digest = parcel.add(FILES + kept.key, file)
            tally.size += file.tell()
        tally.files += 1
        tally.sums[FILES + kept.key] = digest
        if kept.sha256 not in (None, digest):
            tally.lost.append(kept.key)
        progress(number, count)


def _count(connection: sa.Connection) -> dict[str, int]:
    return {
        table.name: connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
        for table in (orders, jobs)
    }
