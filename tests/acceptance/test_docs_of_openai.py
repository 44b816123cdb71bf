"""docs/openai.md: its programs buy a picture and a clip as they stand there."""

from __future__ import annotations

import os
import re
import secrets
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest

from stablestudio.client import KeyWallet
from stablestudio.media.probe import probe
from stablestudio.server.faces.openai import FACES, VIDEOS
from tests.npm import install
from tests.service import Service

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "openai.md").read_text()


def _run(studio: Service, folder: Path, *command: str) -> None:
    """Run a program of the page with a wallet of its own, and look at what it bought."""
    key = f"0x{secrets.token_hex(32)}"
    studio.fund(KeyWallet.from_hex(key).address)
    ran = subprocess.run(
        command,
        check=False,
        cwd=folder,
        env={**os.environ, "STUDIO": studio.url, "PRIVATE_KEY": key},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert ran.returncode == 0, ran.stderr
    picture = probe(httpx2.get(ran.stdout.strip(), trust_env=False, timeout=30).content)
    assert (picture.width, picture.height) == (1024, 1024)
    assert probe((folder / "boat.mp4").read_bytes()).seconds == pytest.approx(4.0, abs=0.3)


@pytest.mark.npm
@pytest.mark.timeout(900)
def test_the_program_for_npm_buys_a_picture_and_a_clip(studio: Service, tmp_path: Path) -> None:
    (tmp_path / "node_modules").symlink_to(install(Path(__file__).parent / "npm_openai"))
    (tmp_path / "buy.mjs").write_text(PAGE.partition("```js\n")[2].partition("```")[0])
    _run(studio, tmp_path, "node", "buy.mjs")


def test_the_program_in_python_buys_a_picture_and_a_clip(studio: Service, tmp_path: Path) -> None:
    (tmp_path / "buy.py").write_text(PAGE.partition("```python\n")[2].partition("```")[0])
    _run(studio, tmp_path, sys.executable, "-W", "ignore", "buy.py")


def test_the_routes_of_the_page_are_those_that_sell_and_read() -> None:
    told = set(re.findall(r"^\| `(?:POST|GET) (\S+)` ", PAGE, re.MULTILINE))
    assert told == {*FACES, f"{VIDEOS.path}/{{id}}", f"{VIDEOS.path}/{{id}}/content"}
