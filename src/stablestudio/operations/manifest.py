"""What a backup says of itself: `manifest.json`, and `SHA256SUMS` of its files as `sha256sum -c` reads it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel

from stablestudio.operations.faults import BackupDamaged, BackupOfNewerVersion
from stablestudio.store import migrate

FORMAT = 1
MANIFEST, SUMS, SECRET, FILES = "manifest.json", "SHA256SUMS", "secret", "files/"
IN_BACKUP = "backup"


class Manifest(BaseModel):
    """The facts of a backup; `made_at` is RFC 3339. It names keys of files, and no key to anything."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)

    format: int
    program: str  # the version that made it
    revision: str  # of the database's schema
    made_at: str
    made_at_ms: int
    database: str  # the file with its copy
    storage: str  # `backup`: the files are in it; else the bucket where they stay
    counts: Mapping[str, int]
    purged: list[str]  # files that were erased while the backup was made
    lost: list[str]  # files that were not there although the books say so, or were not as they were kept
    sums: str  # SHA-256 of SHA256SUMS

    def write(self) -> bytes:
        return self.model_dump_json(by_alias=True, indent=1).encode() + b"\n"


def read_manifest(text: bytes) -> Manifest:
    """Read a manifest; raise `BackupDamaged`, or `BackupOfNewerVersion` where this program cannot know what is in it."""
    try:
        manifest = Manifest.model_validate_json(text)
    except ValidationError:
        raise BackupDamaged(f"{MANIFEST} is not one of this program's.") from None
    if manifest.format > FORMAT or manifest.revision > migrate.HEAD:
        raise BackupOfNewerVersion(
            f"The backup has the schema {manifest.revision} and the format {manifest.format}; "
            f"this program knows {migrate.HEAD} and {FORMAT}."
        )
    return manifest


def write_sums(sums: Mapping[str, str]) -> bytes:
    return "".join(f"{digest}  {name}\n" for name, digest in sums.items()).encode()


def check(manifest: Manifest, listed: bytes, found: Mapping[str, str]) -> None:
    """Compare what was read with what was written; raise `BackupDamaged`."""
    if hashlib.sha256(listed).hexdigest() != manifest.sums:
        raise BackupDamaged(f"{SUMS} was changed.")
    wanted = {name: digest for digest, _, name in (line.partition("  ") for line in listed.decode().splitlines())}
    if wanted == dict(found):
        return
    name = next(name for name in sorted(wanted.keys() | found.keys()) if wanted.get(name) != found.get(name))
    raise BackupDamaged(f"{name} was changed, is missing, or does not belong there.")
