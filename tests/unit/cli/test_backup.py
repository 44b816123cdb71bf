"""`stablestudio backup` and `restore`: whole or not at all, private, and never over anything that is there."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import tarfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from stablestudio.cli import main
from stablestudio.config import RESTORING, load_secret
from stablestudio.operations.faults import BackupExists
from stablestudio.operations.manifest import FORMAT, MANIFEST, SUMS, Manifest, write_sums
from stablestudio.operations.parcels import pack
from stablestudio.server.premises import lock as lock_of_the_service
from stablestudio.store import jobs, migrate
from stablestudio.store.jobs import Asset
from tests.doubles import NOW_MS, sell

from .books import Office

_PICTURE = b"a picture"
KEY = "jobs/job_1/0.png"


@pytest.fixture
def office(data: Path) -> Office:
    """Books with one complete job and its file."""
    data.mkdir()
    migrate.upgrade(f"sqlite:///{data / 'stablestudio.db'}")
    load_secret(data)
    opened = Office(data)
    job_id = opened.write(lambda connection: sell(connection, 1))
    path = data / "assets" / KEY
    path.parent.mkdir(parents=True)
    path.write_bytes(_PICTURE)
    asset = Asset(
        key=KEY,
        job_id=job_id,
        role="result",
        content_type="image/png",
        size=len(_PICTURE),
        sha256=hashlib.sha256(_PICTURE).hexdigest(),
        width=1,
        height=1,
        milliseconds=None,
        created_at=NOW_MS,
    )
    opened.write(lambda connection: jobs.insert_asset(connection, asset))
    opened.write(lambda connection: jobs.complete(connection, job_id=job_id, now=NOW_MS))
    return opened


@pytest.fixture(params=["backup", "backup.tar"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    (tmp_path / "kept").mkdir()
    return tmp_path / "kept" / str(request.param)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "place"


def back_up(office: Office, target: Path, *, code: int = 0) -> dict[str, Any]:
    result = office.run("backup", str(target))
    assert result.exit_code == code, result.output
    told: dict[str, Any] = json.loads(result.stdout)
    return told


def restore(source: Path, place: Path, *options: str) -> Result:
    return CliRunner().invoke(main, ["restore", str(source), "--data", str(place), *options], catch_exceptions=False)


def refused(result: Result) -> str:
    assert result.exit_code == 2, result.output
    return str(json.loads(result.stdout)["code"])


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_is_restored_is_what_was_backed_up(office: Office, target: Path, place: Path) -> None:
    told = back_up(office, target)
    assert told["counts"] == {"orders": 1, "jobs": 1, "files": 1, "bytes": len(_PICTURE)}
    assert (told["revision"], told["storage"], told["lost"], told["purged"]) == (migrate.HEAD, "backup", [], [])
    assert restore(target, place).exit_code == 0
    assert (place / "secret").read_bytes() == (office.data / "secret").read_bytes()
    assert (place / "assets" / KEY).read_bytes() == _PICTURE
    for table in ("orders", "payments", "jobs", "assets"):
        assert Office(place).rows(f"SELECT * FROM {table}") == office.rows(f"SELECT * FROM {table}")
    assert {path.name for path in place.iterdir()} == {"assets", "lock", "secret", "stablestudio.db"}


def test_nobody_else_can_read_a_backup_or_what_was_restored(office: Office, target: Path, place: Path) -> None:
    back_up(office, target)
    restore(target, place)
    paths = [target, *target.rglob("*"), place, *place.rglob("*")]
    assert [path for path in paths if stat.S_IMODE(path.stat().st_mode) & 0o077] == []


def test_a_folder_is_what_sha256sum_can_check(office: Office, tmp_path: Path) -> None:
    back_up(office, tmp_path / "backup")
    done = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=tmp_path / "backup", capture_output=True, check=False)
    assert done.returncode == 0, done.stdout


def test_a_backup_never_replaces_anything(office: Office, target: Path) -> None:
    back_up(office, target)
    assert refused(office.run("backup", str(target))) == "backup_exists"
    assert [path.name for path in target.parent.iterdir()] == [target.name]


def test_a_backup_makes_no_folder_for_itself(office: Office, tmp_path: Path) -> None:
    for name in ("b.tar", "b"):
        refusal = office.run("backup", str(tmp_path / "misspelt" / "more" / name))
        assert refused(refusal) == "backup_not_made"
        assert str(tmp_path / "misspelt" / "more") in json.loads(refusal.stdout)["error"]
    assert not (tmp_path / "misspelt").exists()


def test_of_two_backups_to_one_name_at_once_one_is_made_and_the_other_is_told(office: Office, target: Path) -> None:
    slow = pack(target)
    parcel, _ = slow.__enter__()
    parcel.add("secret", io.BytesIO(b"of the slow one"))
    back_up(office, target)
    before = _bytes(target)
    with pytest.raises(BackupExists):
        slow.__exit__(None, None, None)
    assert _bytes(target) == before
    assert [path.name for path in target.parent.iterdir()] == [target.name]


def _bytes(target: Path) -> object:
    return tree(target) if target.is_dir() else target.read_bytes()


def test_the_next_backup_removes_what_a_killed_one_has_left(office: Office, target: Path) -> None:
    program = (
        "import sys, os, pathlib; from stablestudio.operations.parcels import pack\n"
        "with pack(pathlib.Path(sys.argv[1])) as (_, aside): (aside / 'stablestudio.db').touch(); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", program, str(target)], check=False, timeout=60)
    assert len(list(target.parent.rglob("stablestudio.db"))) == 1
    back_up(office, target)
    assert [path.name for path in target.parent.iterdir()] == [target.name]


def test_a_backup_that_fails_leaves_nothing_behind(office: Office, target: Path) -> None:
    ((page,),) = office.rows("SELECT rootpage FROM sqlite_master WHERE name = 'webhook_tries'")
    with (office.data / "stablestudio.db").open("r+b") as books:
        books.seek(4096 * (int(page) - 1))
        books.write(b"\xff" * 4096)  # a page that an opening does not read, and the look at the copy does
    assert refused(office.run("backup", str(target))) == "backup_not_made"
    assert list(target.parent.iterdir()) == []


def test_files_that_the_books_miss_are_named_and_the_rest_is_kept(office: Office, target: Path) -> None:
    (office.data / "assets" / KEY).unlink()
    assert back_up(office, target, code=1)["lost"] == [KEY]
    assert target.exists()


def test_a_file_that_is_not_what_was_kept_is_named(office: Office, target: Path) -> None:
    (office.data / "assets" / KEY).write_bytes(b"another")
    assert back_up(office, target, code=1)["lost"] == [KEY]


def test_what_was_purged_is_not_missed(office: Office, target: Path) -> None:
    office.rows("UPDATE assets SET gone = 'expired', gone_at = 1")
    (office.data / "assets" / KEY).unlink()
    told = back_up(office, target)
    assert (told["lost"], told["counts"]["files"]) == ([], 0)


def test_only_an_empty_place_is_restored_into(office: Office, target: Path, place: Path) -> None:
    back_up(office, target)
    place.mkdir()
    (place / "notes.txt").write_text("mine")
    before = tree(place)
    assert refused(restore(target, place)) == "place_not_empty"
    assert {name: text for name, text in tree(place).items() if name != "lock"} == before


def test_a_place_where_a_service_runs_is_left_alone(office: Office, target: Path, place: Path) -> None:
    back_up(office, target)
    place.mkdir()
    with lock_of_the_service(place):
        assert refused(restore(target, place)) == "place_in_use"


def _change(target: Path, name: str, change: Callable[[bytes], bytes | None]) -> Path:
    """Return another backup in which a file is changed, or not there."""
    folder = target.parent / "changed"
    if target.is_dir():
        shutil.copytree(target, folder)
    else:
        with tarfile.open(target) as tar:
            tar.extractall(folder, filter="data")
    data = change((folder / name).read_bytes())
    (folder / name).unlink()
    if data is not None:
        (folder / name).write_bytes(data)
    if target.is_dir():
        return folder
    with tarfile.open(target.parent / "changed.tar", "w") as tar:
        for path in sorted(each for each in folder.rglob("*") if each.is_file()):
            tar.add(path, arcname=str(path.relative_to(folder)))
    return target.parent / "changed.tar"


@pytest.mark.parametrize("name", ["stablestudio.db", "secret", "files/" + KEY, "SHA256SUMS", "manifest.json"])
@pytest.mark.parametrize("change", [lambda data: bytes([data[0] ^ 1]) + data[1:], lambda _: None], ids=["bit", "gone"])
def test_a_damaged_backup_is_refused_before_anything_is_in_place(
    office: Office, target: Path, place: Path, name: str, change: Callable[[bytes], bytes | None]
) -> None:
    back_up(office, target)
    assert refused(restore(_change(target, name, change), place)) == "backup_damaged"
    assert set(tree(place)) == {"lock"}


def test_a_file_that_does_not_belong_there_is_refused(office: Office, tmp_path: Path, place: Path) -> None:
    back_up(office, tmp_path / "backup")
    (tmp_path / "backup" / "files" / "more").write_bytes(b"x")
    assert refused(restore(tmp_path / "backup", place)) == "backup_damaged"


def _write_tar(path: Path, members: dict[str, bytes], **told: Any) -> Path:
    """Write a backup whose lists are right, whatever is in it."""
    listed = write_sums({name: hashlib.sha256(data).hexdigest() for name, data in members.items()})
    facts: dict[str, Any] = {
        "format": FORMAT,
        "program": "1",
        "revision": migrate.HEAD,
        "made_at": "2026-01-01T00:00:00Z",
        "made_at_ms": 1,
        "database": "stablestudio.db",
        "storage": "backup",
        "counts": {"orders": 0, "jobs": 0},
        "purged": [],
        "lost": [],
        "sums": hashlib.sha256(listed).hexdigest(),
    }
    with tarfile.open(path, "w") as tar:
        for name, data in {**members, SUMS: listed, MANIFEST: Manifest(**facts | told).write()}.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["secret", "files/a"], {}),
        (["stablestudio.db", "files/a"], {}),
        (["files/a"], {}),
        (["secret", "stablestudio.db", "other"], {}),
        (["secret", "stablestudio.db", "assets"], {}),
        (["secret", "stablestudio.db", "stablestudio.dump"], {}),
        (["secret", "stablestudio.db"], {"database": "secret"}),
        (["secret", "stablestudio.db", "files/a"], {"database": "files/a"}),
    ],
)
def test_a_backup_has_one_database_and_the_secret_and_files_and_nothing_else(
    office: Office, tmp_path: Path, place: Path, names: list[str], told: dict[str, Any]
) -> None:
    books = office.path.read_bytes()
    members = {name: books if name == "stablestudio.db" else b"x" for name in names}
    assert refused(restore(_write_tar(tmp_path / "b.tar", members, **told), place)) == "backup_damaged"
    assert set(tree(place)) == {"lock"}


@pytest.mark.parametrize("name", ["../secret", "/etc/x", "files/../../x", "files/.hidden"])
def test_no_name_in_a_backup_leads_out_of_the_place(tmp_path: Path, place: Path, name: str) -> None:
    (tmp_path / "x").write_text("x")
    with tarfile.open(tmp_path / "evil.tar", "w") as tar:
        tar.add(tmp_path / "x", arcname=name)
    assert refused(restore(tmp_path / "evil.tar", place)) == "backup_damaged"


def test_a_link_in_a_backup_is_refused(tmp_path: Path, place: Path) -> None:
    with tarfile.open(tmp_path / "evil.tar", "w") as tar:
        member = tarfile.TarInfo("secret")
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(member)
    assert refused(restore(tmp_path / "evil.tar", place)) == "backup_damaged"


def test_a_sparse_member_is_refused_before_anything_is_written(office: Office, tmp_path: Path, place: Path) -> None:
    back_up(office, tmp_path / "b.tar")
    with tarfile.open(tmp_path / "b.tar", "a") as tar:
        member = tarfile.TarInfo("files/huge")
        member.pax_headers = {"GNU.sparse.map": "0,1", "GNU.sparse.size": str(1 << 26), "GNU.sparse.numblocks": "1"}
        member.size = 1
        tar.addfile(member, io.BytesIO(b"x"))
    refusal = restore(tmp_path / "b.tar", place)
    assert (refused(refusal), "files/huge' is no file as backups" in refusal.stdout) == ("backup_damaged", True)
    assert set(tree(place)) == {"lock"}


def test_a_backup_for_which_there_is_no_room_is_refused_before_anything_is_written(
    office: Office, target: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    back_up(office, target)
    full = shutil.disk_usage(target.parent)._replace(free=1)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: full)
    refusal = restore(target, place)
    assert (refused(refusal), "room for 1." in refusal.stdout) == ("backup_not_restored", True)
    assert set(tree(place)) == {"lock"}


def test_the_first_half_of_a_tar_is_refused(office: Office, tmp_path: Path, place: Path) -> None:
    back_up(office, tmp_path / "whole.tar")
    data = (tmp_path / "whole.tar").read_bytes()
    (tmp_path / "half.tar").write_bytes(data[: len(data) // 2])
    assert refused(restore(tmp_path / "half.tar", place)) == "backup_damaged"
    assert set(tree(place)) == {"lock"}


def test_a_newer_schema_is_refused(office: Office, target: Path, place: Path) -> None:
    office.rows("UPDATE alembic_version SET version_num = '9999'")
    assert refused(office.run("backup", str(target))) == "books_of_another_version"
    office.rows(f"UPDATE alembic_version SET version_num = '{migrate.HEAD}'")
    back_up(office, target)
    newer = _change(target, "manifest.json", lambda text: text.replace(migrate.HEAD.encode(), b"9999"))
    assert refused(restore(newer, place)) == "backup_of_newer_version"


def test_files_in_a_bucket_stay_there_and_the_manifest_says_so(
    office: Office, target: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STABLESTUDIO_STORAGE", "s3://studio/files")
    told = back_up(office, target)
    assert (told["storage"], told["counts"]["files"]) == ("s3://studio/files", 0)
    assert restore(target, place).exit_code == 0
    monkeypatch.delenv("STABLESTUDIO_STORAGE")
    assert refused(restore(target, place.with_name("other"))) == "storage_differs"


def test_a_backup_of_the_other_kind_of_database_is_refused_by_the_name_of_its_setting(
    office: Office, tmp_path: Path, place: Path
) -> None:
    members = {"stablestudio.dump": b"of PostgreSQL", "secret": b"x"}
    refusal = restore(_write_tar(tmp_path / "b.tar", members, database="stablestudio.dump"), place)
    assert refused(refusal) == "database_differs"
    assert "`database`" in json.loads(refusal.stdout)["next"]
    assert set(tree(place)) == {"lock"}


def test_files_in_another_folder_go_back_to_the_folder_of_the_settings(
    office: Office, target: Path, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    back_up(office, target)
    monkeypatch.setenv("STABLESTUDIO_STORAGE", str(tmp_path / "shelf"))
    assert restore(target, place).exit_code == 0
    assert tree(tmp_path / "shelf") == {KEY: _PICTURE}
    assert not (place / "assets").exists()


@pytest.mark.parametrize(("options", "count"), [((), 1), (("--stopped",), 0)])
def test_books_that_may_have_forgotten_something_know_it(
    office: Office, target: Path, place: Path, options: tuple[str, ...], count: int
) -> None:
    back_up(office, target)
    restore(target, place, *options)
    assert Office(place).rows("SELECT count(*) FROM restores") == [(count,)]


def test_a_restore_that_was_cut_off_is_begun_anew(office: Office, target: Path, place: Path) -> None:
    back_up(office, target)
    (place / RESTORING).mkdir(parents=True)
    (place / "secret").write_text("half")
    assert restore(target, place).exit_code == 0
    assert (place / "secret").read_bytes() == (office.data / "secret").read_bytes()


def test_the_copy_is_of_one_moment_although_others_write(office: Office, target: Path, place: Path) -> None:
    with closing(sqlite3.connect(office.path, isolation_level=None)) as writer:
        writer.execute("PRAGMA journal_mode=WAL")
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("UPDATE jobs SET progress = 7")
        back_up(office, target)  # neither waits for the writer nor sees what it has not committed
        writer.execute("COMMIT")
    restore(target, place)
    assert Office(place).rows("SELECT progress FROM jobs") != [(7,)]
    assert office.rows("SELECT progress FROM jobs") == [(7,)]


def test_a_backup_gets_its_name_where_files_have_one_name_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr("os.link", refuse)
    with pack(tmp_path / "b.tar") as (parcel, _):
        parcel.add("secret", io.BytesIO(b"secret"))
    with tarfile.open(tmp_path / "b.tar") as tar:
        assert tar.getnames() == ["secret"]
    with pytest.raises(BackupExists), pack(tmp_path / "b.tar"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["b.tar"]


def test_the_name_of_a_backup_outlasts_a_power_cut(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settled: list[tuple[int, bool]] = []
    really = os.fsync

    def note(handle: int) -> None:
        settled.append((os.fstat(handle).st_ino, target.exists()))
        really(handle)

    monkeypatch.setattr("os.fsync", note)
    with pack(target):
        pass
    assert (target.parent.stat().st_ino, True) in settled
