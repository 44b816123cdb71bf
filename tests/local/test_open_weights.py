"""Real pipelines of random weights in the real worker process, sold from by the service's own adapters."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from PIL import Image

from stablestudio.clock import SystemClock
from stablestudio.local.faults import CannotStart, InvalidValue, Stopped
from stablestudio.local.orders import Order
from stablestudio.local.pipes import Source, load
from stablestudio.media.probe import open_image, probe
from stablestudio.media.storage import Storage
from stablestudio.providers.http import VendorHttp
from stablestudio.providers.kept import KeptResults
from stablestudio.providers.openai_images import OpenAIImages
from stablestudio.providers.openai_videos import OpenAIVideos
from stablestudio.providers.provider import Accepted, Failed, FailureKind, Output, Running
from tests.doubles import png
from tests.local import tiny
from tests.providers.works import Files, end_user, work

pytest.importorskip("torch")
pytest.importorskip("diffusers")

# Loading the libraries takes seconds, and they warn of each other.
pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.filterwarnings("default")]

MODEL, KEY = "own-model", "worker-secret"
_READY_SECONDS = 120.0


@contextmanager
def worker(model: Path, log: Path, *arguments: str) -> Iterator[str]:
    """Run the command; its base URL."""
    with socket.socket() as probing:
        probing.bind(("127.0.0.1", 0))
        port = probing.getsockname()[1]
    url = f"http://127.0.0.1:{port}/v1"
    options = ["--model", str(model), "--name", MODEL, "--port", str(port), "--key", "env:WORKER_KEY", *arguments]
    command = [sys.executable, "-m", "stablestudio", "local", "serve", "--local-files-only", *options]
    with log.open("ab") as out:
        environ = os.environ | {"WORKER_KEY": KEY, "HF_HUB_OFFLINE": "1"}
        process = subprocess.Popen(command, env=environ, stdout=out, stderr=out)
    try:
        _wait_ready(process, url, log)
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) in (0, -signal.SIGTERM), log.read_text()[-4000:]


def _wait_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()[-4000:]
        try:
            httpx2.get(f"{url}/models", trust_env=False, timeout=2)
        except httpx2.TransportError:
            time.sleep(0.1)
        else:
            return
    raise AssertionError(log.read_text()[-4000:])


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    made: dict[str, Path] = {}

    def of(kind: str) -> Path:
        if kind not in made:
            made[kind] = getattr(tiny, kind)(tmp_path_factory.mktemp(kind))
        return made[kind]

    return of


@pytest.fixture(scope="module")
def painter(weights: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with worker(weights("flux"), tmp_path_factory.mktemp("log") / "worker.log", "--steps", "2") as url:
        yield url


@pytest.fixture(scope="module")
def filmer(weights: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    log = tmp_path_factory.mktemp("log") / "worker.log"
    with worker(weights("wan"), log, "--steps", "2", "--fps", "1") as url:
        yield url


def line(url: str) -> VendorHttp:
    return VendorHttp(name="own", base_url=url, auth={"Authorization": f"Bearer {KEY}"}, timeout_seconds=120)


def images(url: str, *files: bytes) -> OpenAIImages:
    served = {"gpt-image-2/generate": MODEL}
    kept = KeptResults(Storage.at("memory:///"))
    return OpenAIImages(line(url), source=Files(*files), kept=kept, user=end_user, served=served)


async def test_an_order_becomes_a_picture(painter: str) -> None:
    adapter = images(painter)
    order = work("gpt-image-2/generate", model=MODEL, size="1024x1024", output_format="webp")
    await adapter.check()
    assert adapter.notices == ()
    assert await adapter.submit(order) == Accepted(task="kept", upstream_model=MODEL)
    output = await adapter.fetch(order, "kept")
    await adapter.close()

    assert isinstance(output, Output)
    seen = probe(output.data)
    assert (seen.content_type, seen.width, seen.height) == ("image/webp", 1024, 1024)


async def test_an_edit_becomes_a_picture(painter: str) -> None:
    adapter = images(painter, png((96, 80)), png((64, 64)))
    order = work("gpt-image-2/edit", model=MODEL, images=["https://example.com/a.png", "https://example.com/b.png"])
    assert isinstance(await adapter.submit(order), Accepted)
    output = await adapter.fetch(order, "kept")
    await adapter.close()

    assert isinstance(output, Output)
    assert probe(output.data).content_type == "image/png"


async def test_an_image_that_the_pipeline_finds_too_small_is_the_buyers_matter(painter: str) -> None:
    adapter = images(painter, png((32, 32)))
    answer = await adapter.submit(work("gpt-image-2/edit", model=MODEL))
    await adapter.close()

    assert isinstance(answer, Failed)
    assert answer.kind is FailureKind.INVALID_INPUT


async def test_the_same_seed_makes_the_same_picture(painter: str) -> None:
    body = {"model": MODEL, "prompt": "a cat", "size": "72x64", "output_format": "png"}
    headers = {"Authorization": f"Bearer {KEY}"}
    async with httpx2.AsyncClient(base_url=painter, headers=headers, trust_env=False, timeout=60) as client:
        made = [(await client.post("/images/generations", json=body | {"seed": seed})).json() for seed in (1, 1, 2)]

    first, again, other = (each["data"][0]["b64_json"] for each in made)
    assert first == again != other
    assert made[0]["size"] == "72x64"


async def test_an_order_becomes_a_clip(filmer: str) -> None:
    adapter = OpenAIVideos(line(filmer), source=Files(), clock=SystemClock(), user=end_user)
    order = work("sora-2/generate", model=MODEL, seconds="4", size="1280x720", input_reference=None)
    accepted = await adapter.submit(order)
    assert isinstance(accepted, Accepted)
    told = []
    with anyio.fail_after(120):
        while isinstance(seen := await adapter.poll(order, accepted.task), Running):
            told.append(seen.progress or 0)
            await anyio.sleep(0.1)
    output = await adapter.fetch(order, accepted.task)
    await adapter.close()

    assert isinstance(output, Output), seen
    clip = probe(output.data)
    assert (clip.content_type, clip.width, clip.height, clip.seconds) == ("video/mp4", 1280, 720, 4.0)
    assert told == sorted(told)
    assert 50 in told


async def test_a_clip_that_is_deleted_stops_after_its_step(filmer: str) -> None:
    headers = {"Authorization": f"Bearer {KEY}"}
    body = {"model": MODEL, "prompt": "a cat", "size": "256x256", "seconds": "4"}
    async with httpx2.AsyncClient(base_url=filmer, headers=headers, trust_env=False, timeout=60) as client:
        long = (await client.post("/videos", json=body | {"steps": 200})).json()["id"]
        short = (await client.post("/videos", json=body)).json()["id"]
        with anyio.fail_after(60):
            while (await client.get(f"/videos/{long}")).json()["progress"] < 1:  # noqa: ASYNC110 - another process
                await anyio.sleep(0.02)
        await client.delete(f"/videos/{long}")
        with anyio.fail_after(60):
            while (await client.get(f"/videos/{short}")).json()["status"] != "completed":  # noqa: ASYNC110 - as above
                await anyio.sleep(0.02)
        stopped = (await client.get(f"/videos/{long}")).json()

    assert (stopped["status"], stopped["error"]["code"]) == ("cancelled", "cancelled")
    assert stopped["progress"] < 100


def test_a_stopped_pipeline_works_again(weights: Callable[[str], Path]) -> None:
    def stop(share: float) -> None:
        raise Stopped

    pipe = load(Source(model=str(weights("flux")), device="cpu", local_files_only=True), steps=2)
    order = Order(prompt="a cat", size=(64, 64), seed=1, images=(Image.new("RGB", (64, 64)),))
    with pytest.raises(Stopped):
        pipe.run(order, stop)

    assert pipe.run(order, lambda _: None)[0].size == (64, 64)


def test_a_pipeline_of_pictures_makes_no_clips(weights: Callable[[str], Path]) -> None:
    pipe = load(Source(model=str(weights("flux")), local_files_only=True))

    assert (pipe.name, pipe.makes, pipe.side) == ("Flux2KleinPipeline", "image", 16)
    with pytest.raises(InvalidValue, match="makes images"):
        pipe.admit(Order(prompt="a cat", size=(64, 64), seconds=4))


def test_half_precision_is_a_matter_of_loading(weights: Callable[[str], Path]) -> None:
    pipe = load(Source(model=str(weights("flux")), precision="bfloat16", local_files_only=True), steps=1)

    assert pipe.run(Order(prompt="a cat", size=(64, 64)), lambda _: None)[0].size == (64, 64)


def test_pickled_weights_are_not_loaded(weights: Callable[[str], Path], tmp_path: Path) -> None:
    import shutil

    folder = tmp_path / "pickled"
    shutil.copytree(weights("flux"), folder)
    torch: Any = pytest.importorskip("torch")
    for part in ("transformer", "vae"):
        (found,) = (folder / part).glob("*.safetensors")
        found.unlink()
        torch.save({}, folder / part / "diffusion_pytorch_model.bin")

    with pytest.raises(CannotStart, match="cannot be loaded"):
        load(Source(model=str(folder), local_files_only=True))


@pytest.mark.parametrize("model", ["./no-such-folder", "nobody/no-such-model"])
def test_a_model_that_is_not_there_is_told(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CannotStart):
        load(Source(model=model, local_files_only=True))


def test_a_device_that_is_not_there_is_told(weights: Callable[[str], Path]) -> None:
    torch: Any = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("it is there")
    with pytest.raises(CannotStart, match="finds no cuda"):
        load(Source(model=str(weights("flux")), device="cuda", local_files_only=True))


def test_the_picture_is_the_models_and_not_ours(weights: Callable[[str], Path]) -> None:
    pipe = load(Source(model=str(weights("flux")), local_files_only=True), steps=1)
    plain, edited = (
        pipe.run(Order(prompt="a cat", size=(64, 64), seed=3, images=given), lambda _: None)[0]
        for given in ((), (open_image(png((64, 64))),))
    )

    assert plain.tobytes() != edited.tobytes()
