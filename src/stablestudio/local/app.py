"""The worker's HTTP face: the part of OpenAI's image and video protocol that the service itself speaks."""

from __future__ import annotations

import asyncio
import base64
import hmac
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from stablestudio.clock import Clock
from stablestudio.local.clips import Clips
from stablestudio.local.device import Device, State, Task
from stablestudio.local.faults import (
    InvalidApiKey,
    NotReady,
    Refused,
    RequestTooLarge,
    ServerError,
    UnsupportedMediaType,
)
from stablestudio.local.files import encode_clip, encode_image
from stablestudio.local.orders import EditAsked, ImageAsked, Limits, Order, VideoAsked, clip_order, image_order, read
from stablestudio.local.pipes import Pipe

MAX_BODY = 64 * 1024 * 1024
_LOOK_SECONDS = 1.0

Answer = Callable[[Request], Awaitable[Response]]


class Worker:
    """One pipeline, its queue, and the routes to them."""

    def __init__(self, pipe: Pipe, *, limits: Limits, clock: Clock, waiting: int = 8, key: str | None = None) -> None:
        """Without a key, whoever reaches the worker may use it."""
        self._pipe = pipe
        self._limits = limits
        self._clock = clock
        self._key = key
        self._device = Device(waiting=waiting)
        self._clips = Clips(clock)
        self._since = clock.now_ms() // 1000

    def app(self) -> Starlette:
        """Return the application; its end stops what runs."""
        routes: list[tuple[str, str, Answer]] = [
            ("GET", "/v1/models", self._models),
            ("POST", "/v1/images/generations", self._generate),
            ("POST", "/v1/images/edits", self._edit),
            ("POST", "/v1/videos", self._film),
            ("GET", "/v1/videos/{id}", self._clip),
            ("DELETE", "/v1/videos/{id}", self._drop),
            ("GET", "/v1/videos/{id}/content", self._content),
        ]
        return Starlette(
            routes=[Route(path, self._guarded(answer), methods=[method]) for method, path, answer in routes],
            exception_handlers={Refused: _refuse},
            lifespan=self._lifespan,
        )

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        try:
            yield
        finally:
            self._device.close()

    def _guarded(self, answer: Answer) -> Answer:
        async def guarded(request: Request) -> Response:
            given = request.headers.get("authorization", "")
            if self._key is not None and not hmac.compare_digest(given.encode(), f"Bearer {self._key}".encode()):
                raise InvalidApiKey
            return await answer(request)

        return guarded

    async def _models(self, _: Request) -> Response:
        model = {"id": self._limits.model, "object": "model", "created": self._since, "owned_by": "local"}
        return JSONResponse({"object": "list", "data": [model]})

    async def _generate(self, request: Request) -> Response:
        return await self._image(request, read(await _body(request), ImageAsked, limits=self._limits))

    async def _edit(self, request: Request) -> Response:
        return await self._image(request, read(await _body(request), EditAsked, limits=self._limits))

    async def _image(self, request: Request, asked: ImageAsked) -> Response:
        order = await asyncio.to_thread(image_order, asked, limits=self._limits)
        self._pipe.admit(order)

        def make(task: Task) -> bytes:
            picture = self._pipe.run(order, task.step)[0]
            return encode_image(picture, asked.output_format, quality=asked.output_compression)

        data = await _made(request, self._device.put(make))
        document: dict[str, Any] = {
            "created": self._clock.now_ms() // 1000,
            "background": "opaque",
            "output_format": asked.output_format,
            "size": f"{order.size[0]}x{order.size[1]}",
            "data": [{"b64_json": base64.b64encode(data).decode()}],
        }
        return JSONResponse(document)

    async def _film(self, request: Request) -> Response:
        asked = read(await _body(request), VideoAsked, limits=self._limits)
        order = await asyncio.to_thread(clip_order, asked, limits=self._limits)
        self._pipe.admit(order)
        clip = self._clips.add(self._device.put(lambda task: self._shot(order, task)), order, model=asked.model)
        return JSONResponse(clip.document())

    def _shot(self, order: Order, task: Task) -> bytes:
        return encode_clip(self._pipe.run(order, task.step), rate=self._pipe.rate)

    async def _clip(self, request: Request) -> Response:
        return JSONResponse(self._clips.get(request.path_params["id"]).document())

    async def _drop(self, request: Request) -> Response:
        clip_id = request.path_params["id"]
        self._clips.drop(clip_id)
        return JSONResponse({"id": clip_id, "object": "video.deleted", "deleted": True})

    async def _content(self, request: Request) -> Response:
        clip = self._clips.get(request.path_params["id"])
        data = clip.task.data
        if data is None:
            raise NotReady(f"The video is {clip.task.state.value}.")
        return Response(data, media_type="video/mp4")


async def _made(request: Request, task: Task) -> bytes:
    """Wait for a job's file; stop the job where nobody waits any more. Raises `Refused`."""
    waiting = asyncio.wrap_future(task.future)
    waiting.add_done_callback(lambda done: done.cancelled() or done.exception())  # told by the task, below
    try:
        while not (await asyncio.wait({waiting}, timeout=_LOOK_SECONDS))[0]:
            if await request.is_disconnected():
                break
    finally:
        task.cancel()
    if task.state is State.DONE and task.data is not None:
        return task.data
    raise task.fault or ServerError()


async def _body(request: Request) -> bytes:
    """Return a JSON request's body. Other types are refused, also because a web page may send those anywhere."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise UnsupportedMediaType('Requests to this worker are application/json; set bodies = "json" for it.')
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MAX_BODY:
            raise RequestTooLarge(f"The request has more than {MAX_BODY} bytes.")
    return bytes(body)


async def _refuse(_: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return JSONResponse(error.body(), status_code=error.status, headers=dict(error.headers))
