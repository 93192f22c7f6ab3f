"""Index of cached blobs, kept in the cache itself and shared by all processes.

The names lie in a fixed number of shards, each one item, read with one round trip a server. A fill
adds its name unless this process knows that it is there: a name stays when its value goes, and
`query` looks at what is there before it answers. So the index promises: nothing is named that is not
cached; a blob that is cached is named, except when its shard was evicted, could not be written, or
has more names than an item holds (then the oldest go): such a blob is named again when it is next
filled `REMEMBERED_S` later.
"""

import asyncio
import json
import time
from collections.abc import Callable, Iterable
from functools import cached_property
from typing import NamedTuple
from zlib import crc32

from ...configs.data import CacheSettings
from .base import CacheUnavailable
from .items import ITEM_SPARE
from .servers import CacheServer, CacheServers, KeyRoute

SHARDS = 64
REMEMBERED_S = 60.0
FLUSH_AT = 16
"""Names of one shard that wait in this process at most."""
_ATTEMPTS = 8
"""To write a shard that other processes write too."""
_REMEMBERED = 1 << 16

Blob = tuple[str, str]
"""Tag and name."""


class IndexEntry(NamedTuple):
    """A line of a shard."""

    tag: str
    name: str
    until: int
    """Seconds since the epoch; a line that nobody renews goes."""


class IndexShard:
    """One shard of the index. Names that several tasks add are written together."""

    def __init__(self, route: KeyRoute) -> None:
        self.route = route
        self.lock = asyncio.Lock()
        self.waiting: set[Blob] = set()


class CacheIndex:
    """The names of one key prefix."""

    def __init__(
        self, settings: CacheSettings, servers: CacheServers, clock: Callable[[], float] = time.time
    ) -> None:
        self._prefix = settings.key_prefix
        self._servers = servers
        self._shards: dict[int, IndexShard] = {}
        self._known: dict[Blob, float] = {}
        self._ttl_s = settings.default_ttl
        self._room = settings.item_limit - ITEM_SPARE
        self._clock = clock

    async def add(self, blob: Blob) -> None:
        """Add a blob's name, written at once."""
        shard = self._enqueue(blob)
        if shard is not None:
            await self._flush_shard(shard)

    async def add_later(self, blob: Blob) -> None:
        """Add a name at the next `flush`, or when `FLUSH_AT` names of its shard wait."""
        shard = self._enqueue(blob)
        if shard is not None and len(shard.waiting) >= FLUSH_AT:
            await self._flush_shard(shard)

    async def flush(self) -> None:
        """Write all names that wait."""
        if waiting := [shard for shard in self._shards.values() if shard.waiting]:
            await asyncio.gather(*map(self._flush_shard, waiting))

    async def list_names(self) -> list[Blob]:
        """All names, of blobs that are cached and of some that are not any more."""
        await self.flush()
        named: list[Blob] = []
        for server, keys in self._keys.items():
            if not server.may_read():
                continue
            try:
                items = await server.backend.get_many(keys)
            except CacheUnavailable:
                server.failed()
                continue
            server.answered()
            named += ((entry.tag, entry.name) for item in items.values() for entry in _read(item))
        return named

    @cached_property
    def _keys(self) -> dict[CacheServer, list[bytes]]:
        """Of all shards, by their homes."""
        keys: dict[CacheServer, list[bytes]] = {}
        for number in range(SHARDS):
            route = self._shard(number).route
            keys.setdefault(route.server, []).append(route.key)
        return keys

    def _shard(self, number: int) -> IndexShard:
        shard = self._shards.get(number)
        if shard is None:
            key = f"{self._prefix}:@{number}".encode()
            shard = self._shards[number] = IndexShard(KeyRoute(key, self._servers.home(key)))
        return shard

    def _enqueue(self, blob: Blob) -> IndexShard | None:
        """The shard where its name waits now; None if it is known to be there."""
        if self._known.get(blob, 0.0) > self._clock():
            return None
        shard = self._shard(_shard_of(blob))
        shard.waiting.add(blob)
        return shard

    async def _flush_shard(self, shard: IndexShard) -> None:
        async with shard.lock:
            blobs, shard.waiting = shard.waiting, set()
            if blobs and await self._write(shard.route, blobs):
                self._remember(blobs)

    async def _write(self, route: KeyRoute, blobs: set[Blob]) -> bool:
        """Add the names to a shard by compare-and-set. Returns False if that failed."""
        backend = route.server.backend
        for _ in range(_ATTEMPTS if route.server.may_read() else 0):
            try:
                held = await backend.gets(route.key)
                item = self._with(held.value if held else b"", blobs)
                if held is None:
                    stored = await backend.add(route.key, item, 2 * self._ttl_s)
                else:
                    stored = await backend.compare_and_set(route.key, item, held.token, 2 * self._ttl_s)
            except CacheUnavailable:
                route.server.failed()
                return False
            route.server.answered()
            if stored:
                return True
        return False

    def _with(self, item: bytes, blobs: set[Blob]) -> bytes:
        now = self._clock()
        until = int(now + self._ttl_s + REMEMBERED_S) + 1
        kept = [e for e in _read(item) if e.until > now and (e.tag, e.name) not in blobs]
        entries = [*kept, *(IndexEntry(tag, name, until) for tag, name in sorted(blobs))]
        while len(packed := json.dumps(entries).encode()) > self._room:
            del entries[: len(entries) // 4 + 1]
        return packed

    def _remember(self, blobs: Iterable[Blob]) -> None:
        if len(self._known) > _REMEMBERED:
            self._known.clear()
        self._known |= dict.fromkeys(blobs, self._clock() + REMEMBERED_S)


def _shard_of(blob: Blob) -> int:
    return crc32("\0".join(blob).encode("utf-8", "surrogatepass")) % SHARDS


def _read(item: bytes) -> list[IndexEntry]:
    """Decode a shard; foreign content under our key counts as empty."""
    try:
        return [IndexEntry(str(tag), str(name), int(until)) for tag, name, until in json.loads(item or b"[]")]
    except (ValueError, TypeError):
        return []
