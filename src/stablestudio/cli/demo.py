"""`stablestudio demo`: the whole story in half a minute, in the embedded world, from an empty folder to files and a refund."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import click
import httpx2

from stablestudio.cli.output import Output
from stablestudio.cli.running import speaks
from stablestudio.cli.views import job_document
from stablestudio.client import Job, Journal, KeyWallet, Quote, StudioClient
from stablestudio.client.wallet import HOME
from stablestudio.errors import StudioError
from stablestudio.media.probe import probe
from stablestudio.money import Money

_PATIENCE = 25.0
_START_PATIENCE = 60.0
_STOP_PATIENCE = 12.0


class DemoFailed(StudioError):
    """The demonstration did not go as it should."""

    hint: ClassVar[str] = "Please report it with what is printed above; no real money is involved."


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """One purchase of the story."""

    title: str
    model: str
    operation: str
    input: Mapping[str, Any]
    file: str = ""


PICTURE = Scene(
    title="A picture",
    model="flux-2-pro",
    operation="generate",
    input={"prompt": "A lighthouse of glass at dusk", "aspect_ratio": "16:9", "output_format": "png"},
    file="picture.png",
)
CLIP = Scene(
    title="A clip",
    model="veo-3.1-fast",
    operation="generate",
    input={"prompt": "The lighthouse lamp turns over a calm sea", "durationSeconds": "4", "resolution": "720p"},
    file="clip.mp4",
)
FAILURE = Scene(
    title="An order that fails",
    model="flux-2-pro",
    operation="generate",
    input={"prompt": "This one breaks at the vendor [sandbox:fail]", "resolution": "0.5 MP"},
)


@click.command()
@click.option("--output", "folder", type=click.Path(path_type=Path, file_okay=False), default=Path("demo-output"))
@speaks
def demo(out: Output, *, folder: Path) -> None:
    """Start the service in its embedded world, buy a picture and a clip from it, save both, and see a failed order refunded.

    Nothing of it is real money, and nothing but the files in the output folder stays.
    """
    began = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="stablestudio-demo-") as name, service(Path(name)) as url:
        out.say(f"The service runs on {url} in its embedded world: SQLite, local files, test coins.")
        wallet = KeyWallet.create(environ={HOME: name})
        with StudioClient(url, wallet, journal=Journal(Path(name) / "orders")) as client:
            document = play(out, client, folder=folder)
    seconds = time.monotonic() - began
    out.say(f"\nDone in {seconds:.1f} s.")
    files = [str(folder / scene.file) for scene in (PICTURE, CLIP)]
    out.result(document | {"seconds": round(seconds, 1), "files": files}, *files)


def play(out: Output, client: StudioClient, *, folder: Path) -> dict[str, Any]:
    """Run the story and return what happened."""
    client.fund()
    funds = client.balance()
    out.say(f"A new wallet, {client.wallet.address}, holds ${funds} of test USDC from the faucet.")
    picture, clip = (buy(out, client, scene) for scene in (PICTURE, CLIP))
    jobs = [keep(out, client, job, scene, folder=folder) for job, scene in ((picture, PICTURE), (clip, CLIP))]
    refunded = refund(out, client)
    left = client.balance()
    spent = sum(quote_micros(job) for job in jobs)
    if funds.micros - left.micros != spent:
        raise DemoFailed(f"The wallet went from ${funds} to ${left}, which is not what the two jobs cost.")
    out.say(f"\nThe wallet holds ${left}: it paid for what it got, and for nothing else.")
    documents = [job_document(job) for job in (*jobs, refunded)]
    return {"success": True, "wallet": client.wallet.address, "balance": str(left), "jobs": documents}


def buy(out: Output, client: StudioClient, scene: Scene) -> Job:
    """Order one scene and tell each step of the payment."""
    out.say(f"\n{scene.title}: POST /api/generate/{scene.model}/{scene.operation}")

    def approve(quote: Quote) -> bool:
        out.say(f"  asked    402 Payment Required: ${quote.amount} in USDC on {quote.network}")
        out.say(f"  signed   one transfer of ${quote.amount} to {quote.pay_to}")
        return True

    job = client.submit(scene.model, scene.operation, scene.input, approve=approve)
    if job.payment is None or not job.payment.transaction:
        raise DemoFailed(f"Job {job.id} came without a receipt.")
    out.say(f"  paid     transaction {job.payment.transaction}")
    out.say(f"  job      {job.id}")
    return job


def keep(out: Output, client: StudioClient, job: Job, scene: Scene, *, folder: Path) -> Job:
    """Wait for a job, save its file and look into it."""
    done = client.wait(job, timeout=_PATIENCE)
    if done.failed or done.result is None:
        raise DemoFailed(f"{scene.title} failed: {done.complaint}")
    path = folder / scene.file
    client.download(done, path)
    data = path.read_bytes()
    found = probe(data)
    length = f", {found.seconds:.1f} s" if found.seconds else ""
    out.say(f"\n{scene.title} is ready:")
    out.say(f"  link     {done.result.video_url or done.result.image_url}")
    out.say(f"  saved    {path}  ({len(data):,} bytes, {found.content_type}, {found.width}x{found.height}{length})")
    return done


def refund(out: Output, client: StudioClient) -> Job:
    """Order what cannot be made and see the money come back."""
    job = client.wait(buy(out, client, FAILURE), timeout=_PATIENCE)
    if not job.failed:
        raise DemoFailed(f"Job {job.id} should have failed and is {job.status}.")
    out.say(f"  failed   {job.complaint}")
    job = client.wait_for_refund(job, timeout=_PATIENCE)
    back = job.payment.refund.transaction if job.payment and job.payment.refund else None
    if not back:
        raise DemoFailed(f"Job {job.id} is refunded without a transaction.")
    out.say(f"  refunded transaction {back}")
    return job


def quote_micros(job: Job) -> int:
    """Return what a job cost, in millionths of a dollar."""
    if job.payment is None or job.payment.amount is None:
        raise DemoFailed(f"Job {job.id} does not tell its price.")
    return Money.parse(job.payment.amount).micros


@contextlib.contextmanager
def service(folder: Path) -> Iterator[str]:
    """Run the service as a child process on a free port, with its data in a folder, until the block ends."""
    port = _free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "stablestudio", "serve", "--host", "127.0.0.1", "--port", str(port)]
    # Neither the operator's settings nor a stablestudio.toml of this folder shall reach the demonstration.
    environ = {name: value for name, value in os.environ.items() if not name.startswith("STABLESTUDIO_")}
    log = folder / "service.log"
    with log.open("wb") as sink:
        child = subprocess.Popen(  # noqa: S603 - our own module, our own arguments
            [*command, "--data", str(folder / "data")], cwd=folder, env=environ, stdout=sink, stderr=sink
        )
    try:
        _await_ready(child, url, log=log)
        yield url
    finally:
        _stop(child)


def _await_ready(child: subprocess.Popen[bytes], url: str, *, log: Path) -> None:
    until = time.monotonic() + _START_PATIENCE
    with httpx2.Client(trust_env=False, timeout=2.0) as http:
        while time.monotonic() < until:
            if child.poll() is not None:
                break
            with contextlib.suppress(httpx2.TransportError):
                if http.get(f"{url}/health").status_code == 200:
                    return
            time.sleep(0.05)
    raise DemoFailed(f"The service did not start. It said:\n{log.read_text(errors='replace')[-3000:]}")


def _stop(child: subprocess.Popen[bytes]) -> None:
    child.send_signal(signal.SIGTERM)
    try:
        child.wait(timeout=_STOP_PATIENCE)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _free_port() -> int:
    with socket.socket() as probing:
        probing.bind(("127.0.0.1", 0))
        port: int = probing.getsockname()[1]
        return port
