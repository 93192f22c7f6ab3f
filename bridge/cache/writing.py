"""The writer's half of the protocol (see `bridge.cache.tier`): claims on keys."""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from .base import CacheUnavailable, Held
from .items import MAX_OWNERS, NAME_BYTES, OWNER, owners_in, reader_mark, writer_mark
from .servers import Server, Slot

T = TypeVar("T")
RELEASED_S = 1
"""Life of the mark that a released key is left with."""
_RENEWALS = 3
"""How often a claim is renewed in the time that it would live without."""
_ATTEMPTS = 8
"""To change a mark that other writers change too."""
_FAILURES = 2
"""Of a server, before it is given up: the first may be a connection that has died."""


@dataclass
class Claim:
    """A writer's hold on one key."""

    slot: Slot
    name: bytes
    token: int | None = None
    """Of the key as long as no other writer has been there; else None."""
    invalidated: bool = False
    """Whether the old value is known to be gone."""


class Claims:
    """Takes, keeps and settles claims. No error of a cache leaves it."""

    def __init__(self, mark_s: int, clock: Callable[[], float] = time.time) -> None:
        self._mark_s = mark_s
        self._clock = clock

    async def take(self, slots: Iterable[Slot]) -> list[Claim]:
        """Put a mark on each key, in place of a value, beside the names of other writers.

        Keys where nothing is take two round trips together; the others three more each.
        """
        claims = [Claim(slot, _new_name()) for slot in slots]
        for server, some in _by_server(claims).items():
            await self._enter_empty(server, some)
        for claim in claims:
            if not claim.invalidated:
                claim.invalidated = await self._enter(claim)
        return claims

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
            self.abandon(claims)
            raise

    def abandon(self, claims: Iterable[Claim]) -> None:
        """Nobody knows what the store has now: leave the marks, until they expire."""
        for claim in claims:
            if not claim.invalidated:
                claim.slot.server.owe()

    async def settle(self, items: Sequence[tuple[Claim, bytes]], ttl_s: int) -> list[bool]:
        """Replace each claim with its item; whether that was done.

        It is not where other writers were, or where the server is not well. With other writers nobody here
        knows whose bytes the store holds, so nothing is cached: the last one to leave the key releases it.
        """
        ready: dict[Server, dict[bytes, Held]] = {}
        for claim, item in items:
            if claim.token is not None:
                ready.setdefault(claim.slot.server, {})[claim.slot.key] = Held(item, claim.token)
        stored: frozenset[bytes] = frozenset()
        for server, held in ready.items():
            stored |= await _replace(server, held, ttl_s)
        for claim, _ in items:
            if claim.slot.key not in stored and not await self._leave(claim):
                await self._overwrite(Claim(claim.slot, _new_name()))
        return [claim.slot.key in stored for claim, _ in items]

    async def release(self, claims: Sequence[Claim]) -> None:
        """Leave the keys to whoever reads them next."""
        await self.settle([(claim, reader_mark()) for claim in claims], RELEASED_S)

    def unmarked(self, slot: Slot) -> Claim:
        """A claim on a key that the store has changed already: to be invalidated."""
        return Claim(slot, _new_name())

    async def invalidate(self, claim: Claim) -> None:
        """Leave the key with a mark that nobody takes away before it expires."""
        claim.invalidated = await self._overwrite(claim)

    @contextmanager
    def settling(self, claims: Sequence[Claim]) -> Iterator[None]:
        """The store has the write: whoever is cancelled before all is settled abandons all of them."""
        try:
            yield
        except asyncio.CancelledError:
            self.abandon(claims)
            raise

    async def _enter_empty(self, server: Server, claims: Sequence[Claim]) -> None:
        """Put the marks on those keys where nothing is."""
        if server.owing:
            return
        marks = {claim.slot.key: writer_mark([self._owner(claim)]) for claim in claims}
        try:
            added = await server.backend.add_many(marks, self._mark_s)
            for claim in claims:
                claim.invalidated = claim.slot.key in added
            held = await server.backend.gets_many([key for key in marks if key in added])
        except CacheUnavailable:
            server.failed()
            return
        server.answered()
        for claim in claims:
            now = held.get(claim.slot.key)
            if now is not None and now.value == marks[claim.slot.key]:
                claim.token = now.token

    async def _enter(self, claim: Claim) -> bool:
        """Put the mark beside others, or in place of a value; whether the server has taken it."""
        others: list[bytes] = []

        def beside_others(held: Held | None) -> bytes | None:
            others[:] = self._others(claim, held)
            return writer_mark([*others, self._owner(claim)]) if len(others) < MAX_OWNERS else None

        mark = await self._change(claim.slot, beside_others, self._mark_s)
        if mark is None:
            return await self._overwrite(claim)
        if not others:
            await self._find_token(claim, mark)
        return True

    async def _renew(self, claim: Claim) -> None:
        alone = False

        def renewed(held: Held | None) -> bytes | None:
            nonlocal alone
            if not _named(claim, held):
                return None
            alone = held is not None and held.token == claim.token
            return writer_mark([*self._others(claim, held), self._owner(claim)])

        mark = await self._change(claim.slot, renewed, self._mark_s)
        claim.token = None
        if mark is not None and alone:
            await self._find_token(claim, mark)

    async def _leave(self, claim: Claim) -> bool:
        """Take the name out of the mark, if it is there."""

        def without(held: Held | None) -> bytes | None:
            if not _named(claim, held):
                return None
            others = self._others(claim, held)
            return writer_mark(others) if others else reader_mark()

        return await self._change(claim.slot, without, self._mark_s) is not None

    async def _change(
        self,
        slot: Slot,
        edit: Callable[[Held | None], bytes | None],
        ttl_s: int,
    ) -> bytes | None:
        """Put what `edit` makes of what is there in its place; what that was, or None if it was not done."""
        server, failures = slot.server, 0
        for _ in range(_ATTEMPTS):
            if server.owing or failures == _FAILURES:
                return None
            try:
                held = await server.backend.gets(slot.key)
                item = edit(held)
                if item is None:
                    return None
                if held is None:
                    stored = await server.backend.add(slot.key, item, ttl_s)
                else:
                    stored = await server.backend.compare_and_set(slot.key, item, held.token, ttl_s)
            except CacheUnavailable:
                server.failed()
                failures += 1
            else:
                server.answered()
                if stored:
                    return item
        return None

    async def _overwrite(self, claim: Claim) -> bool:
        """Mark the key whatever is there. If the server does not take it, it owes: nobody here uses it
        before it is flushed."""
        server = claim.slot.server
        for _ in range(0 if server.owing else _FAILURES):
            try:
                await server.backend.set(claim.slot.key, writer_mark([self._owner(claim)]), self._mark_s)
            except CacheUnavailable:
                server.failed()
            else:
                server.answered()
                return True
        server.owe()
        return False

    async def _find_token(self, claim: Claim, mark: bytes) -> None:
        try:
            held = await claim.slot.server.backend.gets(claim.slot.key)
        except CacheUnavailable:
            claim.slot.server.failed()
            return
        if held is not None and held.value == mark:
            claim.token = held.token

    def _owner(self, claim: Claim) -> bytes:
        return OWNER.pack(claim.name, int(self._clock()) + self._mark_s)

    def _others(self, claim: Claim, held: Held | None) -> list[bytes]:
        """The other writers in a mark. One that should be gone by its own clock has as long again: clocks
        may differ by `mark_s`."""
        owners = [(owner, *OWNER.unpack(owner)) for owner in (owners_in(held.value) if held else ())]
        now = self._clock()
        return [owner for owner, name, until in owners if name != claim.name and until + self._mark_s > now]


async def _replace(server: Server, held: Mapping[bytes, Held], ttl_s: int) -> frozenset[bytes]:
    """Store values in the place of marks that nobody has changed; the keys where that was done."""
    if server.owing:
        return frozenset()
    try:
        return await server.backend.compare_and_set_many(held, ttl_s)
    except CacheUnavailable:
        server.failed()
        return frozenset()


def _by_server(claims: Iterable[Claim]) -> dict[Server, list[Claim]]:
    grouped: dict[Server, list[Claim]] = {}
    for claim in claims:
        grouped.setdefault(claim.slot.server, []).append(claim)
    return grouped


def _new_name() -> bytes:
    return secrets.token_bytes(NAME_BYTES)


def _named(claim: Claim, held: Held | None) -> bool:
    return held is not None and any(owner.startswith(claim.name) for owner in owners_in(held.value))
