"""A bounded queue with one reader, and a line of senders in front of it.

Full means wait, for at most `PUT_LIMIT_S`, or a clear error (`put_nowait`), never silent loss. All
decisions are synchronous: whoever finds the mailbox full hands over the envelope and stands in line; the
reader that makes room moves the first in line into the queue. So no newcomer can overtake, no place is
lost when a sender gives up, and an `ask` that stands in line needs no task of its own.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Final, NamedTuple

from ..configs.errors import AgentFactoryError
from .envelope import Envelope
from .errors import MailboxFull

PUT_LIMIT_S: Final = 300.0
"""How long a sender waits for room: an actor that has taken nothing in that time is stuck."""

Refusal = Callable[[], AgentFactoryError]
Place = asyncio.Future[None]
"""Resolved when the envelope has been queued. Fails when the mailbox is closed before that; cancelled
when the sender leaves, or when an ask in line is answered by the closing."""


class MailboxStatistics(NamedTuple):
    """What `repr` shows."""

    waiting: int
    capacity: int
    blocked_senders: int


class Mailbox:
    """The queue in front of one actor."""

    def __init__(self, owner: str, capacity: int) -> None:
        self.owner = owner
        self.capacity = capacity
        self._queue: deque[Envelope] = deque()
        self._line: OrderedDict[Envelope, Place] = OrderedDict()
        self._reader: asyncio.Future[None] | None = None
        self._refusal: Refusal | None = None

    def __repr__(self) -> str:
        waiting, capacity, blocked = self.statistics()
        return f"<Mailbox {self.owner}: {waiting}/{capacity} waiting, {blocked} senders blocked>"

    def __len__(self) -> int:
        return len(self._queue)

    def statistics(self) -> MailboxStatistics:
        """How full it is."""
        return MailboxStatistics(len(self._queue), self.capacity, len(self._line))

    def put_nowait(self, envelope: Envelope) -> None:
        """Queue it. Raises MailboxFull, or what `close` was given."""
        if self._refusal is not None:
            raise self._refusal()
        if len(self._queue) >= self.capacity:
            raise MailboxFull(f"the mailbox of {self.owner!r} holds {self.capacity} messages already")
        self._queue.append(envelope)
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    def line_up(self, envelope: Envelope) -> Place | None:
        """Queue it if there is room (None), else stand in line. Raises what `close` was given."""
        try:
            self.put_nowait(envelope)
        except MailboxFull:
            place = self._line[envelope] = asyncio.get_running_loop().create_future()
            return place
        return None

    async def put(self, envelope: Envelope) -> None:
        """Queue it, waiting for room. Raises MailboxFull after `PUT_LIMIT_S`."""
        place = self.line_up(envelope)
        if place is None:
            return
        try:
            async with asyncio.timeout(PUT_LIMIT_S):
                await place
        except TimeoutError:
            if not place.cancelled():  # it was settled in the very turn in which the time ran out
                return place.result()
            self._line.pop(envelope, None)
            raise MailboxFull(f"{self.owner!r} has made no room within {PUT_LIMIT_S:g} s") from None
        except asyncio.CancelledError:
            self.leave(envelope)
            raise

    def leave(self, envelope: Envelope) -> None:
        """Give up a place in line, if it has one."""
        place = self._line.pop(envelope, None)
        if place is not None:
            place.cancel()

    def take_nowait(self) -> Envelope | None:
        """The oldest envelope that is still wanted; None when there is none."""
        while self._queue:
            envelope = self._queue.popleft()
            if self._line:
                self._admit()
            if not envelope.abandoned:
                return envelope
        return None

    def take_run(self, first: Envelope, limit: int) -> list[Envelope]:
        """`first`, and those right behind it that carry the same type of message; at most `limit`."""
        run = [first]
        kind = type(first.message)
        while len(run) < limit and self._queue and type(self._queue[0].message) is kind:
            following = self._queue.popleft()
            if self._line:
                self._admit()
            if not following.abandoned:
                run.append(following)
        return run

    async def wait(self) -> None:
        """Return once there is something to take. For the one reader only."""
        while not self._queue:
            self._reader = asyncio.get_running_loop().create_future()
            try:
                await self._reader
            finally:
                self._reader = None

    def close(self, refusal: Refusal) -> list[Envelope]:
        """Refuse what comes from now on, and hand over what was never taken."""
        self._refusal = refusal
        left = [*self._queue, *self._line]
        for envelope, place in self._line.items():
            if envelope.reply is not None:
                place.cancel()  # whoever asked waits for the reply, not for the place
            elif not place.done():
                place.set_exception(refusal())
        self._queue.clear()
        self._line.clear()
        return left

    def _admit(self) -> None:
        """Move the first in line into the room that has been made."""
        while self._line:
            envelope, place = self._line.popitem(last=False)
            if not (envelope.abandoned or place.done()):  # else it gave up in this turn of the loop
                place.set_result(None)
                self._queue.append(envelope)
                return
            place.cancel()
