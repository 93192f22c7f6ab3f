"""Adapters travel by the data plane: fetched by every engine, checked, never a wrong version."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Literal

import pytest

from agentfactory.actors.coordinator.publisher import PolicyPublisher
from agentfactory.bridge.client.tiered_store import TieredStore
from agentfactory.bridge.errors import BridgeDown
from agentfactory.cluster.adapters import StoredAdapters, blob_name, open_adapter_store, retry_until_reachable
from agentfactory.cluster.data_plane.services import down, make_plan, up
from agentfactory.cluster.data_plane.tiers import open_tiers
from agentfactory.configs.data import DataSettings
from agentfactory.configs.models import SimulatedEngineSettings
from agentfactory.messages.adapters import (
    AdapterRef,
    FetchAdapter,
    LoadAdapter,
    SetPolicyVersion,
    UnloadAdapter,
)
from agentfactory.messages.generation import Generate, SamplingSettings
from agentfactory.runtime.actor import Actor
from agentfactory.runtime.engines.actor import InferenceEngine
from agentfactory.runtime.engines.base import AdapterRejected, UnknownAdapter
from agentfactory.runtime.ref import PoolRef
from agentfactory.runtime.system import ActorSystem
from agentfactory.training.adapter_files import CONFIG_FILE, WEIGHTS_FILE, with_location
from tests.actors.scripted import model_folder
from tests.cluster.test_data_plane import pid_of, settings

TIMEOUT_S = 180


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DataSettings]:
    """One data plane for all tests, each with a tag of its own."""
    chosen = settings(tmp_path_factory.mktemp("plane"))
    folder = Path(chosen.folder)
    plan = make_plan(chosen, folder)
    asyncio.run(up(plan, folder))
    yield plan.data
    asyncio.run(down(folder))


@pytest.fixture
def tag(request: pytest.FixtureRequest) -> str:
    return f"adapters/{request.node.name}".translate({ord("["): "-", ord("]"): None})


@pytest.fixture
async def tiers(plane: DataSettings) -> AsyncIterator[TieredStore]:
    async with open_tiers(plane) as opened:
        yield opened


@pytest.fixture
def shelf(tiers: TieredStore) -> StoredAdapters:
    return StoredAdapters(tiers)


def adapter(tag: str, version: int, size: int = 1000) -> LoadAdapter:
    ref = AdapterRef(policy="student", version=version)
    files = LoadAdapter(adapter=ref, config_json=b"{}", weights=bytes([version]) * size)
    return with_location(files, tag)


async def names_under(tiers: TieredStore, tag: str) -> list[str]:
    return [blob.name for blob in (await tiers.store.list(tag)).blobs]


async def test_what_is_put_is_fetched_with_both_its_files(shelf: StoredAdapters, tag: str) -> None:
    put = adapter(tag, 3)
    await shelf.put(put)
    assert await shelf.fetch(put.adapter) == put


async def test_what_is_there_already_is_not_put_again(
    shelf: StoredAdapters, tiers: TieredStore, tag: str
) -> None:
    put = adapter(tag, 1)
    await shelf.put(put)
    first = (await tiers.store.list(tag)).blobs
    await tiers.store.delete(tag, [blob_name(put.adapter, CONFIG_FILE)])
    await shelf.put(put)
    config, weights = (await tiers.store.list(tag)).blobs
    assert (config.version != first[0].version, weights.version) == (True, first[1].version)


@pytest.mark.parametrize("file", [CONFIG_FILE, WEIGHTS_FILE])
async def test_a_blob_that_was_altered_in_the_store_is_rejected(
    shelf: StoredAdapters, tiers: TieredStore, tag: str, file: str
) -> None:
    put = adapter(tag, 1)
    await shelf.put(put)
    name = blob_name(put.adapter, file)
    await tiers.store.put(tag, name, b"altered")
    assert await shelf.fetch(put.adapter) == put  # the cache still has the bytes that are meant
    await tiers.cache.prune(tag, [name])
    with pytest.raises(AdapterRejected, match=r"student-v1: .* has the SHA-256 .*, expected"):
        await shelf.fetch(put.adapter)


async def test_a_blob_that_was_altered_in_the_cache_is_fetched_from_the_store(
    shelf: StoredAdapters, tiers: TieredStore, tag: str
) -> None:
    put = adapter(tag, 1)
    await shelf.put(put)
    name = blob_name(put.adapter, WEIGHTS_FILE)

    async def nothing() -> None: ...

    await tiers.cache.write_through(tag, name, nothing, b"altered")
    assert await shelf.fetch(put.adapter) == put


async def test_a_version_that_is_not_there_is_rejected(shelf: StoredAdapters, tag: str) -> None:
    await shelf.put(adapter(tag, 1))
    with pytest.raises(AdapterRejected, match=r"student-v2 cannot be fetched: .*no such blob"):
        await shelf.fetch(adapter(tag, 2).adapter)


async def test_what_is_removed_is_gone_from_both_tiers_and_others_stay(
    shelf: StoredAdapters, tiers: TieredStore, tag: str
) -> None:
    first, second = adapter(tag, 1), adapter(tag, 2)
    await shelf.put(first)
    await shelf.put(second)
    await shelf.remove(first.adapter)
    with pytest.raises(AdapterRejected):
        await shelf.fetch(first.adapter)
    assert await shelf.fetch(second.adapter) == second
    await shelf.clear(tag)
    assert await names_under(tiers, tag) == []
    assert await tiers.cache.query(tag) == []


async def test_a_bridge_that_does_not_come_back_is_given_up(tmp_path: Path) -> None:
    nobody = settings(tmp_path).bridge.model_copy(update={"connect_timeout_ms": 20})
    chosen = settings(tmp_path).model_copy(update={"bridge": nobody})
    attempts = 0

    async def attempt() -> None:
        nonlocal attempts
        attempts += 1
        async with open_tiers(chosen):
            raise AssertionError("unreachable")

    with pytest.raises(BridgeDown):
        await retry_until_reachable(attempt, 0.05)
    assert attempts > 1


class Audience(Actor):
    """Students or a Teacher, as far as publishing is concerned."""

    async def use(self, message: SetPolicyVersion) -> None: ...


@asynccontextmanager
async def publishing(
    system: ActorSystem, folder: Path, plane: DataSettings, shelf: StoredAdapters, tag: str
) -> AsyncIterator[tuple[PolicyPublisher, PoolRef]]:
    """A publisher over two engines, each of which fetches for itself."""
    engines = await system.spawn_pool(
        InferenceEngine,
        model_folder(folder / "model"),
        SimulatedEngineSettings(),
        partial(open_adapter_store, plane),
        name="engine",
        copies=2,
    )
    audience = await system.spawn_pool(Audience, name="audience", copies=1)
    publisher = PolicyPublisher(engines, audience, audience, system.topics)
    publisher.use_adapter_store(shelf, tag)
    yield publisher, engines


def request(name: str | None) -> Generate:
    return Generate(
        request_id=f"ask {name}", prompt_ids=(5, 6), sampling=SamplingSettings(max_tokens=2), adapter=name
    )


@pytest.fixture(params=["local", pytest.param("ray", marks=pytest.mark.ray)])
def transport(request: pytest.FixtureRequest) -> Literal["local", "ray"]:
    if request.param == "ray":
        request.getfixturevalue("ray_cluster")
    return request.param


@pytest.fixture
async def system(transport: Literal["local", "ray"]) -> AsyncIterator[ActorSystem]:
    async with ActorSystem.open(transport, backoff_s=0.01) as opened:
        yield opened


async def test_a_refused_version_leaves_the_old_one_in_use(
    system: ActorSystem,
    tmp_path: Path,
    plane: DataSettings,
    shelf: StoredAdapters,
    tiers: TieredStore,
    tag: str,
) -> None:
    async with publishing(system, tmp_path, plane, shelf, tag) as (publisher, engines):
        first, second = adapter(tag, 1), adapter(tag, 2)
        await publisher.restore(first)
        await shelf.put(second)
        name = blob_name(second.adapter, WEIGHTS_FILE)
        await tiers.store.put(tag, name, first.weights)  # the wrong version's bytes under its name
        await tiers.cache.prune(tag, [name])
        with pytest.raises(AdapterRejected):
            await publisher.publish(FetchAdapter(adapter=second.adapter))
        assert publisher.current("student") == first.adapter
        for engine in engines.members:
            completion = await engine.ask(request("student-v1"), timeout_s=TIMEOUT_S)
            assert completion.adapter == "student-v1"
            with pytest.raises(UnknownAdapter):
                await engine.ask(request("student-v2"), timeout_s=TIMEOUT_S)


async def test_a_version_is_published_though_the_bridge_is_killed_meanwhile(
    system: ActorSystem,
    tmp_path: Path,
    plane: DataSettings,
    shelf: StoredAdapters,
    tiers: TieredStore,
    tag: str,
) -> None:
    folder = Path(plane.folder)
    async with publishing(system, tmp_path, plane, shelf, tag) as (publisher, engines):
        files = adapter(tag, 1, size=24 << 20)
        task = asyncio.create_task(publisher.restore(files))
        while not await names_under(tiers, tag):  # the configuration lies there, the weights are under way
            assert not task.done()
        os.kill(pid_of(folder, "bridge"), signal.SIGKILL)
        await task
        assert publisher.current("student") == files.adapter
        for engine in engines.members:
            completion = await engine.ask(request("student-v1"), timeout_s=TIMEOUT_S)
            assert completion.adapter == "student-v1"


async def test_a_replica_that_was_restarted_fetches_again_and_a_retired_version_is_removed(
    system: ActorSystem,
    tmp_path: Path,
    plane: DataSettings,
    shelf: StoredAdapters,
    tiers: TieredStore,
    tag: str,
) -> None:
    async with publishing(system, tmp_path, plane, shelf, tag) as (publisher, engines):
        for version in (1, 2):
            await publisher.restore(adapter(tag, version))
        await system.kill("engine-1")
        await publisher.reload()
        loaded = await engines.members[1].ask(UnloadAdapter(name="student-v1"), timeout_s=TIMEOUT_S)
        assert loaded.names == ("student-v2",)
        await publisher.retire("student", (2,))
        assert await names_under(tiers, tag) == [
            blob_name(adapter(tag, 2).adapter, file) for file in (CONFIG_FILE, WEIGHTS_FILE)
        ]
        await publisher.clear_adapter_store()
        assert await names_under(tiers, tag) == []
