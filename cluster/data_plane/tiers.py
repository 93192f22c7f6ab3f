"""Both tiers, as every process reaches them; and the actors over them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from ...actors.ingestor import Ingestor
from ...actors.namespaces import DataAccess
from ...actors.retriever import Retriever
from ...actors.searcher import Searcher
from ...bridge.cache.base import CacheBackend
from ...bridge.cache.memcached import MemcachedBackend
from ...bridge.cache.tier import CacheTier
from ...bridge.client.client import BridgeClient
from ...bridge.client.remote_cache import RemoteCache
from ...bridge.client.tiered_store import TieredStore
from ...configs.data import CacheSettings, DataSettings
from ...runtime.ref import ActorRef, PoolRef
from ...runtime.system import ActorSystem
from ...runtime.tasks import task_group

STORE_ID_CHARS = 12
LIBRARY_SCHEMES = ("file", "folder", "mem", "string")


@asynccontextmanager
async def open_tiers(settings: DataSettings) -> AsyncIterator[TieredStore]:
    """Connect to the bridge and to the caches. Raises BridgeDown.

    Without memcached the cache is the one that the bridge server hosts, so that all processes share it. Its
    keys name the store, so that a memcached in front of two of them never answers one with the other's.
    """
    async with BridgeClient(settings.bridge) as client:
        prefix = f"{settings.cache.key_prefix}.{client.store_id[:STORE_ID_CHARS]}"
        keyed = settings.cache.model_copy(update={"key_prefix": prefix})
        cache = CacheTier(keyed, cache_backends(keyed, client))
        try:
            yield TieredStore(client, cache)
        finally:
            await cache.aclose()


def cache_backends(settings: CacheSettings, client: BridgeClient) -> list[CacheBackend]:
    """The cache servers that the settings name."""
    if settings.kind != "memcached":
        return [RemoteCache(client)]
    timeout_s = settings.timeout_ms / 1000
    return [MemcachedBackend(host.host, host.port, timeout_s) for host in settings.hosts]


async def spawn_data_actors(
    system: ActorSystem, settings: DataSettings, copies: int = 1
) -> tuple[PoolRef, PoolRef]:
    """Ingestors and Retrievers. Raises BridgeDown (as the cause of ActorDown) if the data plane is not up."""
    pools: dict[str, PoolRef] = {}

    async def spawn(role: type[Ingestor] | type[Retriever], name: str) -> None:
        pools[name] = await system.spawn_pool(role, settings, open_tiers, name=name, copies=copies)

    async with task_group() as group:
        group.start_soon(spawn, Ingestor, "ingestor")
        group.start_soon(spawn, Retriever, "retriever")
    return pools["ingestor"], pools["retriever"]


async def spawn_searcher(system: ActorSystem, settings: DataSettings, warm: tuple[str, ...] = ()) -> ActorRef:
    """Spawn the Searcher; the indexes of `warm` tags are made before anybody asks.

    Raises BridgeDown (as the cause of ActorDown) if the data plane is not up.
    """
    blobs = partial(BridgeClient, settings.bridge)
    return await system.spawn(Searcher, settings.search, blobs, warm, name="searcher")


async def spawn_data_access(system: ActorSystem, settings: DataSettings) -> DataAccess:
    """The data plane for tasks of the `data` domain: its Ingestors read the library and nothing else.

    Raises SettingsError for a library that is not there, and what `spawn_data_actors` raises.
    """
    library = settings.locate_library()
    uris = settings.uris.model_copy(update={"roots": (library,), "schemes": LIBRARY_SCHEMES})
    ingestors, retrievers = await spawn_data_actors(system, settings.model_copy(update={"uris": uris}))
    return DataAccess(ingestors, retrievers, settings.rewards, library)
