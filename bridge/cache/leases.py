"""The reader's half of the protocol (see `bridge.cache.tier`): leases on keys, and shared loads."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from .base import CacheUnavailable, Held
from .items import READER, WRITER, reader_mark
from .servers import Slot
from .values import Values

Load = Callable[[], Awaitable[bytes | None]]
Loading = asyncio.Task[bytes | None]


class Lease(NamedTuple):
    """A reader's mark, its own or another reader's, and the token that a fill needs."""

    mark: bytes
    token: int


class Flight(NamedTuple):
    """A load under way, and the mark under which it began."""

    mark: bytes
    task: Loading


class Leases:
    """Takes leases, and lets reads share a load where that is safe."""

    def __init__(self, values: Values, mark_s: int) -> None:
        self.shared = 0
        """Reads that waited for the load of another one."""
        self._values = values
        self._mark_s = mark_s
        self._flights: dict[bytes, Flight] = {}
        self._queued: dict[bytes, Loading] = {}
        """Loads without a lease that have not begun; at most one for a key."""
        self._running: dict[bytes, Loading] = {}
        """Those that have; at most one for a key."""
        self._tasks: set[Loading] = set()

    async def take(self, slot: Slot) -> Lease | bytes | None:
        """A lease, or the value if it has come meanwhile, or None: nothing may be stored now."""
        server = slot.server
        if not server.may_read():
            return None
        try:
            await server.backend.add(slot.key, reader_mark(), self._mark_s)
            held = await server.backend.gets(slot.key)
            if held is not None and not held.value.startswith((READER, WRITER)):
                value = await self._values.join(slot, held.value)
                if value is not None:
                    return value
                held = await self._take_over(slot, held)
        except CacheUnavailable:
            server.failed()
            return None
        server.answered()
        return Lease(*held) if held is not None and held.value.startswith(READER) else None

    async def load(self, slot: Slot, lease: Lease, load: Load) -> bytes | None:
        """What `load` returns, called by the first who misses under this mark. Raises what it raises."""
        flight = self._flights.get(slot.key)
        if flight is not None and flight.mark == lease.mark:
            self.shared += 1
        else:
            flight = self._flights[slot.key] = Flight(lease.mark, self._start(load))
            flight.task.add_done_callback(lambda _: self._landed(slot.key, flight))
        return await asyncio.shield(flight.task)

    async def load_without_lease(self, slot: Slot, load: Load) -> bytes | None:
        """What `load` returns. Raises what it raises.

        Nothing is known of the key, so a load is shared only by those who asked before it began: while one
        is under way, all who come wait for the next. A server that is down does not send every reader of a
        key to the store.
        """
        task = self._queued.get(slot.key)
        if task is None:
            task = self._queued[slot.key] = self._start(lambda: self._in_turn(slot.key, load))
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

    def _landed(self, key: bytes, flight: Flight) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]

    async def _take_over(self, slot: Slot, held: Held) -> Held | None:
        """Put a reader's mark in place of something that is no value."""
        backend = slot.server.backend
        await backend.compare_and_set(slot.key, reader_mark(), held.token, self._mark_s)
        return await backend.gets(slot.key)
