"""Write leases on keys: the writer's half of the protocol (see `bridge.cache`)."""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from .base import CacheUnavailable, CasValue
from .items import HOLDER_ID_BYTES, LEASE_HOLDER, MAX_HOLDERS, fill_lease, lease_holders, write_lease
from .servers import CacheServer, KeyRoute

T = TypeVar("T")
RELEASED_S = 1
"""Life of the fill lease that a released key is left with."""
_RENEWALS = 3
"""How often a lease is renewed in the time that it would live without."""
_ATTEMPTS = 8
"""To change a lease that other writers change too."""
_FAILURES = 2
"""Of a server, before it is given up: the first may be a connection that has died."""


@dataclass
class WriteLease:
    """A writer's lease on one key."""

    route: KeyRoute
    name: bytes
    token: int | None = None
    """Of the key as long as no other writer has been there; else None."""
    invalidated: bool = False
    """Whether the old value is known to be gone."""


class WriteLeases:
    """Acquires, renews and settles write leases. No error of a cache leaves it."""

    def __init__(self, lease_s: int, clock: Callable[[], float] = time.time) -> None:
        self._lease_s = lease_s
        self._clock = clock

    async def take(self, slots: Iterable[KeyRoute]) -> list[WriteLease]:
        """Acquire a write lease on each key, in place of a value, shared with other writers.

        Keys where nothing is take two round trips together; the others three more each.
        """
        leases = [WriteLease(route, _new_holder_id()) for route in slots]
        for server, some in _by_server(leases).items():
            await self._enter_empty(server, some)
        for lease in leases:
            if not lease.invalidated:
                lease.invalidated = await self._enter(lease)
        return leases

    async def during(self, leases: Sequence[WriteLease], act: Callable[[], Awaitable[T]]) -> T:
        """Run `act`, and renew the leases while it runs. Raises what `act` raises.

        After an error nobody knows whether the store has taken the write, or still will: the leases
        stay until they expire.
        """
        acting = asyncio.ensure_future(act())
        try:
            while not acting.done():
                await asyncio.wait((acting,), timeout=self._lease_s / _RENEWALS)
                if not acting.done():
                    await asyncio.gather(*(self._renew(lease) for lease in leases))
            return acting.result()
        except BaseException:
            if acting.cancel():
                await asyncio.wait((acting,))
            self.abandon(leases)
            raise

    def abandon(self, leases: Iterable[WriteLease]) -> None:
        """Leave the leases until they expire: it is unknown what the store has now."""
        for lease in leases:
            if not lease.invalidated:
                lease.route.server.mark_dirty()

    async def settle(self, items: Sequence[tuple[WriteLease, bytes]], ttl_s: int) -> list[bool]:
        """Replace each lease with its item. Returns which were replaced.

        It is not where other writers were, or where the server is not well. With other writers nobody here
        knows whose bytes the store holds, so nothing is cached: the last one to leave the key releases it.
        """
        ready: dict[CacheServer, dict[bytes, CasValue]] = {}
        for lease, item in items:
            if lease.token is not None:
                ready.setdefault(lease.route.server, {})[lease.route.key] = CasValue(item, lease.token)
        stored: frozenset[bytes] = frozenset()
        for server, held in ready.items():
            stored |= await _replace(server, held, ttl_s)
        for lease, _ in items:
            if lease.route.key not in stored and not await self._leave(lease):
                await self._overwrite(WriteLease(lease.route, _new_holder_id()))
        return [lease.route.key in stored for lease, _ in items]

    async def release(self, leases: Sequence[WriteLease]) -> None:
        """Give up the leases: the next reader fills the keys."""
        await self.settle([(lease, fill_lease()) for lease in leases], RELEASED_S)

    def unmarked(self, route: KeyRoute) -> WriteLease:
        """A lease, not yet on its key, for one that the store has changed already."""
        return WriteLease(route, _new_holder_id())

    async def invalidate(self, lease: WriteLease) -> None:
        """Leave the key with a write lease that stays until it expires."""
        lease.invalidated = await self._overwrite(lease)

    @contextmanager
    def settling(self, leases: Sequence[WriteLease]) -> Iterator[None]:
        """Guard the steps after a store's write: a cancellation in them abandons all leases."""
        try:
            yield
        except asyncio.CancelledError:
            self.abandon(leases)
            raise

    async def _enter_empty(self, server: CacheServer, leases: Sequence[WriteLease]) -> None:
        """Add leases to those keys where nothing is."""
        if server.needs_flush:
            return
        items = {lease.route.key: write_lease([self._owner(lease)]) for lease in leases}
        try:
            added = await server.backend.add_many(items, self._lease_s)
            for lease in leases:
                lease.invalidated = lease.route.key in added
            held = await server.backend.gets_many([key for key in items if key in added])
        except CacheUnavailable:
            server.failed()
            return
        server.answered()
        for lease in leases:
            now = held.get(lease.route.key)
            if now is not None and now.value == items[lease.route.key]:
                lease.token = now.token

    async def _enter(self, lease: WriteLease) -> bool:
        """Join other writers' lease, or replace a value. Returns whether the server has taken it."""
        others: list[bytes] = []

        def beside_others(held: CasValue | None) -> bytes | None:
            others[:] = self._others(lease, held)
            return write_lease([*others, self._owner(lease)]) if len(others) < MAX_HOLDERS else None

        item = await self._change(lease.route, beside_others, self._lease_s)
        if item is None:
            return await self._overwrite(lease)
        if not others:
            await self._find_token(lease, item)
        return True

    async def _renew(self, lease: WriteLease) -> None:
        alone = False

        def renewed(held: CasValue | None) -> bytes | None:
            nonlocal alone
            if not _holds(lease, held):
                return None
            alone = held is not None and held.token == lease.token
            return write_lease([*self._others(lease, held), self._owner(lease)])

        item = await self._change(lease.route, renewed, self._lease_s)
        lease.token = None
        if item is not None and alone:
            await self._find_token(lease, item)

    async def _leave(self, lease: WriteLease) -> bool:
        """Remove the holder from the lease, if it is there."""

        def without(held: CasValue | None) -> bytes | None:
            if not _holds(lease, held):
                return None
            others = self._others(lease, held)
            return write_lease(others) if others else fill_lease()

        return await self._change(lease.route, without, self._lease_s) is not None

    async def _change(
        self,
        route: KeyRoute,
        edit: Callable[[CasValue | None], bytes | None],
        ttl_s: int,
    ) -> bytes | None:
        """Edit an item by compare-and-set. Returns the new item, or None if that was not done."""
        server, failures = route.server, 0
        for _ in range(_ATTEMPTS):
            if server.needs_flush or failures == _FAILURES:
                return None
            try:
                held = await server.backend.gets(route.key)
                item = edit(held)
                if item is None:
                    return None
                if held is None:
                    stored = await server.backend.add(route.key, item, ttl_s)
                else:
                    stored = await server.backend.compare_and_set(route.key, item, held.token, ttl_s)
            except CacheUnavailable:
                server.failed()
                failures += 1
            else:
                server.answered()
                if stored:
                    return item
        return None

    async def _overwrite(self, lease: WriteLease) -> bool:
        """Overwrite the key with a write lease.

        On failure the server is marked dirty and is not read until it has been flushed.
        """
        server = lease.route.server
        for _ in range(0 if server.needs_flush else _FAILURES):
            try:
                await server.backend.set(lease.route.key, write_lease([self._owner(lease)]), self._lease_s)
            except CacheUnavailable:
                server.failed()
            else:
                server.answered()
                return True
        server.mark_dirty()
        return False

    async def _find_token(self, lease: WriteLease, item: bytes) -> None:
        try:
            held = await lease.route.server.backend.gets(lease.route.key)
        except CacheUnavailable:
            lease.route.server.failed()
            return
        if held is not None and held.value == item:
            lease.token = held.token

    def _owner(self, lease: WriteLease) -> bytes:
        return LEASE_HOLDER.pack(lease.name, int(self._clock()) + self._lease_s)

    def _others(self, lease: WriteLease, held: CasValue | None) -> list[bytes]:
        """The other writers in a lease. One that should be gone by its own clock has as long again: clocks
        may differ by `lease_s`."""
        owners = [
            (owner, *LEASE_HOLDER.unpack(owner)) for owner in (lease_holders(held.value) if held else ())
        ]
        now = self._clock()
        return [owner for owner, name, until in owners if name != lease.name and until + self._lease_s > now]


async def _replace(server: CacheServer, held: Mapping[bytes, CasValue], ttl_s: int) -> frozenset[bytes]:
    """Replace leases that nobody has changed by values. Returns the keys where that was done."""
    if server.needs_flush:
        return frozenset()
    try:
        return await server.backend.compare_and_set_many(held, ttl_s)
    except CacheUnavailable:
        server.failed()
        return frozenset()


def _by_server(leases: Iterable[WriteLease]) -> dict[CacheServer, list[WriteLease]]:
    grouped: dict[CacheServer, list[WriteLease]] = {}
    for lease in leases:
        grouped.setdefault(lease.route.server, []).append(lease)
    return grouped


def _new_holder_id() -> bytes:
    return secrets.token_bytes(HOLDER_ID_BYTES)


def _holds(lease: WriteLease, held: CasValue | None) -> bool:
    return held is not None and any(owner.startswith(lease.name) for owner in lease_holders(held.value))
