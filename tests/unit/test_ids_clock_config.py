"""Ids that sort by age, moments that survive being written, and settings that come from where they should."""

from __future__ import annotations

import errno
import os
import re
import stat
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stablestudio.clock import SystemClock, from_iso, iso
from stablestudio.config import CONFIG_FILE, ConfigurationInvalid, Settings, load_secret, load_settings, misspelt
from stablestudio.ids import new_id

LAST_MS = 253_402_300_799_999  # the end of the year 9999


def test_ids_sort_by_the_time_they_were_made_at() -> None:
    made = []
    for _ in range(20):
        made.append(new_id("job"))
        time.sleep(0.002)

    assert made == sorted(made)


def test_ids_are_unique_and_name_their_kind() -> None:
    made = [new_id("pay") for _ in range(10_000)]

    assert len(set(made)) == len(made)
    assert all(re.fullmatch(r"pay_[0-9abcdefghjkmnpqrstvwxyz]{26}", each) for each in made)


def test_an_id_cannot_be_guessed_from_its_neighbour() -> None:
    tails = {new_id("job")[-16:] for _ in range(1000)}

    assert all(len({tail[place] for tail in tails}) > 20 for place in range(16))


@given(st.integers(0, LAST_MS))
def test_a_moment_survives_being_written(ms: int) -> None:
    assert from_iso(iso(ms)) == ms


@given(st.integers(0, LAST_MS))
def test_a_moment_is_written_as_rfc_3339_in_utc(ms: int) -> None:
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", iso(ms))


@given(st.integers(0, LAST_MS), st.integers(0, LAST_MS))
def test_written_moments_sort_as_they_follow_each_other(one: int, other: int) -> None:
    assert (iso(one) < iso(other)) == (one < other)


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("2026-11-20T19:54:01.836Z", 1_795_204_441_836),
        ("2026-11-20T20:54:01.836+01:00", 1_795_204_441_836),
        ("2026-11-20T19:54:01.836999Z", 1_795_204_441_836),
    ],
)
def test_a_moment_is_read_in_any_zone_and_precision(text: str, ms: int) -> None:
    assert from_iso(text) == ms


@pytest.mark.parametrize("text", ["", "today", "2026-11-20T19:54:01", "2026-13-01T00:00:00Z", "2026-02-29T00:00:00Z"])
def test_what_is_no_moment_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"isoformat|time zone|month|day"):
        from_iso(text)


def test_the_system_clock_tells_milliseconds_of_utc() -> None:
    assert abs(SystemClock().now_ms() - datetime.now(UTC).timestamp() * 1000) < 5_000


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder without a settings file, and no setting in the environment."""
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(f"STABLESTUDIO_{name.upper()}", raising=False)
    return tmp_path


def test_nothing_has_to_be_set() -> None:
    assert Settings().origin == "http://127.0.0.1:8402"


def test_arguments_go_before_the_environment_and_that_before_the_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / CONFIG_FILE).write_text('host = "0.0.0.1"\nport = 1\njobs_at_once = 1\n')
    monkeypatch.setenv("STABLESTUDIO_PORT", "2")
    monkeypatch.setenv("STABLESTUDIO_JOBS_AT_ONCE", "2")

    settings = load_settings({"jobs_at_once": 3, "host": None, "data": None})

    assert (settings.host, settings.port, settings.jobs_at_once) == ("0.0.0.1", 2, 3)


def test_prices_come_from_the_file(folder: Path) -> None:
    (folder / CONFIG_FILE).write_text('[prices."gpt-image-2/generate"]\n"low/square" = "0.007"\n')

    assert Settings().prices == {"gpt-image-2/generate": {"low/square": "0.007"}}


@pytest.mark.parametrize(
    ("written", "named"),
    [
        ('publik_url = "https://studio.example"', "publik_url"),
        ("port = 70000", "port"),
        ('port = "many"', "port"),
        ("max_body_bytes = 1", "max_body_bytes"),
        ('public_url = "studio.example"', "public_url"),
        ("port = = 1", str(CONFIG_FILE)),
        ('database = "mysql://host/name"', "database: a URL such as postgresql://"),
        ('database = "env:NOWHERE"', "database"),
        ('role = "web"', "role: a database in a file has one process"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(folder: Path, written: str, named: str) -> None:
    (folder / CONFIG_FILE).write_text(written)

    with pytest.raises(ConfigurationInvalid, match=named):
        load_settings({})


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://studio:hid@den@127.0.0.1/books",
        "postgresql://studio:hid/den@127.0.0.1/books",
        "postgresql://studio:hid#den@127.0.0.1/books",
        "postgresql://studio:hid?den@127.0.0.1/books",
        "postgresql://studio:hidden@127.0.0.1:many/books",
        "postgresql://studio:hidden@127.0.0.1:70000/books",
        "postgresql://studio:hidden@127.0.0.1:1,127.0.0.1:2/books",
        "postgresql://studio:hidden@[::1/books",
        "postgresql+psycopg2://studio:hidden@127.0.0.1/books",
        "postgresql://127.0.0.1/books?user=studio&password=hidden",
        "postgresql://127.0.0.1/books?user=studio&pass%77ord=hidden",
        "postgresql://127.0.0.1/books?sslpassword=hidden",
    ],
)
def test_a_wrong_database_url_is_refused_and_nothing_of_it_is_told(folder: Path, url: str) -> None:
    with pytest.raises(ConfigurationInvalid) as refused:
        load_settings({"database": url})
    assert refused.value.message.startswith("database: a ")
    assert not any(part in refused.value.message for part in ("hid", "den@", "127.0.0.1"))


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://studio:h%40%2F%3Ad@db.example:6543/books?sslmode=verify-full&sslrootcert=/etc/ca.pem",
        "postgresql://studio@/books?host=/run/postgresql",
        "postgresql://studio:hidden@[::1]:5432/books",
        "postgresql:///books",
    ],
)
def test_a_database_url_is_taken_as_it_is(folder: Path, url: str) -> None:
    assert load_settings({"database": url}).books == url


def test_every_wrong_setting_is_named_at_once(folder: Path) -> None:
    (folder / CONFIG_FILE).write_text('port = -1\njobs_at_once = -1\ncolour = "red"\n')

    with pytest.raises(ConfigurationInvalid) as refused:
        load_settings({})

    assert all(name in refused.value.message for name in ("port", "jobs_at_once", "colour"))


@pytest.mark.parametrize(
    ("given_url", "origin"),
    [
        ("https://studio.example", "https://studio.example"),
        ("https://studio.example/", "https://studio.example"),
        ("http://localhost:8402", "http://localhost:8402"),
        ("https://[::1]:8402", "https://[::1]:8402"),
    ],
)
def test_a_public_url_is_an_origin(given_url: str, origin: str) -> None:
    assert Settings(public_url=given_url).origin == origin


@pytest.mark.parametrize(
    "wrong",
    [
        *("", "studio.example", "//studio.example", "ftp://studio.example", "https://", "https:///", "https://:443"),
        *("https://studio.example/api", "https://studio.example?a=b", "https://studio.example#top"),
        *("https://me:key@studio.example", "https://studio.example\nx-evil: 1", "https://studio .example"),
        *("https://studio.example\\api", "https://studio.example:", "https://studio.example:99999"),
    ],
)
def test_what_is_no_origin_is_refused_as_public_url(wrong: str) -> None:
    with pytest.raises(ConfigurationInvalid, match="public_url"):
        load_settings({"public_url": wrong})


def test_an_ipv6_address_to_listen_on_makes_an_origin_that_can_be_opened() -> None:
    assert Settings(host="::1", port=80).origin == "http://[::1]:80"


def test_settings_cannot_be_changed_later() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings().port = 1  # type: ignore[misc]


def test_every_setting_is_explained() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_the_secret_is_made_once_and_stays(folder: Path) -> None:
    made = load_secret(folder)

    assert len(made) == 32
    assert load_secret(folder) == made


def test_the_secret_is_readable_by_its_owner_only(folder: Path) -> None:
    before = os.umask(0)
    try:
        load_secret(folder)
    finally:
        os.umask(before)

    assert stat.S_IMODE((folder / "secret").stat().st_mode) == 0o600


def test_two_folders_have_two_secrets(folder: Path) -> None:
    (folder / "a").mkdir()
    (folder / "b").mkdir()

    assert load_secret(folder / "a") != load_secret(folder / "b")


@pytest.mark.parametrize("written", ["", "00", "no secret", "g" * 64, "0" * 63])
def test_a_damaged_secret_is_not_taken_for_one(folder: Path, written: str) -> None:
    (folder / "secret").write_text(written)

    with pytest.raises(ConfigurationInvalid, match="secret"):
        load_secret(folder)


def test_an_empty_secret_is_to_be_removed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:  # cut off between the two steps of a file system without links
        patched.setattr("os.link", refuse)
        patched.setattr("pathlib.Path.rename", die)
        with pytest.raises(KeyboardInterrupt):
            load_secret(folder)
    with pytest.raises(ConfigurationInvalid, match="is empty") as caught:
        load_secret(folder)
    assert "Remove the empty file" in caught.value.advice
    (folder / "secret").unlink()
    assert len(load_secret(folder)) == 32


def test_all_who_start_at_once_get_the_same_secret(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as starts:
        for n in range(100):
            folder = tmp_path / str(n)
            folder.mkdir()
            assert len(set(starts.map(load_secret, [folder] * 8))) == 1
            assert [(file.name, file.stat().st_mode & 0o777) for file in folder.iterdir()] == [("secret", 0o600)]


def test_a_misspelt_variable_is_told_of_with_what_was_probably_meant() -> None:
    known = ["PORT", "rails__base__pay_to", "URL", "HOME", "PRIVATE_KEY", "FAILPOINT"]
    others = ["PORT_8402_TCP_ADDR", "SERVICE_HOST", "FAL", "MY_OWN_BASE_KEY"]
    assert misspelt({f"STABLESTUDIO_{name}": "" for name in [*known, *others]} | {"PUBLIC_ULR": ""}) == {}
    assert misspelt({"STABLESTUDIO_PUBLIC_ULR": "", "STABLESTUDIO_PROVIDER__FAL__KEY": ""}) == {
        "STABLESTUDIO_PUBLIC_ULR": "STABLESTUDIO_PUBLIC_URL",
        "STABLESTUDIO_PROVIDER__FAL__KEY": "STABLESTUDIO_PROVIDERS",
    }


def test_a_misspelt_variable_ends_a_start_as_a_misspelt_line_of_the_file_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STABLESTUDIO_DATABASE_URL", "postgresql://studio@host/studio")
    with pytest.raises(
        ConfigurationInvalid, match="STABLESTUDIO_DATABASE_URL: there is no such setting, STABLESTUDIO_DATABASE may"
    ):
        load_settings({})


def test_a_database_whose_variable_is_not_set_is_told_of_by_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_SUCH_VARIABLE", raising=False)
    with pytest.raises(ConfigurationInvalid, match="NO_SUCH_VARIABLE is not set"):
        load_settings({"database": "env:NO_SUCH_VARIABLE"})


@pytest.mark.parametrize("refusal", [errno.EPERM, errno.ENOTSUP, errno.ENOSYS])
def test_a_secret_is_made_where_files_have_one_name_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusal: int
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(refusal, os.strerror(refusal))

    monkeypatch.setattr("os.link", refuse)
    made = load_secret(tmp_path)
    assert load_secret(tmp_path) == made
    assert [(file.name, file.stat().st_mode & 0o777) for file in tmp_path.iterdir()] == [("secret", 0o600)]


def test_a_start_that_is_cut_off_leaves_no_half_of_a_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("secrets.token_hex", _interrupted)
        with pytest.raises(KeyboardInterrupt):
            load_secret(tmp_path)
    assert load_secret(tmp_path) == load_secret(tmp_path)


def _interrupted(size: int) -> str:
    if size == 32:  # what would be written
        raise KeyboardInterrupt
    return "name"
