"""Where files are kept and how they are linked, built from the settings."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from stablestudio.config import ConfigurationInvalid, Settings, read_origin
from stablestudio.errors import StudioError
from stablestudio.jobs.retention import Retention
from stablestudio.media.buckets import Bucket, BucketLinks, Keys
from stablestudio.media.links import AssetGone, Links, LinkSigner
from stablestudio.media.room import Room
from stablestudio.media.storage import AssetExists, Storage, StorageRefused, StorageUnavailable, folder_at
from stablestudio.rail_settings import is_loopback, reveal, whereabouts
from stablestudio.store import storage_marks
from stablestudio.store.database import Database

log = logging.getLogger(__name__)
MARK = "marks/storage.txt"
_AGAIN_SECONDS = 5.0


class StorageNotShared(StudioError):
    """The storage differs from that of the other processes with this database: what they make could not be fetched here."""

    hint = "Set `storage` to the same bucket, or the same shared folder, for all processes that share a database."


@dataclass(frozen=True, slots=True, kw_only=True)
class Shelf:
    """The storage, and the bucket that it is, where it is one."""

    storage: Storage
    bucket: Bucket | None = None


def open_shelf(settings: Settings) -> Shelf:
    """Return the storage that the settings name; raise `ConfigurationInvalid`. Nothing is asked of a bucket yet."""
    folder = folder_of(settings)
    if folder is not None:
        return Shelf(storage=Storage.at(str(folder)))
    bucket = _bucket(settings, settings.storage or "")
    return Shelf(storage=Storage(bucket.open()), bucket=bucket)


def folder_of(settings: Settings) -> Path | None:
    """Return the folder where files are kept, None where it is a bucket; nothing is made. Raises `ConfigurationInvalid`."""
    location = settings.storage
    if location is not None and location.startswith("s3:"):
        return None
    if location is not None and "://" in location and not location.startswith("file:///"):
        raise ConfigurationInvalid("storage: a folder, or s3://bucket/prefix.")
    return folder_at(location or str(settings.data / "assets"))


def open_room(settings: Settings) -> Room:
    """Return who looks for room in the folders that are written to."""
    folders = [settings.data, *([folder] if (folder := folder_of(settings)) is not None else [])]
    return Room(folders, min_free_bytes=settings.min_free_bytes)


def build_links(settings: Settings, shelf: Shelf, *, signer: LinkSigner) -> Links:
    """Return who signs links: the bucket's own where we have its keys, else this service."""
    bucket = shelf.bucket
    if bucket is None or bucket.keys is None or not settings.s3_links:
        return signer
    return BucketLinks(bucket, bucket.keys, own=signer, ttl_seconds=settings.link_seconds)


def retention(settings: Settings) -> Retention:
    return Retention(images=settings.keep_images_days, videos=settings.keep_videos_days)


def kept_uploads_ms(settings: Settings) -> int | None:
    """Return how long a confirmed upload is kept, None for ever."""
    return round(settings.keep_uploads_days * 86_400_000) or None


async def check(storage: Storage, shared_by: Database | None) -> bool:
    """Raise `ConfigurationInvalid` where files certainly cannot be kept; for a place that is down for now, return False.

    Raises `StorageNotShared` where other processes of the database `shared_by` keep theirs elsewhere.
    """
    try:
        await storage.check()
        if shared_by is not None:
            await _require_same(storage, shared_by)
    except StorageRefused as error:
        raise ConfigurationInvalid(f"storage: {error.message}", hint=error.advice) from None
    except StorageUnavailable:
        log.exception("storage_not_reached")
        return False
    return True


async def compare_later(storage: Storage, database: Database, *, give_up: Callable[[str], None]) -> None:
    """Ask again until a storage that was down at the start could be compared; `give_up` the process where it is another one.

    The same where it answers that it cannot be used, which would have ended the start.
    """
    while True:
        await asyncio.sleep(_AGAIN_SECONDS)
        try:
            await storage.check()
            await _require_same(storage, database)
        except StorageNotShared as fault:
            give_up(fault.message)
        except StorageRefused as fault:
            log.error("storage_refused", extra={"reason": fault.message, "next": fault.advice})  # noqa: TRY400 - no trace
            give_up(f"storage: {fault.message}")
        except Exception:  # noqa: BLE001, S112 - told at the start; whatever is away may come back
            continue
        return


async def _require_same(storage: Storage, database: Database) -> None:
    """Compare the mark in the storage with the books: the first process of all writes it, there before here."""
    wanted = await database.read(partial(storage_marks.find, key=MARK))
    found = await _mark(storage, make=wanted is None)
    if found is not None and wanted is None:
        wanted = await database.write(partial(storage_marks.keep, key=MARK, value=found))
    if found != wanted:
        raise StorageNotShared(
            "The storage differs from that of the other processes with this database: "
            f"its file {MARK} {'says ' + found if found else 'is missing'}, and theirs says {wanted}."
        )


async def _mark(storage: Storage, *, make: bool) -> str | None:
    """Return what the storage's mark says, None where there is none; with `make` there is one afterwards."""
    if make:
        with suppress(AssetExists):  # of another process, or of books that were here before
            await storage.put_once(MARK, secrets.token_hex(16).encode(), content_type="text/plain")
    try:
        return (await storage.read(MARK)).decode(errors="replace").strip()
    except AssetGone:
        return None


def _bucket(settings: Settings, location: str) -> Bucket:
    """Read the bucket's settings; what is not set comes from the usual variables of Amazon's tools."""
    given = settings.s3_endpoint or _variable("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
    endpoint = _endpoint(given, plain=settings.s3_plain_http)
    region = settings.s3_region or _variable("AWS_REGION", "AWS_DEFAULT_REGION") or "us-east-1"
    try:
        return Bucket.at(location, region=region, endpoint=endpoint, keys=_keys(settings))
    except ValueError as error:
        raise ConfigurationInvalid(f"storage: {error}.") from None


def _endpoint(given: str | None, *, plain: bool) -> str | None:
    if given is None:
        return None
    try:
        endpoint = read_origin(given)
    except ValueError as error:
        raise ConfigurationInvalid(f"s3_endpoint: {error}.") from None
    # Over http, keys' signatures and the files themselves could be read on the way.
    if not plain and not endpoint.startswith("https://") and not is_loopback(endpoint):
        raise ConfigurationInvalid(
            "s3_endpoint: an https address, or an http address on this machine; "
            "in a private network also any other, with s3_plain_http."
        )
    return endpoint


def _keys(settings: Settings) -> Keys | None:
    if settings.s3_key_id is None and settings.s3_secret is None:
        key_id, secret = _variable("AWS_ACCESS_KEY_ID"), _variable("AWS_SECRET_ACCESS_KEY")
        token = _variable("AWS_SESSION_TOKEN")
        return Keys(key_id=key_id, secret=secret, token=token) if key_id and secret else None
    key_id, secret = reveal(settings.s3_key_id), reveal(settings.s3_secret)
    if not key_id or not secret:
        name, key = ("s3_secret", settings.s3_secret) if key_id else ("s3_key_id", settings.s3_key_id)
        raise ConfigurationInvalid(f"{name}: a bucket's key has an id and a secret{whereabouts(key)}.")
    return Keys(key_id=key_id, secret=secret)


def _variable(*names: str) -> str | None:
    return next((value for name in names if (value := os.environ.get(name, "").strip())), None)
