"""A bridge for a test: in this process, or in one of its own that can be killed."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from typing import NamedTuple

from agentfactory.bridge.cache.base import CacheBackend
from agentfactory.bridge.client.client import BridgeClient
from agentfactory.bridge.server.json_api import Assimilate
from agentfactory.bridge.server.server import BridgeServer
from agentfactory.bridge.server.settings import ServerSettings
from agentfactory.configs.data import BridgeSettings
from tests.bridge.fake_store import FakeStore

LIMIT_S = 180.0
ANY_PORT = "tcp://127.0.0.1:*"
SMALL = BridgeSettings(chunk_kb=64, window_chunks=4, connect_timeout_ms=60_000, request_timeout_ms=120_000)


class Served(NamedTuple):
    server: BridgeServer
    store: FakeStore
    bridge: BridgeSettings
    """How to reach it."""


def told(bridge: BridgeSettings, **settings: object) -> ServerSettings:
    """With streams whose lease is longer than any test."""
    return ServerSettings.model_validate(
        {"endpoint": ANY_PORT, "bridge": bridge, "lease_s": 60.0, **settings}
    )


@contextlib.asynccontextmanager
async def serving(
    bridge: BridgeSettings = SMALL,
    assimilate: Assimilate | None = None,
    cache: CacheBackend | None = None,
    **settings: object,
) -> AsyncIterator[Served]:
    store = FakeStore()
    async with BridgeServer(told(bridge, **settings), store, assimilate, cache) as server:
        yield Served(server, store, bridge.model_copy(update={"endpoints": (server.endpoint,)}))
    assert (store.writers, store.readers, store.closed) == (0, 0, True)


@contextlib.asynccontextmanager
async def connected(
    bridge: BridgeSettings = SMALL, **settings: object
) -> AsyncIterator[tuple[BridgeClient, Served]]:
    async with serving(bridge, **settings) as served, BridgeClient(served.bridge) as client:
        yield client, served


class Process:
    """The server as a process of its own."""

    def __init__(self, endpoint: str = ANY_PORT, **settings: object) -> None:
        told = ServerSettings.model_validate({"endpoint": endpoint, "bridge": SMALL, **settings})
        self.log = tempfile.TemporaryFile()  # noqa: SIM115  # closed by close()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.bridge.fake_store", told.model_dump_json()],
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        ready = json.loads(self._process.stdout.readline() or "{}")
        assert ready.get("event") == "ready", self.read_log()
        self.endpoint: str = ready["endpoint"]
        self.pid = self._process.pid

    def read_log(self) -> str:
        self.log.seek(0)
        return self.log.read().decode()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(LIMIT_S)

    def stop(self) -> int:
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(LIMIT_S)

    def resident_mb(self) -> float:
        with open(f"/proc/{self.pid}/statm", encoding="ascii") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / (1 << 20)

    def close(self) -> None:
        self._process.kill()
        self._process.wait(LIMIT_S)
        assert self._process.stdout is not None
        self._process.stdout.close()
        self.log.close()


@contextlib.contextmanager
def process(endpoint: str = ANY_PORT, **settings: object) -> Iterator[Process]:
    running = Process(endpoint, **settings)
    try:
        yield running
    finally:
        running.close()


async def until(condition: object) -> None:
    """Wait for something that tells nobody when it comes about."""
    assert callable(condition)
    async with asyncio.timeout(LIMIT_S):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)
