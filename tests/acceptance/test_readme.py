"""The README's promises: its commands exist and run, its settings and folders are the code's."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest

from stablestudio.catalog import OFFERINGS, Kind, PriceTable
from stablestudio.client import Journal, KeyWallet, StudioClient
from stablestudio.config import Settings
from stablestudio.media.probe import probe
from stablestudio.money import Money
from tests.service import Service

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
STUDIO = Path(sys.executable).parent / "stablestudio"


def run(*arguments: str, home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("STABLESTUDIO_")}
    return subprocess.run(
        [str(STUDIO), *arguments],
        env=clean | {"STABLESTUDIO_HOME": str(home)} | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_settings_are_the_code_s() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (?:`(.*?)`)? ?\| (.*?) \|$", README, re.MULTILINE)
    told = {name: (default, meaning) for name, default, meaning in rows if name in Settings.model_fields}
    assert told == {
        name: ("" if field.default is None else str(field.get_default(call_default_factory=True)), field.description)
        for name, field in Settings.model_fields.items()
    }


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"(?:`|^)make (\w+)", README, re.MULTILINE)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_folders_exist() -> None:
    for folder in re.findall(r"^\| `(\w+)/`(?:, `(\w+)/`)? \| ", README, re.MULTILINE):
        for name in filter(None, folder):
            assert (ROOT / "src" / "stablestudio" / name).is_dir(), name


def test_each_route_that_the_documentation_names_is_there(studio: Service) -> None:
    models = {offering.model for offering in OFFERINGS}
    for page in PAGES:
        for method, path in re.findall(r"`(GET|POST|PUT|DELETE) (/[^` ?]*)", page.read_text()):
            operation = OFFERINGS[0].operation
            exact = path.replace("{model}", OFFERINGS[0].model).replace("{operation}", operation)
            answer = httpx2.request(method, studio.url + re.sub(r"\{\w+\}", "x", exact), trust_env=False, timeout=30)
            assert answer.status_code not in (405, 501), f"{page.name}: {method} {path}"
            assert (
                answer.headers["content-type"] != "application/json" or answer.json().get("code") != "route_not_found"
            )
        for named in re.findall(r"/api/generate/([\w.-]+)/", page.read_text()):
            assert named in models, f"{page.name}: {named}"


def test_the_documents_that_are_promised_are_served(studio: Service) -> None:
    table = README.partition("<!-- documents:")[2].partition("\n\n")[0]
    told = [
        path for cells in re.findall(r"^\| (`/.*?) \|", table, re.MULTILINE) for path in re.findall(r"`(/.*?)`", cells)
    ]
    assert len(told) >= 8
    for path in told:
        answer = httpx2.get(studio.url + path.replace("{model}", "veo-3.1"), trust_env=False, timeout=30)
        assert answer.status_code == 200, path
        assert "etag" in answer.headers, path


def test_prices_in_the_documentation_are_the_catalog_s() -> None:
    prices = PriceTable(OFFERINGS)
    upload = next(offering for offering in OFFERINGS if offering.kind is Kind.UPLOAD)
    told = re.findall(r"`POST /api/upload`[^\n]*paid \(([\d.]+)\)", "\n".join(page.read_text() for page in PAGES))
    assert told == [str(prices.floor(upload))]


def test_the_number_of_paid_routes_is_told_right() -> None:
    told = re.findall(r"(\d+) paid routes", "\n".join(page.read_text() for page in (*PAGES, ROOT / "CHANGELOG.md")))
    assert set(told) <= {str(len(OFFERINGS))}


def test_the_demo_leaves_a_picture_and_a_clip(tmp_path: Path) -> None:
    done = run("demo", "--output", str(tmp_path / "out"), home=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    seen = {file.suffix: probe(file.read_bytes()) for file in (tmp_path / "out").iterdir()}
    assert {item.kind for item in seen.values()} == {"image", "video"}
    assert seen[".mp4"].seconds == pytest.approx(4.0, abs=0.2)


def test_the_commands_of_the_buyer_s_tour_run(studio: Service, tmp_path: Path) -> None:
    tour = re.search(r"```sh\n(\.venv/bin/stablestudio wallet create.*?)```", README, re.DOTALL)
    assert tour is not None
    for line in tour[1].strip().splitlines():
        command = re.sub(r"\s+#.*", "", line.removeprefix(".venv/bin/stablestudio "))
        arguments = [re.sub(r"^(.*@)?(\w+\.png)$", rf"\1{tmp_path}/\2", part) for part in shlex.split(command)]
        done = run(*arguments, home=tmp_path / "home", STABLESTUDIO_URL=studio.url)
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
    for name in ("lighthouse.png", "dawn.png"):
        assert probe((tmp_path / name).read_bytes()).kind == "image"


def test_the_python_example_buys(studio: Service, tmp_path: Path) -> None:
    """The README's example, with the test's own wallet, journal and address."""
    example = re.search(r"```python\n(.*?)```", README, re.DOTALL)
    assert example is not None
    wallet = KeyWallet.generate()
    studio.fund(wallet.address)
    body = example[1].partition("\nwith ")[2].partition(":\n")[2]
    with StudioClient(studio.url, wallet, journal=Journal(tmp_path / "orders")) as client:
        code = re.sub(r"fox\.(?=png|mp4)", f"{tmp_path}/fox.", body.replace("    ", ""))
        exec(code, {"studio": client, "Money": Money, "Path": Path})
    assert [probe((tmp_path / name).read_bytes()).kind for name in ("fox.png", "fox.mp4")] == ["image", "video"]
