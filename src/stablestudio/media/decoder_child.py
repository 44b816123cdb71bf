"""The process in which foreign files are decoded: it limits itself, then answers one question after the other.

Its standard input is a socket. A question is JSON with the open file beside it, an answer is JSON and bytes, and at the
socket's end the process ends.
"""

from __future__ import annotations

import ctypes
import io
import json
import logging
import math
import os
import resource
import signal
import socket
import struct
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from typing import Any, BinaryIO

from PIL import GifImagePlugin, JpegImagePlugin, PngImagePlugin, WebPImagePlugin  # noqa: F401 - loaded before the limits

from stablestudio.media.clips import reshaped
from stablestudio.media.probe import Probe, UnreadableMedia, probe
from stablestudio.media.thumbnail import thumbnail
from stablestudio.media.transforms import Rewritten, converted, cropped, fitted, shrunk

Result = Probe | Rewritten | bytes | None

READY = b"ready"
#: Before a question: the length of its JSON. Before an answer: the lengths of its JSON and of its bytes.
QUESTION = struct.Struct(">I")
ANSWER = struct.Struct(">II")
TOO_MUCH = "The file takes too much time or memory to read."
TOO_MUCH_HINT = "Send a smaller or shorter file, or one that was written anew by a common program."

_VERBS: dict[str, Callable[..., Result]] = {
    "probe": probe,
    "thumbnail": thumbnail,
    "shrunk": shrunk,
    "cropped": cropped,
    "converted": converted,
    "fitted": fitted,
    "reshaped": reshaped,
}
_OPEN_FILES = 16
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38


class Foreign(io.BufferedReader):
    """An open file that gives no more than it has: lengths that it claims itself would be allocated before they are read."""

    def __init__(self, raw: io.FileIO) -> None:
        super().__init__(raw)
        self._size = os.fstat(raw.fileno()).st_size

    def read(self, size: int | None = -1, /) -> bytes:
        left = max(0, self._size - self.tell())
        return super().read(left if size is None or size < 0 else min(size, left))


def main() -> None:
    """Answer until the socket ends."""
    line = socket.socket(fileno=sys.stdin.fileno())
    _confine()
    line.sendall(READY)
    # From here on, libraries could write what a file makes them write.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
    while True:
        head, files, _, _ = socket.recv_fds(line, QUESTION.size, 1)
        if not head:
            return
        question = json.loads(_rest(line, QUESTION.unpack(head)[0]))
        with Foreign(io.FileIO(files[0])) as file:
            told, data = answer(question, file)
        line.sendall(ANSWER.pack(len(told), len(data)) + told)
        line.sendall(data)


def answer(question: dict[str, Any], file: BinaryIO) -> tuple[bytes, bytes]:
    """Return the JSON and the bytes that answer a question about a file."""
    cap(resource.RLIMIT_CPU, math.ceil(time.process_time() + question["seconds"]))
    cap(resource.RLIMIT_AS, question["memory"])
    arguments = {name: tuple(each) if isinstance(each, list) else each for name, each in question["arguments"].items()}
    try:
        result = _VERBS[question["verb"]](file, **arguments)
    except UnreadableMedia as error:
        return _json(refusal=error.message, hint=error.advice), b""
    except MemoryError:
        return _json(refusal=TOO_MUCH, hint=TOO_MUCH_HINT), b""
    except Exception:  # noqa: BLE001 - whatever a decoder trips over, the file is what made it
        return _json(refusal=None, hint=None, fault=traceback.format_exc()), b""
    return _told(result)


def cap(what: int, soft: int) -> None:
    """Lower a limit of this process, where the system knows it."""
    with suppress(ValueError, OSError):
        resource.setrlimit(what, (soft, resource.getrlimit(what)[1]))


def _told(result: Result) -> tuple[bytes, bytes]:
    match result:
        case Probe():
            return _json(found=True, **asdict(result)), b""
        case Rewritten(data=data, content_type=content_type, width=width, height=height):
            return _json(found=True, content_type=content_type, width=width, height=height), data
        case bytes():
            return _json(found=True), result
        case None:
            return _json(found=False), b""


def _json(**values: object) -> bytes:
    return json.dumps(values).encode()


def _rest(line: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = line.recv(size - len(data))
        if not piece:
            sys.exit()
        data += piece
    return data


def _confine() -> None:
    # Whoever stops the service by its terminal or its group leaves it the time to finish; a killed parent takes this along.
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    for what, limit in ((resource.RLIMIT_CORE, 0), (resource.RLIMIT_FSIZE, 0), (resource.RLIMIT_NOFILE, _OPEN_FILES)):
        resource.setrlimit(what, (limit, limit))
    logging.disable()


if __name__ == "__main__":
    main()
