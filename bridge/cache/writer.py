"""The write path of the cache tier (see `bridge.cache`): put to the store, then cache the value."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from ...configs.data import CacheSettings
from ...configs.errors import AgentFactoryError
from .index import Blob, CacheIndex
from .items import ValueCodec, batches
from .servers import KeyRoute
from .write_leases import WriteLease, WriteLeases

T = TypeVar("T")
_KEYS_PER_TRIP = 64
"""Keys that are asked for at a time."""


class CacheWriter:
    """Writes and deletes through the cache. No error of a cache leaves it."""

    def __init__(
        self,
        settings: CacheSettings,
        route: Callable[[Blob], KeyRoute],
        values: ValueCodec,
        index: CacheIndex,
        lease_s: int,
    ) -> None:
        self.fills = 0
        """Values stored."""
        self.lost_fills = 0
        """Values not stored: another writer was at the key, or the server did not take them."""
        self._ttl_s = settings.default_ttl
        self._route = route
        self._values = values
        self._index = index
        self._leases = WriteLeases(lease_s)

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

        Of `one_of_many` other processes may find the name only after `flush_index`. Raises what `put` raises;
        the key stays uncached for `lease_s` then, since nobody knows whether the store has taken it.
        """
        (lease,) = await self._leases.take([self._route((tag, name))])
        done = await self._leases.during([lease], put)
        for blob in await self._settle([((tag, name), lease, value)]):
            await (self._index.add_later if one_of_many else self._index.add)(blob)
        return done

    async def write_many_through(
        self, values: Mapping[Blob, bytes], put: Callable[[], Awaitable[Sequence[T | AgentFactoryError]]]
    ) -> Sequence[T | AgentFactoryError]:
        """Put many to the store, then cache those that it took: a few round trips for all of them.

        `put` says what came of each, in their order; with its error a blob's key stays uncached for
        `lease_s`. Other processes may find the names only after `flush_index`. Raises what `put` raises.
        """
        leases = await self._leases.take(self._route(blob) for blob in values)
        outcomes = await self._leases.during(leases, put)
        done: list[tuple[Blob, WriteLease, bytes | None]] = []
        for (blob, value), lease, outcome in zip(values.items(), leases, outcomes, strict=True):
            if isinstance(outcome, AgentFactoryError):
                self._leases.abandon([lease])
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
            leases += await self._leases.take(self._route(blob) for blob in some)
        removed = list(await self._leases.during(leases, delete))
        late = [self._leases.unmarked(self._route(blob)) for blob in removed if blob not in expected]
        with self._leases.settling([*leases, *late]):
            for unmarked in batches(late, _KEYS_PER_TRIP):
                await asyncio.gather(*map(self._leases.invalidate, unmarked))
            for held in batches(leases, _KEYS_PER_TRIP):
                await self._leases.release(held)
        return removed

    async def _settle(self, writes: Sequence[tuple[Blob, WriteLease, bytes | None]]) -> list[Blob]:
        """Cache what was put, where no other writer was; the blobs that are cached now."""
        kept: list[tuple[Blob, WriteLease, bytes]] = []
        left: list[WriteLease] = []
        with self._leases.settling([lease for _, lease, _ in writes]):
            for blob, lease, value in writes:
                item = await self._values.try_pack(lease.route, value) if lease.token is not None else None
                if item is None:
                    left.append(lease)
                else:
                    kept.append((blob, lease, item))
            stored = await self._leases.settle([(lease, item) for _, lease, item in kept], self._ttl_s)
            await self._leases.release(left)
        cached = [blob for (blob, _, _), done in zip(kept, stored, strict=True) if done]
        self.fills += len(cached)
        wanted = sum(value is not None and self._values.cacheable(value) for _, _, value in writes)
        self.lost_fills += wanted - len(cached)
        return cached
