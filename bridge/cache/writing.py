"""The writer's half of the protocol (see `bridge.cache.tier`): claims on keys."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from bridge.cache.base import CacheUnavailable, ItemRefused
from bridge.cache.items import READER, WRITER, mark
from bridge.cache.servers import Slot

T = TypeVar("T")
RELEASED_S = 1
"""Life of the mark that a released key is left with."""
_RENEWALS = 3
"""How often a claim is renewed in the time that it would live without."""


@dataclass
class Claim:
    """A writer's hold on one key. `token` is None if it does not know that the key is its own."""

    slot: Slot
    mark: bytes
    token: int | None = None
    invalidated: bool = False
    """Whether the old value is known to be gone."""


class Claims:
    """Takes, keeps and settles claims. No error of a cache leaves it."""

    def __init__(self, mark_s: int) -> None:
        self._mark_s = mark_s

    async def take(self, slot: Slot) -> Claim:
        """Put a writer's mark on the key, in place of whatever is there."""
        claim = Claim(slot, mark(WRITER))
        claim.invalidated = await self._mark(slot, claim.mark)
        if claim.invalidated:
            await self._find_token(claim)
        return claim

    async def during(self, claims: Sequence[Claim], act: Callable[[], Awaitable[T]]) -> T:
        """Do it, and renew the claims as long as it lasts. Raises what `act` raises.

        After an error nobody knows whether the store has taken the write, or still will: the claims
        stay until they expire.
        """
        acting = asyncio.ensure_future(act())
        try:
            while not acting.done():
                await asyncio.wait((acting,), timeout=self._mark_s / _RENEWALS)
                if not acting.done():
                    await asyncio.gather(*(self._renew(claim) for claim in claims))
            return acting.result()
        except BaseException:
            if acting.cancel():
                await asyncio.wait((acting,))
            for claim in claims:
                if not claim.invalidated:
                    claim.slot.server.owe()
            raise

    async def settle(self, claim: Claim, item: bytes, ttl_s: int) -> bool:
        """Replace the claim with an item; whether it could be done.

        If the key has changed, another writer is or was there, and nobody here knows whose bytes the
        store holds: the key is left with a writer's mark that nobody owns.
        """
        server, key = claim.slot.server, claim.slot.key
        if claim.token is not None and not server.owing:
            try:
                if await server.backend.compare_and_set(key, item, claim.token, ttl_s):
                    return True
            except ItemRefused:
                pass  # it is well, and has to be told otherwise
            except CacheUnavailable:
                server.failed()
        await self.invalidate(claim.slot)
        return False

    async def release(self, claim: Claim) -> None:
        """Leave the key to whoever reads it next."""
        await self.settle(claim, mark(READER), RELEASED_S)

    async def invalidate(self, slot: Slot) -> None:
        """Leave the key with a writer's mark that nobody owns."""
        try:
            await self._mark(slot, mark(WRITER))
        except asyncio.CancelledError:
            slot.server.owe()
            raise

    async def _mark(self, slot: Slot, by: bytes) -> bool:
        """Whether the server has taken the mark. If not, it owes: nobody here uses it until it is flushed."""
        server = slot.server
        for _ in range(0 if server.owing else 2):  # the first may find a connection that has died
            try:
                await server.backend.set(slot.key, by, self._mark_s)
            except CacheUnavailable:
                server.failed()
            else:
                server.answered()
                return True
        server.owe()
        return False

    async def _find_token(self, claim: Claim) -> None:
        try:
            held = await claim.slot.server.backend.gets(claim.slot.key)
        except CacheUnavailable:
            claim.slot.server.failed()
            held = None
        claim.token = held.token if held is not None and held.value == claim.mark else None

    async def _renew(self, claim: Claim) -> None:
        if claim.token is None or claim.slot.server.owing:
            return
        server, key = claim.slot.server, claim.slot.key
        try:
            kept = await server.backend.compare_and_set(key, claim.mark, claim.token, self._mark_s)
        except CacheUnavailable:
            server.failed()
            kept = False
        claim.token = None
        if kept:
            await self._find_token(claim)
