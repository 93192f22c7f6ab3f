"""The server process is killed under load; its clients go on."""

import asyncio
import contextlib
import hashlib
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from agentfactory.bridge.client.client import BridgeClient
from agentfactory.bridge.errors import BridgeDown, NoSuchBlob
from agentfactory.configs.data import BridgeSettings
from agentfactory.messages.data import BlobInfo
from tests.bridge.bridge_process import SMALL, Process, process, until
from tests.free_ports import free_port

LARGE = os.urandom(2_000_000)


class Load:
    """Mixed requests from many tasks, as long as it is entered; what they saw."""

    def __init__(self, client: BridgeClient, one_store: bool = True) -> None:
        self.done: Counter[str] = Counter()
        self.lost_deletes = 0
        self._client = client
        self._one_store = one_store
        self._stopped = False

    async def use(self, number: int) -> None:
        """Reads and puts must never fail; a delete may, with BridgeDown."""
        small, large = f"small-{number}", f"large-{number}"
        while not self._stopped:
            data = os.urandom(900)
            info = await self._client.put("docs", small, data)
            assert info.sha256 == hashlib.sha256(data).hexdigest()
            self.done["put"] += 1
            with contextlib.suppress(NoSuchBlob):  # a restarted server over a store in memory is empty
                got = await self._client.get("docs", small)
                assert got == data or not self._one_store
            self.done["get"] += 1
            if number % 8 == 0:
                assert (await self._client.put("docs", large, LARGE)).size == len(LARGE)
                self.done["large"] += 1
            try:
                await self._client.delete("docs", [small])
            except BridgeDown as error:
                if "tcp://127.0.0.1:" not in str(error):
                    raise
                self.lost_deletes += 1
            self.done["delete"] += 1

    async def more(self, rounds: int = 3) -> None:
        """Wait until every kind of request has been answered some times more."""
        goal = {kind: self.done[kind] + rounds * 8 for kind in ("put", "get", "delete")}
        goal["large"] = self.done["large"] + rounds
        await until(lambda: all(self.done[kind] >= count for kind, count in goal.items()))

    @contextlib.asynccontextmanager
    async def running(self, tasks: int = 32) -> AsyncIterator["Load"]:
        async with asyncio.TaskGroup() as group:
            for number in range(tasks):
                group.create_task(self.use(number))
            yield self
            self._stopped = True


async def test_clients_go_on_after_the_server_was_killed_and_started_again() -> None:
    endpoint = f"tcp://127.0.0.1:{free_port()}"
    bridge = SMALL.model_copy(update={"endpoints": (endpoint,), "connect_timeout_ms": 20_000})
    first = await asyncio.to_thread(Process, endpoint)
    try:
        async with BridgeClient(bridge) as client, Load(client).running() as load:
            for _ in range(2):
                await load.more()
                first.kill()
                first.close()
                first = await asyncio.to_thread(Process, endpoint)
            await load.more()
            statistics = await client.statistics()
        assert statistics.pid == first.pid
        assert statistics.errors <= load.done["get"]
    finally:
        first.close()


async def test_a_bridge_that_was_up_is_waited_for_longer_than_one_that_never_was() -> None:
    first = await asyncio.to_thread(Process, f"tcp://127.0.0.1:{free_port()}")
    try:
        async with BridgeClient(SMALL.model_copy(update={"endpoints": (first.endpoint,)})) as client:
            client._dispatcher._connect_s = 0.0  # a bridge that never was up would be waited for no longer
            first.kill()
            first.close()
            asked = asyncio.create_task(client.put("docs", "a", b"x"))
            await until(lambda: "down" in repr(client._dispatcher))
            await asyncio.wait((asked,), timeout=0.6)  # it looks for requests to give up every quarter of one
            first = await asyncio.to_thread(Process, first.endpoint)
            assert (await asked).size == 1
    finally:
        first.close()


async def test_another_endpoint_takes_over_and_the_dead_one_comes_back() -> None:
    with process() as other:
        first = await asyncio.to_thread(Process)
        try:
            both = SMALL.model_copy(update={"endpoints": (first.endpoint, other.endpoint)})
            async with BridgeClient(both) as client, Load(client, one_store=False).running() as load:
                await load.more()
                first.kill()
                await load.more()
                assert {(await client.statistics()).pid for _ in range(4)} == {other.pid}
                endpoint = first.endpoint
                first.close()
                first = await asyncio.to_thread(Process, endpoint)
                pids: set[int] = set()
                while first.pid not in pids:
                    pids.add((await client.statistics()).pid)
                await load.more(1)
        finally:
            first.close()


async def test_an_upload_from_an_iterator_fails_when_its_bridge_is_killed() -> None:
    with process() as running:
        bridge = SMALL.model_copy(update={"endpoints": (running.endpoint,)})
        async with BridgeClient(bridge) as client:

            async def source() -> AsyncIterator[bytes]:
                yield LARGE
                running.kill()
                while True:
                    yield LARGE

            with pytest.raises(BridgeDown, match="the connection broke in the middle of a stream"):
                await client.put("docs", "a", source())


async def test_a_server_that_hangs_is_found_out_and_another_is_asked() -> None:
    with process() as other, process() as hanging:
        bridge = BridgeSettings(endpoints=(hanging.endpoint, other.endpoint), request_timeout_ms=2000)
        async with BridgeClient(bridge) as client:
            seen: set[int] = set()
            while seen != {other.pid, hanging.pid}:
                seen.add((await client.statistics()).pid)
            os.kill(hanging.pid, signal.SIGSTOP)
            infos: list[BlobInfo | BaseException] = await asyncio.gather(
                *(client.put("docs", str(n), b"x") for n in range(20)), return_exceptions=True
            )
            late = [info for info in infos if isinstance(info, BridgeDown)]
            assert 0 < len(late) <= 10  # what had time left when it was found out was asked of the other
            assert sum(isinstance(info, BlobInfo) for info in infos) == 20 - len(late)
            assert all(f"{hanging.endpoint}: no answer within 2 s" in str(error) for error in late)
            for _ in range(10):  # it is skipped from now on
                assert (await client.statistics()).pid == other.pid
