"""Both tiers together: what is destroyed is in neither, whoever puts meanwhile."""

from collections.abc import AsyncIterator, Sequence

import pytest

from agentfactory.bridge.cache.embedded import EmbeddedCache
from agentfactory.bridge.cache.tier import CacheTier
from agentfactory.bridge.client.tiered_store import TieredStore, WriteThroughStore, delete_tags
from agentfactory.bridge.errors import StoreFull
from agentfactory.bridge.store.names import NamePattern
from agentfactory.configs.data import CacheSettings
from agentfactory.messages.data import BlobMeta, BlobUpload
from tests.bridge.fake_blobs import FakeBlobStore


class Interrupted(FakeBlobStore):
    """While names are deleted, another process puts some of them."""

    def __init__(self) -> None:
        super().__init__()
        self.other: WriteThroughStore
        self.before: tuple[str, ...] = ()
        self.after: tuple[str, ...] = ()

    async def delete(self, tag: str, names: Sequence[str]) -> int:
        before, self.before = self.before, ()
        for name in before:
            await self.other.put(tag, name, b"before it was deleted")
        count = await super().delete(tag, names)
        after, self.after = self.after, ()
        for name in after:
            await self.other.put(tag, name, b"after it was deleted")
        return count


@pytest.fixture
async def store() -> Interrupted:
    return Interrupted()


@pytest.fixture
async def tiers(store: Interrupted) -> AsyncIterator[TieredStore]:
    """Two processes over one cache; the other one's writes come in between."""
    cache = EmbeddedCache(16 << 20)
    ours, others = CacheTier(CacheSettings(), [cache]), CacheTier(CacheSettings(), [cache])
    store.other = WriteThroughStore(TieredStore(store, others))
    yield TieredStore(store, ours)
    await ours.aclose()
    await others.aclose()


async def cached(tiers: TieredStore, tag: str, name: str) -> bytes | None:
    async def nothing() -> None: ...

    value, _ = await tiers.cache.read_through(tag, name, nothing)
    return value


async def test_no_put_that_races_with_a_destroy_leaves_a_stale_value(
    tiers: TieredStore, store: Interrupted
) -> None:
    for name in ("a", "b", "c"):
        await WriteThroughStore(tiers).put("t", name, b"old")
    store.before, store.after = ("a", "new"), ("b", "newer")
    await delete_tags(tiers, ["t"])
    for name in ("a", "b", "c", "new", "newer"):
        stored = store.blobs.get(("t", name))
        assert await cached(tiers, "t", name) in (None, stored and stored[1]), name
    assert "c" not in store.named("t")
    assert await cached(tiers, "t", "newer") == b"after it was deleted"


@pytest.mark.slow
async def test_a_tag_of_many_pages_is_destroyed_whole_with_its_index_and_no_other(
    tiers: TieredStore, store: Interrupted
) -> None:
    names = [f"{number:05}" for number in range(2500)]
    for name in names:
        await store.put("t*", name, b"x")
    through = WriteThroughStore(tiers)
    for tag in ("t*", "tt", ".index/t*", ".index/tt"):
        await through.put(tag, "a", b"x")
    assert await delete_tags(tiers, ["t*"]) == 2501
    assert {tag for tag, _ in store.blobs} == {"tt", ".index/tt"}
    assert await cached(tiers, ".index/t*", "a") is None
    assert await cached(tiers, "tt", "a") == b"x"


async def test_what_is_kept_is_cached_again_unless_the_store_has_another(
    tiers: TieredStore, store: Interrupted
) -> None:
    through = WriteThroughStore(tiers)
    info = await through.put("t", "a", b"mine")
    await tiers.cache.prune("t", ["a"])
    await through.touch("t", "a", b"mine", info.sha256)
    assert await cached(tiers, "t", "a") == b"mine"
    await tiers.cache.prune("t", ["a"])
    await store.put("t", "a", b"another")
    await through.touch("t", "a", b"mine", info.sha256)
    assert await cached(tiers, "t", "a") is None


async def test_of_many_that_are_put_those_that_the_store_took_are_cached(
    tiers: TieredStore, store: Interrupted
) -> None:
    through = WriteThroughStore(tiers)
    await through.put("t", "b", b"old")
    await through.put("t", "c", b"old")
    store.fail = lambda name: StoreFull("no room") if name == "b" else None
    blobs = [BlobUpload(name, name.encode(), BlobMeta()) for name in ("a", "b", "c")]
    outcomes = await through.put_many("t", blobs)
    assert [getattr(outcome, "name", None) or type(outcome) for outcome in outcomes] == ["a", StoreFull, "c"]
    assert [await cached(tiers, "t", name) for name in ("a", "b", "c")] == [b"a", None, b"c"]
    await through.flush_index()
    assert [blob.name for blob in await tiers.cache.query("t")] == ["a", "c"]


@pytest.mark.parametrize(
    ("pattern", "shown"),
    [("*", False), ("?index/*", False), (".*", True), (".index/docs", True), ("[.]index/docs", True)],
)
def test_a_tag_that_begins_with_a_dot_shows_itself_to_patterns_that_do(pattern: str, shown: bool) -> None:
    assert NamePattern(pattern, "*").matches(".index/docs", "manifest") is shown
    assert NamePattern("*", "*").matches("docs", ".hidden")
