"""Which addresses are a vendor's own, so that the operator's key may go there."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass

from stablestudio.config import ConfigurationInvalid
from stablestudio.media.addresses import FetchRefused, Target, read_url


@dataclass(frozen=True, slots=True, kw_only=True)
class Home:
    """A vendor's base address and the further hosts that are its own: `api.example`, or `*.example` for all below."""

    base: Target
    own_hosts: tuple[str, ...]

    @classmethod
    def read(cls, name: str, base_url: str, own_hosts: Iterable[str]) -> Home:
        """Check the address of the vendor called `name`. Raises `ConfigurationInvalid`."""
        try:
            base = read_url(base_url)
        except FetchRefused as error:
            raise ConfigurationInvalid(f"The address of {name}: {error.message}") from None
        if base.scheme != "https" and not (base.scheme == "http" and _is_loopback(base.host)):
            raise ConfigurationInvalid(f"The address of {name} must be https; only on this machine's loopback, http.")
        if "?" in base.path:
            raise ConfigurationInvalid(f"The address of {name} must have no query.")
        return cls(base=base, own_hosts=tuple(host.lower() for host in own_hosts))

    def owns(self, url: str) -> bool:
        """Tell whether a URL has the base's origin, or lies on an own host over https."""
        try:
            target = read_url(url)
        except FetchRefused:
            return False
        if target.origin == self.base.origin:
            return True
        safe = target.scheme == "https" or self._shares_loopback(target)
        return safe and any(_matches(target.authority, own) for own in self.own_hosts)

    def loopback_port(self, url: str) -> int | None:
        """Return the port of a URL beside the vendor, on the loopback at its own port; else None. Raises `FetchRefused`.

        The loopback has services of ours at other ports, and whoever writes a result's address must not choose one.
        """
        target = read_url(url)
        return target.port if self._shares_loopback(target) and target.port == self.base.port else None

    def _shares_loopback(self, target: Target) -> bool:
        return _is_loopback(self.base.host) and _is_loopback(target.host)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _matches(authority: str, own: str) -> bool:
    return authority.endswith(own[1:]) if own.startswith("*.") else authority == own
