"""The reader's half of the protocol (see `bridge.cache.tier`): leases on keys, and shared loads."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from .base import CacheUnavailable, CasValue
from .items import FILL_LEASE, WRITE_LEASE, ValueCodec, fill_lease
from .servers import KeyRoute

Load = Callable[[], Awaitable[bytes | None]]
Loading = asyncio.Task[bytes | None]


class FillLease(NamedTuple):
    """A reader's mark, its own or another reader's, and the token that a fill needs."""

    mark: bytes
    token: int


class InFlightLoad(NamedTuple):
    """A load under way, and the mark under which it began."""

    mark: bytes
    task: Loading


class FillLeases:
    """Takes leases, and lets reads share a load where that is safe."""

    def __init__(self, values: ValueCodec, mark_s: int) -> None:
        self.shared = 0
        """Reads that waited for the load of another one."""
        self._values = values
        self._mark_s = mark_s
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
            await server.backend.add(route.key, fill_lease(), self._mark_s)
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
        """What `load` returns, called by the first who misses under this mark. Raises what it raises."""
        in_flight = self._in_flight.get(route.key)
        if in_flight is not None and in_flight.mark == lease.mark:
            self.shared += 1
        else:
            in_flight = self._in_flight[route.key] = InFlightLoad(lease.mark, self._start(load))
            in_flight.task.add_done_callback(lambda _: self._landed(route.key, in_flight))
        return await asyncio.shield(in_flight.task)

    async def load_without_lease(self, route: KeyRoute, load: Load) -> bytes | None:
        """What `load` returns. Raises what it raises.

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
        """Put a reader's mark in place of something that is no value."""
        backend = route.server.backend
        await backend.compare_and_set(route.key, fill_lease(), held.token, self._mark_s)
        return await backend.gets(route.key)
