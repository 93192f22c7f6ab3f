"""The reader's half of the protocol (see `bridge.cache.tier`): leases on keys, and shared loads."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from bridge.cache.base import CacheUnavailable, Held
from bridge.cache.items import READER, WRITER, reader_mark
from bridge.cache.servers import Slot
from bridge.cache.values import Values

Load = Callable[[], Awaitable[bytes | None]]


class Lease(NamedTuple):
    """A reader's mark, its own or another reader's, and the token that a fill needs."""

    mark: bytes
    token: int


class Flight(NamedTuple):
    """A load under way, and the mark under which it began."""

    mark: bytes
    task: "asyncio.Task[bytes | None]"


class Leases:
    """Takes leases, and loads once for all who miss under the same mark."""

    def __init__(self, values: Values, mark_s: int) -> None:
        self.shared = 0
        """Reads that waited for the load of another one."""
        self._values = values
        self._mark_s = mark_s
        self._flights: dict[bytes, Flight] = {}

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
        """What `load` returns, called by the first who misses. Raises what it raises."""
        flight = self._flights.get(slot.key)
        if flight is not None and flight.mark == lease.mark:
            self.shared += 1
        else:
            flight = self._take_off(slot.key, lease.mark, load)
        return await asyncio.shield(flight.task)

    async def aclose(self) -> None:
        """Give up the loads under way."""
        tasks = [flight.task for flight in self._flights.values()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _take_off(self, key: bytes, under: bytes, load: Load) -> Flight:
        async def fly() -> bytes | None:
            return await load()

        flight = self._flights[key] = Flight(under, asyncio.create_task(fly()))

        def landed(task: "asyncio.Task[bytes | None]") -> None:
            if self._flights.get(key) is flight:
                del self._flights[key]
            if not task.cancelled():
                task.exception()  # those who wait for it have it; perhaps nobody does any more

        flight.task.add_done_callback(landed)
        return flight

    async def _take_over(self, slot: Slot, held: Held) -> Held | None:
        """Put a reader's mark in place of something that is no value."""
        backend = slot.server.backend
        await backend.compare_and_set(slot.key, reader_mark(), held.token, self._mark_s)
        return await backend.gets(slot.key)
