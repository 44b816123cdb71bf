"""Which addresses may be fetched: how a URL is read, and which IP addresses count as public. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Container
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from urllib.parse import quote, urljoin

from stablestudio.errors import StudioError

Address = IPv4Address | IPv6Address

# The IANA special-purpose registries, and what clouds put at public-looking addresses. The standard library's
# `is_global` is asked too, but alone it is too old: on Python 3.11 it calls several of these public.
_DENIED_IPV4 = tuple(
    map(
        IPv4Network,
        (
            "0.0.0.0/8",
            "10.0.0.0/8",
            "100.64.0.0/10",  # carrier-grade NAT, and Alibaba's metadata
            "127.0.0.0/8",
            "168.63.129.16/32",  # Azure's host agent
            "169.254.0.0/16",
            "172.16.0.0/12",
            "192.0.0.0/24",  # protocol assignments, and Oracle's metadata
            "192.0.2.0/24",
            "192.31.196.0/24",
            "192.52.193.0/24",
            "192.88.99.0/24",
            "192.168.0.0/16",
            "192.175.48.0/24",
            "198.18.0.0/15",
            "198.51.100.0/24",
            "203.0.113.0/24",
            "224.0.0.0/4",
            "240.0.0.0/4",
        ),
    )
)
# Loopback, link-local, unique local, multicast, mapped IPv4 and both NAT64 prefixes all lie outside this.
_GLOBAL_IPV6 = IPv6Network("2000::/3")
_DENIED_IPV6 = tuple(
    map(
        IPv6Network,
        (
            "2001::/23",  # protocol assignments: Teredo, benchmarking, ORCHID
            "2001:db8::/32",
            "2002::/16",  # 6to4, which carries any IPv4 address
            "2620:4f:8000::/48",
            "3fff::/20",
        ),
    )
)
# RFC 5214, section 6.1: an interface identifier of ISATAP, under any prefix, ends in the IPv4 address that it tunnels to.
_ISATAP = frozenset({b"\x00\x00\x5e\xfe", b"\x02\x00\x5e\xfe"})
_DENIED_SUFFIXES = (
    ".arpa",
    ".corp",
    ".home",
    ".internal",
    ".intranet",
    ".invalid",
    ".lan",
    ".local",
    ".localdomain",
    ".localhost",
    ".onion",
    ".private",
    ".test",
)
_LONGEST_URL = 8192
# Control characters, and those that turn the direction of what is shown (Unicode's Bidi_Control).
_UNSEEN = r"\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff"
_URL = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<authority>[^/?#\\]*)"
    rf"(?P<target>[^#\\{_UNSEEN}]*)(?:#[^{_UNSEEN}]*)?",
    re.IGNORECASE | re.ASCII,
)
_AUTHORITY = re.compile(
    r"(?P<host>\[[0-9a-f.]*:[0-9a-f:.]*\]|[a-z0-9._-]+)(?::(?P<port>[0-9]{1,5}))?", re.IGNORECASE | re.ASCII
)
# The last label begins with a letter, so that no spelling of an IPv4 address (decimal, hex, octal, short) is a name.
_NAME = re.compile(r"(?=.{1,253}$)(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)+[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?")
_IPV4 = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}")
_DEFAULT_PORTS = {"http": 80, "https": 443}


class FetchRefused(StudioError):
    """This address is not one that the service fetches from."""

    status = 400
    hint = "Give a public https:// address, a link to an earlier result, or a data: URI."


class FetchFailed(StudioError):
    """This address could not be fetched."""

    status = 400
    hint = "Check that the address answers with the file itself to anyone, without signing in, then try again."


def is_public(address: Address) -> bool:
    """Tell whether an address belongs to the public internet.

    IPv6 forms that carry an IPv4 address (mapped, NAT64, 6to4, Teredo, ISATAP) are not, whichever address they carry.
    """
    if not address.is_global:
        return False
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _DENIED_IPV4)
    if address not in _GLOBAL_IPV6 or address.packed[8:12] in _ISATAP:
        return False
    return not any(address in network for network in _DENIED_IPV6)


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchPolicy:
    """What may be fetched: schemes, ports, and a judgement of each IP address."""

    schemes: frozenset[str] = frozenset({"https"})
    ports: Container[int] = frozenset({80, 443})
    permits: Callable[[Address], bool] = is_public


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One URL, read once: what is connected to and what is asked for are the very same reading."""

    scheme: str
    host: str  # lower case, without brackets
    port: int
    path: str  # percent-encoded, with the query

    @property
    def origin(self) -> tuple[str, str, int]:
        return (self.scheme, self.host, self.port)

    @property
    def authority(self) -> str:
        """The value of the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS.get(self.scheme) else f"{host}:{self.port}"


def read_url(url: str) -> Target:
    """Read an absolute URL strictly; raise `FetchRefused` where two readers could disagree about its host."""
    if len(url) > _LONGEST_URL:
        raise FetchRefused(f"An address may have at most {_LONGEST_URL} characters.")
    parts = _URL.fullmatch(url)
    if parts is None:
        raise FetchRefused("This is not an absolute https:// address.")
    if "@" in parts["authority"]:
        raise FetchRefused("An address with a user name or password is not fetched.")
    authority = _AUTHORITY.fullmatch(parts["authority"])
    if authority is None:
        raise FetchRefused("The host of this address is not written plainly; use its ASCII name (xn--... if needed).")
    scheme = parts["scheme"].lower()
    path = quote(parts["target"], safe="/%:?@!$&'()*+,;=[]~")
    return Target(
        scheme=scheme,
        host=authority["host"].lower().strip("[]"),
        port=int(authority["port"]) if authority["port"] else _DEFAULT_PORTS.get(scheme, 0),
        path=path if path.startswith("/") else f"/{path}",
    )


def redirected(base: str, location: str) -> str:
    """Return where the Location header of an answer from `base` leads; raise `FetchRefused` where nobody can tell."""
    try:
        # `urljoin` drops tabs, and whoever reads the same header elsewhere may not.
        return location if "\t" in location else urljoin(base, location)
    except ValueError:
        raise FetchRefused("The address redirects to what is no address.") from None


def admit(target: Target, policy: FetchPolicy) -> None:
    """Raise `FetchRefused` unless the policy allows the target as far as it can be judged without looking it up."""
    if target.scheme not in policy.schemes:
        raise FetchRefused(f"Only {' and '.join(sorted(policy.schemes))} addresses are fetched.")
    if target.port not in policy.ports:
        raise FetchRefused(f"{target.host} is not fetched from at port {target.port}: leave the port out.")
    address = literal(target.host)
    if address is not None:
        permitted = policy.permits(address)
    else:
        permitted = _NAME.fullmatch(target.host) is not None and not target.host.endswith(_DENIED_SUFFIXES)
    if not permitted:
        raise FetchRefused(f"{target.host} is not a public address.")


def literal(host: str) -> Address | None:
    """Return the IP address that a host spells in its canonical form, or None for a name."""
    if ":" not in host and not _IPV4.fullmatch(host):
        return None
    try:
        return ip_address(host)
    except ValueError:
        raise FetchRefused(f"{host} is not a public address.") from None
