import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from agentfactory.bridge.cache.base import CacheBackend, CacheUnavailable, CasValue, ItemRefused
from agentfactory.bridge.cache.embedded import ITEM_OVERHEAD, EmbeddedCache
from agentfactory.bridge.cache.memcached import ConnectionPool, MemcachedBackend
from tests.bridge.memcached_server import StartMemcached
from tests.free_ports import free_port

TIMEOUT_S = 0.1
PATIENT_S = 60.0


@pytest.fixture(params=["memcached", "embedded"])
async def backend(request: pytest.FixtureRequest) -> AsyncIterator[CacheBackend]:
    cache: CacheBackend
    if request.param == "memcached":
        server = request.getfixturevalue("start_memcached")()
        cache = MemcachedBackend("127.0.0.1", server.port, PATIENT_S)
    else:
        cache = EmbeddedCache(1 << 20)
    yield cache
    await cache.aclose()


async def test_what_was_set_is_there_with_its_length(backend: CacheBackend) -> None:
    await backend.set(b"a", b"one\r\nEND\r\n", 100)
    await backend.set(b"empty", b"", 100)
    assert await backend.get(b"a") == b"one\r\nEND\r\n"
    assert await backend.get(b"empty") == b""
    assert await backend.get(b"none") is None
    assert await backend.lengths([b"a", b"none", b"empty", b"a"]) == {b"a": 10, b"empty": 0}


async def test_many_are_read_at_once_and_the_same_key_may_be_asked_for_twice(backend: CacheBackend) -> None:
    await backend.set(b"a", b"1", 100)
    await backend.set(b"b", b"2", 100)
    assert await backend.get_many([b"a", b"none", b"b", b"a"]) == {b"a": b"1", b"b": b"2"}
    assert await backend.get_many([]) == {}
    assert await backend.lengths([]) == {}


async def test_add_stores_only_where_nothing_is(backend: CacheBackend) -> None:
    assert await backend.add(b"a", b"1", 100)
    assert not await backend.add(b"a", b"2", 100)
    assert await backend.get(b"a") == b"1"
    await backend.delete(b"a")
    await backend.delete(b"a")
    assert await backend.add(b"a", b"3", 100)


async def test_compare_and_set_fails_after_any_change(backend: CacheBackend) -> None:
    async def token() -> int:
        held = await backend.gets(b"a")
        assert held is not None
        return held.token

    assert await backend.gets(b"a") is None
    assert not await backend.compare_and_set(b"a", b"x", 1, 100)
    await backend.set(b"a", b"1", 100)
    first = await token()
    assert await backend.compare_and_set(b"a", b"2", first, 100)
    assert not await backend.compare_and_set(b"a", b"3", first, 100)
    second = await token()
    await backend.set(b"a", b"2", 100)
    assert not await backend.compare_and_set(b"a", b"4", second, 100), "the same bytes, but another write"
    third = await token()
    await backend.delete(b"a")
    await backend.add(b"a", b"2", 100)
    assert not await backend.compare_and_set(b"a", b"5", third, 100)
    fourth = await token()
    await backend.flush()
    assert not await backend.compare_and_set(b"a", b"6", fourth, 100)


async def test_many_are_stored_at_once_where_each_by_itself_would_be(backend: CacheBackend) -> None:
    await backend.set(b"a", b"1", 100)
    many = {b"%03d" % number: b"\r\nSTORED\r\n" * 700 for number in range(100)}
    assert await backend.add_many({b"a": b"2", **many}, 100) == set(many)
    assert await backend.get(b"a") == b"1"
    held = await backend.gets_many([b"a", b"none", *many])
    assert {key: value for key, (value, _) in held.items()} == {b"a": b"1", **many}
    await backend.set(b"007", b"changed", 100)
    await backend.delete(b"008")
    wanted = {key: CasValue(b"new", token) for key, (_, token) in held.items()}
    assert await backend.compare_and_set_many(wanted, 100) == {b"a", *many} - {b"007", b"008"}
    left = dict.fromkeys(wanted, b"new") | {b"007": b"changed"}
    del left[b"008"]
    assert await backend.get_many([b"a", *many]) == left
    assert await backend.gets_many([]) == {}
    assert await backend.add_many({}, 100) == await backend.compare_and_set_many({}, 100) == set()


async def test_one_of_many_that_is_refused_is_not_stored_and_the_others_are(backend: CacheBackend) -> None:
    items = {b"a": b"1", b"large": bytes(2 << 20), b"b": b"2"}
    assert await backend.add_many(items, 100) == {b"a", b"b"}
    held = await backend.gets_many(list(items))
    wanted = {
        key: CasValue(items[b"large"] if key == b"a" else b"3", token) for key, (_, token) in held.items()
    }
    assert await backend.compare_and_set_many(wanted, 100) == {b"b"}
    assert await backend.get(b"b") == b"3"


async def test_a_flush_takes_what_was_there_and_nothing_that_comes_after(backend: CacheBackend) -> None:
    for number in range(50):
        await backend.set(b"before", b"1", 100)
        await backend.flush()
        assert await backend.get(b"before") is None
        await backend.set(b"after", b"%d" % number, 100)
        assert await backend.get(b"after") == b"%d" % number


async def test_keys_of_250_bytes_and_times_over_30_days_are_taken(backend: CacheBackend) -> None:
    await backend.set(b"k" * 250, b"1", 100 * 24 * 3600)
    assert await backend.get(b"k" * 250) == b"1"


async def test_an_item_that_is_too_large_is_refused_and_the_server_stays_well(backend: CacheBackend) -> None:
    with pytest.raises(ItemRefused):
        await backend.set(b"a", bytes(2 << 20), 100)
    await backend.set(b"a", b"1", 100)
    assert await backend.get(b"a") == b"1"


async def test_the_embedded_cache_forgets_after_the_time_to_live() -> None:
    now = 0.0
    cache = EmbeddedCache(10_000, clock=lambda: now)
    await cache.set(b"a", b"1", 10)
    now = 9.9
    assert await cache.get(b"a") == b"1"
    now = 10.0
    assert await cache.get(b"a") is None
    assert (cache.statistics().items, cache.statistics().bytes) == (0, 0)
    assert await cache.add(b"a", b"2", 10)
    assert cache.statistics().items == 1


async def test_the_embedded_cache_lets_the_least_recently_used_go_and_counts_every_byte() -> None:
    each = ITEM_OVERHEAD + 1 + 9
    cache = EmbeddedCache(3 * each)
    for key in (b"a", b"b", b"c"):
        await cache.set(key, b"123456789", 100)
    await cache.get(b"a")
    await cache.lengths([b"b"])
    await cache.set(b"d", b"123456789", 100)
    assert set(await cache.get_many([b"a", b"b", b"c", b"d"])) == {b"a", b"c", b"d"}
    statistics = cache.statistics()
    assert (statistics.items, statistics.bytes, statistics.evictions) == (3, 3 * each, 1)
    assert (statistics.hits, statistics.misses) == (4, 1)
    assert repr(cache) == f"<EmbeddedCache embedded: 3 items, {3 * each}/{3 * each} bytes>"
    await cache.delete(b"a")
    await cache.set(b"c", b"", 100)
    assert cache.statistics().bytes == 2 * each - 9


async def test_the_embedded_cache_counts_every_miss_and_has_its_whole_room_again_once_emptied() -> None:
    cache = EmbeddedCache(ITEM_OVERHEAD + 1000)
    await cache.set(b"a", bytes(800), 100)
    assert (await cache.get(b"none"), await cache.gets(b"none")) == (None, None)
    assert (cache.statistics().hits, cache.statistics().misses) == (0, 2)
    for empty in (cache.flush, cache.aclose):
        await empty()
        assert (cache.statistics().items, cache.statistics().bytes) == (0, 0)
        await cache.set(b"b", bytes(800), 100)
    assert cache.statistics().evictions == 0


async def test_a_refused_item_leaves_nothing_old_behind() -> None:
    cache = EmbeddedCache(1000)
    await cache.set(b"a", b"1", 100)
    with pytest.raises(ItemRefused):
        await cache.set(b"a", bytes(1000), 100)
    assert await cache.get(b"a") is None
    assert cache.statistics().bytes == 0


async def test_the_overhead_of_an_embedded_item_is_what_it_costs() -> None:
    import tracemalloc

    cache = EmbeddedCache(1 << 30)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for number in range(10_000):
            await cache.set(b"key-%06d" % number, bytes(100), 100)
        used = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert used <= cache.statistics().bytes <= 1.25 * used


class Misbehaving(asyncio.Protocol):
    """A server's end of a connection. An `answer` of None is silence; a last byte of ! hangs up."""

    def __init__(self, answer: bytes | None, connections: "dict[asyncio.Transport, asyncio.Event]") -> None:
        """`connections`: all that were made to this server, with what tells that each has closed."""
        self._answer = answer
        self._connections = connections

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        if self._answer is None:
            transport.pause_reading()
        self._connections[transport] = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        assert self._answer is not None
        self._transport.write(self._answer.removesuffix(b"!"))
        if self._answer.endswith(b"!"):
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections[self._transport].set()


OPERATIONS: dict[str, Callable[[MemcachedBackend], Awaitable[object]]] = {
    "get": lambda backend: backend.get(b"a"),
    "get_many": lambda backend: backend.get_many([b"a", b"b"]),
    "lengths": lambda backend: backend.lengths([b"a", b"b"]),
    "gets": lambda backend: backend.gets(b"a"),
    "set": lambda backend: backend.set(b"a", b"1", 10),
    "set much": lambda backend: backend.set(b"a", bytes(16 << 20), 10),
    "add": lambda backend: backend.add(b"a", b"1", 10),
    "gets_many": lambda backend: backend.gets_many([b"a", b"b"]),
    "add_many": lambda backend: backend.add_many({b"a": b"1", b"b": bytes(1 << 20)}, 10),
    "compare_and_set_many": lambda backend: backend.compare_and_set_many({b"a": CasValue(b"1", 7)}, 10),
    "compare_and_set": lambda backend: backend.compare_and_set(b"a", b"1", 7, 10),
    "delete": lambda backend: backend.delete(b"a"),
    "flush": lambda backend: backend.flush(),
}


MANNERS = {
    "says nothing": None,
    "hangs up": b"!",
    "hangs up halfway": b"VALUE a 0 100\r\nxx!",
    "hangs up in a line": b"STOR!",
    "talks nonsense": b"VALUE a b c\r\n\x00\xff\r\n",
    "never ends a line": bytes(1 << 20) + b"!",
}


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("manner", MANNERS)
async def test_a_server_that_is_slow_or_wrong_is_unavailable(operation: str, manner: str) -> None:
    loop = asyncio.get_running_loop()
    connections: dict[asyncio.Transport, asyncio.Event] = {}
    server = await loop.create_server(lambda: Misbehaving(MANNERS[manner], connections), "127.0.0.1", 0)
    backend = MemcachedBackend("127.0.0.1", server.sockets[0].getsockname()[1], TIMEOUT_S)
    with pytest.raises(CacheUnavailable):
        await OPERATIONS[operation](backend)
    assert "0 busy, 0 idle, 0 waiting" in repr(backend)
    await backend.aclose()
    server.close()
    if accepting := asyncio.all_tasks() - {asyncio.current_task()}:
        await asyncio.wait(accepting)
    for transport, closed in connections.items():
        transport.abort()
        await closed.wait()


async def test_nothing_listens_and_that_is_said_at_once() -> None:
    backend = MemcachedBackend("127.0.0.1", free_port(), PATIENT_S)
    with pytest.raises(CacheUnavailable, match="Connect call failed"):
        await backend.get(b"a")
    await backend.aclose()


async def test_the_answer_to_a_cancelled_get_is_not_taken_for_another_ones(
    start_memcached: StartMemcached,
) -> None:
    server = start_memcached()
    backend = MemcachedBackend("127.0.0.1", server.port, PATIENT_S, connections=1)
    await backend.set(b"a", b"of a", 100)
    await backend.set(b"b", b"of b", 100)
    for pauses in range(6):  # cancelled at every step of the way
        getting = asyncio.create_task(backend.get(b"a"))
        for _ in range(pauses):
            await asyncio.sleep(0)
        getting.cancel()
        await asyncio.wait((getting,))
        assert await backend.get(b"b") == b"of b"
        assert await backend.get(b"a") == b"of a"
    await backend.aclose()


async def test_more_askers_than_connections_are_served_in_turn(start_memcached: StartMemcached) -> None:
    server = start_memcached()
    backend = MemcachedBackend("127.0.0.1", server.port, PATIENT_S, connections=2)
    await backend.set(b"a", b"1", 100)
    assert await asyncio.gather(*(backend.get(b"a") for _ in range(100))) == [b"1"] * 100
    assert "0 busy, 2 idle, 0 waiting" in repr(backend)
    await backend.aclose()


async def test_those_in_line_are_told_too_when_the_server_stands_still(
    start_memcached: StartMemcached,
) -> None:
    server = start_memcached()
    backend = MemcachedBackend("127.0.0.1", server.port, 5 * TIMEOUT_S, connections=2)
    await backend.set(b"a", b"1", 100)
    server.freeze()
    answers = await asyncio.gather(*(backend.get(b"a") for _ in range(20)), return_exceptions=True)
    assert all(isinstance(answer, CacheUnavailable) for answer in answers)
    server.thaw()
    assert await backend.get(b"a") == b"1"
    await backend.aclose()


async def test_a_cancelled_asker_in_line_leaves_its_turn_to_the_next(start_memcached: StartMemcached) -> None:
    server = start_memcached()
    backend = MemcachedBackend("127.0.0.1", server.port, PATIENT_S, connections=1)
    await backend.set(b"a", b"1", 100)
    for pauses in range(8):
        askers = [asyncio.create_task(backend.get(b"a")) for _ in range(4)]
        for _ in range(pauses):
            await asyncio.sleep(0)
        askers[0].cancel()
        askers[1].cancel()
        await asyncio.wait(askers)
        assert askers[2].result() == askers[3].result() == b"1"
    assert "0 busy, 1 idle, 0 waiting" in repr(backend)
    await backend.aclose()


async def test_an_asker_cancelled_in_the_moment_in_which_its_turn_comes_passes_it_on(
    start_memcached: StartMemcached,
) -> None:
    pool = ConnectionPool("127.0.0.1", start_memcached().port, 1, PATIENT_S)
    for sound in (True, False):
        conn = await pool.acquire()
        asker = asyncio.create_task(pool.acquire())
        await asyncio.sleep(0)
        if not sound:
            conn.reader.set_exception(OSError("lost"))
        pool.release(conn)
        asker.cancel()
        await asyncio.wait((asker,))
        assert "0 busy" in repr(pool)
        pool.release(await pool.acquire())
        assert repr(pool) == "<ConnectionPool: 0 busy, 1 idle, 0 waiting>"
    await pool.clear()


async def test_a_server_that_came_back_is_used_again(start_memcached: StartMemcached) -> None:
    server = start_memcached()
    backend = MemcachedBackend("127.0.0.1", server.port, PATIENT_S)
    await backend.set(b"a", b"1", 100)
    server.kill()
    with pytest.raises(CacheUnavailable):
        await backend.get(b"a")
    server.start()
    assert await backend.get(b"a") is None
    await backend.aclose()
