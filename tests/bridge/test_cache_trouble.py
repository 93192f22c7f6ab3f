"""What the tier counts, returns and leaves behind while its servers fail word by word."""

import asyncio

import pytest

from agentfactory.bridge.cache import index as index_module
from agentfactory.bridge.cache import tier as tier_module
from agentfactory.bridge.cache.embedded import EmbeddedCache
from agentfactory.bridge.cache.index import REMEMBERED_S, CacheIndex
from agentfactory.bridge.cache.items import VALUE
from agentfactory.bridge.cache.servers import CacheServers
from agentfactory.bridge.cache.tier import CacheEntry, CacheTier
from agentfactory.configs.data import CacheSettings
from agentfactory.configs.errors import AgentFactoryError
from tests.bridge.fake_cache_server import FakeCacheServer

SMALL_ITEMS = CacheSettings(item_limit=4096, retry_s=1.0)
LARGE = bytes(10_000)


class Scene:
    """A tier over two servers of which one is well, and names of blobs whose home is the other one."""

    def __init__(self) -> None:
        self.now = 0.0
        self.cache, self.well = FakeCacheServer("unwilling"), FakeCacheServer("well")
        self.tier = CacheTier(SMALL_ITEMS, [self.cache, self.well], clock=lambda: self.now)
        self.names = [f"n{n}" for n in range(99) if self.home(f"n{n}") is self.cache]
        self.name = self.names[0]
        self.others = [f"n{n}" for n in range(99) if self.home(f"n{n}") is self.well]

    def home(self, name: str) -> object:
        return self.tier._route("t", name).server.backend

    def key(self, name: str) -> bytes:
        return self.tier._route("t", name).key

    @property
    def state(self) -> str:
        return self.tier.statistics().servers[0].state

    async def write(self, name: str, value: bytes = b"1") -> None:
        await self.tier.write_through("t", name, nothing, value)

    async def put_old(self) -> None:
        """What another process does that still reaches the server, once it was flushed."""
        await self.tier.wait_flushed()
        self.cache.fails = set()
        await self.cache.cache.set(self.key(self.name), VALUE + b"old", 100)

    async def is_flushed(self) -> bool:
        await self.tier.wait_flushed()
        return await self.cache.cache.get(self.key(self.name)) is None


async def nothing() -> None: ...


async def stored() -> bytes:
    return b"stored"


@pytest.fixture
async def scene() -> Scene:
    return Scene()


async def test_of_many_reads_those_after_a_failure_are_errors_and_the_server_comes_back(scene: Scene) -> None:
    first, large, last = scene.names[:3]
    for name, value in ((first, b"1"), (large, LARGE), (last, b"3")):
        await scene.write(name, value)
    scene.cache.words.clear()
    scene.cache.fails, scene.cache.served = {"get_many"}, 1
    wanted = [("t", first), ("t", large), ("t", last)]
    assert await scene.tier.get_many(wanted) == {("t", first): b"1"}
    counts = scene.tier.statistics()
    assert (counts.hits, counts.misses, counts.errors, scene.state) == (1, 2, 2, "resting")
    scene.cache.fails, scene.now = set(), 2.0
    assert await scene.tier.get_many(wanted) == {("t", first): b"1", ("t", large): LARGE, ("t", last): b"3"}
    assert scene.state == "well"


@pytest.mark.parametrize(
    ("word", "value"), [("compare_and_set", b"stored"), ("set", LARGE)], ids=["small", "large"]
)
async def test_what_cannot_be_cached_is_read_all_the_same(scene: Scene, word: str, value: bytes) -> None:
    scene.cache.fails = {word}

    async def load() -> bytes:
        return value

    assert await scene.tier.read_through("t", scene.name, load) == (value, False)
    assert (scene.tier.statistics().fills, scene.state) == (0, "resting")


async def test_an_item_that_is_refused_is_read_and_says_nothing_against_the_server() -> None:
    tier = CacheTier(CacheSettings(), [EmbeddedCache(1000)])

    async def load() -> bytes:
        return LARGE

    assert await tier.read_through("t", "n", load) == (LARGE, False)
    counts = tier.statistics()
    assert (counts.fills, counts.lost_fills, counts.servers[0].state) == (0, 1, "well")


async def test_what_was_filled_is_found_and_counted_and_so_is_what_others_kept_out(scene: Scene) -> None:
    assert await scene.tier.read_through("t", scene.name, stored) == (b"stored", False)
    assert await scene.tier.query() == [CacheEntry("t", scene.name, 6)]
    await scene.write(scene.names[1])

    async def put() -> None:
        await scene.write(scene.names[2], b"of another writer")

    await scene.tier.write_through("t", scene.names[2], put, b"ours")
    counts = scene.tier.statistics()
    assert (counts.fills, counts.lost_fills) == (2, 2), "neither of two writers may cache"


async def test_a_fill_that_another_process_was_faster_with_is_lost(scene: Scene) -> None:
    async def load() -> bytes:
        await scene.cache.cache.set(scene.key(scene.name), VALUE + b"newer", 100)
        return b"stored"

    assert await scene.tier.read_through("t", scene.name, load) == (b"stored", False)
    counts = scene.tier.statistics()
    assert (counts.fills, counts.lost_fills) == (0, 1)
    assert await scene.tier.get("t", scene.name) == b"newer"


async def test_nothing_is_pruned_where_the_server_fails(scene: Scene) -> None:
    await scene.write(scene.name)
    scene.cache.fails = {"compare_and_set"}
    assert await scene.tier.prune("t", [scene.name]) == 0
    assert scene.state == "resting"


@pytest.mark.parametrize("word", ["lengths", "get_many"])
async def test_a_query_finds_what_the_other_servers_have(scene: Scene, word: str) -> None:
    for name in (*scene.names, *scene.others):
        await scene.write(name)
    scene.cache.fails = {word}
    found = {blob.name for blob in await scene.tier.query()}
    assert found
    assert found <= set(scene.others)
    assert scene.state == "resting"
    asked = list(scene.cache.words)
    await scene.tier.query()
    assert scene.cache.words == asked, "it rests"
    scene.cache.fails, scene.now = set(), 2.0
    assert {blob.name for blob in await scene.tier.query()} == {*scene.names, *scene.others}
    assert scene.state == "well"


async def test_what_waits_to_be_named_is_named_before_a_query_and_before_the_end(scene: Scene) -> None:
    other = CacheTier(SMALL_ITEMS, [scene.cache, scene.well])
    await scene.tier.write_through("t", "a", nothing, b"1", one_of_many=True)
    assert [blob.name for blob in await scene.tier.query()] == ["a"]
    await scene.tier.write_through("t", "b", nothing, b"1", one_of_many=True)
    scene.cache.aclose = scene.well.aclose = nothing  # type: ignore[method-assign]
    await scene.tier.aclose()
    assert [blob.name for blob in await other.query()] == ["a", "b"]


async def test_no_more_homes_are_remembered_than_there_is_room_for(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tier_module, "_MAX_ROUTES", 4)
    scene.tier._routes.clear()
    for number in range(10):
        await scene.write(f"n{number}", b"%d" % number)
        assert len(scene.tier._routes) == number % 4 + 1
    assert [await scene.tier.get("t", f"n{number}") for number in range(10)] == [b"%d" % n for n in range(10)]


async def test_one_of_many_that_the_store_may_have_has_an_unmarked_server_flushed(scene: Scene) -> None:
    scene.cache.fails = {"add_many", "gets", "set"}

    async def put() -> list[AgentFactoryError | None]:
        await scene.put_old()
        return [AgentFactoryError("nobody knows whether it is stored")]

    await scene.tier.write_many_through({("t", scene.name): b"new"}, put)
    assert await scene.is_flushed()


@pytest.mark.parametrize("how", ["settles", "packs"])
async def test_a_writer_of_many_that_is_cancelled_after_the_put_leaves_nothing_old(
    scene: Scene, how: str
) -> None:
    scene.cache.fails = {"add_many", "gets", "set"}
    scene.well.hangs = {"compare_and_set_many" if how == "settles" else "set"}

    async def put() -> list[AgentFactoryError | None]:
        await scene.put_old()
        return [None, None]

    values = {("t", scene.others[0]): b"1" if how == "settles" else LARGE, ("t", scene.name): b"new"}
    writing = asyncio.create_task(scene.tier.write_many_through(values, put))
    await scene.well.hung.wait()
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    assert await scene.is_flushed()
    assert scene.tier.statistics().servers[1].state == "well"


@pytest.mark.parametrize("expected", [True, False])
async def test_a_destroy_that_is_cancelled_after_its_delete_leaves_nothing_old(
    scene: Scene, expected: bool
) -> None:
    late = scene.others[0]
    if expected:
        scene.cache.fails = {"add_many", "gets", "set"}
    scene.well.hangs = {"set"}

    async def delete() -> list[tuple[str, str]]:
        if expected:
            await scene.put_old()
        return [("t", scene.name), ("t", late)]

    known = [("t", scene.name)] if expected else []
    destroying = asyncio.create_task(scene.tier.delete_through(known, delete))
    await scene.well.hung.wait()
    destroying.cancel()
    with pytest.raises(asyncio.CancelledError):
        await destroying
    assert scene.tier.statistics().servers[1].state == "owing"
    if expected:
        assert await scene.is_flushed()
    await scene.tier.wait_flushed()


class Named:
    """An index over one server, at a time of the test's own."""

    def __init__(self) -> None:
        self.now = 0.0
        self.cache = FakeCacheServer()
        self.servers = CacheServers([self.cache], 1.0, lambda: self.now)
        self.index = CacheIndex(CacheSettings(), self.servers, clock=lambda: self.now)

    @property
    def state(self) -> str:
        return self.servers.all[0].state


async def test_a_name_is_written_once_and_again_when_its_time_is_over() -> None:
    scene = Named()
    await scene.index.add(("t", "n"))
    await scene.index.add(("t", "another"))
    written = list(scene.cache.words)
    await scene.index.add(("t", "n"))
    await scene.index.add_later(("t", "n"))
    assert scene.cache.words == written, "it is known to be there"
    await scene.cache.cache.flush()
    scene.now = REMEMBERED_S
    await scene.index.add(("t", "n"))
    assert await scene.index.list_names() == [("t", "n")]


@pytest.mark.parametrize("fails", [True, False])
async def test_a_name_that_could_not_be_written_is_not_taken_for_there(fails: bool) -> None:
    scene = Named()
    scene.cache.fails = {"add"} if fails else set()
    if not fails:
        scene.cache.cache.add = _never  # type: ignore[method-assign]
    await scene.index.add(("t", "n"))
    assert scene.state == ("resting" if fails else "well")
    assert scene.cache.words.count("add") == (1 if fails else index_module._ATTEMPTS)
    scene.cache.fails, scene.now = set(), 1.0
    scene.cache.cache.__dict__.pop("add", None)
    await scene.index.add(("t", "n"))
    assert await scene.index.list_names() == [("t", "n")]
    assert scene.state == "well"


async def _never(key: bytes, value: bytes, ttl_s: int) -> bool:
    """Another process was faster, and its item is gone again."""
    return False


async def test_no_more_names_are_remembered_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_module, "_REMEMBERED", 4)
    scene = Named()
    for number in range(20):
        await scene.index.add(("t", f"{number:02}"))
        assert 0 < len(scene.index._known) <= 5
    assert len(await scene.index.list_names()) == 20


async def test_somebody_elses_item_in_the_place_of_names_is_no_name_and_is_replaced() -> None:
    scene = Named()
    await scene.index.add(("t", "n"))
    (key,) = [key for keys in scene.index._keys.values() for key in keys if await scene.cache.cache.get(key)]
    for item in (b"not json", b"7", b'[["t", "n"]]'):
        await scene.cache.cache.set(key, item, 100)
        assert await scene.index.list_names() == []
    scene.now = REMEMBERED_S
    await scene.index.add(("t", "n"))
    assert await scene.index.list_names() == [("t", "n")]


async def test_a_server_whose_names_cannot_be_read_rests() -> None:
    scene = Named()
    await scene.index.add(("t", "n"))
    scene.cache.fails = {"get_many"}
    assert await scene.index.list_names() == []
    assert scene.state == "resting"
