"""`stablestudio purge`: says what would go, what went and what is left, as a document and by its exit code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from stablestudio.jobs.purge import GRACE_MS
from stablestudio.store import jobs, tables, uploads
from stablestudio.store.jobs import Asset
from tests.doubles import sell

from .books import Office

_LONG_AGO = 60_000


@pytest.fixture
def office(data: Path) -> Office:
    """Books of one complete job with an expired file, and the file."""
    opened = Office.open(data)
    job_id = opened.write(lambda connection: sell(connection, 1, now=_LONG_AGO))
    key = f"jobs/{job_id}/0.png"
    (data / "assets" / key).parent.mkdir(parents=True)
    (data / "assets" / key).write_bytes(bytes(1234))
    asset = Asset(
        key=key,
        job_id=job_id,
        role="result",
        content_type="image/png",
        size=1234,
        sha256="0" * 64,
        width=1,
        height=1,
        milliseconds=None,
        created_at=_LONG_AGO,
    )
    opened.write(lambda connection: jobs.insert_asset(connection, asset))
    opened.write(lambda connection: jobs.complete(connection, job_id=job_id, now=_LONG_AGO, expires_at=GRACE_MS))
    opened.write(_others)
    return opened


def _others(connection: sa.Connection) -> None:
    """Add an upload whose time is over, one that was expired and left its bytes, and a copy that no order took."""
    for number, state in ((2, "confirmed"), (3, "expired")):
        order_id = sell(connection, number, now=_LONG_AGO)
        facts = {"id": f"u{number}", "order_id": order_id, "wallet": "w", "pathname": f"p{number}", "state": state}
        file = {"key": "uploads/u2/a", "size": 7, "confirmed_at": _LONG_AGO} if state == "confirmed" else {}
        times = {"created_at": _LONG_AGO, "expires_at": _LONG_AGO}
        connection.execute(sa.insert(tables.uploads).values(**facts, **file, **times, content_type="image/png"))
    uploads.note(connection, upload_id="u3", key="uploads/u3/b", now=_LONG_AGO, size=5)
    copy = {"intake": "i", "url": "https://x.example", "content_type": "image/png", "size": 3, "sha256": "0" * 64}
    connection.execute(sa.insert(tables.copies).values(key="inputs/i/c", created_at=_LONG_AGO, **copy))


def document(office: Office, *arguments: str, code: int = 0) -> dict[str, Any]:
    result = office.run("purge", *arguments)
    assert result.exit_code == code, result.output
    told: dict[str, Any] = json.loads(result.stdout)
    return told


def test_a_dry_run_tells_and_changes_nothing(office: Office) -> None:
    before = office.rows("SELECT * FROM assets")
    told = document(office, "--dry-run")
    assert told == {
        "success": True,
        "dryRun": True,
        "files": 1,
        "bytes": 1234,
        "oldest": "1970-01-01T00:01:00.000Z",
        "uploads": 2,
        "copies": 1,
        "left": 0,
    }
    assert office.rows("SELECT * FROM assets") == before
    assert len(list((office.data / "assets").rglob("*.png"))) == 1


def test_a_run_tells_what_went(office: Office) -> None:
    told = document(office)
    assert (told["dryRun"], told["files"], told["bytes"], told["left"]) == (False, 1, 1234, 0)
    assert (told["uploads"], told["copies"]) == (2, 1)
    assert office.rows("SELECT state, key FROM uploads") == [("expired", None)] * 2
    again = document(office, "--dry-run")
    assert (again["files"], again["uploads"], again["copies"]) == (0, 0, 0)
    assert list((office.data / "assets").rglob("*.png")) == []
    assert document(office)["files"] == 0


def test_what_cannot_be_erased_is_told_by_the_exit_code(office: Office) -> None:
    (file,) = (office.data / "assets").rglob("*.png")
    file.unlink()
    file.mkdir()
    (file / "x").touch()
    told = document(office, code=1)
    assert (told["success"], told["files"], told["left"]) == (False, 0, 1)


def test_no_books_no_purge(tmp_path: Path) -> None:
    result = Office(tmp_path).run("purge")
    assert result.exit_code == 2
    assert "books_missing" in result.output


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"STABLESTUDIO_STORAGE": "gs://bucket"}, "storage: a folder, or s3://bucket/prefix"),
        ({"STABLESTUDIO_STORAGE": "s3://UPPER"}, "a bucket is written as s3://bucket"),
        (
            {"STABLESTUDIO_STORAGE": "s3://studio", "STABLESTUDIO_S3_ENDPOINT": "http://minio:9000"},
            "s3_endpoint: an https address, or an http address on this machine",
        ),
        ({"STABLESTUDIO_STORAGE": "s3://studio", "AWS_ENDPOINT_URL": "ftp://127.0.0.1"}, "s3_endpoint: an origin"),
        (
            {"STABLESTUDIO_STORAGE": "s3://studio", "STABLESTUDIO_S3_KEY_ID": "a"},
            "s3_secret: a bucket's key has an id and a secret",
        ),
        (
            {
                "STABLESTUDIO_STORAGE": "s3://studio",
                "STABLESTUDIO_S3_KEY_ID": "env:NOWHERE",
                "STABLESTUDIO_S3_SECRET": "b",
            },
            "s3_key_id: a bucket's key has an id and a secret (the variable NOWHERE is not set)",
        ),
    ],
)
def test_a_storage_that_is_set_wrongly_is_named(
    office: Office, monkeypatch: pytest.MonkeyPatch, setting: dict[str, str], words: str
) -> None:
    for name, value in setting.items():
        monkeypatch.setenv(name, value)
    result = office.run("purge")
    assert (result.exit_code, words in result.output) == (2, True), result.output
