"""The syntax of links in inputs: https URLs, `data:` URIs and `job:` ids. Nothing here looks at what they lead to."""

from __future__ import annotations

import binascii
import re
from collections.abc import Collection

from stablestudio.catalog.values import MediaKind

LONGEST_URL = 2048
LONGEST_DATA_URI = 4 * 1024 * 1024
"""Characters, so about 3 MiB of file; larger files go through an upload."""

CONTENT_TYPES: dict[MediaKind, tuple[str, ...]] = {
    "image": ("image/png", "image/jpeg", "image/webp"),
    "video": ("video/mp4", "video/webm", "video/quicktime"),
    "audio": ("audio/mpeg", "audio/wav", "audio/mp4", "audio/ogg"),
}
_KIND_OF_TYPE = {content_type: kind for kind, types in CONTENT_TYPES.items() for content_type in types}

_PORT = r"(?::(?P<port>\d{1,5}))?"
_REST = r"(?:[/?][^\s\x00-\x20\x7f#\\\"<>]*)?"
_NAME = r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*\.?"
_ANY = rf"(?:{_NAME}|\[[0-9A-Fa-f:.]+\]){_PORT}{_REST}"
_HTTPS = re.compile(rf"https://{_ANY}")
_HTTP = re.compile(rf"https?://{_ANY}")
_LOOPBACK = re.compile(rf"http://(?:(?:{_NAME}\.)?localhost|127(?:\.\d{{1,3}}){{3}}|\[::1\]){_PORT}{_REST}")
_AUTHORITY = re.compile(r"https?://([^/?#]*)")
_DATA = re.compile(r"data:([a-z]+/[a-z0-9.+-]+);base64,")
_JOB = re.compile(r"job:[A-Za-z0-9_-]{1,64}")
_VISUAL_NAME = re.compile(r"\.(?:mp4|m4v|mov|webm|png|jpe?g|webp)(?:$|\?)", re.IGNORECASE)
_VIDEO_NAME = re.compile(r"\.(?:mp4|m4v|mov|webm)(?:$|\?)", re.IGNORECASE)


def media_problem(text: str, *, kinds: Collection[MediaKind]) -> str | None:
    """Say what is wrong with a link to a file of one of these kinds; `None` where nothing is."""
    if text.startswith(("https://", "http://")):
        return _url_problem(text, pattern=_HTTPS if text.startswith("https") else _LOOPBACK)
    if text.startswith("data:"):
        return _data_problem(text, kinds=kinds)
    if text.startswith("job:"):
        return None if _JOB.fullmatch(text) else "after 'job:' comes the id of an earlier job, e.g. 'job:job_01k9x'"
    return "give an https:// URL, a data: URI, or job:<id> for the result of an earlier job"


def callback_problem(text: str) -> str | None:
    """Say what is wrong with the form of an address to call back; whether it is one that is called, its caller knows."""
    return _url_problem(text, pattern=_HTTP) if text.startswith(("https://", "http://")) else "give an https:// URL"


def data_size(url: str) -> int:
    """Return how many bytes a `data:` URI holds; 0 for any other link, whose file nobody has seen yet."""
    head = _DATA.match(url)
    return 0 if head is None else (len(url) - head.end()) * 3 // 4 - url.count("=", len(url) - 2)


def kind_of(url: str) -> MediaKind:
    """Guess what a link to an image or a video leads to, from a `data:` type or a file name; an image where nothing tells."""
    if data := _DATA.match(url):
        return _KIND_OF_TYPE.get(data[1], "image")
    return "video" if _VIDEO_NAME.search(url) else "image"


def tells_kind(url: str) -> bool:
    """Tell whether a link itself says what it leads to, so that `kind_of` does not only guess."""
    return url.startswith("data:") or _VISUAL_NAME.search(url) is not None


def _url_problem(text: str, *, pattern: re.Pattern[str]) -> str | None:
    if len(text) > LONGEST_URL:
        return f"a URL has at most {LONGEST_URL} characters"
    match = pattern.fullmatch(text)
    if match is not None and ((port := match["port"]) is None or int(port) < 1 << 16):
        return None
    return _explain_url(text, loopback=pattern is _LOOPBACK)


def _explain_url(text: str, *, loopback: bool) -> str:
    authority = _AUTHORITY.match(text)
    if authority is None or not authority[1]:
        return "the URL names no host"
    if "@" in authority[1]:
        return "a URL must not carry a user name or password"
    if "#" in text:
        return "a URL needs no #fragment: leave it off"
    if loopback:
        return "give an https:// URL; http:// is taken for localhost only"
    return "the URL is not well formed: percent-encode spaces and quotes, and check host and port"


def _data_problem(text: str, *, kinds: Collection[MediaKind]) -> str | None:
    if len(text) > LONGEST_DATA_URI:
        return f"a data: URI has at most {LONGEST_DATA_URI} characters: upload the file and give its blobUrl"
    fitting = [content_type for kind in kinds for content_type in CONTENT_TYPES[kind]]
    head = _DATA.match(text)
    if head is None or head[1] not in fitting:
        return f"a data: URI starts with data:<type>;base64, where type is one of {', '.join(fitting)}"
    payload = text[head.end() :]
    try:
        binascii.a2b_base64(payload, strict_mode=True)
    except ValueError:
        return "the data: URI is not valid base64"
    return None if payload else "the data: URI is empty"
