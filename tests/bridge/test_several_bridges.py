"""Several bridges are used together where they have one store, and refused where each has its own."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from agentfactory.bridge.client.client import BridgeClient
from agentfactory.bridge.errors import BadInput, BridgeDown
from agentfactory.bridge.server.server import BridgeServer
from agentfactory.bridge.store.catalog_store import CatalogStore
from agentfactory.bridge.store.factory import open_store
from agentfactory.configs.data import StoreSettings
from tests.bridge.bridge_process import SMALL, serving, told
from tests.free_ports import free_port


async def test_bridges_of_different_stores_are_refused_when_a_client_opens() -> None:
    async with serving() as one, serving() as two:
        two.store.id = "another"
        both = SMALL.model_copy(update={"endpoints": (one.server.endpoint, two.server.endpoint)})
        with pytest.raises(BadInput, match=r"127.* have different stores, .*; name one of them"):
            async with BridgeClient(both):
                pass
        assert (one.store.puts, two.store.puts) == (0, 0)


async def test_a_bridge_of_another_store_that_comes_up_later_ends_all_requests_and_gets_none() -> None:
    port = free_port()
    async with serving() as one:
        both = SMALL.model_copy(update={"endpoints": (one.server.endpoint, f"tcp://127.0.0.1:{port}")})
        async with BridgeClient(both) as client:
            await client.put("docs", "a", b"x")
            one.store.gate.clear()
            waiting = asyncio.ensure_future(client.put("docs", "b", b"x"))
            async with serving(endpoint=f"tcp://127.0.0.1:{port}") as two:
                two.store.id = "another"
                with pytest.raises(BadInput):
                    await waiting
                with pytest.raises(BadInput):
                    await client.ping()
                assert two.store.puts == 0
            one.store.gate.set()


async def test_a_bridge_of_another_store_than_the_one_meant_is_not_spoken_to() -> None:
    async with serving() as one:
        meant = one.bridge.model_copy(update={"store_id": "mine", "connect_timeout_ms": 200})
        with pytest.raises(BridgeDown, match="a bridge of another store answers there"):
            async with BridgeClient(meant):
                pass
        async with BridgeClient(one.bridge.model_copy(update={"store_id": "memory"})) as client:
            assert client.store_id == "memory"


class OpenStore:
    """A store that outlives the bridges over it."""

    def __init__(self, store: CatalogStore) -> None:
        self._store = store

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    def close(self) -> None:
        """Whoever opened it closes it."""


async def test_two_bridges_over_one_store_are_both_used_and_one_is_enough(tmp_path: Path) -> None:
    store = open_store(StoreSettings(kind="embedded", folder=str(tmp_path), max_gb=0.1))
    shared: Any = OpenStore(store)
    try:
        async with BridgeServer(told(SMALL), shared) as one, AsyncExitStack() as stack:
            two = await stack.enter_async_context(BridgeServer(told(SMALL), shared))
            both = SMALL.model_copy(update={"endpoints": (one.endpoint, two.endpoint)})
            async with BridgeClient(both) as client:
                for number in range(20):
                    await client.put("docs", str(number), b"x" * number)
                assert min(each.statistics().requests for each in (one, two)) >= 9
                for endpoint in both.endpoints:
                    async with BridgeClient(SMALL.model_copy(update={"endpoints": (endpoint,)})) as alone:
                        assert len((await alone.list("docs")).blobs) == 20
                await stack.aclose()  # one of them is gone
                for number in range(20):
                    assert await client.get("docs", str(number)) == b"x" * number
                await client.put("docs", "late", b"y")
                assert len((await client.list("docs")).blobs) == 21
    finally:
        store.close()
