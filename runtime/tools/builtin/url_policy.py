"""The URL policy of the fetch tool: hosts and addresses that it may speak to.

Invariant: a connection goes to an address that was looked at just before it was made, never to one that a
second look-up gave: names that change their address between check and use gain nothing.
"""

import ipaddress
import socket
from collections.abc import Sequence
from typing import Final, NamedTuple
from urllib.parse import SplitResult, urlsplit

from ....configs.tools import FetchSettings
from ..base import ToolError

_SCHEMES: Final = {"http": 80, "https": 443}
_TRANSLATED: Final = ipaddress.IPv6Network("64:ff9b::/96")
"""NAT64: IPv6 addresses that stand for IPv4 ones."""


class FetchTarget(NamedTuple):
    """A URL that may be asked, taken apart."""

    url: str
    host: str
    port: int


def check_url(url: str, settings: FetchSettings) -> FetchTarget:
    """Whether this URL's host is on the list. Raises ToolError with the reason."""
    if any(character.isspace() or ord(character) < 32 for character in url.strip()):
        raise ToolError(f"{url[:100]!r} is not a URL: there is a space in it", "forbidden")
    try:
        parts = urlsplit(url.strip())
        host, port = _host(parts), parts.port or _SCHEMES.get(parts.scheme, 0)
    except ValueError as error:
        raise ToolError(f"{url[:100]!r} is not a URL: {error}", "forbidden") from error
    if parts.scheme not in _SCHEMES:
        raise ToolError(
            "only http and https URLs can be fetched, such as https://example.org/page", "forbidden"
        )
    if parts.username is not None or parts.password is not None:
        raise ToolError("a URL with a user's name or password in it is not fetched", "forbidden")
    allowed = (*settings.hosts, *settings.private_hosts)
    if not any(_is_under(host, pattern) for pattern in allowed):
        there = (
            f"there are: {', '.join(allowed)}" if allowed else "none is allowed (student.toolbox.fetch.hosts)"
        )
        raise ToolError(f"{host or 'no host'} is not among the hosts that may be asked; {there}", "forbidden")
    return FetchTarget(parts._replace(fragment="").geturl(), host, port)


def may_be_private(host: str, settings: FetchSettings) -> bool:
    """Whether the settings say that this host may have a private address."""
    return any(_is_under(host, pattern) for pattern in settings.private_hosts)


def is_public(address: str) -> bool:
    """Whether an address is one of the open internet: not private, loopback, link-local, multicast, reserved.

    >>> is_public("93.184.216.34"), is_public("169.254.169.254"), is_public("::ffff:127.0.0.1")
    (True, False, False)
    """
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if ip in _TRANSLATED:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
    return ip.is_global and not ip.is_multicast


def check_addresses(host: str, addresses: Sequence[str], settings: FetchSettings) -> None:
    """Refuse a host any of whose addresses is private, unless it may be. Raises ToolError."""
    if may_be_private(host, settings):
        return
    wrong = next((address for address in addresses if not is_public(address)), None)
    if wrong is not None:
        raise ToolError(f"{host} has the private address {wrong}, and is not asked", "forbidden")


def numeric_address(host: str) -> str | None:
    """The address, if the host is one: in the odd forms, too, that systems read, such as `127.1`."""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        pass
    try:
        return socket.inet_ntoa(socket.inet_aton(host))
    except OSError:
        return None


def _host(parts: SplitResult) -> str:
    return (parts.hostname or "").rstrip(".").lower()


def _is_under(host: str, pattern: str) -> bool:
    pattern = pattern.lower()
    return bool(host) and (host == pattern or (pattern.startswith("*.") and host.endswith(pattern[1:])))
