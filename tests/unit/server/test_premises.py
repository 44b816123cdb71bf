"""What must hold before a process starts on a database that it may share."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from stablestudio.cli.app import main
from stablestudio.config import load_secret
from stablestudio.server.premises import SecretDiffers, require_secret
from stablestudio.store import migrate
from stablestudio.store.database import is_file
from stablestudio.store.migrate import bare_engine


def test_processes_of_one_database_have_one_secret(store_url: str, tmp_path: Path) -> None:
    first, other = tmp_path / "first", tmp_path / "other"
    for folder in (first, other):
        folder.mkdir()
    require_secret(store_url, load_secret(first), folder=first)
    require_secret(store_url, load_secret(first), folder=first)
    with pytest.raises(SecretDiffers, match=str(other)):
        require_secret(store_url, load_secret(other), folder=other)
    (other / "secret").write_bytes((first / "secret").read_bytes())
    require_secret(store_url, load_secret(other), folder=other)


def test_the_database_tells_nothing_of_the_secret(store_url: str, tmp_path: Path) -> None:
    secret = load_secret(tmp_path)
    require_secret(store_url, secret, folder=tmp_path)
    with bare_engine(store_url).begin() as connection:
        [(mark,)] = connection.exec_driver_sql("SELECT mark FROM secret_marks").all()
    assert secret.hex() not in mark


def test_a_lost_secret_is_replaced_by_the_operators_word(
    store_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if is_file(store_url):
        store_url = f"sqlite:///{tmp_path / 'stablestudio.db'}"
        migrate.upgrade(store_url)
    else:
        monkeypatch.setenv("STABLESTUDIO_DATABASE", store_url)
    require_secret(store_url, load_secret(tmp_path), folder=tmp_path)
    (tmp_path / "secret").unlink()
    with pytest.raises(SecretDiffers):
        require_secret(store_url, load_secret(tmp_path), folder=tmp_path)
    result = CliRunner().invoke(main, ["db", "replace-secret", "--data", str(tmp_path)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    require_secret(store_url, load_secret(tmp_path), folder=tmp_path)
