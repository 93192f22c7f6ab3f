"""The cache tier: cached bytes in front of the store, never stale ones.

A key's home (one server, see `bridge.cache.servers`) holds a value, a writer's mark, a reader's mark, or
nothing. A writer's mark names all the writers that hold the key now. Marks live for `mark_s`, and writers
renew theirs while a put lasts.

A hit: one `get` of one key. A reader that finds
  - nothing: adds a reader's mark, takes the key's token, loads from the store, then stores the value by
    `compare_and_set` with that token;
  - a reader's mark, or a list of parts one of which is gone: takes its token, and goes on likewise;
  - a writer's mark, or no server: loads from the store and stores nothing.
A writer puts its name on the key in place of a value or beside other names, takes the key's token, puts to
the store, and then stores the value by `compare_and_set` with that token. If it was not alone from the
first step to the last, it takes its name away instead, and caches nothing; the last one leaves the key to
the readers. A writer whose name is gone (evicted, flushed) leaves a mark that nobody takes away.

Why nothing stale is read after a write has returned:
  1. A value enters the cache only by `compare_and_set` on a token that was taken before the load or the
     put began. So it fails if anybody has changed the key since, and a request that arrives late (after a
     timeout, from a dead process) can do no harm: late values fail, late marks only cost a hit.
  2. A reader's value: every writer changes the key before its put and once more after it. A reader that
     took its token before either fails; one that took it after both has loaded what was put.
  3. A writer's value: it stays only if no other writer was at the key from before its put to after it, so
     the store holds what it put.
  4. A writer that dies between its put and its last step leaves its name. Until that expires nothing is
     cached, whoever else writes or reads; then the next reader loads what is stored.
  5. Reads that wait for a load of another read carry the same reader's mark, so that no writer came
     between, or have asked before that load began.
  6. Marks or values that are evicted are gone: tokens on them fail, and the writer leaves a mark.
  7. A server that a writer cannot reach is flushed before this process uses it again.
Destroying is writing: `delete_through` marks what it was told of, and after the delete also what the
store says it removed, which covers puts that came between.

What remains:
  - Other processes, if they do reach a server which a writer does not reach, read old values there until
    the writer's flush arrives (tried at once and every `retry_s`); if the writer's process ends before,
    until they expire (`default_ttl`).
  - The same if a writer dies in the middle whose mark was evicted, or one that destroys a blob that it
    had not expected; or if a put that failed takes effect only when its mark has expired.
  - Clocks of hosts that differ by more than `mark_s`: the name of a dead writer may go too early.
  - Servers that join while they hold old values: see `bridge.cache.servers`.
"""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from fnmatch import translate
from functools import lru_cache
from typing import NamedTuple, TypeVar

from ...configs.data import CacheSettings
from ...configs.errors import AgentFactoryError
from .base import CacheBackend, CacheUnavailable
from .fill_leases import FillLease, FillLeases, Load
from .index import Blob, CacheIndex
from .items import HEAD, PARTS, VALUE, ValueCodec, batches, cache_key, fill_lease
from .servers import CacheServer, CacheServers, KeyRoute, TierStatistics
from .write_leases import RELEASED_S, WriteLease, WriteLeases

T = TypeVar("T")
R = TypeVar("R")
LEASE_S = 60
"""Life of a mark: twice the time that the bridge gives a request."""
_MAX_ROUTES = 1 << 16
"""Keys that are remembered with their homes."""
_KEYS_PER_TRIP = 64
"""Keys that are asked for at a time."""


@lru_cache
def _pattern(glob: str) -> re.Pattern[str]:
    return re.compile(translate(glob))


class CachedBlob(NamedTuple):
    """A blob that is cached."""

    tag: str
    name: str
    size: int


class CacheTier:
    """Cached blobs over one or several servers. No error of a cache leaves it.

    `mark_s` must be longer than a request to the store can take effect after it was given up.
    """

    def __init__(
        self,
        settings: CacheSettings,
        backends: Sequence[CacheBackend],
        *,
        mark_s: int = LEASE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._prefix = settings.key_prefix
        self._ttl_s = settings.default_ttl
        self._servers = CacheServers(backends, settings.retry_s, clock)
        self._values = ValueCodec(settings)
        self._write_leases = WriteLeases(mark_s)
        self._fill_leases = FillLeases(self._values, mark_s)
        self._index = CacheIndex(settings, self._servers)
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
            route = self._routes.get(blob) or self._route(*blob)
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

    async def write_through(
        self,
        tag: str,
        name: str,
        put: Callable[[], Awaitable[T]],
        value: bytes | None,
        *,
        one_of_many: bool = False,
    ) -> T:
        """Put to the store, then cache the value (None: leave it to the store).

        Of `one_of_many` other processes may find the name only after `name_all`. Raises what `put` raises;
        the key stays uncached for `mark_s` then, since nobody knows whether the store has taken it.
        """
        (lease,) = await self._write_leases.take([self._route(tag, name)])
        done = await self._write_leases.during([lease], put)
        for blob in await self._settle([((tag, name), lease, value)]):
            await (self._index.add_later if one_of_many else self._index.add)(blob)
        return done

    async def write_many_through(
        self, values: Mapping[Blob, bytes], put: Callable[[], Awaitable[Sequence[T | AgentFactoryError]]]
    ) -> Sequence[T | AgentFactoryError]:
        """Put many to the store, then cache those that it took: a few round trips for all of them.

        `put` says what came of each, in their order; with its error a blob's key stays uncached for
        `mark_s`. Other processes may find the names only after `name_all`. Raises what `put` raises.
        """
        leases = await self._write_leases.take(self._route(*blob) for blob in values)
        outcomes = await self._write_leases.during(leases, put)
        done: list[tuple[Blob, WriteLease, bytes | None]] = []
        for (blob, value), lease, outcome in zip(values.items(), leases, outcomes, strict=True):
            if isinstance(outcome, AgentFactoryError):
                self._write_leases.abandon([lease])
            else:
                done.append((blob, lease, value))
        for blob in await self._settle(done):
            await self._index.add_later(blob)
        return outcomes

    async def delete_through(
        self, blobs: Iterable[Blob], delete: Callable[[], Awaitable[Iterable[Blob]]]
    ) -> list[Blob]:
        """Delete from the store for good what `blobs` names; returns what `delete` says it removed.

        To destroy a tag, give the blobs that it is known to have; what was put meanwhile is covered if
        `delete` names it. Raises what `delete` raises.
        """
        expected = dict.fromkeys(blobs)
        leases: list[WriteLease] = []
        for some in batches(list(expected), _KEYS_PER_TRIP):
            leases += await self._write_leases.take(self._route(*blob) for blob in some)
        removed = list(await self._write_leases.during(leases, delete))
        late = [self._write_leases.unmarked(self._route(*blob)) for blob in removed if blob not in expected]
        with self._write_leases.settling([*leases, *late]):
            await self._each(late, self._write_leases.invalidate)
            for held in batches(leases, _KEYS_PER_TRIP):
                await self._write_leases.release(held)
        return removed

    async def prune(self, tag: str, names: Iterable[str] | None = None) -> int:
        """Forget blobs (None: all of the tag that `query` would find); how many. The store keeps them."""
        if names is None:
            names = [blob.name for blob in await self.query(tag_is=tag)]
        return sum(await self._each(dict.fromkeys(names), lambda name: self._prune(self._route(tag, name))))

    async def query(
        self, tag_pattern: str = "*", name_pattern: str = "*", *, tag_is: str | None = None
    ) -> list[CachedBlob]:
        """The blobs that are cached now, as far as the index knows (see `bridge.cache.index`), in order.

        Patterns are globs; `tag_is` asks for one tag to the letter.
        """
        tags, names = _pattern(tag_pattern), _pattern(name_pattern)
        wanted: dict[CacheServer, dict[bytes, Blob]] = {}
        for tag, name in await self._index.named():
            if names.match(name) and (tag == tag_is if tag_is is not None else tags.match(tag)):
                route = self._route(tag, name)
                wanted.setdefault(route.server, {})[route.key] = (tag, name)
        found: list[CachedBlob] = []
        for server, blobs in wanted.items():
            if not server.may_read():
                continue
            try:
                sizes = await self._values.sizes(server, list(blobs))
            except CacheUnavailable:
                server.failed()
                continue
            found += (CachedBlob(*blobs[key], size) for key, size in sizes.items())
        return sorted(found)

    def statistics(self) -> TierStatistics:
        """How it did."""
        servers = tuple(server.statistics() for server in self._servers.all)
        return TierStatistics(
            hits=sum(server.hits for server in servers),
            misses=sum(server.misses for server in servers),
            errors=sum(server.errors for server in servers),
            bytes=sum(server.bytes for server in servers),
            fills=self._fills,
            lost_fills=self._lost_fills,
            shared_loads=self._fill_leases.shared,
            servers=servers,
        )

    async def name_all(self) -> None:
        """Let everybody find what was written as one of many."""
        await self._index.settle()

    async def wait_flushed(self) -> None:
        """Wait until no server has to be flushed."""
        for server in self._servers.all:
            await server.wait_flushed()

    async def aclose(self) -> None:
        """Give up what is under way, and close the connections. The servers keep what they hold."""
        await self._index.settle()
        await self._fill_leases.aclose()
        await self._servers.aclose()

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

    async def _settle(self, writes: Sequence[tuple[Blob, WriteLease, bytes | None]]) -> list[Blob]:
        """Cache what was put, where no other writer was; the blobs that are cached now."""
        kept: list[tuple[Blob, WriteLease, bytes]] = []
        left: list[WriteLease] = []
        with self._write_leases.settling([lease for _, lease, _ in writes]):
            for blob, lease, value in writes:
                item = await self._packed(lease.route, value) if lease.token is not None else None
                if item is None:
                    left.append(lease)
                else:
                    kept.append((blob, lease, item))
            stored = await self._write_leases.settle([(lease, item) for _, lease, item in kept], self._ttl_s)
            await self._write_leases.release(left)
        cached = [blob for (blob, _, _), done in zip(kept, stored, strict=True) if done]
        self._fills += len(cached)
        wanted = sum(value is not None and self._values.cacheable(value) for _, _, value in writes)
        self._lost_fills += wanted - len(cached)
        return cached

    async def _fill(self, blob: Blob, route: KeyRoute, lease: FillLease, value: bytes) -> None:
        """Store what was loaded under a lease."""
        item = await self._packed(route, value)
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

    async def _packed(self, route: KeyRoute, value: bytes | None) -> bytes | None:
        """The item for a value; None if there is none, it is too large, or its parts found no room."""
        if value is None or not self._values.cacheable(value):
            return None
        try:
            return await self._values.pack(route, value)
        except CacheUnavailable as error:
            route.server.failed(error)
            return None

    async def _prune(self, route: KeyRoute) -> bool:
        """Whether there was a value. If the key changes meanwhile, that came after the pruning."""
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

    async def _each(self, items: Iterable[T], do: Callable[[T], Awaitable[R]]) -> list[R]:
        """`do` for all, some at a time."""
        done: list[R] = []
        for some in batches(list(items), _KEYS_PER_TRIP):
            done += await asyncio.gather(*(do(item) for item in some))
        return done
