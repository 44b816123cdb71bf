"""Links to media: what is taken, what is refused and why, and what an input says about its files."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from stablestudio.catalog import CONTENT_TYPES, MediaInput, by_path
from stablestudio.catalog.links import LONGEST_DATA_URI, callback_problem, data_size, kind_of, media_problem
from stablestudio.catalog.values import MediaKind

IMAGE: tuple[MediaKind, ...] = ("image",)


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/a.png",
        "https://example.com",
        "https://example.com?x=1",
        "https://example.com:8443/a%20b.png?token=a:b@c&x=[1]",
        "https://sub_domain.example.com./ü.png",
        "https://[2606:4700::1111]/a.png",
        "https://xn--bcher-kva.example/a.png",
        "http://localhost/a.png",
        "http://localhost:8402/assets/a.png?exp=1&sig=2",
        "http://studio.localhost:8402/a.png",
        "http://127.0.0.1:8402/a.png",
        "http://127.8.9.1/a.png",
        "http://[::1]:8402/a.png",
        "job:job_01k9xabc",
        "job:clx-123",
        "data:image/png;base64,iVBORw0KGgo=",
        "data:image/webp;base64,AAAA",
    ],
)
def test_a_link_to_media_is_taken(url: str) -> None:
    assert media_problem(url, kinds=IMAGE) is None


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("", "give an https:// URL"),
        ("example.com/a.png", "give an https:// URL"),
        ("ftp://example.com/a.png", "give an https:// URL"),
        ("file:///etc/passwd", "give an https:// URL"),
        ("HTTPS://example.com/a.png", "give an https:// URL"),
        (" https://example.com/a.png", "give an https:// URL"),
        ("https://", "names no host"),
        ("https:///a.png", "names no host"),
        ("https://user:word@example.com/a.png", "user name or password"),
        ("https://user@example.com/a.png", "user name or password"),
        ("https://example.com#@evil.example/a.png", "fragment"),
        ("https://example.com/a.png#top", "fragment"),
        ("https://example.com\\@evil.example/a.png", "user name or password"),
        ("https://example.com/a b.png", "not well formed"),
        ("https://example.com/a\n.png", "not well formed"),
        ("https://example.com/a\u2028.png", "not well formed"),
        ("https://exa mple.com/a.png", "not well formed"),
        ("https://bücher.example/a.png", "not well formed"),
        ("https://example..com/a.png", "not well formed"),
        ("https://example.com:99999/a.png", "not well formed"),
        ("https://example.com:x/a.png", "not well formed"),
        ("https://example.com/" + "a" * 2048, "at most 2048 characters"),
        ("http://example.com/a.png", "http:// is taken for localhost only"),
        ("http://127.0.0.1.example.com/a.png", "http:// is taken for localhost only"),
        ("http://localhost.example.com/a.png", "http:// is taken for localhost only"),
        ("http://10.0.0.1/a.png", "http:// is taken for localhost only"),
        ("http://169.254.169.254/latest", "http:// is taken for localhost only"),
        ("http://localhost@example.com/a.png", "user name or password"),
        ("job:", "the id of an earlier job"),
        ("job:a/b", "the id of an earlier job"),
        ("job:" + "a" * 65, "the id of an earlier job"),
        ("data:image/png;base64,", "is empty"),
        ("data:image/png;base64,%%%%", "not valid base64"),
        ("data:image/png;base64,AAA", "not valid base64"),
        ("data:image/png;base64,AA==AA==", "not valid base64"),
        ("data:image/png;base64,ÄÄÄÄ", "not valid base64"),
        ("data:image/png,abc", "starts with data:<type>;base64"),
        ("data:image/svg+xml;base64,AAAA", "one of image/png, image/jpeg, image/webp"),
        ("data:video/mp4;base64,AAAA", "one of image/png, image/jpeg, image/webp"),
        ("data:text/html;base64,AAAA", "one of image/png, image/jpeg, image/webp"),
    ],
)
def test_anything_else_is_refused_with_a_reason(url: str, why: str) -> None:
    assert why in (media_problem(url, kinds=IMAGE) or "")


def test_a_data_uri_is_taken_up_to_its_limit() -> None:
    head = "data:image/png;base64,"
    fitting = head + base64.b64encode(bytes((LONGEST_DATA_URI - len(head)) // 4 * 3)).decode()
    assert media_problem(fitting, kinds=IMAGE) is None
    assert "upload the file" in (media_problem(fitting + "AAAA", kinds=IMAGE) or "")


@pytest.mark.parametrize(
    ("url", "taken"),
    [
        ("https://example.com/hook?x=1", True),
        ("http://localhost:8402/hook", True),
        ("http://example.com/a b", False),
        ("ftp://example.com/hook", False),
        ("job:job_1", False),
        ("data:image/png;base64,AAAA", False),
        ("https://a:b@example.com/hook", False),
    ],
)
def test_the_form_of_an_address_to_call_back_is_that_of_the_web(url: str, taken: bool) -> None:  # noqa: FBT001 - a table of outcomes
    assert (callback_problem(url) is None) == taken


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("https://example.com/a.png", "image"),
        ("https://example.com/a", "image"),
        ("https://example.com/a.MP4?x=1", "video"),
        ("https://example.com/a.mp4/b.png", "image"),
        ("data:video/webm;base64,AAAA", "video"),
        ("job:job_1", "image"),
    ],
)
def test_the_kind_of_a_link_is_guessed(url: str, kind: str) -> None:
    assert kind_of(url) == kind


def media(key: str, body: dict[str, Any]) -> tuple[MediaInput, ...]:
    offering = by_path(f"/api/generate/{key}")
    assert offering is not None
    return offering.read(json.dumps(body).encode()).media()


A, B, V, S = (f"https://example.com/{name}" for name in ("a.png", "b.png", "v.mp4", "s.mp3"))


def test_an_edit_points_to_its_images() -> None:
    assert media("nano-banana/edit", {"prompt": "x", "images": [A, "job:job_1"]}) == (
        MediaInput(path=("images", 0), kind="image", url=A, role="reference"),
        MediaInput(path=("images", 1), kind="image", url="job:job_1", role="reference"),
    )


@pytest.mark.parametrize(
    ("key", "body", "expected"),
    [
        ("nano-banana/generate", {}, []),
        ("grok-video/generate", {"image": A}, [(("image",), "image", "first_frame")]),
        ("sora-2/generate", {"input_reference": A}, [(("input_reference",), "image", "first_frame")]),
        ("wan-2.6/t2v", {"audioUrl": S}, [(("audioUrl",), "audio", "soundtrack")]),
        (
            "wan-2.6/i2v",
            {"image": A, "audioUrl": S},
            [(("image",), "image", "first_frame"), (("audioUrl",), "audio", "soundtrack")],
        ),
        (
            "veo-3.1/generate",
            {"image": A, "lastFrame": B},
            [(("image",), "image", "first_frame"), (("lastFrame",), "image", "last_frame")],
        ),
        ("veo-3.1/generate", {"referenceImages": [A]}, [(("referenceImages", 0), "image", "reference")]),
        (
            "seedance/i2v",
            {"urls": [A, B]},
            [(("urls", 0), "image", "first_frame"), (("urls", 1), "image", "last_frame")],
        ),
        (
            "seedance/i2v",
            {"mode": "reference", "urls": [V, A], "audioUrls": [S]},
            [
                (("urls", 0), "video", "reference"),
                (("urls", 1), "image", "reference"),
                (("audioUrls", 0), "audio", "reference"),
            ],
        ),
        (
            "seedance/i2v",
            {"mode": "reference", "urls": ["https://example.com/1"], "urlMediaTypes": ["video"]},
            [(("urls", 0), "video", "reference")],
        ),
    ],
)
def test_every_file_has_its_place_kind_and_role(key: str, body: dict[str, Any], expected: list[Any]) -> None:
    assert [(each.path, each.kind, each.role) for each in media(key, {"prompt": "x"} | body)] == expected


def test_each_content_type_has_one_kind() -> None:
    types = [each for types in CONTENT_TYPES.values() for each in types]
    assert len(types) == len(set(types))


@pytest.mark.parametrize("size", range(1, 9))
def test_a_data_uri_tells_the_size_of_its_file(size: int) -> None:
    assert data_size("data:audio/wav;base64," + base64.b64encode(b"x" * size).decode()) == size
    assert data_size("https://example.com/a.wav") == data_size("job:job_1") == 0
