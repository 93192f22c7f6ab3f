"""The client against a real server on a real socket."""

import asyncio
import hashlib
import os
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agentfactory.bridge.cache.base import CacheUnavailable, CasValue
from agentfactory.bridge.client.client import BridgeClient
from agentfactory.bridge.client.remote_cache import RemoteCache
from agentfactory.bridge.errors import BadName, BlobDamaged, BridgeDown, BridgeError, NoSuchBlob, StoreError
from agentfactory.bridge.frames import BadFrames
from agentfactory.bridge.server.server import BridgeServer
from agentfactory.bridge.store.embedded import open_embedded
from agentfactory.configs.data import BridgeSettings
from agentfactory.messages.data import BlobMeta, BlobUpload
from tests.bridge.bridge_process import SMALL, connected, serving, told, until
from tests.free_ports import free_port

BIG = os.urandom(3_000_000)


async def pieces(*values: bytes) -> AsyncIterator[bytes]:
    for value in values:
        yield value


async def exhaust(stream: AsyncIterator[memoryview]) -> None:
    async for _ in stream:
        pass


@pytest.mark.parametrize("size", [0, 1, 1024, 65_536, 65_537, 131_072, 3_000_000])
async def test_what_is_put_is_what_is_got(size: int) -> None:
    async with connected() as (client, _):
        info = await client.put("docs", "a", BIG[:size], BlobMeta(content_type="text/plain"))
        assert (info.size, info.sha256) == (size, hashlib.sha256(BIG[:size]).hexdigest())
        assert await client.get("docs", "a") == BIG[:size]
        assert await client.stat("docs", "a") == info
        assert info.meta.content_type == "text/plain"


@pytest.mark.parametrize("steps", [1000, 65_536, 200_001, 2_999_999])
async def test_what_an_iterator_yields_is_stored(steps: int) -> None:
    parts = [BIG[begin : begin + steps] for begin in range(0, len(BIG), steps)]
    async with connected() as (client, _):
        await client.put("docs", "a", pieces(*parts))
        await client.put("docs", "b", pieces(b"x", b"y"))
        assert await client.get("docs", "a") == BIG
        assert await client.get("docs", "b") == b"xy"


async def test_of_many_that_are_put_together_each_is_stored_or_says_why_not() -> None:
    blobs = {f"n{number}": BIG[:number] for number in range(100)} | {
        "": b"",
        "\ud800": b"",
        "big": BIG[:65_537],
    }
    async with connected() as (client, served):
        outcomes = await client.put_many("t", [BlobUpload(*blob, BlobMeta()) for blob in blobs.items()])
        failed = {name: out for name, out in zip(blobs, outcomes, strict=True) if isinstance(out, Exception)}
        assert {name: type(error) for name, error in failed.items()} == {
            "": BadName, "\ud800": BadName, "big": BadFrames,
        }  # fmt: skip
        for name in blobs.keys() - failed.keys():
            assert await client.get("t", name) == blobs[name]
        served.store.gate.clear()
        putting = asyncio.create_task(client.put_many("t", [BlobUpload("late", b"", BlobMeta())] * 2))
        await until(lambda: served.server.statistics().in_flight == 2)
        putting.cancel()
        await asyncio.wait((putting,))
        served.store.gate.set()
        await until(lambda: served.server.statistics().in_flight == 0)


async def test_what_is_asked_of_one_blob_at_a_time_is_done_in_its_order(tmp_path: Path) -> None:
    store = open_embedded(tmp_path, 0.1)
    async with BridgeServer(told(SMALL), store) as server:
        bridge = SMALL.model_copy(update={"endpoints": (server.endpoint,)})
        async with BridgeClient(bridge) as client, asyncio.TaskGroup() as group:
            asked = []
            for number in range(50):
                for name in ("a", "b", "c"):
                    group.create_task(client.put("t", name, b"%d" % number))
                    asked.append((number, group.create_task(client.stat("t", name))))
                    if number % 7 == 3:
                        group.create_task(client.delete("t", [name]))
                        asked.append((-1, group.create_task(client.stat("t", name))))
    digests = {-1: None} | {number: hashlib.sha256(b"%d" % number).hexdigest() for number in range(50)}
    seen = [(found.sha256 if (found := task.result()) else None) for _, task in asked]
    assert seen == [digests[number] for number, _ in asked]


async def test_an_iterator_that_fails_leaves_what_was_there() -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield BIG
        raise ValueError("the source is gone")

    async with connected() as (client, served):
        await client.put("docs", "a", b"before")
        with pytest.raises(ValueError, match="the source is gone"):
            await client.put("docs", "a", broken())
        await until(lambda: served.store.writers == 0)
        assert await client.get("docs", "a") == b"before"
        assert served.server.statistics().buffered_bytes == 0


async def test_a_stream_comes_in_pieces_with_its_info() -> None:
    async with connected() as (client, _):
        info = await client.put("docs", "a", BIG)
        async with client.stream("docs", "a") as blob:
            assert blob.info == info
            got = [bytes(piece) async for piece in blob]
        assert b"".join(got) == BIG
        assert max(map(len, got)) <= SMALL.chunk_kb << 10


async def test_neither_side_holds_more_of_a_stream_than_its_window() -> None:
    async with connected() as (client, served):
        await client.put("docs", "a", BIG)
        async with client.stream("docs", "a") as blob:
            taken = aiter(blob)
            await anext(taken)
            await client.ping()
            window = SMALL.window_chunks * SMALL.chunk_kb << 10
            await until(lambda: served.server.statistics().buffered_bytes == window)
            for _ in range(50):
                await client.ping()
            assert served.server.statistics().buffered_bytes == window
            (stream,) = client._dispatcher._streams.values()
            assert len(stream.chunks) <= SMALL.window_chunks


async def test_a_stream_that_nobody_reads_to_its_end_is_let_go() -> None:
    async with connected() as (client, served):
        await client.put("docs", "a", BIG)
        async with client.stream("docs", "a") as blob:
            async for _ in blob:
                break
        await until(lambda: (served.store.readers, served.server.statistics().streams) == (0, 0))
        assert served.server.statistics().buffered_bytes == 0


async def test_a_get_that_is_cancelled_is_let_go() -> None:
    async with connected() as (client, served):
        await client.put("docs", "a", BIG)
        getting = asyncio.create_task(client.get("docs", "a"))
        await until(lambda: served.server.statistics().bytes_out)
        getting.cancel()
        await asyncio.wait((getting,))
        await until(lambda: (served.store.readers, served.server.statistics().in_flight) == (0, 0))


async def test_errors_keep_their_type_and_their_words() -> None:
    async with connected() as (client, _):
        with pytest.raises(NoSuchBlob, match="there is no 'b' under 'docs'"):
            await client.get("docs", "b")
        with pytest.raises(BadName, match="not empty"):
            await client.put("", "b", b"")
        with pytest.raises(BadName, match="not empty"):
            await client.put("", "b", BIG)
        with pytest.raises(BadName, match="UTF-8"):
            await client.put("docs", "\ud800", b"")
        assert await client.stat("docs", "b") is None
        await client.ping()


async def test_bytes_that_are_not_those_that_were_put_are_refused() -> None:
    async with connected() as (client, served):
        for name, data in (("small", b"right"), ("large", BIG)):
            info = await client.put("docs", name, data)
            served.store.blobs["docs", name] = (info, data[:-1] + b"?")
            with pytest.raises(BlobDamaged, match="another SHA-256"):
                await client.get("docs", name)


async def test_blobs_are_listed_in_pages_deleted_and_destroyed() -> None:
    async with connected() as (client, _):
        for name in "abcde":
            await client.put("docs", name, b"x")
        await client.put("other", "f", b"x")
        page = await client.list("docs", limit=3)
        rest = await client.list("docs", after=page.next)
        assert [info.name for info in (*page.blobs, *rest.blobs)] == list("abcde")
        assert rest.next == ""
        assert [info.name for info in (await client.list("*", "[ef]")).blobs] == ["e", "f"]
        assert await client.delete("docs", ["a", "b", "nothing"]) == 2
        assert await client.destroy(["docs", "other"]) == 4
        assert (await client.list("*")).blobs == ()


async def test_thousands_of_tasks_share_a_client() -> None:
    async with connected() as (client, _):

        async def use(number: int) -> bytes:
            await client.put("docs", str(number), str(number).encode())
            return await client.get("docs", str(number))

        got = await asyncio.gather(*(use(number) for number in range(2000)))
        assert got == [str(number).encode() for number in range(2000)]
        statistics = await client.statistics()
        assert statistics.requests >= 4000
        assert (statistics.errors, statistics.in_flight, statistics.buffered_bytes) == (0, 1, 0)
        assert repr(client).startswith("<BridgeClient <Dispatcher: 0 requests (0 in line), 0 streams")


async def test_many_streams_share_a_small_buffer() -> None:
    async with connected(buffer_mb=16) as (client, _):
        data = [os.urandom(1_000_000) for _ in range(40)]
        await asyncio.gather(*(client.put("docs", str(n), value) for n, value in enumerate(data)))
        got = await asyncio.gather(*(client.get("docs", str(n)) for n in range(40)))
        assert got == data


async def test_no_answer_within_the_time_names_the_endpoint() -> None:
    bridge = BridgeSettings(request_timeout_ms=100)
    async with connected(bridge) as (client, served):
        served.store.gate.clear()
        with pytest.raises(BridgeDown, match=r"tcp://127.0.0.1:\d+: no answer within 0.1 s"):
            await client.put("docs", "a", b"x")
        served.store.gate.set()


async def test_opening_fails_if_no_bridge_answers() -> None:
    bridge = BridgeSettings(endpoints=(f"tcp://127.0.0.1:{free_port()}",), connect_timeout_ms=100)
    with pytest.raises(BridgeDown, match=r"no bridge answers within 0.1 s \(tcp://127.0.0.1:"):
        async with BridgeClient(bridge):
            pass


async def test_requests_go_to_all_endpoints_in_turn_and_skip_a_dead_one() -> None:
    dead = f"tcp://127.0.0.1:{free_port()}"
    async with serving() as one, serving() as two:
        both = SMALL.model_copy(update={"endpoints": (one.server.endpoint, dead, two.server.endpoint)})
        async with BridgeClient(both) as client:
            await until(
                lambda: (
                    sum(connection.welcome is not None for connection in client._dispatcher._connections) == 2
                )
            )
            for _ in range(20):
                await client.ping()
        first, second = (served.server.statistics().requests for served in (one, two))
        assert abs(first - second) <= 2


async def test_a_put_that_is_sent_twice_is_done_once() -> None:
    async with connected() as (client, served):
        served.store.gate.clear()
        for data in (b"x", BIG):
            putting = asyncio.create_task(client.put("docs", "a", data))
            (link,) = client._dispatcher._connections
            await until(lambda: served.server.statistics().in_flight)
            link.lose("cut by the test", 0.0)
            if data is not BIG:  # the first of the streams is given up by its client
                await until(lambda: served.server.statistics().in_flight == 2)
            served.store.gate.set()
            assert (await putting).size == len(data)
        assert served.store.puts == 2


async def test_a_stream_goes_on_over_another_connection() -> None:
    async with connected() as (client, _):
        await client.put("docs", "a", BIG)
        async with client.stream("docs", "a") as blob:
            got = bytearray()
            async for piece in blob:
                got += piece
                if len(got) in {65_536, 655_360}:
                    client._dispatcher._connections[0].lose("cut by the test", 0.0)
        assert got == BIG


async def test_a_stream_does_not_go_on_in_another_version() -> None:
    async with connected() as (client, _):
        await client.put("docs", "a", BIG)
        async with client.stream("docs", "a") as blob:
            taken = aiter(blob)
            await anext(taken)
            await client.put("docs", "a", BIG[::-1])
            client._dispatcher._connections[0].lose("cut by the test", 0.0)
            with pytest.raises(StoreError, match="has been put anew while it was being read"):
                await exhaust(taken)


async def test_what_is_not_safe_to_repeat_fails_when_the_bridge_is_lost() -> None:
    async with connected() as (client, _):
        await client.put("docs", "a", b"x")
        deleting = asyncio.create_task(client.delete("docs", ["a"]))
        await asyncio.sleep(0)
        client._dispatcher._connections[0].lose("cut by the test", 0.0)
        with pytest.raises(BridgeDown, match="cut by the test; this request may have been done or not"):
            await deleting
        assert await client.ping(b"again") == b"again"


async def test_closing_fails_what_is_under_way() -> None:
    async with serving() as served:
        client = BridgeClient(served.bridge)
        await client.__aenter__()
        served.store.gate.clear()
        putting = asyncio.create_task(client.put("docs", "a", b"x"))
        await asyncio.sleep(0)
        await client.aclose()
        with pytest.raises(BridgeDown, match="was closed"):
            await putting
        with pytest.raises(BridgeDown, match="is closed"):
            await client.ping()
        served.store.gate.set()


async def test_a_forked_process_is_told_to_open_its_own() -> None:
    async with connected() as (client, _):
        client._pid += 1
        with pytest.raises(BridgeError, match="open another in this process"):
            await client.ping()
        client._pid -= 1


async def test_several_event_loops_each_use_their_own_client() -> None:
    async with serving() as served:

        async def use() -> None:
            async with BridgeClient(served.bridge) as client:
                await client.put("docs", "a", BIG)
                assert await client.get("docs", "a") == BIG

        threads = [threading.Thread(target=lambda: asyncio.run(use())) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            await asyncio.to_thread(thread.join)
        assert served.store.puts == 2


class DictCache:
    """Memcached's words on a dictionary."""

    name = "dict"

    def __init__(self) -> None:
        self.held: dict[bytes, CasValue] = {}
        self.down = False
        self._tokens = 0

    async def get(self, key: bytes) -> bytes | None:
        held = await self.gets(key)
        return held.value if held else None

    async def get_many(self, keys: list[bytes]) -> dict[bytes, bytes]:
        return {key: self.held[key].value for key in keys if key in self.held}

    async def gets(self, key: bytes) -> CasValue | None:
        if self.down:
            raise CacheUnavailable("the cache is down")
        return self.held.get(key)

    async def set(self, key: bytes, value: bytes, ttl_s: int) -> None:
        self._tokens += 1
        self.held[key] = CasValue(value, self._tokens)

    async def add(self, key: bytes, value: bytes, ttl_s: int) -> bool:
        if key in self.held:
            return False
        await self.set(key, value, ttl_s)
        return True

    async def compare_and_set(self, key: bytes, value: bytes, token: int, ttl_s: int) -> bool:
        if key not in self.held or self.held[key].token != token:
            return False
        await self.set(key, value, ttl_s)
        return True

    async def delete(self, key: bytes) -> None:
        self.held.pop(key, None)

    async def aclose(self) -> None:
        """Nothing is open."""


async def test_a_process_without_a_cache_uses_the_bridges() -> None:
    backend = DictCache()
    async with connected(cache=backend) as (client, _):
        cache = RemoteCache(client)
        assert await cache.get(b"a") is None
        assert await cache.gets(b"a") is None
        assert await cache.add(b"a", b"one", 10)
        assert not await cache.add(b"a", b"two", 10)
        held = await cache.gets(b"a")
        assert held is not None
        assert held.value == b"one"
        assert await cache.compare_and_set(b"a", BIG[:500_000], held.token, 10)
        assert not await cache.compare_and_set(b"a", b"four", held.token, 10)
        await cache.set(b"b", b"", 10)
        assert await cache.add_many({b"a": b"", b"c": b"one", b"d": b"one"}, 10) == {b"c", b"d"}
        some = await cache.gets_many([b"c", b"d", b"none"])
        wanted = {b"c": CasValue(b"two", some[b"c"].token), b"d": CasValue(b"two", some[b"c"].token)}
        assert await cache.compare_and_set_many(wanted, 10) == {b"c"}
        backend.down = True
        with pytest.raises(CacheUnavailable, match="down"):
            await cache.gets_many([b"c", b"d"])
        backend.down = False
        assert await cache.get_many([b"a", b"x", b"b"]) == {b"a": BIG[:500_000], b"b": b""}
        await cache.delete(b"a")
        assert await cache.get(b"a") is None
        backend.down = True
        with pytest.raises(CacheUnavailable, match="the cache is down"):
            await cache.get(b"a")


async def test_a_bridge_without_a_cache_says_so() -> None:
    async with connected() as (client, _):
        with pytest.raises(CacheUnavailable, match="serves no cache"):
            await RemoteCache(client).get(b"a")
