"""The operator's key stays with its vendor, and result files come from public places only."""

from __future__ import annotations

import pytest

from stablestudio.config import ConfigurationInvalid
from stablestudio.providers.http import (
    Auth,
    Lost,
    Unanswered,
    Unreadable,
    VendorHttp,
    segment,
)
from stablestudio.providers.provider import FailureKind, NotAccepted
from tests.doubles import png
from tests.providers.clients import OK, client, in_turn
from tests.providers.loopback import Answer, Silence, serving
from tests.providers.troubles import public_loopback

pytestmark = pytest.mark.anyio

ELSEWHERE = "https://api.example.com"

# Where the key goes


async def test_the_key_leaves_for_no_other_address() -> None:
    async with serving(lambda _: OK) as stranger, serving(lambda _: OK) as vendor:
        http = client(vendor.url, fetcher=public_loopback())
        with pytest.raises(Unreadable, match="not its own"):
            await http.ask("GET", stranger.url + "/task")
        with pytest.raises(Unreadable):
            await http.submit("POST", stranger.url + "/task")
        assert await http.download(stranger.url + "/file", max_bytes=100) == b'{"ok": true}'
        await http.close()

    assert [request.path for request in stranger.asked] == ["/file"]
    assert "authorization" not in stranger.asked[0].headers
    assert vendor.asked == []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_does_not_take_the_key_along(status: int) -> None:
    async with serving(lambda _: Answer(body=b"clip")) as store:
        moved = Answer(status=status, headers={"location": store.url + "/signed?x=1"})
        async with serving(lambda _: moved) as vendor:
            http = client(vendor.url, fetcher=public_loopback())
            assert (await http.ask("GET", "/task")).status == status
            assert store.asked == []
            assert await http.download("/file", max_bytes=100) == b"clip"
            await http.close()

    assert [request.path for request in store.asked] == ["/signed"]
    assert "authorization" not in store.asked[0].headers


@pytest.mark.parametrize(
    ("url", "own"),
    [
        ("https://api.example.com/v1/x", True),
        ("https://API.example.com:443/other", True),
        ("http://api.example.com/v1/x", False),
        ("https://api.example.com:8443/x", False),
        ("https://api.example.com@evil.example/x", False),
        ("https://evil.example/api.example.com", False),
        ("https://api.example.com.evil.example/", False),
        ("https://eu.vendor.ai/x", True),
        ("https://a.b.vendor.ai/x", True),
        ("https://vendor.ai/x", False),
        ("https://evilvendor.ai/x", False),
        ("http://eu.vendor.ai/x", False),
        ("https://eu.vendor.ai:444/x", False),
        ("https://files.example.org/x", True),
        ("//api.example.com/x", False),
        ("data:,x", False),
        ("", False),
    ],
)
async def test_a_host_is_the_vendors_own_only_if_it_is_named(url: str, own: bool) -> None:  # noqa: FBT001 - a column
    http = client("https://api.example.com/v1", own_hosts=["*.vendor.ai", "files.example.org"])

    assert http.is_own(url) is own


async def test_the_key_may_be_made_for_each_request() -> None:
    turns: list[str] = []

    def plain() -> dict[str, str]:
        turns.append("plain")
        return {"X-Key": str(len(turns))}

    async def awaited() -> dict[str, str]:
        return {"X-Key": "token"}

    async with serving(lambda _: OK) as vendor:
        makers: list[Auth] = [plain, awaited]
        for auth in makers:
            http = VendorHttp(name="v", base_url=vendor.url, auth=auth)
            await http.ask("GET", "/")
            await http.submit("POST", "/")
            await http.close()

    assert [request.headers["x-key"] for request in vendor.asked] == ["1", "2", "token", "token"]


async def test_without_a_key_to_be_had_nothing_is_sent() -> None:
    def none() -> dict[str, str]:
        raise NotAccepted("no token", kind=FailureKind.UPSTREAM_AUTH)

    async with serving(lambda _: OK) as vendor:
        http = VendorHttp(name="v", base_url=vendor.url, auth=none)
        with pytest.raises(NotAccepted) as caught:
            await http.submit("POST", "/")
        await http.close()

    assert caught.value.kind is FailureKind.UPSTREAM_AUTH
    assert vendor.asked == []


async def test_a_vendors_cookies_are_not_kept() -> None:
    async with serving(lambda _: Answer(json={}, headers={"set-cookie": "a=b; Path=/"})) as vendor:
        http = client(vendor.url)
        await http.ask("GET", "/")
        await http.ask("GET", "/")
        await http.close()

    assert "cookie" not in vendor.asked[1].headers


# Addresses


@pytest.mark.parametrize("url", ["https://api.example.com", "https://api.example.com/v1/", "http://127.0.0.1:9/v1"])
async def test_an_address_is_https_or_on_the_loopback(url: str) -> None:
    assert client(url).base_url == url.rstrip("/")


@pytest.mark.parametrize(
    "url",
    [
        "http://api.example.com",
        "http://10.0.0.1",
        "ftp://api.example.com",
        "api.example.com",
        "https://user:pass@api.example.com",
        "https://api.example.com/v1?x=1",
        "",
    ],
)
async def test_any_other_address_is_a_mistake_in_the_configuration(url: str) -> None:
    with pytest.raises(ConfigurationInvalid, match="address of vendor"):
        client(url)


async def test_a_task_id_cannot_climb_out_of_its_place() -> None:
    http = client("https://api.example.com/v1")

    assert segment("a/../b?c#d") == "a%2F..%2Fb%3Fc%23d"
    for name in ("", ".", "..", "x" * 513):
        with pytest.raises(Unreadable, match="not an id"):
            segment(name)
    with pytest.raises(Unreadable, match="not a path"):
        await http.ask("GET", "/videos/..")


# Result files


async def test_a_file_on_the_vendors_own_host_is_fetched_with_the_key() -> None:
    async with serving(in_turn(Answer(status=502), Answer(body=png()))) as vendor:
        http = client(vendor.url + "/v1")
        assert await http.download("/videos/1/content", max_bytes=10_000) == png()
        assert await http.download(vendor.url + "/other", max_bytes=10_000) == png()
        await http.close()

    assert [request.path for request in vendor.asked] == ["/v1/videos/1/content"] * 2 + ["/other"]
    assert all("authorization" in request.headers for request in vendor.asked)


@pytest.mark.parametrize(
    "url",
    [
        "https://10.0.0.1/file",
        "https://169.254.169.254/latest/meta-data",
        "http://files.example.com/file",
        "https://printer.local/file",
        "file:///etc/passwd",
        "data:image/png;base64,iVBORw0KGgo=",
        "",
    ],
)
async def test_a_result_on_a_private_or_unsafe_address_is_lost(url: str) -> None:
    for base in ("https://api.example.com", "http://127.0.0.1:9"):
        with pytest.raises(Lost):
            await client(base).download(url, max_bytes=100)


async def test_a_result_on_the_loopback_is_lost_unless_the_vendor_is_there() -> None:
    async with serving(lambda _: OK) as stranger:
        with pytest.raises(Lost, match="https"):
            await client("https://api.example.com").download(stranger.url, max_bytes=100)

    assert stranger.asked == []


async def test_a_result_that_is_too_large_is_lost() -> None:
    async with serving(lambda _: Answer(body=b"x" * 2000)) as files:
        for own in (True, False):
            http = client(files.url if own else ELSEWHERE, fetcher=public_loopback())
            with pytest.raises(Lost, match="larger"):
                await http.download(files.url + "/file", max_bytes=1000)
            await http.close()


@pytest.mark.parametrize(
    "answer",
    [
        Answer(body=b"x", headers={"content-encoding": "gzip"}),
        Answer(status=302, headers={"location": "/again"}),
        Answer(status=302, headers={"location": "https://10.0.0.1/file"}),
        Answer(status=302, headers={"location": "https://[zz]/file"}),
    ],
)
async def test_what_no_patience_mends_is_lost_at_once(answer: Answer) -> None:
    async with serving(lambda _: answer) as files:
        with pytest.raises(Lost):
            await client(ELSEWHERE, fetcher=public_loopback()).download(files.url + "/file", max_bytes=1000)

    assert len(files.asked) <= 4


async def test_a_vendors_redirect_that_leads_to_no_address_is_lost() -> None:
    async with serving(lambda _: Answer(status=302, headers={"location": "https://[zz]/file"})) as vendor:
        http = client(vendor.url)
        with pytest.raises(Lost, match="no address"):
            await http.download("/file", max_bytes=1000)
        await http.close()


@pytest.mark.parametrize("status", [404, 410])
async def test_an_expired_result_is_lost_soon(status: int) -> None:
    async with serving(lambda _: Answer(status=status)) as files:
        with pytest.raises(Lost, match=str(status)):
            await client(ELSEWHERE, fetcher=public_loopback()).download(files.url + "/file", max_bytes=1000)
        own = client(files.url)
        with pytest.raises(Lost, match=str(status)):
            await own.download("/file", max_bytes=1000)
        await own.close()

    assert len(files.asked) == 3 + 3


async def test_a_stores_faults_are_outlasted_until_the_deadline() -> None:
    troubles: list[Answer | Silence] = [Silence.RESET, Silence.CUT]
    troubles += [Answer(status=each) for each in (500, 429, 404)]
    async with serving(in_turn(*troubles, Answer(body=b"clip"))) as files:
        http = client(ELSEWHERE, fetcher=public_loopback())
        with pytest.raises(Lost, match="404"):
            await http.download(files.url + "/a", max_bytes=1000)
        assert await http.download(files.url + "/b", max_bytes=1000) == b"clip"
    async with serving(lambda _: Answer(status=503)) as files:
        with pytest.raises(Unanswered):
            await http.download(files.url + "/c", max_bytes=1000, deadline_seconds=0.05)


@pytest.mark.parametrize("status", [401, 402, 403])
async def test_a_result_is_not_lost_while_the_operators_key_is_refused(status: int) -> None:
    async with serving(in_turn(Answer(status=status), Answer(body=b"clip"))) as vendor:
        http = client(vendor.url)
        with pytest.raises(Unanswered, match=str(status)):
            await http.download("/file", max_bytes=1000)
        assert await http.download("/file", max_bytes=1000) == b"clip"
        await http.close()


async def test_a_new_file_on_the_vendors_own_host_may_need_a_moment() -> None:
    async with serving(in_turn(Answer(status=404), Answer(status=404), Answer(body=b"clip"))) as vendor:
        http = client(vendor.url)
        assert await http.download("/file", max_bytes=1000) == b"clip"
        await http.close()


async def test_a_result_on_the_loopback_comes_from_the_vendors_own_port_only() -> None:
    """At other ports are services of ours, and it is the vendor who names the address."""
    async with serving(lambda _: OK) as ours, serving(lambda _: Answer(body=b"clip")) as vendor:
        http = client(f"http://localhost:{vendor.port}")
        with pytest.raises(Lost):
            await http.download(ours.url + "/admin", max_bytes=1000)
        assert await http.download(vendor.url + "/file", max_bytes=1000) == b"clip"
        await http.close()

    assert ours.asked == []
    assert "authorization" not in vendor.asked[0].headers, "another spelling of the host is not the base"
