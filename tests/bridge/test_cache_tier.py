import asyncio
from collections.abc import AsyncIterator, Iterator
from itertools import product

import pytest

from agentfactory.bridge.cache.base import CacheBackend, CacheUnavailable
from agentfactory.bridge.cache.embedded import EmbeddedCache
from agentfactory.bridge.cache.index import CacheIndex
from agentfactory.bridge.cache.items import MAX_KEY_BYTES, cache_key
from agentfactory.bridge.cache.memcached import MemcachedBackend
from agentfactory.bridge.cache.tier import CacheEntry, CacheTier
from agentfactory.configs.data import CacheSettings
from tests.bridge.memcached_server import StartMemcached

PATIENT_S = 60.0
MB = 1 << 20


@pytest.fixture(params=["memcached", "embedded"])
async def backends(request: pytest.FixtureRequest) -> AsyncIterator[list[CacheBackend]]:
    """Two servers."""
    if request.param == "memcached":
        start: StartMemcached = request.getfixturevalue("start_memcached")
        yield [MemcachedBackend("127.0.0.1", start().port, PATIENT_S) for _ in range(2)]
    else:
        yield [EmbeddedCache(64 * MB, name) for name in ("one", "two")]


@pytest.fixture
async def tier(backends: list[CacheBackend]) -> AsyncIterator[CacheTier]:
    tier = CacheTier(CacheSettings(), backends)
    yield tier
    await tier.aclose()


class Store:
    """What lies behind the cache, and how often it was asked."""

    def __init__(self) -> None:
        self.blobs: dict[tuple[str, str], bytes] = {}
        self.loads = 0

    async def write(self, tier: CacheTier, tag: str, name: str, value: bytes) -> None:
        async def put() -> None:
            self.blobs[tag, name] = value

        await tier.write_through(tag, name, put, value)

    async def read(self, tier: CacheTier, tag: str, name: str) -> tuple[bytes | None, bool]:
        async def load() -> bytes | None:
            self.loads += 1
            return self.blobs.get((tag, name))

        return await tier.read_through(tag, name, load)

    async def destroy(self, tier: CacheTier, tag: str) -> list[tuple[str, str]]:
        async def delete() -> list[tuple[str, str]]:
            gone = [blob for blob in self.blobs if blob[0] == tag]
            for blob in gone:
                del self.blobs[blob]
            return gone

        return await tier.delete_through([blob for blob in self.blobs if blob[0] == tag], delete)


async def until_shared(tier: CacheTier, reads: int) -> None:
    while tier.statistics().shared_loads < reads:  # noqa: ASYNC110 - a count, which nobody announces
        await asyncio.sleep(0)


async def test_what_was_written_is_read_from_the_cache_until_it_is_written_again(tier: CacheTier) -> None:
    store = Store()
    for value in (b"one", b"two", b""):
        await store.write(tier, "docs", "a.md", value)
        assert await tier.get("docs", "a.md") == value
        assert await store.read(tier, "docs", "a.md") == (value, True)
    assert store.loads == 0


async def test_a_miss_is_loaded_once_and_then_cached(tier: CacheTier) -> None:
    store = Store()
    store.blobs["docs", "a"] = b"stored"
    assert await store.read(tier, "docs", "a") == (b"stored", False)
    assert await store.read(tier, "docs", "a") == (b"stored", True)
    assert await store.read(tier, "docs", "none") == (None, False)
    assert await store.read(tier, "docs", "none") == (None, False), "that there is none is not cached"
    assert store.loads == 3


async def test_misses_of_one_key_at_a_time_share_one_load(tier: CacheTier) -> None:
    let_go, calls = asyncio.Event(), 0

    async def load() -> bytes:
        nonlocal calls
        calls += 1
        await let_go.wait()
        return b"stored"

    readers = [asyncio.create_task(tier.read_through("t", "n", load)) for _ in range(20)]
    await until_shared(tier, 19)
    readers[0].cancel()
    let_go.set()
    await asyncio.wait(readers)
    assert readers[0].cancelled(), "and the others do not mind"
    assert {reader.result() for reader in readers[1:]} == {(b"stored", False)}
    assert calls == 1


async def test_a_load_that_fails_tells_all_who_wait_and_the_next_one_may_work(tier: CacheTier) -> None:
    let_go = asyncio.Event()

    async def fail() -> bytes:
        await let_go.wait()
        raise OSError("no store")

    readers = [asyncio.create_task(tier.read_through("t", "n", fail)) for _ in range(3)]
    await until_shared(tier, 2)
    let_go.set()
    await asyncio.wait(readers)
    assert all(isinstance(reader.exception(), OSError) for reader in readers)
    store = Store()
    store.blobs["t", "n"] = b"1"
    assert await store.read(tier, "t", "n") == (b"1", False)
    assert await store.read(tier, "t", "n") == (b"1", True)


async def test_force_goes_past_the_cache(tier: CacheTier) -> None:
    store = Store()
    await store.write(tier, "t", "n", b"cached")

    async def load() -> bytes:
        return b"stored"

    assert await tier.read_through("t", "n", load, force=True) == (b"stored", False)
    assert await tier.get("t", "n") == b"cached"


async def test_a_put_that_fails_leaves_nothing_cached(tier: CacheTier) -> None:
    store = Store()
    await store.write(tier, "t", "n", b"old")

    async def put() -> None:
        raise OSError("nobody knows whether it is stored")

    with pytest.raises(OSError, match="nobody knows"):
        await tier.write_through("t", "n", put, b"new")
    assert await store.read(tier, "t", "n") == (b"old", False)
    assert await store.read(tier, "t", "n") == (b"old", False)


async def test_a_write_that_is_cancelled_ends_its_put_and_leaves_nothing_cached(tier: CacheTier) -> None:
    store, begun, ended = Store(), asyncio.Event(), asyncio.Event()
    await store.write(tier, "t", "n", b"old")

    async def put() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    writing = asyncio.create_task(tier.write_through("t", "n", put, b"new"))
    await begun.wait()
    writing.cancel()
    await asyncio.wait((writing,))
    assert writing.cancelled()
    assert ended.is_set()
    assert await tier.get("t", "n") is None


async def test_many_are_read_at_once_from_all_servers(tier: CacheTier) -> None:
    store = Store()
    for number in range(100):
        await store.write(tier, "t", f"n{number}", b"%d" % number)
    await store.write(tier, "t", "large", bytes(3 * MB))
    found = await tier.get_many(
        [("t", f"n{number}") for number in range(150)] + [("t", "large"), ("t", "n1")]
    )
    assert found == store.blobs
    statistics = tier.statistics()
    assert (statistics.hits, statistics.misses, statistics.errors) == (101, 50, 0)
    assert all(server.hits > 20 for server in statistics.servers)
    assert statistics.bytes == sum(len(value) for value in store.blobs.values())


@pytest.mark.parametrize("size", [MB - 600, MB - 512 - 4, MB - 512, MB, 3 * MB + 1, 10 * MB])
async def test_values_of_every_size_up_to_the_limit_are_cached(tier: CacheTier, size: int) -> None:
    store = Store()
    value = bytes(range(256)) * (size // 256 + 1)
    await store.write(tier, "t" * 200, "n", value[:size])
    assert await tier.get("t" * 200, "n") == value[:size]
    assert await tier.query() == [CacheEntry("t" * 200, "n", size)]


async def test_values_over_the_limit_are_left_to_the_store(backends: list[CacheBackend]) -> None:
    tier = CacheTier(CacheSettings(max_value_size=2 * MB), backends)
    store = Store()
    await store.write(tier, "t", "n", b"small")
    await store.write(tier, "t", "n", bytes(2 * MB + 1))
    assert await store.read(tier, "t", "n") == (bytes(2 * MB + 1), False)
    assert await store.read(tier, "t", "n") == (bytes(2 * MB + 1), False)
    assert tier.statistics().lost_fills == 0
    await tier.aclose()


async def test_values_over_the_item_limit_are_left_to_the_store_where_that_is_asked_for(
    backends: list[CacheBackend],
) -> None:
    tier = CacheTier(CacheSettings(oversize="skip"), backends)
    store = Store()
    await store.write(tier, "t", "n", bytes(MB))
    assert await tier.get("t", "n") is None
    await store.write(tier, "t", "n", bytes(MB - 512))
    assert await tier.get("t", "n") == bytes(MB - 512)
    await tier.aclose()


@pytest.mark.parametrize("oversize", ["skip", "split"])
async def test_no_value_over_the_limit_is_cached_where_it_is_below_that_of_an_item(oversize: str) -> None:
    settings = CacheSettings.model_validate({"oversize": oversize, "max_value_size": 2000})
    tier, store = CacheTier(settings, [EmbeddedCache(MB)]), Store()
    await store.write(tier, "t", "small", bytes(2000))
    await store.write(tier, "t", "large", bytes(2001))
    assert await tier.get("t", "small") == bytes(2000)
    assert await tier.get("t", "large") is None
    await tier.aclose()


async def test_a_server_that_takes_smaller_items_than_it_should_is_no_error(
    start_memcached: StartMemcached,
) -> None:
    backend = MemcachedBackend("127.0.0.1", start_memcached(item_limit="512k").port, PATIENT_S)
    tier = CacheTier(CacheSettings(), [backend])
    store = Store()
    for size in (600_000, 3 * MB):
        await store.write(tier, "t", "n", bytes(size))
        assert await store.read(tier, "t", "n") == (bytes(size), False)
    assert tier.statistics().servers[0].state == "well"
    await tier.aclose()


async def test_a_value_one_of_whose_parts_is_gone_is_a_miss_and_heals(tier: CacheTier) -> None:
    store = Store()
    await store.write(tier, "t", "n", bytes(3 * MB))
    listed = await _raw(tier, "n")
    await _server(tier, "n").delete(b"iowarp:!%b.1" % listed[4:20].hex().encode())
    assert await tier.query() == []
    assert await tier.get("t", "n") is None
    assert await store.read(tier, "t", "n") == (bytes(3 * MB), False)
    assert await store.read(tier, "t", "n") == (bytes(3 * MB), True)
    assert store.loads == 1


async def test_parts_of_two_writes_never_mix(tier: CacheTier) -> None:
    store = Store()
    await store.write(tier, "t", "n", b"a" * 3 * MB)
    first = await _raw(tier, "n")
    await store.write(tier, "t", "n", b"b" * 3 * MB)
    await _server(tier, "n").set(cache_key("iowarp", "t", "n"), first, 100)
    assert await tier.get("t", "n") == b"a" * 3 * MB, "the old list has the old parts only"


async def _raw(tier: CacheTier, name: str) -> bytes:
    item = await _server(tier, name).get(cache_key("iowarp", "t", name))
    assert item is not None
    return item


def _server(tier: CacheTier, name: str) -> CacheBackend:
    return tier._route("t", name).server.backend


async def test_somebody_elses_item_under_our_key_is_a_miss_and_is_replaced(tier: CacheTier) -> None:
    store = Store()
    store.blobs["t", "n"] = b"stored"
    await _server(tier, "n").set(cache_key("iowarp", "t", "n"), b"not ours", 100)
    assert await store.read(tier, "t", "n") == (b"stored", False)
    assert await store.read(tier, "t", "n") == (b"stored", True)


async def test_prune_forgets_and_the_store_keeps(tier: CacheTier) -> None:
    store = Store()
    for name in "abc":
        await store.write(tier, "t", name, b"1")
    await store.write(tier, "t*", "a", b"of another tag")
    assert await tier.prune("t", ["a", "none"]) == 1
    assert await store.read(tier, "t", "a") == (b"1", False)
    assert await store.read(tier, "t", "a") == (b"1", True), "and it may be cached again"
    assert await tier.prune("t") == 3
    assert await tier.query() == [CacheEntry("t*", "a", 14)]
    assert await tier.prune("t*") == 1
    assert len(store.blobs) == 4


async def test_what_was_destroyed_is_gone_from_the_cache_and_may_be_written_again(tier: CacheTier) -> None:
    store = Store()
    for number in range(100):
        await store.write(tier, "t", f"n{number}", b"1")
    await store.write(tier, "other", "n", b"1")
    assert len(await store.destroy(tier, "t")) == 100
    assert await tier.get_many([("t", f"n{number}") for number in range(100)]) == {}
    assert await tier.query() == [CacheEntry("other", "n", 1)]
    assert await store.read(tier, "t", "n1") == (None, False)
    await store.write(tier, "t", "n1", b"again")
    assert await tier.get("t", "n1") == b"again"


async def test_query_finds_what_is_cached_now_by_glob(backends: list[CacheBackend]) -> None:
    tier, other = CacheTier(CacheSettings(), backends), CacheTier(CacheSettings(), backends)
    store = Store()
    for tag, name in product(("docs", "docs-2", "data"), ("a.md", "b.md", "c.bin", "[x]:*\n")):
        await store.write(tier, tag, name, name.encode())
    assert [blob[:2] for blob in await other.query("docs*", "*.md")] == [
        ("docs", "a.md"), ("docs", "b.md"), ("docs-2", "a.md"), ("docs-2", "b.md"),
    ]  # fmt: skip
    assert await other.query("data", "[[]x]*") == [CacheEntry("data", "[x]:*\n", 6)]
    for backend in backends:
        await backend.delete(cache_key("iowarp", "docs", "a.md"))
    assert [blob.name for blob in await other.query("docs", "*.md")] == ["b.md"], (
        "what was evicted is left out"
    )
    assert await store.read(tier, "docs", "a.md") == (b"a.md", False)
    assert [blob.name for blob in await other.query("docs", "*.md")] == ["a.md", "b.md"]
    await tier.aclose()


async def test_a_blob_of_the_size_of_a_mark_is_told_from_a_mark(tier: CacheTier) -> None:
    store = Store()
    for size in range(0, 300, 4):
        await store.write(tier, "t", f"{size:03}", bytes(size))
    await store.destroy(tier, "t")
    for size in range(0, 300, 8):
        await store.write(tier, "t", f"{size:03}", bytes(size))
    assert [blob.size for blob in await tier.query()] == list(range(0, 300, 8))


async def test_several_processes_name_their_blobs_at_the_same_time(backends: list[CacheBackend]) -> None:
    tiers = [CacheTier(CacheSettings(), backends) for _ in range(4)]
    store = Store()
    await asyncio.gather(*(store.write(tiers[n % 4], "t", f"{n:04}", b"1") for n in range(400)))
    assert [blob.name for blob in await tiers[0].query("t")] == [f"{n:04}" for n in range(400)]
    await tiers[0].aclose()


async def test_the_index_lets_the_oldest_names_go_when_an_item_is_full() -> None:
    from agentfactory.bridge.cache.servers import CacheServers

    now = 0.0
    servers = CacheServers([EmbeddedCache(MB)], 1.0, lambda: now)
    index = CacheIndex(CacheSettings(item_limit=4096), servers, clock=lambda: now)
    for number in range(3000):
        await index.add(("t" * 100, f"{number:05}"))
    named = {name for _, name in await index.list_names()}
    assert 64 * 10 < len(named) < 3000
    assert {f"{number:05}" for number in range(2950, 3000)} <= named
    now = 4000.0
    await index.add(("t", "new"))
    assert ("t", "new") in await index.list_names()


def awkward() -> Iterator[str]:
    yield from (
        "a",
        "a:b",
        "b",
        "b:c",
        "c",
        "",
        ":",
        "%",
        "%3A",
        "a%3Ab",
        "#",
        "!",
        "@",
        "é",
        "\n",
        " ",
        "\x00",
    )
    yield from ("x" * 300, "x" * 301, "é" * 100, "a/b", "a/", "/b", "\ud800", "a\u2028b", "A", "*", "?")


def test_no_two_blobs_have_one_key_and_every_key_is_one_that_memcached_takes() -> None:
    blobs = list(product(("iowarp", "p:q", "p"), awkward(), awkward()))
    keys = {cache_key(*blob) for blob in blobs}
    assert len(keys) == len(blobs)
    assert all(len(key) <= MAX_KEY_BYTES and all(33 <= byte <= 126 for byte in key) for key in keys)
    assert cache_key("iowarp", "docs", "guides/set-up_1.md") == b"iowarp:docs:guides/set-up_1.md"


async def test_awkward_names_are_read_back(tier: CacheTier) -> None:
    store = Store()
    for tag, name in product(awkward(), awkward()):
        store.blobs[tag, name] = f"{tag}|{name}".encode("utf-8", "surrogatepass")
    some = list(store.blobs.items())[::7]
    for (tag, name), value in some:
        await store.write(tier, tag, name, value)
    assert await tier.get_many([blob for blob, _ in some]) == dict(some)
    assert {(blob.tag, blob.name) for blob in await tier.query()} == {blob for blob, _ in some}


async def test_what_is_written_as_one_of_many_is_found_once_all_is_named(
    backends: list[CacheBackend],
) -> None:
    ours, theirs = CacheTier(CacheSettings(), backends), CacheTier(CacheSettings(), backends)

    async def put() -> None:
        return None

    for number in range(5):
        await ours.write_through("t", str(number), put, b"1", one_of_many=True)
    assert await theirs.query("t") == []
    assert await theirs.get("t", "0") == b"1"
    await ours.flush_index()
    assert [blob.name for blob in await theirs.query("t")] == ["0", "1", "2", "3", "4"]
    await ours.aclose()


async def test_names_that_wait_are_written_when_there_are_many() -> None:
    backend = EmbeddedCache(4 * MB)
    ours, theirs = CacheTier(CacheSettings(), [backend]), CacheTier(CacheSettings(), [backend])

    async def put() -> None:
        return None

    for number in range(2000):
        await ours.write_through("t", str(number), put, b"1", one_of_many=True)
    assert 1000 < len(await theirs.query("t")) < 2000
    await ours.flush_index()
    assert len(await theirs.query("t")) == 2000


@pytest.mark.parametrize("down", [False, True])
async def test_loads_under_way_end_with_the_tier(down: bool) -> None:
    class Cache(EmbeddedCache):
        async def get(self, key: bytes) -> bytes | None:
            if down:
                raise CacheUnavailable("down")
            return await super().get(key)

    tier, begun, ended = CacheTier(CacheSettings(), [Cache(MB)]), asyncio.Event(), asyncio.Event()

    async def load() -> bytes:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        raise AssertionError("unreachable")

    reading = asyncio.create_task(tier.read_through("t", "n", load))
    await begun.wait()
    await tier.aclose()
    assert ended.is_set()
    with pytest.raises(asyncio.CancelledError):
        await reading
