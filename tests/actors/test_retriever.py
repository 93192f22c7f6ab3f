"""What is read, from where, and what is forgotten."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from agentfactory.actors.retriever import Retriever
from agentfactory.bridge.errors import BlobDamaged
from agentfactory.messages.data import (
    CachedBlob,
    ListBlobs,
    ListResult,
    Prune,
    Query,
    QueryResult,
    Retrieve,
    Retrieved,
    StepResult,
)
from agentfactory.runtime.ref import ActorRef
from agentfactory.runtime.system import ActorSystem
from tests.actors.data_plane import TIMEOUT_S, Plane, error_of, settings


@pytest.fixture
async def plane() -> Plane:
    plane = Plane()
    for name in ("a", "b"):
        await plane.store.put("docs", name, name.encode())
    await plane.store.put("big", "x", bytes(2 << 20))
    return plane


@asynccontextmanager
async def retriever(plane: Plane, root: Path) -> AsyncIterator[ActorRef]:
    async with ActorSystem.open("local") as system:
        yield await system.spawn(Retriever, settings(root), plane.open, name="retriever")
    assert plane.open_now == 0


def retrieved(result: StepResult) -> Retrieved:
    assert isinstance(result.observation.data, Retrieved)
    return result.observation.data


async def test_a_miss_comes_from_the_store_and_is_a_hit_from_then_on(plane: Plane, tmp_path: Path) -> None:
    async with retriever(plane, tmp_path) as ref:
        miss = await ref.ask(Retrieve(tag="docs", blob_name="a"), timeout_s=TIMEOUT_S)
        hit = await ref.ask(Retrieve(tag="docs", blob_name="a"), timeout_s=TIMEOUT_S)
    assert (miss.reward, hit.reward) == (0.20, 0.30)
    assert (retrieved(miss).hit, retrieved(hit).hit) == (False, True)
    assert retrieved(miss).content == retrieved(hit).content == b"a"
    assert miss.observation.text == "'a' under 'docs': 1 byte from the store"
    assert plane.store.reads == 1


async def test_force_goes_past_the_cache(plane: Plane, tmp_path: Path) -> None:
    plane.cache.values["docs", "a"] = b"cached"
    async with retriever(plane, tmp_path) as ref:
        result = await ref.ask(Retrieve(tag="docs", blob_name="a", force=True), timeout_s=TIMEOUT_S)
    assert retrieved(result).content == b"a"
    assert result.reward == 0.20


async def test_a_cache_that_is_down_does_not_keep_a_read_from_succeeding(
    plane: Plane, tmp_path: Path
) -> None:
    plane.cache.down = True
    async with retriever(plane, tmp_path) as ref:
        for _ in range(2):
            result = await ref.ask(Retrieve(tag="docs", blob_name="a"), timeout_s=TIMEOUT_S)
            assert (retrieved(result).content, result.reward) == (b"a", 0.20)


async def test_an_unknown_blob_is_an_observation(plane: Plane, tmp_path: Path) -> None:
    async with retriever(plane, tmp_path) as ref:
        result = await ref.ask(Retrieve(tag="docs", blob_name="no"), timeout_s=TIMEOUT_S)
    assert error_of(result) == "NoSuchBlob"
    assert result.observation.text == "NoSuchBlob: there is no blob 'no' under 'docs'"


async def test_a_large_blob_is_named_and_not_carried(plane: Plane, tmp_path: Path) -> None:
    async with retriever(plane, tmp_path) as ref:
        result = await ref.ask(Retrieve(tag="big", blob_name="x"), timeout_s=TIMEOUT_S)
    assert retrieved(result) == Retrieved(tag="big", blob_name="x", size=2 << 20, hit=False, content=None)
    assert "stream it from the bridge" in result.observation.text
    assert result.reward == 0.20
    assert plane.store.reads == 0


async def test_a_query_sees_the_cache_only(plane: Plane, tmp_path: Path) -> None:
    plane.cache.values["docs", "b"] = b"bb"
    plane.cache.values["other", "c"] = b"c"
    plane.store.lookups = 0
    async with retriever(plane, tmp_path) as ref:
        result = await ref.ask(Query(tag_pattern="d*"), timeout_s=TIMEOUT_S)
        nothing = await ref.ask(Query(tag_pattern="*", blob_pattern="x"), timeout_s=TIMEOUT_S)
    assert result.observation.data == QueryResult(matches=(CachedBlob(tag="docs", blob_name="b", size=2),))
    assert nothing.observation.data == QueryResult(matches=())
    assert (result.reward, nothing.reward) == (0.10, 0.10)
    assert plane.store.lookups == 0


async def test_a_listing_asks_the_store_page_by_page(plane: Plane, tmp_path: Path) -> None:
    plane.cache.values["docs", "only-cached"] = b""
    async with retriever(plane, tmp_path) as ref:
        first = await ref.ask(ListBlobs(tag_pattern="d*", limit=1), timeout_s=TIMEOUT_S)
        assert isinstance(first.observation.data, ListResult)
        after = first.observation.data.next
        second = await ref.ask(ListBlobs(tag_pattern="d*", limit=1, after=after), timeout_s=TIMEOUT_S)
    assert isinstance(second.observation.data, ListResult)
    assert [blob.name for blob in first.observation.data.blobs + second.observation.data.blobs] == ["a", "b"]
    assert second.observation.data.next == ""
    assert first.reward == 0.10


async def test_what_is_pruned_is_read_from_the_store_again(plane: Plane, tmp_path: Path) -> None:
    async with retriever(plane, tmp_path) as ref:
        for name in ("a", "b"):
            await ref.ask(Retrieve(tag="docs", blob_name=name), timeout_s=TIMEOUT_S)
        pruned = await ref.ask(Prune(tag="docs", blob_names=("a", "no")), timeout_s=TIMEOUT_S)
        a = await ref.ask(Retrieve(tag="docs", blob_name="a"), timeout_s=TIMEOUT_S)
        b = await ref.ask(Retrieve(tag="docs", blob_name="b"), timeout_s=TIMEOUT_S)
    assert pruned.reward == 0.05
    assert pruned.observation.text == "the cache forgot 1 of 2 under 'docs'; the store keeps what it has"
    assert (retrieved(a).hit, retrieved(b).hit) == (False, True)
    assert retrieved(a).content == b"a"


async def test_a_store_that_fails_is_nobodys_score(
    plane: Plane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def damaged(*_: object) -> None:
        raise BlobDamaged("the bytes of 'a' have changed")

    async with retriever(plane, tmp_path) as ref:
        with monkeypatch.context() as patch:
            patch.setattr(plane.store, "get", damaged)
            with pytest.raises(BlobDamaged):
                await ref.ask(Retrieve(tag="docs", blob_name="a"), timeout_s=TIMEOUT_S)
        result = await ref.ask(Retrieve(tag="docs", blob_name="a"), timeout_s=TIMEOUT_S)
    assert retrieved(result).content == b"a"
