"""Foreign files are decoded in child processes under limits: whatever a file does to its decoder, the service goes on."""

from __future__ import annotations

import asyncio
import atexit
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from pydantic import TypeAdapter

from stablestudio.errors import StudioError
from stablestudio.media import decoder_child
from stablestudio.media.decoder_child import ANSWER, QUESTION, READY, TOO_MUCH, TOO_MUCH_HINT
from stablestudio.media.probe import Probe, UnreadableMedia
from stablestudio.media.transforms import Rewritten, Size

log = logging.getLogger(__name__)

#: A file to look into: its bytes, or where it lies. What lies on a disk is never read into memory as a whole.
Media = bytes | Path

# A child that a file has taken over could say anything.
_PROBE, _REWRITTEN = TypeAdapter(Probe), TypeAdapter(Rewritten)
_START_SECONDS = 60.0
_CALLS_EACH = 500  # of one child: memory that decoders lost comes back with the next
_MOST_ANSWER = 1 << 30
_GIB = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """What one call may take: processor seconds, and bytes of address space."""

    seconds: int = 20
    memory: int = _GIB

    @property
    def patience(self) -> float:
        """Return how long the answer is awaited: a busy machine is not the file's fault."""
        return self.seconds * 3.0


LIMITS: Mapping[str, Limit] = {
    "probe": Limit(),
    "thumbnail": Limit(),
    "fitted": Limit(),
    "shrunk": Limit(seconds=60, memory=2 * _GIB),
    "cropped": Limit(seconds=60, memory=2 * _GIB),
    "converted": Limit(seconds=60, memory=2 * _GIB),
    "reshaped": Limit(seconds=600, memory=3 * _GIB),
}


class DecoderUnavailable(StudioError):
    """Files cannot be looked into at the moment."""

    status = 503
    retryable = True
    hint = "Send the request again in a minute."


class Decoder:
    """Up to `processes` children, each started when it is first needed and replaced when a file has ended it.

    Every verb raises `UnreadableMedia` for a file that cannot be read within its limit, and `DecoderUnavailable` where
    no child can be had. It may be used from several threads and event loops at once.
    """

    def __init__(self, *, processes: int | None = None, limits: Mapping[str, Limit] = LIMITS) -> None:
        self.processes = max(2, min(4, os.cpu_count() or 1)) if processes is None else processes
        # A thread waits for each child. A child also ends with the thread that started it, so these stay.
        self._threads = ThreadPoolExecutor(self.processes, thread_name_prefix="decoder")
        self._limits = limits
        self._lock = threading.Lock()
        self._idle: list[_Child] = []
        self._children: set[_Child] = set()

    async def probe(self, media: Media) -> Probe:
        """Name, confirm and measure a file."""
        told, _ = await self._ask("probe", media)
        return _probe_of(told)

    async def thumbnail(self, media: Media, *, content_type: str, longest: int = 512) -> bytes:
        """Return a small JPEG of a picture or clip; see `thumbnail.thumbnail`."""
        _, data = await self._ask("thumbnail", media, content_type=content_type, longest=longest)
        return data

    async def shrunk(
        self, media: Media, *, max_bytes: int, types: Collection[str], longest: int | None = None
    ) -> Rewritten | None:
        """Return a picture within limits, None if it is so already; see `transforms.shrunk`."""
        return _rewritten(*await self._ask("shrunk", media, max_bytes=max_bytes, types=sorted(types), longest=longest))

    async def cropped(self, media: Media, *, size: Size) -> Rewritten | None:
        """Return a picture of exactly this size, None if it is so already; see `transforms.cropped`."""
        return _rewritten(*await self._ask("cropped", media, size=size))

    async def converted(
        self, media: Media, *, content_type: str, quality: int | None = None, within: Size | None = None
    ) -> Rewritten | None:
        """Return a picture in this type, None if it is so already; see `transforms.converted`."""
        answer = await self._ask("converted", media, content_type=content_type, quality=quality, within=within)
        return _rewritten(*answer)

    async def reshaped(self, media: Media, *, size: Size) -> bytes | None:
        """Return a clip of exactly this size, None if it is so already; see `clips.reshaped`."""
        told, data = await self._ask("reshaped", media, size=size)
        return data if told["found"] else None

    def fitted(self, media: Media, *, size: Size) -> bytes | None:
        """Return the RGB pixels of the first picture, None for a sound; see `transforms.fitted`. Blocks."""
        told, data = self._threads.submit(self._answer, "fitted", media, {"size": size}).result()
        return data if told["found"] else None

    def close(self) -> None:
        """End all children, at once; a call after it starts new ones."""
        with self._lock:
            idle, self._idle = self._idle, []
            busy = self._children.difference(idle)
        for child in busy:
            child.kill(on_purpose=True)  # whoever waits for it drops it
        for child in idle:
            self._drop(child)

    async def _ask(self, verb: str, media: Media, **arguments: object) -> tuple[dict[str, Any], bytes]:
        return await asyncio.wrap_future(self._threads.submit(self._answer, verb, media, arguments))

    def _answer(self, verb: str, media: Media, arguments: Mapping[str, object]) -> tuple[dict[str, Any], bytes]:
        with _opened(media) as file:
            # Once more where a child was ended: it may have been the system, short of memory for other reasons.
            for _ in range(2):
                with suppress(_Ended):
                    told, data = self._ask_child(verb, file, arguments)
                    return _checked(told), data
        raise UnreadableMedia(TOO_MUCH, hint=TOO_MUCH_HINT)

    def _ask_child(self, verb: str, file: int, arguments: Mapping[str, object]) -> tuple[dict[str, Any], bytes]:
        child = self._take()
        try:
            answer = child.ask(verb, file, arguments, limit=self._limits[verb])
        except BaseException:
            self._drop(child)
            raise
        if child.calls < _CALLS_EACH:
            with self._lock:
                self._idle.append(child)
        else:
            self._drop(child)
        return answer

    def _take(self) -> _Child:
        while True:
            with self._lock:
                if not self._idle:
                    child = _Child()
                    self._children.add(child)
                    break
                child = self._idle.pop()
            if child.alive:
                return child
            self._drop(child)
        try:
            child.await_start()
        except BaseException:
            self._drop(child)
            raise
        return child

    def _drop(self, child: _Child) -> None:
        child.kill()
        child.hang_up()
        with self._lock:
            self._children.discard(child)


class _Ended(Exception):
    """The child ended in the midst of a call."""


class _Child:
    """One child process and the socket to it."""

    def __init__(self) -> None:
        self._line, theirs = socket.socketpair()
        self._ended_on_purpose = False
        self.calls = 0
        # Nothing of the service goes along: no keys in the environment, no open files.
        with theirs:
            try:
                self._process = subprocess.Popen(  # noqa: S603 - this very interpreter
                    [sys.executable, "-I", "-B", "-m", decoder_child.__name__],
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    env={"MALLOC_ARENA_MAX": "2"},  # each arena takes 64 MiB of address space
                    cwd="/",
                )
            except OSError as error:
                self._line.close()
                log.exception("decoder_not_started")
                raise DecoderUnavailable from error

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def await_start(self) -> None:
        """Wait until the child has loaded its libraries; raise `DecoderUnavailable`."""
        try:
            ready = self._read(len(READY), until=time.monotonic() + _START_SECONDS)
        except (_Ended, TimeoutError) as error:
            log.error("decoder_not_started", extra={"status": self._process.poll()})  # noqa: TRY400 - it says all
            raise DecoderUnavailable from error
        assert ready == READY

    def ask(
        self, verb: str, file: int, arguments: Mapping[str, object], *, limit: Limit
    ) -> tuple[dict[str, Any], bytes]:
        """Return the answer's JSON and bytes; raise `_Ended`, or `UnreadableMedia` where it took too long."""
        self.calls += 1
        question = {"verb": verb, "arguments": arguments, "seconds": limit.seconds, "memory": limit.memory}
        body = json.dumps(question).encode()
        until = time.monotonic() + limit.patience
        try:
            self._line.settimeout(limit.patience)
            socket.send_fds(self._line, [QUESTION.pack(len(body)) + body], [file])
            told, data = ANSWER.unpack(self._read(ANSWER.size, until=until))
            return json.loads(self._read(told, until=until)), bytes(self._read(data, until=until))
        except TimeoutError:
            self._refuse(verb, "patience")
        except (OSError, ValueError, _Ended) as error:
            if self._ended_on_purpose:
                raise DecoderUnavailable from error
            self.kill()
            if self._process.returncode == -signal.SIGXCPU:
                self._refuse(verb, "processor")
            log.warning("decoder_ended", extra={"verb": verb, "status": self._process.returncode})
            raise _Ended from error

    def kill(self, *, on_purpose: bool = False) -> None:
        """End the process, if it still runs; a status that it has already stays."""
        self._ended_on_purpose |= on_purpose
        self._process.kill()
        self._process.wait()

    def hang_up(self) -> None:
        self._line.close()

    def _refuse(self, verb: str, what: str) -> NoReturn:
        log.warning("decoder_over_limit", extra={"verb": verb, "limit": what})
        raise UnreadableMedia(TOO_MUCH, hint=TOO_MUCH_HINT)

    def _read(self, size: int, *, until: float) -> bytearray:
        if size > _MOST_ANSWER:
            raise _Ended
        data, at = bytearray(size), 0
        with memoryview(data) as view:
            while at < size:
                self._line.settimeout(max(0.001, until - time.monotonic()))
                count = self._line.recv_into(view[at:])
                if count == 0:
                    raise _Ended
                at += count
        return data


@contextmanager
def _opened(media: Media) -> Iterator[int]:
    """Open a file for a child; bytes become a file without a name."""
    if isinstance(media, Path):
        with media.open("rb", buffering=0) as kept:
            yield kept.fileno()
        return
    with os.fdopen(os.memfd_create("media"), "wb") if sys.platform == "linux" else tempfile.TemporaryFile() as file:
        file.write(media)
        file.flush()
        yield file.fileno()


def _checked(told: dict[str, Any]) -> dict[str, Any]:
    if "refusal" not in told:
        return told
    if "fault" in told:
        log.error("decoder_faulted", extra={"fault": told["fault"]})
    raise UnreadableMedia(told["refusal"], hint=told["hint"])


def _probe_of(told: dict[str, Any]) -> Probe:
    return _PROBE.validate_python(told)


def _rewritten(told: dict[str, Any], data: bytes) -> Rewritten | None:
    return _REWRITTEN.validate_python(told | {"data": data}) if told["found"] else None


#: For files that nobody has paid for yet: children of their own, so that nothing that is paid waits behind them.
DOOR = Decoder(processes=2, limits={"probe": Limit(seconds=5)})
atexit.register(DOOR.close)
#: The children of this process, as the event loop has threads of its own: none is started before the first file comes.
DECODER = Decoder()
atexit.register(DECODER.close)
