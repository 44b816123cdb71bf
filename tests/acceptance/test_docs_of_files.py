"""docs/files.md tells the files, keys, settings and rules that the code has."""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
import tomllib
from pathlib import Path

import pytest

from stablestudio.catalog import OFFERINGS
from stablestudio.catalog.limits import FileLimit
from stablestudio.catalog.links import LONGEST_DATA_URI
from stablestudio.cli.purge import LEFT, purge
from stablestudio.client import KeyWallet
from stablestudio.client.files import INLINE_BYTES
from stablestudio.client.sending import PART_BYTES
from stablestudio.config import Settings, load_settings
from stablestudio.jobs import keeper
from stablestudio.jobs import purge as rules
from stablestudio.media import fetch, links, uploads
from stablestudio.media.addresses import FetchPolicy
from stablestudio.server.storage import open_shelf
from stablestudio.store.tables import assets
from tests.doubles import png
from tests.npm import install
from tests.service import Buyer, Service

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "files.md").read_text()
WORDS = " ".join(PAGE.split())


def test_every_kind_of_file_is_told() -> None:
    check = next(str(each.sqltext) for each in assets.constraints if str(each.name).endswith("role"))  # type: ignore[attr-defined]
    told = re.findall(r"^\| `(\w+)` \| ", PAGE.partition("## What a job tells")[0], re.MULTILINE)
    assert set(told) == set(re.findall(r"'(\w+)'", check))


@pytest.mark.parametrize(
    ("path", "body", "absent"),
    [
        (
            "/api/generate/grok-video/generate",
            {"prompt": "x", "duration": "3", "resolution": "480p", "aspect_ratio": "1:1"},
            set(),
        ),
        (
            "/api/generate/nano-banana/generate",
            {"prompt": "x", "imageSize": "512"},
            {"videoUrl", "posterUrl", "durationSeconds"},
        ),
    ],
)
def test_a_job_tells_what_the_page_shows(studio: Service, path: str, body: dict[str, str], absent: set[str]) -> None:
    example = json.loads(PAGE.partition("```json")[2].partition("```")[0])
    with Buyer(studio.url) as buyer:
        job = buyer.fund().wait(buyer.buy(path, body))
    assert example.keys() <= job.keys()
    assert set(job["result"]) == example["result"].keys() - absent | ({"imageUrl"} if absent else set())


def test_the_limits_of_a_fetch_are_told() -> None:
    schemes, ports = FetchPolicy().schemes, [port for port in range(65536, 0, -1) if port in FetchPolicy().ports]
    assert f"A public address is {' or '.join(schemes)}, at port {' or '.join(map(str, ports))}" in WORDS
    assert f"at most {fetch.MAX_REDIRECTS} redirects" in WORDS
    assert f"at most {fetch.MAX_BYTES >> 20} MB and comes within {fetch.MAX_SECONDS:g} seconds" in WORDS


def _row(limit: FileLimit) -> tuple[str, ...]:
    words = {"image": "pictures", "video": "clips", "audio": "sounds"}
    ends = [f"{pair[0]} to {pair[1]}" if pair else "" for pair in (limit.ratio, limit.seconds)]
    return (words[limit.kind], f"{limit.side} or more" if limit.side else "", *ends, str(limit.together or ""))


def test_the_limits_of_files_by_model_are_the_catalog_s() -> None:
    rows = PAGE.partition("<!-- limits:")[2].partition("\n\n")[0].splitlines()[3:]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    told = {(model, *rest) for models, *rest in cells for model in models.split(", ")}
    assert told == {(each.model, *_row(limit)) for each in OFFERINGS for limit in each.input.file_limits}


def test_the_program_for_npm_buys_a_place_fills_it_and_confirms_it(studio: Service, tmp_path: Path) -> None:
    root = Path(__file__).parent
    (tmp_path / "node_modules").mkdir()
    for folder, names in (("npm", ("@x402", "viem")), ("npm_blob", ("@vercel",))):
        modules = install(root / folder)
        for name in names:
            (tmp_path / "node_modules" / name).symlink_to(modules / name)
    (tmp_path / "upload.mjs").write_text(PAGE.partition("```js\n")[2].partition("```")[0])
    (tmp_path / "cat.png").write_bytes(png((64, 48)))
    key = f"0x{secrets.token_hex(32)}"
    studio.fund(KeyWallet.from_hex(key).address)
    ran = subprocess.run(
        ["node", "upload.mjs"],
        check=False,
        cwd=tmp_path,
        env={**os.environ, "STUDIO": studio.url, "PRIVATE_KEY": key},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stderr
    assert re.fullmatch(rf"{studio.url}/blob/uploads/\w+/cat\.png", ran.stdout.strip())


def test_the_settings_named_exist_and_the_example_can_be_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    named = set(re.findall(r"\b((?:s3|keep|link)_\w+)", PAGE))
    assert named == {name for name in Settings.model_fields if re.match("(s3|keep|link)_", name)}
    example = re.search(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    assert example is not None
    (tmp_path / "s3").write_text("secret\n")
    monkeypatch.setenv("STUDIO_S3_KEY_ID", "AKID")
    settings = load_settings(tomllib.loads(example[1].replace("/run/secrets", str(tmp_path))))
    bucket = open_shelf(settings).bucket
    assert bucket is not None
    assert bucket.base == "https://studio-files.s3.eu-central-1.amazonaws.com/results/"
    assert bucket.keys is not None
    assert (bucket.keys.key_id, bucket.keys.secret) == ("AKID", "secret")


def test_the_variables_named_are_those_that_are_read() -> None:
    source = (ROOT / "src/stablestudio/server/storage.py").read_text()
    assert set(re.findall(r"AWS_\w+", PAGE)) == set(re.findall(r"AWS_\w+", source))


def test_the_command_has_the_options_and_exit_codes_of_the_page() -> None:
    known = {option for parameter in purge.params for option in parameter.opts}
    lines = re.findall(r"^stablestudio purge(.*)$", PAGE, re.MULTILINE)
    assert len(lines) == 2
    assert {option for line in lines for option in re.findall(r"--[\w-]+", line)} <= known
    assert (LEFT, "| 1 | some files could not be erased" in PAGE) == (1, True)


def test_the_numbers_of_the_rules_are_told() -> None:
    assert Settings.model_fields["link_seconds"].default == 20 * 60
    assert "`link_seconds` (20 minutes; at least 60 seconds)" in WORDS
    assert rules.GRACE_MS == 10 * 60 * 1000
    assert "goes 10 minutes after" in WORDS
    assert rules._INTERVAL == 3600
    assert "once an hour" in WORDS
    assert f"at most {keeper._POSTER} pixels" in WORDS
    assert INLINE_BYTES == 3_000_000
    assert "while they have 3 MB together" in WORDS
    assert "at most 6 MB (`max_body_bytes`) and each file at most 3 MB" in WORDS
    assert Settings.model_fields["max_body_bytes"].default == 6_000_000
    assert LONGEST_DATA_URI * 3 // 4 >= 3_000_000
    assert any(getattr(rule, "ge", None) == 60 for rule in Settings.model_fields["link_seconds"].metadata)
    assert f"the last {uploads._LONGEST_NAME} characters" in WORDS
    assert PART_BYTES == 8 * 1024 * 1024
    assert "more than 8 MiB go in parts" in WORDS
    assert len(links._INLINE_TYPES) == 4
    assert "PNG, JPEG, WebP and MP4 are shown in place" in WORDS
