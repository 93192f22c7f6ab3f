"""Ports for servers that tests start by number, since they start them again where they were."""

import random
import socket
from typing import Final

PORTS: Final = range(2_000, 10_000)
"""Below those that the system gives to clients, those of IOWarp's runtimes and those of Ray's workers."""


def free_port() -> int:
    """One that nobody listens on; at random, for those who look at the same time."""
    while True:
        port = random.SystemRandom().choice(PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
