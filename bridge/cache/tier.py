"""The read path of the cache tier, fill leases with it (see `bridge.cache`), and the tier as a whole."""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from fnmatch import translate
from functools import lru_cache
from typing import NamedTuple

from ...configs.data import CacheSettings
from .base import CacheBackend, CacheUnavailable, CasValue
from .index import Blob, CacheIndex
from .items import FILL_LEASE, HEAD, PARTS, VALUE, WRITE_LEASE, ValueCodec, batches, cache_key, fill_lease
from .servers import CacheServer, CacheServers, KeyRoute, TierStatistics
from .write_leases import RELEASED_S
from .writer import CacheWriter

LEASE_S = 60
"""Life of a lease: twice the time that the bridge gives a request."""
_MAX_ROUTES = 1 << 16
"""Keys that are remembered with their homes."""
_KEYS_PER_TRIP = 64
"""Keys that are asked for at a time."""


Load = Callable[[], Awaitable[bytes | None]]
Loading = asyncio.Task[bytes | None]


@lru_cache
def _pattern(glob: str) -> re.Pattern[str]:
    return re.compile(translate(glob))


class CacheEntry(NamedTuple):
    """A blob that is cached."""

    tag: str
    name: str
    size: int


class FillLease(NamedTuple):
    """A reader's lease on a key, its own or another reader's, and the token that a fill needs."""

    item: bytes
    token: int


class InFlightLoad(NamedTuple):
    """A load in flight, and the lease under which it began."""

    item: bytes
    task: Loading


class FillLeases:
    """Fill leases, and single-flight loads where sharing is safe."""

    def __init__(self, values: ValueCodec, lease_s: int) -> None:
        self.shared = 0
        """Reads that waited for the load of another one."""
        self._values = values
        self._lease_s = lease_s
        self._in_flight: dict[bytes, InFlightLoad] = {}
        self._queued: dict[bytes, Loading] = {}
        """Loads without a lease that have not begun; at most one for a key."""
        self._running: dict[bytes, Loading] = {}
        """Those that have; at most one for a key."""
        self._tasks: set[Loading] = set()

    async def take(self, route: KeyRoute) -> FillLease | bytes | None:
        """A lease, or the value if it has come meanwhile, or None: nothing may be stored now."""
        server = route.server
        if not server.may_read():
            return None
        try:
            await server.backend.add(route.key, fill_lease(), self._lease_s)
            held = await server.backend.gets(route.key)
            if held is not None and not held.value.startswith((FILL_LEASE, WRITE_LEASE)):
                value = await self._values.join(route, held.value)
                if value is not None:
                    return value
                held = await self._take_over(route, held)
        except CacheUnavailable:
            server.failed()
            return None
        server.answered()
        return FillLease(*held) if held is not None and held.value.startswith(FILL_LEASE) else None

    async def load(self, route: KeyRoute, lease: FillLease, load: Load) -> bytes | None:
        """Run `load` once for all readers that miss under this lease. Raises what it raises."""
        in_flight = self._in_flight.get(route.key)
        if in_flight is not None and in_flight.item == lease.item:
            self.shared += 1
        else:
            in_flight = self._in_flight[route.key] = InFlightLoad(lease.item, self._start(load))
            in_flight.task.add_done_callback(lambda _: self._landed(route.key, in_flight))
        return await asyncio.shield(in_flight.task)

    async def load_without_lease(self, route: KeyRoute, load: Load) -> bytes | None:
        """Run `load`, shared only by reads that came before it began. Raises what it raises.

        Nothing is known of the key, so a load is shared only by those who asked before it began: while one
        is under way, all who come wait for the next. A server that is down does not send every reader of a
        key to the store.
        """
        task = self._queued.get(route.key)
        if task is None:
            task = self._queued[route.key] = self._start(lambda: self._in_turn(route.key, load))
        else:
            self.shared += 1
        return await asyncio.shield(task)

    async def aclose(self) -> None:
        """Give up the loads under way."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _in_turn(self, key: bytes, load: Load) -> bytes | None:
        task = self._queued[key]
        try:
            while (running := self._running.get(key)) is not None:
                await asyncio.wait((running,))
        finally:
            del self._queued[key]
        self._running[key] = task
        try:
            return await load()
        finally:
            del self._running[key]

    def _start(self, load: Load) -> Loading:
        async def run() -> bytes | None:
            return await load()

        task = asyncio.create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _landed(self, key: bytes, in_flight: InFlightLoad) -> None:
        if self._in_flight.get(key) is in_flight:
            del self._in_flight[key]

    async def _take_over(self, route: KeyRoute, held: CasValue) -> CasValue | None:
        """Put a fill lease in place of something that is no value."""
        backend = route.server.backend
        await backend.compare_and_set(route.key, fill_lease(), held.token, self._lease_s)
        return await backend.gets(route.key)


class CacheTier:
    """Cached blobs over one or several servers. No error of a cache leaves it.

    `lease_s` must be longer than a request to the store can take effect after it was given up.
    """

    def __init__(
        self,
        settings: CacheSettings,
        backends: Sequence[CacheBackend],
        *,
        lease_s: int = LEASE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._prefix = settings.key_prefix
        self._ttl_s = settings.default_ttl
        self._servers = CacheServers(backends, settings.retry_s, clock)
        self._values = ValueCodec(settings)
        self._fill_leases = FillLeases(self._values, lease_s)
        self._index = CacheIndex(settings, self._servers)
        self._writer = CacheWriter(settings, self._route_of, self._values, self._index, lease_s)
        self.write_through = self._writer.write_through
        self.write_many_through = self._writer.write_many_through
        self.delete_through = self._writer.delete_through
        self._routes: dict[Blob, KeyRoute] = {}
        self._fills = self._lost_fills = 0

    async def get(self, tag: str, name: str) -> bytes | None:
        """The cached bytes; None is a miss, also when the cache is down, slow or wrong."""
        route = self._routes.get((tag, name)) or self._route(tag, name)
        server = route.server
        if not server.unhealthy or server.may_read():
            try:
                item = await server.backend.get(route.key)
                if server.unhealthy:
                    server.answered()
                return self._whole(server, item) or await self._rest_of(route, item)
            except CacheUnavailable:
                server.failed()
        server.errors += 1
        server.misses += 1
        return None

    async def get_many(self, blobs: Iterable[Blob]) -> dict[Blob, bytes]:
        """Those that are cached: a round trip for every 64 of one server, the servers at the same time."""
        wanted: dict[CacheServer, list[tuple[Blob, KeyRoute]]] = {}
        for blob in dict.fromkeys(blobs):
            route = self._route_of(blob)
            wanted.setdefault(route.server, []).append((blob, route))
        found: dict[Blob, bytes] = {}
        await asyncio.gather(*(self._get_from(server, some, found) for server, some in wanted.items()))
        return found

    async def read_through(
        self, tag: str, name: str, load: Load, force: bool = False
    ) -> tuple[bytes | None, bool]:
        """The bytes, and whether they were cached; if not, they come from `load` and are cached now.

        `force` goes past the cache. Reads that miss the same key at the same time share one `load`.
        Raises what `load` raises.
        """
        if force:
            return await load(), False
        value = await self.get(tag, name)
        if value is not None:
            return value, True
        route = self._route(tag, name)
        lease = await self._fill_leases.take(route)
        if isinstance(lease, bytes):
            return lease, True
        if lease is None:
            return await self._fill_leases.load_without_lease(route, load), False

        async def load_and_fill() -> bytes | None:
            loaded = await load()
            if loaded is not None:
                await self._fill((tag, name), route, lease, loaded)
            return loaded

        return await self._fill_leases.load(route, lease, load_and_fill), False

    async def prune(self, tag: str, names: Iterable[str] | None = None) -> int:
        """Forget blobs (None: all of the tag that `query` would find); how many. The store keeps them."""
        if names is None:
            names = [blob.name for blob in await self.query(tag_is=tag)]
        routes = [self._route(tag, name) for name in dict.fromkeys(names)]
        pruned = 0
        for some in batches(routes, _KEYS_PER_TRIP):
            pruned += sum(await asyncio.gather(*map(self._prune, some)))
        return pruned

    async def query(
        self, tag_pattern: str = "*", name_pattern: str = "*", *, tag_is: str | None = None
    ) -> list[CacheEntry]:
        """The blobs that are cached now, as far as the index knows (see `bridge.cache.index`), in order.

        Patterns are globs; `tag_is` asks for one tag to the letter.
        """
        tags, names = _pattern(tag_pattern), _pattern(name_pattern)
        wanted: dict[CacheServer, dict[bytes, Blob]] = {}
        for tag, name in await self._index.list_names():
            if names.match(name) and (tag == tag_is if tag_is is not None else tags.match(tag)):
                route = self._route(tag, name)
                wanted.setdefault(route.server, {})[route.key] = (tag, name)
        found: list[CacheEntry] = []
        for server, blobs in wanted.items():
            if not server.may_read():
                continue
            try:
                sizes = await self._values.sizes(server, list(blobs))
            except CacheUnavailable:
                server.failed()
                continue
            found += (CacheEntry(*blobs[key], size) for key, size in sizes.items())
        return sorted(found)

    def statistics(self) -> TierStatistics:
        """Counters so far."""
        servers = tuple(server.statistics() for server in self._servers.all)
        return TierStatistics(
            hits=sum(server.hits for server in servers),
            misses=sum(server.misses for server in servers),
            errors=sum(server.errors for server in servers),
            bytes=sum(server.bytes for server in servers),
            fills=self._fills + self._writer.fills,
            lost_fills=self._lost_fills + self._writer.lost_fills,
            shared_loads=self._fill_leases.shared,
            servers=servers,
        )

    async def flush_index(self) -> None:
        """Flush the index: all processes find what was written as one of many."""
        await self._index.flush()

    async def wait_flushed(self) -> None:
        """Wait until no server has to be flushed."""
        for server in self._servers.all:
            await server.wait_flushed()

    async def aclose(self) -> None:
        """Give up what is under way, and close the connections. The servers keep what they hold."""
        await self._index.flush()
        await self._fill_leases.aclose()
        await self._servers.aclose()

    def _route_of(self, blob: Blob) -> KeyRoute:
        return self._routes.get(blob) or self._route(*blob)

    def _route(self, tag: str, name: str) -> KeyRoute:
        route = self._routes.get((tag, name))
        if route is None:
            if len(self._routes) >= _MAX_ROUTES:
                self._routes.clear()
            key = cache_key(self._prefix, tag, name)
            route = self._routes[tag, name] = KeyRoute(key, self._servers.home(key))
        return route

    def _whole(self, server: CacheServer, item: bytes | None) -> bytes | None:
        """The value of an item that is one by itself and not empty, counted as a hit."""
        if item is None or len(item) == HEAD or not item.startswith(VALUE):
            return None
        server.hits += 1
        server.bytes += len(item) - HEAD
        return item[HEAD:]

    async def _rest_of(self, route: KeyRoute, item: bytes | None) -> bytes | None:
        """The value behind any other item. Raises CacheUnavailable."""
        value = await self._values.join(route, item) if item is not None else None
        if value is None:
            route.server.misses += 1
        else:
            route.server.hits += 1
            route.server.bytes += len(value)
        return value

    async def _get_from(
        self, server: CacheServer, wanted: Sequence[tuple[Blob, KeyRoute]], found: dict[Blob, bytes]
    ) -> None:
        for some in batches(wanted, _KEYS_PER_TRIP):
            if not server.may_read():
                server.errors += len(some)
                server.misses += len(some)
                continue
            done = 0
            try:
                items = await server.backend.get_many([route.key for _, route in some])
                server.answered()
                for blob, route in some:
                    item = items.get(route.key)
                    value = self._whole(server, item) or await self._rest_of(route, item)
                    done += 1
                    if value is not None:
                        found[blob] = value
            except CacheUnavailable:
                server.failed()
                server.errors += len(some) - done
                server.misses += len(some) - done

    async def _fill(self, blob: Blob, route: KeyRoute, lease: FillLease, value: bytes) -> None:
        """Store what was loaded under a lease."""
        item = await self._values.try_pack(route, value)
        if item is None:
            return
        try:
            stored = await route.server.backend.compare_and_set(route.key, item, lease.token, self._ttl_s)
        except CacheUnavailable as error:
            route.server.failed(error)
            stored = False
        if stored:
            self._fills += 1
            await self._index.add(blob)
        else:
            self._lost_fills += 1

    async def _prune(self, route: KeyRoute) -> bool:
        """Drop a cached value. Returns whether there was one; a concurrent write counts as later."""
        server = route.server
        if not server.may_read():
            return False
        try:
            held = await server.backend.gets(route.key)
            if held is None or not held.value.startswith((VALUE, PARTS)):
                return False
            await server.backend.compare_and_set(route.key, fill_lease(), held.token, RELEASED_S)
        except CacheUnavailable:
            server.failed()
            return False
        return True
