from __future__ import annotations

from ipaddress import IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stablestudio.media.addresses import FetchPolicy, FetchRefused, admit, is_public, literal, read_url

# First and last address of every range that is not the public internet, and what lies in the middle of note.
NOT_PUBLIC = [
    "0.0.0.0",
    "0.255.255.255",
    "10.0.0.0",
    "10.255.255.255",
    "100.64.0.0",
    "100.100.100.200",
    "100.127.255.255",
    "127.0.0.0",
    "127.0.0.1",
    "127.255.255.255",
    "168.63.129.16",
    "169.254.0.0",
    "169.254.169.254",
    "169.254.170.2",
    "169.254.255.255",
    "172.16.0.0",
    "172.31.255.255",
    "192.0.0.0",
    "192.0.0.8",
    "192.0.0.9",
    "192.0.0.10",
    "192.0.0.170",
    "192.0.0.192",
    "192.0.0.255",
    "192.0.2.0",
    "192.0.2.255",
    "192.31.196.1",
    "192.52.193.1",
    "192.88.99.0",
    "192.88.99.1",
    "192.88.99.255",
    "192.168.0.0",
    "192.168.255.255",
    "192.175.48.1",
    "198.18.0.0",
    "198.19.255.255",
    "198.51.100.0",
    "198.51.100.255",
    "203.0.113.0",
    "203.0.113.255",
    "224.0.0.0",
    "239.255.255.255",
    "240.0.0.0",
    "255.255.255.255",
    "::",
    "::1",
    "::7f00:1",
    "::ffff:127.0.0.1",
    "::ffff:8.8.8.8",
    "::ffff:0:7f00:1",
    "64:ff9b::7f00:1",
    "64:ff9b::8.8.8.8",
    "64:ff9b:1::1",
    "64:ff9b:1:ffff:ffff:ffff:ffff:ffff",
    "100::1",
    "100:0:0:1::1",
    "2001::1",
    "2001:0:7f00:1::",
    "2001:1::1",
    "2001:2::1",
    "2001:10::1",
    "2001:20::1",
    "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff",
    "2001:db8::1",
    "2002::1",
    "2002:7f00:1::",
    "2002:808:808::",
    "2620:4f:8000::1",
    "3fff::1",
    "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff",
    "5f00::1",
    "4000::1",
    "fc00::1",
    "fd00:ec2::254",
    "fd20:ce::254",
    "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
    "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
]

PUBLIC = [
    "1.1.1.1",
    "8.8.8.8",
    "9.255.255.255",
    "11.0.0.0",
    "100.63.255.255",
    "100.128.0.0",
    "126.255.255.255",
    "128.0.0.0",
    "168.63.129.15",
    "169.253.255.255",
    "169.255.0.0",
    "172.15.255.255",
    "172.32.0.0",
    "191.255.255.255",
    "192.0.1.0",
    "192.0.3.0",
    "192.88.98.255",
    "192.88.100.0",
    "192.167.255.255",
    "192.169.0.0",
    "198.17.255.255",
    "198.20.0.0",
    "198.51.99.255",
    "203.0.112.255",
    "223.255.255.255",
    "2001:200::1",
    "2001:4860:4860::8888",
    "2606:4700::1111",
    "2a00:1450:4001::1",
    "2003::1",
    "3ffe::1",
]


@pytest.mark.parametrize("text", NOT_PUBLIC)
def test_special_address_is_not_public(text: str) -> None:
    assert not is_public(ip_address(text))


@pytest.mark.parametrize("text", PUBLIC)
def test_address_beside_the_special_ranges_is_public(text: str) -> None:
    assert is_public(ip_address(text))


@given(value=st.integers(0, 2**32 - 1))
def test_whatever_carries_an_ipv4_address_is_not_public(value: int) -> None:
    carriers = {
        "compatible": value,
        "mapped": 0xFFFF << 32 | value,
        "NAT64": 0x0064_FF9B << 96 | value,
        "6to4": 0x2002 << 112 | value << 80 | 1,
        "Teredo": 0x2001_0000 << 96 | value << 64 | 1,
        "ISATAP": 0x2A00_1450 << 96 | 0x5EFE << 32 | value,
        "ISATAP, marked global": 0x2A00_1450 << 96 | 0x0200_5EFE << 32 | value,
    }
    assert [name for name, carrier in carriers.items() if is_public(IPv6Address(carrier))] == []


@given(value=st.integers(0, 2**128 - 1).map(lambda value: value & ((1 << 125) - 1) | 1 << 125))
def test_nothing_is_public_that_the_standard_library_calls_special(value: int) -> None:
    address = ip_address(value)

    assert address.is_global or not is_public(address)


@pytest.mark.parametrize(
    ("url", "scheme", "host", "port", "path"),
    [
        ("https://example.com", "https", "example.com", 443, "/"),
        ("HTTPS://Example.COM/A/b", "https", "example.com", 443, "/A/b"),
        ("https://example.com:443/", "https", "example.com", 443, "/"),
        ("https://example.com:0443/", "https", "example.com", 443, "/"),
        ("http://example.com/", "http", "example.com", 80, "/"),
        ("https://example.com?q=1#f", "https", "example.com", 443, "/?q=1"),
        ("https://example.com/a?u=https://x@y/#z", "https", "example.com", 443, "/a?u=https://x@y/"),
        ("https://example.com/my pic ü.png", "https", "example.com", 443, "/my%20pic%20%C3%BC.png"),
        ("https://example.com/%41?a=%2F&b=[1]", "https", "example.com", 443, "/%41?a=%2F&b=[1]"),
        ("https://[2606:4700::1111]:80/x", "https", "2606:4700::1111", 80, "/x"),
        ("https://xn--bcher-kva.example.org/", "https", "xn--bcher-kva.example.org", 443, "/"),
    ],
)
def test_url_is_read_strictly(url: str, scheme: str, host: str, port: int, path: str) -> None:
    target = read_url(url)

    assert (target.scheme, target.host, target.port, target.path) == (scheme, host, port, path)


@pytest.mark.parametrize(
    ("url", "authority"),
    [
        ("https://example.com/", "example.com"),
        ("https://example.com:80/", "example.com:80"),
        ("https://[2606:4700::1111]/", "[2606:4700::1111]"),
        ("https://[2606:4700::1111]:80/", "[2606:4700::1111]:80"),
    ],
)
def test_host_header_names_the_port_only_where_it_is_unusual(url: str, authority: str) -> None:
    assert read_url(url).authority == authority


@given(url=st.text(max_size=60) | st.text(max_size=60).map("https://".__add__))
def test_any_text_is_read_or_refused(url: str) -> None:
    try:
        target = read_url(url)
    except FetchRefused:
        return
    assert target.host.isascii()
    assert target.path.isascii()
    assert target.path.startswith("/")


def test_refusal_never_repeats_a_password_or_query() -> None:
    for url in ("https://user:hunter2@example.com/?token=hunter2", "https://bad host/?token=hunter2"):
        with pytest.raises(FetchRefused) as caught:
            read_url(url)
        assert "hunter2" not in str(caught.value.body())


@pytest.mark.parametrize("target", ["/a\nb", "/a\rb", "/a\tb", "/\x00", "/\x7f", "/a\\b", "\\b", "/\ud800"])
def test_target_that_others_could_read_differently_is_refused(target: str) -> None:
    with pytest.raises(FetchRefused):
        read_url(f"https://example.com{target}")


@pytest.mark.parametrize("url", ["https://user@example.com/", "https://@example.com/"])
def test_refusal_of_a_user_name_says_so(url: str) -> None:
    with pytest.raises(FetchRefused, match="user name"):
        read_url(url)


@pytest.mark.parametrize("letter", ["\u212a", "\u017f", "\u0131"])  # they fold to k, s and i
def test_letters_that_fold_to_ascii_are_not_ascii(letter: str) -> None:
    for url in (f"https://{letter}.example.com/", f"http{letter}://example.com/"):
        with pytest.raises(FetchRefused):
            read_url(url)


@pytest.mark.parametrize(
    "suffix",
    [
        *("arpa", "corp", "home", "internal", "intranet", "invalid", "lan"),
        *("local", "localdomain", "localhost", "onion", "private", "test"),
    ],
)
def test_name_of_a_home_network_is_refused(suffix: str) -> None:
    with pytest.raises(FetchRefused, match=f"nas.{suffix} is not a public address"):
        admit(read_url(f"https://NAS.{suffix.upper()}/"), FetchPolicy())
    admit(read_url(f"https://{suffix}.example.com/"), FetchPolicy())
    admit(read_url(f"https://not{suffix}.com/"), FetchPolicy())


def test_too_long_url_is_refused() -> None:
    with pytest.raises(FetchRefused):
        read_url("https://example.com/" + "a" * 8192)


@pytest.mark.parametrize("host", ["1.2.3.4", "2606:4700::1111", "::1"])
def test_canonical_address_is_read(host: str) -> None:
    assert literal(host) == ip_address(host)


def test_name_is_no_address() -> None:
    assert literal("example.com") is None


@pytest.mark.parametrize("host", ["256.1.1.1", "010.0.0.1", "1.2.3.04", ":::1", "::1::", "1:2"])
def test_address_that_is_not_canonical_is_refused(host: str) -> None:
    with pytest.raises(FetchRefused):
        literal(host)


def test_policy_of_a_test_may_allow_more() -> None:
    target = read_url("http://127.0.0.1:8402/x")
    allowance = FetchPolicy(
        schemes=frozenset({"http"}), ports=frozenset({8402}), permits=lambda address: address.is_loopback
    )

    admit(target, allowance)
    with pytest.raises(FetchRefused):
        admit(target, FetchPolicy())
