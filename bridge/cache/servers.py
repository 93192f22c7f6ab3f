"""Routing of keys to cache servers, the health of each server, and its counters.

Rendezvous hashing: every server draws a number for the key, the highest is its home. A server that
joins takes the keys for which it draws highest, and nothing moves between the others.

A key whose home is down is not cached: it does not move to the next server meanwhile. If it did, a
process that sees the home alive would write there only, and what was left at the next server would be
read as true when the home fails again. For the same reason a server must be empty when it joins: it
may hold what it held when it left.

A server is in one of three states, as this process sees it:
  - well;
  - resting (backing off): a read failed. Reads skip it for `retry_s`, then one of them tries again. Writes
    try it at once, since what they could not invalidate would have to be flushed;
  - owing (dirty): a write could not invalidate its key there, or does not know. Nobody here uses the server
    until it has been flushed. Flushes are retried every `retry_s` even while the server is unresponsive:
    they queue in its socket and take effect before any later read.
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import NamedTuple

from .base import CacheBackend, CacheUnavailable, ItemRefused


class Rendezvous:
    """Highest random weight. Names in any order give the same homes."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        seeds = [blake2b(name.encode(), digest_size=32).digest() for name in self.names]
        self._hashes = [blake2b(key=seed, digest_size=8) for seed in seeds]

    def home(self, key: bytes) -> int:
        """Index in `names` of the key's home."""
        if len(self._hashes) == 1:
            return 0
        draws = []
        for number, base in enumerate(self._hashes):
            drawn = base.copy()
            drawn.update(key)
            draws.append((drawn.digest(), self.names[number], number))
        return max(draws)[2]


class CacheServerStatistics(NamedTuple):
    """Counters of one cache server, as this process saw it."""

    name: str
    hits: int
    misses: int
    """With `errors`."""
    errors: int
    """Reads that found it down, slow or wrong, or skipped it."""
    bytes: int
    """Of values, read."""
    flushes: int
    """How often it was made to forget everything since a write had not reached it."""
    state: str
    """`well`, `resting` or `needs_flush`."""


class CacheServer:
    """A backend and what is known of its health. Decisions are synchronous."""

    def __init__(self, backend: CacheBackend, retry_s: float, clock: Callable[[], float]) -> None:
        self.backend = backend
        self.unhealthy = False
        """Not well. Readers look at this first, and at nothing else while it is False."""
        self.hits = self.misses = self.errors = self.bytes = 0
        self._retry_s = retry_s
        self._clock = clock
        self._rests_until = 0.0
        self._owed = 0
        self._flushes = 0
        self._flushing: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<CacheServer {self.backend.name}: {self.state}>"

    @property
    def state(self) -> str:
        """`well`, `resting` or `needs_flush`."""
        return "owing" if self._owed else "resting" if self.unhealthy else "well"

    @property
    def needs_flush(self) -> bool:
        """True while the server may hold values that a write could not invalidate."""
        return self._owed > 0

    def statistics(self) -> CacheServerStatistics:
        """Counters so far."""
        return CacheServerStatistics(
            self.backend.name, self.hits, self.misses, self.errors, self.bytes, self._flushes, self.state
        )

    def may_read(self) -> bool:
        """Return whether a read may use it. After the back-off, the first reader probes it."""
        if not self.unhealthy:
            return True
        now = self._clock()
        if self._owed or now < self._rests_until:
            return False
        self._rests_until = now + self._retry_s
        return True

    def failed(self, error: CacheUnavailable | None = None) -> None:
        """Note a failed operation. A refused item is none."""
        if not isinstance(error, ItemRefused):
            self.unhealthy = True
            self._rests_until = self._clock() + self._retry_s

    def answered(self) -> None:
        """Note a successful operation."""
        if not self._owed:
            self.unhealthy = False

    def mark_dirty(self) -> None:
        """Mark the server dirty: a write may have left an old value there."""
        self._owed += 1
        self.failed()
        if self._flushing is None:
            self._flushing = asyncio.create_task(self._flush(), name=f"flush {self.backend.name}")

    async def wait_flushed(self) -> None:
        """Wait until every flush is done."""
        while self._flushing is not None:
            await asyncio.wait((self._flushing,))

    async def aclose(self) -> None:
        """Try a pending flush once more, then close the connection."""
        if self._flushing is not None:
            flushing = self._flushing
            flushing.cancel()
            await asyncio.wait((flushing,))
            with contextlib.suppress(CacheUnavailable):
                await self.backend.flush()
        await self.backend.aclose()

    async def _flush(self) -> None:
        """Flush until clean; a write that fails during a flush asks for another one."""
        try:
            while owed := self._owed:
                try:
                    await self.backend.flush()
                except CacheUnavailable:
                    await asyncio.sleep(self._retry_s)
                else:
                    self._flushes += 1
                    self._owed -= owed
            self.unhealthy = False
        finally:
            self._flushing = None


class KeyRoute(NamedTuple):
    """A key and its home."""

    key: bytes
    server: CacheServer


class CacheServers:
    """All servers of the tier."""

    def __init__(self, backends: Sequence[CacheBackend], retry_s: float, clock: Callable[[], float]) -> None:
        self.all = tuple(CacheServer(backend, retry_s, clock) for backend in backends)
        self._homes = Rendezvous([backend.name for backend in backends])

    def home(self, key: bytes) -> CacheServer:
        """The one server that may hold this key."""
        return self.all[self._homes.home(key)]

    async def aclose(self) -> None:
        """Close every connection."""
        for server in self.all:
            await server.aclose()


class TierStatistics(NamedTuple):
    """Counters of the whole tier, as this process saw it."""

    hits: int
    misses: int
    """With `errors`."""
    errors: int
    """Reads that found their server down, slow or wrong, or skipped it."""
    bytes: int
    """Of values, read."""
    fills: int
    """Values stored."""
    lost_fills: int
    """Values not stored: the key had changed meanwhile, or the server did not take them."""
    shared_loads: int
    """Misses that waited for the load of another one."""
    servers: tuple[CacheServerStatistics, ...]
