"""A cache that tells each word that it is asked, and refuses or never answers those that a test names."""

import asyncio
from collections.abc import Mapping, Sequence

from agentfactory.bridge.cache.base import CacheUnavailable, CasValue
from agentfactory.bridge.cache.embedded import EmbeddedCache


class FakeCacheServer:
    """An embedded cache behind a connection that may be down or hang, word by word."""

    def __init__(self, name: str = "unwilling") -> None:
        self.name = name
        self.cache = EmbeddedCache(1 << 20)
        """What it holds, to be looked at past the connection."""
        self.words: list[str] = []
        """One for each round trip."""
        self.fails: set[str] = set()
        self.served = 0
        """So many of each word of `fails` go well first."""
        self.failures = 1 << 30
        """So many of `fails` do; the others go well again."""
        self.hangs: set[str] = set()
        self.hung = asyncio.Event()
        """Set when a word of `hangs` came."""

    async def _trip(self, word: str) -> None:
        self.words.append(word)
        await asyncio.sleep(0)
        if word in self.hangs:
            self.hung.set()
            await asyncio.Event().wait()
        if word in self.fails and self.failures > 0 and self.words.count(word) > self.served:
            self.failures -= 1
            raise CacheUnavailable("down")

    async def get(self, key: bytes) -> bytes | None:
        await self._trip("get")
        return await self.cache.get(key)

    async def get_many(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        await self._trip("get_many")
        return await self.cache.get_many(keys)

    async def lengths(self, keys: Sequence[bytes]) -> dict[bytes, int]:
        await self._trip("lengths")
        return await self.cache.lengths(keys)

    async def gets(self, key: bytes) -> CasValue | None:
        await self._trip("gets")
        return await self.cache.gets(key)

    async def gets_many(self, keys: Sequence[bytes]) -> dict[bytes, CasValue]:
        await self._trip("gets_many")
        return await self.cache.gets_many(keys)

    async def set(self, key: bytes, value: bytes, ttl_s: int) -> None:
        await self._trip("set")
        await self.cache.set(key, value, ttl_s)

    async def add(self, key: bytes, value: bytes, ttl_s: int) -> bool:
        await self._trip("add")
        return await self.cache.add(key, value, ttl_s)

    async def add_many(self, items: Mapping[bytes, bytes], ttl_s: int) -> frozenset[bytes]:
        await self._trip("add_many")
        return await self.cache.add_many(items, ttl_s)

    async def compare_and_set(self, key: bytes, value: bytes, token: int, ttl_s: int) -> bool:
        await self._trip("compare_and_set")
        return await self.cache.compare_and_set(key, value, token, ttl_s)

    async def compare_and_set_many(self, items: Mapping[bytes, CasValue], ttl_s: int) -> frozenset[bytes]:
        await self._trip("compare_and_set_many")
        return await self.cache.compare_and_set_many(items, ttl_s)

    async def delete(self, key: bytes) -> None:
        await self._trip("delete")
        await self.cache.delete(key)

    async def flush(self) -> None:
        await self._trip("flush")
        await self.cache.flush()

    async def aclose(self) -> None:
        await self.cache.aclose()
