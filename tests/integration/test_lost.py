"""Whoever asks for what is not there is told where everything is."""

from __future__ import annotations

import re

import pytest

from tests.service import Buyer


@pytest.mark.parametrize(
    ("path", "nearest"),
    [
        ("/api/generate/nano-bananna/generate", "/api/generate/nano-banana/generate"),
        ("/api/generate/veo-3.1/generate/", "/api/generate/veo-3.1/generate"),
        ("/v1/image/generations", "/v1/images/generations"),
        ("/openapi.yaml", "/openapi.json"),
        ("/api/generate/flux-2-pro", "/api/generate/flux-2-pro/generate"),
        ("/api/generate/flux-2-pro/t2v", "/api/generate/flux-2-pro/generate"),
        ("/api/generate/flux-2-pro/edits", "/api/generate/flux-2-pro/edit"),
        ("/api/generate/seedance/generate", "/api/generate/seedance/t2v"),
        ("/api/generate", "/api/models"),
        ("/api/generate/", "/api/models"),
        ("/api/generate/no-such-thing-at-all/generate", "/api/models"),
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


BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}


def test_a_browser_is_shown_a_page_with_links_where_nothing_is(pauper: Buyer) -> None:
    answer = pauper.http.get("/modles?x=1", headers=BROWSER)
    assert (answer.status_code, answer.headers["content-type"]) == (404, "text/html; charset=utf-8")
    assert answer.headers["x-request-id"]
    links = re.findall(r'href="([^"]+)"', answer.text)
    assert f"{pauper.url}/openapi.json" in links
    for link in {link for link in links if not link.startswith("/#")}:
        assert pauper.http.get(link).status_code == 200, link
    assert pauper.http.post("/modles", headers=BROWSER).headers["content-type"] == "application/json"


def test_the_explanation_of_each_error_is_where_errors_say(pauper: Buyer) -> None:
    error = pauper.http.get("/nowhere").json()
    page = pauper.http.get(error["docs"], headers=BROWSER)
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert f'id="{error["docs"].partition("#")[2]}"' in page.text
    plain = pauper.http.get(error["docs"])
    assert plain.headers["content-type"] == "text/markdown; charset=utf-8"
    codes = re.findall(r"^## (\w+)$", plain.text, re.MULTILINE)
    assert re.findall(r'<h2 id="(\w+)">', page.text) == codes
    assert len(codes) > 50
    assert page.headers["vary"] == plain.headers["vary"] == "Accept"
    assert page.headers["etag"] != plain.headers["etag"]


@pytest.mark.parametrize("path", ["/api/models", "/api/models/grok"])
def test_a_filter_that_is_not_there_is_refused_and_not_passed_over(pauper: Buyer, path: str) -> None:
    refused = pauper.http.get(f"{path}?kind=video&available=")
    assert (refused.status_code, refused.json()["code"]) == (400, "invalid_input")
    assert [issue["path"] for issue in refused.json()["issues"]] == [["available"], ["kind"]]
    assert pauper.http.get(f"{path}?" + "a=1&" * 20).status_code == 400
