"""`stablestudio local serve` as an operator calls it: what does not let it start is told, with what to do."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from stablestudio.cli import main


def run(*arguments: str, **environ: str) -> Result:
    given = ["local", "serve", "--name", "own-model", "--port", "0", *arguments]
    return CliRunner().invoke(main, given, env=environ, catch_exceptions=False)


def test_without_torch_it_refuses_and_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    result = run("--model", "somewhere")

    assert result.exit_code == 2
    assert "torch is not installed" in result.stderr
    assert "stablestudio[server,local]" in result.stderr


def test_other_machines_reach_it_only_with_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stablestudio.local.serve.library", lambda name: None)
    result = run("--model", "somewhere", "--host", "0.0.0.0")

    assert result.exit_code == 2
    assert "without --key only this machine may reach the worker" in result.stderr


def test_a_key_that_is_not_there_is_no_key(tmp_path: Path) -> None:
    for key in ("env:STABLESTUDIO_NO_SUCH_KEY", f"file:{tmp_path / 'none'}"):
        result = run("--model", "somewhere", "--key", key)

        assert result.exit_code == 2
        assert "--key" in result.stderr
        assert str(tmp_path) not in result.stderr


def test_a_port_in_use_is_told_before_weights_are_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stablestudio.local.serve.library", lambda name: None)
    with socket.socket() as used:
        used.bind(("127.0.0.1", 0))
        used.listen()
        port = used.getsockname()[1]
        result = run("--model", "somewhere", "--port", str(port))

    assert result.exit_code == 2
    assert f"port {port} cannot be listened on" in result.stderr
