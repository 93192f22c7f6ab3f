"""Which blobs may be cached, kept in the cache itself, so that every process knows.

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
from .servers import Server, Servers, Slot

SHARDS = 64
REMEMBERED_S = 60.0
TOGETHER = 16
"""Names of one shard that wait in this process at most."""
_ATTEMPTS = 8
"""To write a shard that other processes write too."""
_REMEMBERED = 1 << 16

Blob = tuple[str, str]
"""Tag and name."""


class Entry(NamedTuple):
    """A line of a shard."""

    tag: str
    name: str
    until: int
    """Seconds since the epoch; a line that nobody renews goes."""


class Shard:
    """One of the items. What several tasks add at a time is written at once."""

    def __init__(self, slot: Slot) -> None:
        self.slot = slot
        self.lock = asyncio.Lock()
        self.waiting: set[Blob] = set()


class Index:
    """The names of one key prefix."""

    def __init__(
        self, settings: CacheSettings, servers: Servers, clock: Callable[[], float] = time.time
    ) -> None:
        self._prefix = settings.key_prefix
        self._servers = servers
        self._shards: dict[int, Shard] = {}
        self._known: dict[Blob, float] = {}
        self._ttl_s = settings.default_ttl
        self._room = settings.item_limit - ITEM_SPARE
        self._clock = clock

    async def add(self, blob: Blob) -> None:
        """Name it."""
        shard = self._put_down(blob)
        if shard is not None:
            await self._write_down(shard)

    async def add_later(self, blob: Blob) -> None:
        """Name it at the next `settle`, or when `TOGETHER` names of its shard wait."""
        shard = self._put_down(blob)
        if shard is not None and len(shard.waiting) >= TOGETHER:
            await self._write_down(shard)

    async def settle(self) -> None:
        """Name what waits for it."""
        if waiting := [shard for shard in self._shards.values() if shard.waiting]:
            await asyncio.gather(*map(self._write_down, waiting))

    async def named(self) -> list[Blob]:
        """All names, of blobs that are cached and of some that are not any more."""
        await self.settle()
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
    def _keys(self) -> dict[Server, list[bytes]]:
        """Of all shards, by their homes."""
        keys: dict[Server, list[bytes]] = {}
        for number in range(SHARDS):
            slot = self._shard(number).slot
            keys.setdefault(slot.server, []).append(slot.key)
        return keys

    def _shard(self, number: int) -> Shard:
        shard = self._shards.get(number)
        if shard is None:
            key = f"{self._prefix}:@{number}".encode()
            shard = self._shards[number] = Shard(Slot(key, self._servers.home(key)))
        return shard

    def _put_down(self, blob: Blob) -> Shard | None:
        """The shard where its name waits now; None if it is known to be there."""
        if self._known.get(blob, 0.0) > self._clock():
            return None
        shard = self._shard(_shard_of(blob))
        shard.waiting.add(blob)
        return shard

    async def _write_down(self, shard: Shard) -> None:
        async with shard.lock:
            blobs, shard.waiting = shard.waiting, set()
            if blobs and await self._write(shard.slot, blobs):
                self._remember(blobs)

    async def _write(self, slot: Slot, blobs: set[Blob]) -> bool:
        """Whether they are there."""
        backend = slot.server.backend
        for _ in range(_ATTEMPTS if slot.server.may_read() else 0):
            try:
                held = await backend.gets(slot.key)
                item = self._with(held.value if held else b"", blobs)
                if held is None:
                    stored = await backend.add(slot.key, item, 2 * self._ttl_s)
                else:
                    stored = await backend.compare_and_set(slot.key, item, held.token, 2 * self._ttl_s)
            except CacheUnavailable:
                slot.server.failed()
                return False
            slot.server.answered()
            if stored:
                return True
        return False

    def _with(self, item: bytes, blobs: set[Blob]) -> bytes:
        now = self._clock()
        until = int(now + self._ttl_s + REMEMBERED_S) + 1
        kept = [e for e in _read(item) if e.until > now and (e.tag, e.name) not in blobs]
        entries = [*kept, *(Entry(tag, name, until) for tag, name in sorted(blobs))]
        while len(packed := json.dumps(entries).encode()) > self._room:
            del entries[: len(entries) // 4 + 1]
        return packed

    def _remember(self, blobs: Iterable[Blob]) -> None:
        if len(self._known) > _REMEMBERED:
            self._known.clear()
        self._known |= dict.fromkeys(blobs, self._clock() + REMEMBERED_S)


def _shard_of(blob: Blob) -> int:
    return crc32("\0".join(blob).encode("utf-8", "surrogatepass")) % SHARDS


def _read(item: bytes) -> list[Entry]:
    """Nothing of what somebody else wrote under our key."""
    try:
        return [Entry(str(tag), str(name), int(until)) for tag, name, until in json.loads(item or b"[]")]
    except (ValueError, TypeError):
        return []
