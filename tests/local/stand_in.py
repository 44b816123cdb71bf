"""A pipeline without a model, whose steps a test holds and lets go, and a worker around it on a real socket."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import httpx2
import uvicorn
from PIL import Image

from stablestudio.clock import SystemClock
from stablestudio.local.app import Worker
from stablestudio.local.orders import Limits
from stablestudio.local.pipes import Pipe

MODEL = "own-model"
LIMITS = Limits(model=MODEL, pixels=2_000_000, seconds=8)
_PATIENCE = 10.0


class _StandIn:
    """What the pipelines of diffusers have in common."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []
        self.stepped = threading.Semaphore(0)
        self.go = threading.Event()
        self.go.set()
        self.hold_at = 0
        self.freed = 0
        self.at_work = 0
        self.most_at_work = 0
        self.error: Exception | None = None
        self.error_after = 0

    def hold(self) -> None:
        """Stop at the next step, from step `hold_at` on, until `go` is set."""
        self.go.clear()

    def maybe_free_model_hooks(self) -> None:
        self.freed += 1

    def _steps(self, count: int, callback: Callable[..., dict[str, Any]] | None) -> None:
        self.at_work += 1
        self.most_at_work = max(self.most_at_work, self.at_work)
        try:
            for index in range(count):
                if self.error is not None and index == self.error_after:
                    raise self.error
                self.stepped.release()
                assert index < self.hold_at or self.go.wait(_PATIENCE)
                if callback is not None:
                    callback(self, index, 1000 - index, {"latents": None})
        finally:
            self.at_work -= 1


class Painter(_StandIn):
    """Makes and edits pictures; their colour is the seed's."""

    vae_scale_factor = 8

    def __call__(
        self,
        prompt: str = "",
        image: Any = None,
        width: int = 64,
        height: int = 64,
        num_inference_steps: int = 4,
        generator: Any = None,
        output_type: str = "pil",
        callback_on_step_end: Callable[..., dict[str, Any]] | None = None,
    ) -> Any:
        self.calls.append({"prompt": prompt, "image": image, "size": (width, height), "steps": num_inference_steps})
        self._steps(num_inference_steps, callback_on_step_end)
        picture = Image.new("RGB", (width, height), (generator % 256, 90, 160))
        return SimpleNamespace(images=[picture])


class Filmer(_StandIn):
    """Makes clips that grow brighter."""

    vae_scale_factor_spatial = 8
    vae_scale_factor_temporal = 4

    def __call__(
        self,
        prompt: str = "",
        negative_prompt: str | None = None,
        width: int = 64,
        height: int = 64,
        num_frames: int = 81,
        num_inference_steps: int = 4,
        generator: Any = None,
        output_type: str = "np",
        callback_on_step_end: Callable[..., dict[str, Any]] | None = None,
    ) -> Any:
        self.calls.append(
            {"prompt": prompt, "negative": negative_prompt, "size": (width, height), "frames": num_frames}
        )
        self._steps(num_inference_steps, callback_on_step_end)
        frames = [Image.new("RGB", (width, height), (index % 256,) * 3) for index in range(num_frames)]
        return SimpleNamespace(frames=[frames])


def pipe_of(stand_in: _StandIn, **options: Any) -> Pipe:
    return Pipe(stand_in, seeded=lambda seed: seed, **({"rate": 4} | options))


@asynccontextmanager
async def working(stand_in: _StandIn, *, limits: Limits = LIMITS, **options: Any) -> AsyncIterator[httpx2.AsyncClient]:
    """Serve a stand-in; its client is at the protocol's base URL."""
    app = Worker(pipe_of(stand_in), limits=limits, clock=SystemClock(), **options).app()
    config = uvicorn.Config(app, ws="none", lifespan="on", log_config=None, timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        running = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            await until(_started(server))
            async with httpx2.AsyncClient(base_url=url, trust_env=False, timeout=_PATIENCE) as client:
                yield client
        finally:
            stand_in.go.set()
            server.should_exit = True
            await running


async def until(happened: Callable[[], Awaitable[bool]]) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(_PATIENCE):
        while True:
            if await happened():
                return
            await asyncio.sleep(0.01)


async def complete(client: httpx2.AsyncClient, clip: str) -> None:
    """Wait until a clip is there."""

    async def there() -> bool:
        seen = (await client.get(f"/videos/{clip}")).json()
        assert seen["status"] != "failed", seen
        return bool(seen["status"] == "completed")

    await until(there)


def _started(server: uvicorn.Server) -> Callable[[], Awaitable[bool]]:
    async def started() -> bool:
        return bool(server.started)

    return started


async def reached(stand_in: _StandIn) -> None:
    """Wait until the stand-in stands in a step."""
    assert await asyncio.to_thread(stand_in.stepped.acquire, timeout=_PATIENCE)
