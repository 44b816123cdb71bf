"""What `deploy/` describes, run here process by process: the same commands and settings on a real PostgreSQL and S3's double."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml

from stablestudio.config import Settings, load_settings
from stablestudio.server.storage import open_shelf
from tests.conftest import QUICK
from tests.fakes.s3 import BUCKET, KEY_ID, REGION, S3, SECRET
from tests.postgres import PostgresServer
from tests.service import Buyer, Service

DEPLOY = Path(__file__).parents[2] / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
IMAGE = (DEPLOY / "Containerfile").read_text()
OURS = {name: service for name, service in SERVICES.items() if service["image"] == "stablestudio"}
PATH = "/api/generate/nano-banana/generate"
BODY = {"prompt": "a cat", "imageSize": "512"}


def _environment() -> dict[str, str]:
    """The settings of our processes, with what compose puts in for `${NAME:-default}`."""
    given: dict[str, str] = COMPOSE["x-studio"]["environment"]
    return {name: re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value) for name, value in given.items()}


class Composed(Service):
    """A process as compose starts it, but for its port and folder."""

    def __init__(self, data: Path, *, environment: dict[str, str], command: list[str]) -> None:
        super().__init__(data, environment=environment)
        self._command = command

    @property
    def arguments(self) -> list[str]:
        return [*self._command, "--port", str(self.port), "--data", str(self.data)]


@pytest.fixture
def environment(postgres: PostgresServer) -> Iterator[dict[str, str]]:
    with S3() as s3:
        here = {
            "STABLESTUDIO_DATABASE": postgres.create(),
            "STABLESTUDIO_S3_ENDPOINT": s3.endpoint,
            "STABLESTUDIO_S3_REGION": REGION,
            "STABLESTUDIO_S3_KEY_ID": KEY_ID,
            "STABLESTUDIO_S3_SECRET": SECRET,
        }
        yield QUICK | _environment() | here


def test_the_processes_of_compose_upgrade_sell_and_make(environment: dict[str, str], tmp_path: Path) -> None:
    data = tmp_path / "data"
    subprocess.run(
        [sys.executable, "-m", "stablestudio", *SERVICES["upgrade"]["command"]],
        check=True,
        env={"PATH": "", "STABLESTUDIO_DATA": str(data), **environment},
        timeout=120,
    )
    processes = [
        Composed(data, environment=environment, command=SERVICES[name]["command"]) for name in ("web", "web", "worker")
    ]
    web, other, _ = processes
    try:
        for process in processes:
            process.environment["STABLESTUDIO_PUBLIC_URL"] = web.url  # compose's own is that of the proxy
            process.start()
        with Buyer(web.url) as buyer, httpx2.Client(trust_env=False, timeout=60) as http:
            buyer.fund()
            job = buyer.wait(buyer.buy(PATH, BODY))
            assert job["status"] == "complete"
            link = job["result"]["imageUrl"].replace(web.url, other.url)
            assert http.get(link).headers["content-type"].startswith("image/")
    finally:
        for process in reversed(processes):
            process.stop()


def test_the_settings_of_compose_open_its_bucket_as_they_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in _environment().items():
        monkeypatch.setenv(name, value)
    bucket = open_shelf(load_settings({})).bucket
    assert bucket is not None
    assert bucket.base == "http://s3:8333/studio/files/"


def test_each_setting_of_compose_is_one_of_ours() -> None:
    ours = {f"STABLESTUDIO_{name.upper()}" for name in Settings.model_fields}
    assert _environment().keys() <= ours
    assert set(re.findall(r"STABLESTUDIO_\w+", IMAGE)) <= ours
    assert _environment()["STABLESTUDIO_STORAGE"].startswith(f"s3://{BUCKET}/")


def test_the_image_has_the_tools_of_the_database_s_own_version() -> None:
    """Debian 13 has 17 and no other; a newer server's books would not be copied."""
    [base] = set(re.findall(r"^FROM python:3\.\d+-slim-(\w+)", IMAGE, re.MULTILINE))
    [client] = re.findall(r"postgresql-client-(\d+)", IMAGE)
    server = SERVICES["postgres"]["image"].removeprefix("postgres:")
    assert (base, client, server) == ("trixie", "17", "17")


def test_the_data_folder_of_a_fresh_volume_is_empty() -> None:
    """Restore refuses one in which a shell's files are, and a volume begins as a copy of the image's folder."""
    assert "--no-create-home" in IMAGE
    assert "mkdir --mode=700 /data && chown studio:studio /data" in IMAGE
    assert not re.search(r"^(COPY|ADD) .* /data", IMAGE, re.MULTILINE)


def test_nobody_is_root_and_nothing_but_the_data_is_written_to() -> None:
    assert re.search(r"^USER studio$", IMAGE, re.MULTILINE)
    for service in OURS.values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert "privileged" not in service


def test_a_stop_gives_our_processes_the_time_that_they_may_take() -> None:
    drain = Settings.model_fields["drain_seconds"].default
    for name in ("web", "worker"):
        assert int(SERVICES[name]["stop_grace_period"].removesuffix("s")) > drain


def test_only_the_proxy_is_reached_from_outside_and_only_on_this_machine() -> None:
    ports = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert ports == {"proxy": ["127.0.0.1:8402:8402"]}
    assert Settings.model_fields["port"].default == 8402
