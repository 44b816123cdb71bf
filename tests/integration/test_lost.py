"""Whoever asks for what is not there is told where everything is."""

from __future__ import annotations

import pytest

from tests.service import Buyer


@pytest.mark.parametrize(
    ("path", "nearest"),
    [
        ("/api/generate/nano-bananna/generate", "/api/generate/nano-banana/generate"),
        ("/api/generate/veo-3.1/generate/", "/api/generate/veo-3.1/generate"),
        ("/v1/image/generations", "/v1/images/generations"),
        ("/openapi.yaml", "/openapi.json"),
        ("/zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz", None),
    ],
)
def test_an_unknown_path_is_answered_with_links_to_discover_again(
    pauper: Buyer, path: str, nearest: str | None
) -> None:
    for method in ("GET", "POST", "HEAD"):
        answer = pauper.http.request(method, path)
        assert answer.status_code == 404
        assert answer.headers["access-control-allow-origin"] == "*"
    links = pauper.http.get(path).json()["links"]
    assert links.pop("nearest", None) == (nearest and pauper.url + nearest)
    assert links == {
        "openapi": f"{pauper.url}/openapi.json",
        "llms": f"{pauper.url}/llms.txt",
        "models": f"{pauper.url}/api/models",
    }
    for link in links.values():
        assert pauper.http.get(link).status_code == 200
