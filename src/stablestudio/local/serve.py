"""Run a worker: take the address, load the model, serve until stopped."""

from __future__ import annotations

import socket
import sys
from dataclasses import dataclass
from ipaddress import ip_address

import uvicorn

from stablestudio.clock import SystemClock
from stablestudio.local.app import Worker
from stablestudio.local.faults import CannotStart
from stablestudio.local.orders import Limits
from stablestudio.local.pipes import Source, library, load

_GRACE_SECONDS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What an operator chooses; `steps` None leaves them to the pipeline, `rate` is in frames a second."""

    source: Source
    limits: Limits
    host: str
    port: int
    key: str | None
    steps: int | None
    rate: int
    waiting: int


def serve(options: Options) -> None:
    """Serve until stopped; nothing listens before the model is loaded. Raises `CannotStart`."""
    library("torch")
    if options.key is None and not _is_loopback(options.host):
        raise CannotStart(f"--host {options.host}: without --key only this machine may reach the worker.")
    with _bound(options) as listener:
        pipe = load(options.source, steps=options.steps, rate=options.rate)
        worker = Worker(pipe, limits=options.limits, clock=SystemClock(), waiting=options.waiting, key=options.key)
        host, port = listener.getsockname()[:2]
        told = f"http://{f'[{host}]' if ':' in host else host}:{port}/v1"
        print(f"{options.limits.model} ({pipe.name}) makes {pipe.makes}s on {told}", file=sys.stderr, flush=True)  # noqa: T201 - for the person who started it
        config = uvicorn.Config(
            worker.app(),
            ws="none",
            lifespan="on",
            access_log=False,
            log_config=None,
            server_header=False,
            timeout_graceful_shutdown=_GRACE_SECONDS,
        )
        uvicorn.Server(config).run(sockets=[listener])


def _bound(options: Options) -> socket.socket:
    """Take the address: a port that is in use is told before weights are loaded for minutes."""
    listener = socket.socket(socket.AF_INET6 if ":" in options.host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((options.host, options.port))
    except OSError as error:
        listener.close()
        raise CannotStart(f"{options.host} port {options.port} cannot be listened on: {error.strerror}.") from None
    return listener


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
