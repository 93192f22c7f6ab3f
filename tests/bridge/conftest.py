"""A real memcached for those who need one."""

import shutil
from collections.abc import Iterator

import pytest

from tests.bridge.memcached_server import Memcached, StartMemcached


@pytest.fixture
def start_memcached() -> Iterator[StartMemcached]:
    """Starts memcacheds, and stops them at the end."""
    if shutil.which("memcached") is None:
        pytest.skip("needs the program memcached")
    started: list[Memcached] = []

    def start(item_limit: str = "1m") -> Memcached:
        started.append(Memcached(item_limit))
        return started[-1]

    yield start
    for server in started:
        server.kill()
