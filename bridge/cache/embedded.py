"""A cache in this process: memcached's words over a dictionary.

Bounded in bytes, what an item costs beside its key and value included; the least recently used go
first. Nothing here waits, so every word is atomic. Caches in several processes know nothing of one
another: one process hosts it, and the others reach it over the bridge.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

from .base import CasValue, ItemRefused

ITEM_OVERHEAD = 320
"""Bytes that an item costs beside its key and value: two bytes objects, a tuple, its numbers, a place
in an ordered dictionary (297 measured with tracemalloc, rounded up)."""


class CachedItem(NamedTuple):
    """One entry."""

    value: bytes
    token: int
    expires: float
    """By the cache's clock."""


class EmbeddedStatistics(NamedTuple):
    """Contents and counters of an embedded cache."""

    items: int
    bytes: int
    """With overhead."""
    capacity: int
    hits: int
    misses: int
    evictions: int
    """Items that were let go for want of room."""


class EmbeddedCache:
    """A CacheBackend. `clock` counts seconds and never goes back."""

    def __init__(
        self, capacity_bytes: int, name: str = "embedded", clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.name = name
        self.capacity_bytes = capacity_bytes
        self._clock = clock
        self._items: OrderedDict[bytes, CachedItem] = OrderedDict()
        self._bytes = 0
        self._tokens = 0
        self._hits = self._misses = self._evictions = 0

    def __repr__(self) -> str:
        held = f"{len(self._items)} items, {self._bytes}/{self.capacity_bytes} bytes"
        return f"<EmbeddedCache {self.name}: {held}>"

    def statistics(self) -> EmbeddedStatistics:
        """Contents and counters of an embedded cache."""
        return EmbeddedStatistics(
            items=len(self._items),
            bytes=self._bytes,
            capacity=self.capacity_bytes,
            hits=self._hits,
            misses=self._misses,
            evictions=self._evictions,
        )

    async def get(self, key: bytes) -> bytes | None:
        """The value, or None."""
        item = self._read(key)
        return item and item.value

    async def get_many(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """Those that are there."""
        wanted = dict.fromkeys(keys)
        there = [key for key in wanted if key in self._items]
        self._misses += len(wanted) - len(there)
        return {key: item.value for key in there if (item := self._read(key)) is not None}

    async def lengths(self, keys: Sequence[bytes]) -> dict[bytes, int]:
        """Bytes of those that are there. Not counted, nor is it a use of them."""
        return {key: len(item.value) for key in keys if (item := self._live(key)) is not None}

    async def gets(self, key: bytes) -> CasValue | None:
        """The value and its token, or None."""
        item = self._read(key)
        return item and CasValue(item.value, item.token)

    async def gets_many(self, keys: Sequence[bytes]) -> dict[bytes, CasValue]:
        """Those that are there, with their tokens."""
        return {key: held for key in dict.fromkeys(keys) if (held := await self.gets(key)) is not None}

    async def set(self, key: bytes, value: bytes, ttl_s: int) -> None:
        """Whatever was there before. Raises ItemRefused."""
        self._write(key, value, ttl_s)

    async def add(self, key: bytes, value: bytes, ttl_s: int) -> bool:
        """Only if nothing is there; whether it was stored. Raises ItemRefused."""
        if self._live(key) is not None:
            return False
        self._write(key, value, ttl_s)
        return True

    async def add_many(self, items: Mapping[bytes, bytes], ttl_s: int) -> frozenset[bytes]:
        """`add` for each; the keys that were stored."""
        stored = []
        for key, value in items.items():
            with suppress(ItemRefused):
                if await self.add(key, value, ttl_s):
                    stored.append(key)
        return frozenset(stored)

    async def compare_and_set(self, key: bytes, value: bytes, token: int, ttl_s: int) -> bool:
        """Only if nobody has changed it since `gets`; whether it was stored. Raises ItemRefused."""
        item = self._live(key)
        if item is None or item.token != token:
            return False
        self._write(key, value, ttl_s)
        return True

    async def compare_and_set_many(self, items: Mapping[bytes, CasValue], ttl_s: int) -> frozenset[bytes]:
        """`compare_and_set` for each; the keys that were stored."""
        stored = []
        for key, (value, token) in items.items():
            with suppress(ItemRefused):
                if await self.compare_and_set(key, value, token, ttl_s):
                    stored.append(key)
        return frozenset(stored)

    async def delete(self, key: bytes) -> None:
        """Forget it, if it is there."""
        self._forget(key)

    async def flush(self) -> None:
        """Forget everything."""
        self._items.clear()
        self._bytes = 0

    async def aclose(self) -> None:
        """Let go of the memory."""
        await self.flush()

    def _read(self, key: bytes) -> CachedItem | None:
        item = self._live(key)
        if item is None:
            self._misses += 1
        else:
            self._hits += 1
            self._items.move_to_end(key)
        return item

    def _live(self, key: bytes) -> CachedItem | None:
        item = self._items.get(key)
        if item is not None and item.expires <= self._clock():
            self._forget(key)
            return None
        return item

    def _write(self, key: bytes, value: bytes, ttl_s: int) -> None:
        self._forget(key)  # also when it is refused: what was there is not what was to be there
        if _cost(key, value) > self.capacity_bytes:
            raise ItemRefused(f"{len(value)} bytes do not fit into {self.name} ({self.capacity_bytes} bytes)")
        self._tokens += 1
        self._items[key] = CachedItem(value, self._tokens, self._clock() + ttl_s)
        self._bytes += _cost(key, value)
        while self._bytes > self.capacity_bytes:
            oldest, item = self._items.popitem(last=False)
            self._bytes -= _cost(oldest, item.value)
            self._evictions += 1

    def _forget(self, key: bytes) -> None:
        item = self._items.pop(key, None)
        if item is not None:
            self._bytes -= _cost(key, item.value)


def _cost(key: bytes, value: bytes) -> int:
    return len(key) + len(value) + ITEM_OVERHEAD
