"""Ports of this machine: which are free, and who listens on the others. All of it blocks, up to a second."""

import socket
from typing import Final
from urllib.parse import urlsplit

ANSWER_S: Final = 0.3
"""For whoever listens to say what it is."""
_ZEROMQ: Final = b"\xff"
"""A ZeroMQ socket greets who connects, and this is how it begins."""


def is_free(host: str, port: int) -> bool:
    """True if a server could listen there."""
    try:
        with socket.create_server((host, port), family=_family(host)):
            return True
    except OSError:
        return False


def free_port(host: str) -> int:
    """One that is free now. Raises OSError."""
    with socket.create_server((host, 0), family=_family(host)) as taken:
        return int(taken.getsockname()[1])


def listener(host: str, port: int) -> str:
    """Description of the server on a port that is not free."""
    try:
        with socket.create_connection((host, port), ANSWER_S) as link:
            link.settimeout(ANSWER_S)
            if _heard(link).startswith(_ZEROMQ):
                return "a ZeroMQ socket, such as another bridge"
            link.sendall(b"version\r\n")
            word, _, version = _heard(link).decode("ascii", "replace").strip().partition(" ")
            return f"another memcached ({version[:20]})" if word == "VERSION" else "another program"
    except OSError:
        return "another program"


def address(endpoint: str) -> tuple[str, int] | None:
    """Host and port of a tcp endpoint, 0 for any port; None for other endpoints."""
    if not endpoint.startswith("tcp://"):
        return None
    host, port = urlsplit(endpoint).hostname or "", endpoint.rpartition(":")[2]
    return host, 0 if port == "*" else int(port)


def _heard(link: socket.socket) -> bytes:
    try:
        return link.recv(100)
    except TimeoutError:
        return b""


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
