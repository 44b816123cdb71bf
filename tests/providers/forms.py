"""Forms (multipart/form-data) read by the standard library's parser of messages."""

from __future__ import annotations

from email.parser import BytesParser
from email.policy import HTTP


def parts(body: bytes, content_type: str) -> list[tuple[str, str | None, str, bytes]]:
    """Return name, file name, content type and data of each part."""
    message = BytesParser(policy=HTTP).parsebytes(f"Content-Type: {content_type}\r\n\r\n".encode() + body)
    return [
        (
            str(part.get_param("name", header="content-disposition")),
            part.get_filename(),
            part.get_content_type(),
            bytes(part.get_payload(decode=True)),
        )
        for part in message.iter_parts()
    ]
