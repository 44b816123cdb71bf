"""Bodies of the type multipart/form-data (RFC 7578), for servers that take files in no other way."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence

from stablestudio.providers.inputs import MediaFile

_EXTENSIONS = {"image/jpeg": "jpg"}


def form(fields: Mapping[str, object], *, files: Sequence[MediaFile], files_as: str) -> tuple[bytes, str]:
    """Return the body and its content type; every file is a part named `files_as`."""
    boundary = secrets.token_hex(16)
    body = bytearray()
    for name, value in fields.items():
        body += _part(boundary, f'name="{name}"', str(value).encode())
    for index, file in enumerate(files):
        place = f'name="{files_as}"; filename="{index}.{_extension(file.content_type)}"'
        body += _part(boundary, place, file.data, content_type=file.content_type)
    body += f"--{boundary}--\r\n".encode()
    return bytes(body), f"multipart/form-data; boundary={boundary}"


def _extension(content_type: str) -> str:
    return _EXTENSIONS.get(content_type, content_type.partition("/")[2])


def _part(boundary: str, place: str, data: bytes, *, content_type: str | None = None) -> bytes:
    kind = f"Content-Type: {content_type}\r\n" if content_type else ""
    return f"--{boundary}\r\nContent-Disposition: form-data; {place}\r\n{kind}\r\n".encode() + data + b"\r\n"
