"""The application: hot routes by exact path, the others by Starlette, and one edge where every error gets its shape."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

import sqlalchemy as sa
from starlette.exceptions import HTTPException
from starlette.routing import Route, Router

from stablestudio.errors import InternalError, StudioError
from stablestudio.ids import serial
from stablestudio.media.links import PATH as ASSETS
from stablestudio.payments.errors import StoreUnavailable
from stablestudio.server.accept import prefers_html
from stablestudio.server.assets import AssetEndpoint
from stablestudio.server.blob import PATH as BLOB
from stablestudio.server.blob import BlobRoutes
from stablestudio.server.embedded import EmbeddedRoutes
from stablestudio.server.explained import PATH as ERRORS
from stablestudio.server.explained import explain
from stablestudio.server.faces import older
from stablestudio.server.faces.errors import PREFIX as FACED
from stablestudio.server.faces.errors import worded
from stablestudio.server.faces.videos import PREFIX as CLIPS
from stablestudio.server.http import (
    CORS,
    HTML,
    NO_STORE,
    REQUEST,
    REQUEST_HEADER,
    Handler,
    Receive,
    Scope,
    Send,
    refuse_method,
    respond,
    respond_error,
)
from stablestudio.server.job_bodies import PREFIX as JOBS
from stablestudio.server.jobs import JobRoutes
from stablestudio.server.lost import OTHERS, Lost, RouteNotFound, page
from stablestudio.server.models import PATH as MODELS
from stablestudio.server.models import PREFIX as MODEL
from stablestudio.server.models import ModelRoutes
from stablestudio.server.public import PublicRoutes
from stablestudio.server.sell import SellRoute
from stablestudio.server.upload import PATH as CONFIRM
from stablestudio.server.upload import ConfirmRoute
from stablestudio.store.database import words_of

log = logging.getLogger(__name__)


class App:
    """The ASGI application."""

    def __init__(
        self,
        *,
        sells: Mapping[str, SellRoute],
        free: Mapping[str, Handler],
        faces: Mapping[str, Handler],
        clips: Handler,
        models: ModelRoutes,
        blob: BlobRoutes,
        confirm: ConfirmRoute,
        jobs: JobRoutes,
        assets: AssetEndpoint,
        public: PublicRoutes,
        embedded: EmbeddedRoutes | None,
        origin: str,
        startup: Callable[[], Awaitable[None]],
        shutdown: Callable[[], Awaitable[None]],
    ) -> None:
        """Take the routes, those of `free` and `faces` by their exact path; what keeps `startup` from succeeding stands in `failure` afterwards."""
        self.failure: StudioError | None = None
        self._exact: dict[str, Handler] = {**sells, **free, **faces, "/api/jobs": jobs.listed, CONFIRM: confirm}
        self._sales = frozenset({*sells, *faces})
        self._exact[ERRORS] = explain
        self._exact[MODELS] = models.listed
        self._exact |= dict.fromkeys((BLOB, f"{BLOB}/", f"{BLOB}/mpu"), blob)
        self._jobs = jobs
        self._models = models
        self._assets = assets
        self._rest = _rest(public, embedded)
        self._clips = clips
        self._lost = Lost(origin, paths=[*self._exact, *OTHERS])
        self._docs = f"{origin}{ERRORS}"
        self._new_id = serial("req")
        self._startup = startup
        self._shutdown = shutdown

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self._live(receive, send)
        if scope["type"] != "http":
            return None
        scope[REQUEST] = request = self._new_id()

        async def named(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], (REQUEST_HEADER, request)]}
            await send(message)

        try:
            await self._route(scope["path"])(scope, receive, named)
        except StudioError as error:
            await self._refuse(scope, named, error)
        except HTTPException as error:
            await self._refuse(scope, named, self._translate(error, scope))
        except (sa.exc.OperationalError, sa.exc.TimeoutError) as error:
            # A full disk, or a database that is away, or stuck. Where a payment is in hand nothing of it comes here: see
            # `SellRoute`.
            told = {"request": request.decode(), "path": scope["path"], "detail": words_of(error)}
            log.error("store_unavailable", extra=told)  # noqa: TRY400 - where it broke tells nothing
            await self._refuse(scope, named, self._unavailable(scope))
        except Exception:
            log.exception("request_failed", extra={"request": request.decode(), "path": scope["path"]})
            # Where an answer has begun, the server drops this second one and closes the connection.
            await self._refuse(scope, named, InternalError())

    def _unavailable(self, scope: Scope) -> StoreUnavailable:
        """Return what to say while the books are away: who asks for anything but a sale may have paid for it long ago."""
        if scope["path"] in self._sales and scope["method"] == "POST":
            return StoreUnavailable()
        hint = "Ask again in a few seconds; nothing that was paid for is lost."
        return StoreUnavailable("The books cannot be reached at the moment.", hint=hint, charged=None)

    async def _refuse(self, scope: Scope, send: Send, error: StudioError) -> None:
        request = scope[REQUEST].decode()
        if error.status != 402:  # an unpaid or unsigned request is how every conversation begins
            log.info("request_refused", extra={"request": request, "path": scope["path"], "code": error.code})
        if isinstance(error, RouteNotFound) and scope["method"] in ("GET", "HEAD") and prefers_html(scope):
            return await respond(send, 404, page(error, scope["path"]), [HTML, *CORS, NO_STORE])
        if scope["path"].startswith(FACED):
            error = worded(error)
        await respond_error(send, error, docs=self._docs, request_id=request)

    def _route(self, path: str) -> Handler:
        exact = self._exact.get(path)
        if exact is not None:
            return exact
        if path.startswith(JOBS):
            return self._jobs.one
        if path.startswith(ASSETS):
            return self._assets
        if path.startswith(MODEL):
            return self._models.one
        if path.startswith(CLIPS):
            return self._clips
        return self._other

    async def _other(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (successor := older.successor(scope["path"])) is not None:
            return await older.lead_on(scope, send, path=successor)
        scope["app"] = self  # with an application in the scope, Starlette raises a 405 instead of writing one
        await self._rest(scope, receive, send)

    def _translate(self, error: HTTPException, scope: Scope) -> StudioError:
        if error.status_code == 405:
            return refuse_method(scope, (error.headers or {}).get("Allow", ""))
        return self._lost.at(scope["path"])

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            await self._startup()
        except StudioError as error:
            self.failure = error  # told by whoever started the server, in a sentence
            await send({"type": "lifespan.startup.failed", "message": error.message})
            return
        except Exception as error:
            log.exception("startup_failed")
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self._shutdown()
        await send({"type": "lifespan.shutdown.complete"})


def _rest(public: PublicRoutes, embedded: EmbeddedRoutes | None) -> Router:
    routes = [
        Route("/health", public.health, methods=["GET"]),
        Route("/ready", public.ready, methods=["GET"]),
    ]
    if embedded is not None:
        routes += [
            Route("/faucet", embedded.faucet, methods=["POST"]),
            Route("/rpc/{network}", embedded.rpc, methods=["POST"]),
        ]
    # Starlette's own middleware would answer errors in its own shape: the router alone raises them to our edge.
    return Router(routes=routes, redirect_slashes=False)
