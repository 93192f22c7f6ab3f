"""The bounded queue in front of one actor, with one reader, and the senders that wait for room in it.

An envelope holds a message and the future of its answer. Full means wait, for at most `PUT_LIMIT_S`, or
a clear error (`put_nowait`), never silent loss: backpressure. All decisions are synchronous: whoever
finds the mailbox full hands over the envelope and waits to be admitted; the reader that makes room moves
the first waiter into the queue. So no newcomer can overtake, no admission is lost when a sender gives
up, and an `ask` that waits needs no task of its own.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Final, NamedTuple

from ..configs.errors import AgentFactoryError
from ..messages.base import Message
from .errors import MailboxFull


class Envelope:
    """One message in a mailbox, and the way back for its answer.

    The future is the correlation between question and answer, and whoever made it holds its
    deadline: when that passes, the future is done and the envelope `abandoned`.
    """

    __slots__ = ("message", "reply")

    def __init__(self, message: Message, reply: asyncio.Future[Message] | None = None) -> None:
        self.message = message
        self.reply = reply
        """Where the answer goes; None for a `tell`."""

    def __repr__(self) -> str:
        return f"<Envelope {self.kind}: {'tell' if self.reply is None else 'ask'}>"

    @property
    def kind(self) -> str:
        """Type of the message."""
        return type(self.message).__name__

    @property
    def abandoned(self) -> bool:
        """Whether whoever asked no longer waits (timed out or cancelled)."""
        return self.reply is not None and self.reply.done()

    def answer(self, message: Message) -> None:
        """Give the answer, unless nobody waits for it any more."""
        if self.reply is not None and not self.reply.done():
            self.reply.set_result(message)

    def fail(self, error: BaseException) -> bool:
        """Give an error as the answer; False when nobody waits for it."""
        if self.reply is None or self.reply.done():
            return False
        self.reply.set_exception(error)
        return True


PUT_LIMIT_S: Final = 300.0
"""How long a sender waits for room: an actor that has taken nothing in that time is stuck."""

ErrorFactory = Callable[[], AgentFactoryError]
AdmissionFuture = asyncio.Future[None]
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
        self._waiters: OrderedDict[Envelope, AdmissionFuture] = OrderedDict()
        self._reader: asyncio.Future[None] | None = None
        self._refusal: ErrorFactory | None = None

    def __repr__(self) -> str:
        waiting, capacity, blocked = self.statistics()
        return f"<Mailbox {self.owner}: {waiting}/{capacity} waiting, {blocked} senders blocked>"

    def __len__(self) -> int:
        return len(self._queue)

    def statistics(self) -> MailboxStatistics:
        """How full it is."""
        return MailboxStatistics(len(self._queue), self.capacity, len(self._waiters))

    def put_nowait(self, envelope: Envelope) -> None:
        """Queue it. Raises MailboxFull, or what `close` was given."""
        if self._refusal is not None:
            raise self._refusal()
        if len(self._queue) >= self.capacity:
            raise MailboxFull(f"the mailbox of {self.owner!r} holds {self.capacity} messages already")
        self._queue.append(envelope)
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    def enqueue_or_wait(self, envelope: Envelope) -> AdmissionFuture | None:
        """Queue it if there is room (None), else stand in line. Raises what `close` was given."""
        try:
            self.put_nowait(envelope)
        except MailboxFull:
            place = self._waiters[envelope] = asyncio.get_running_loop().create_future()
            return place
        return None

    async def put(self, envelope: Envelope) -> None:
        """Queue it, waiting for room. Raises MailboxFull after `PUT_LIMIT_S`."""
        place = self.enqueue_or_wait(envelope)
        if place is None:
            return
        try:
            async with asyncio.timeout(PUT_LIMIT_S):
                await place
        except TimeoutError:
            if not place.cancelled():  # it was settled in the very turn in which the time ran out
                return place.result()
            self._waiters.pop(envelope, None)
            raise MailboxFull(f"{self.owner!r} has made no room within {PUT_LIMIT_S:g} s") from None
        except asyncio.CancelledError:
            self.cancel_wait(envelope)
            raise

    def cancel_wait(self, envelope: Envelope) -> None:
        """Give up a place in line, if it has one."""
        place = self._waiters.pop(envelope, None)
        if place is not None:
            place.cancel()

    def take_nowait(self) -> Envelope | None:
        """The oldest envelope that is still wanted; None when there is none."""
        while self._queue:
            envelope = self._queue.popleft()
            if self._waiters:
                self._admit()
            if not envelope.abandoned:
                return envelope
        return None

    def take_batch(self, first: Envelope, limit: int) -> list[Envelope]:
        """`first`, and those right behind it that carry the same type of message; at most `limit`."""
        run = [first]
        kind = type(first.message)
        while len(run) < limit and self._queue and type(self._queue[0].message) is kind:
            following = self._queue.popleft()
            if self._waiters:
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

    def close(self, refusal: ErrorFactory) -> list[Envelope]:
        """Refuse what comes from now on, and hand over what was never taken."""
        self._refusal = refusal
        left = [*self._queue, *self._waiters]
        for envelope, place in self._waiters.items():
            if envelope.reply is not None:
                place.cancel()  # whoever asked waits for the reply, not for the place
            elif not place.done():
                place.set_exception(refusal())
        self._queue.clear()
        self._waiters.clear()
        return left

    def _admit(self) -> None:
        """Move the first in line into the room that has been made."""
        while self._waiters:
            envelope, place = self._waiters.popitem(last=False)
            if not (envelope.abandoned or place.done()):  # else it gave up in this turn of the loop
                place.set_result(None)
                self._queue.append(envelope)
                return
            place.cancel()
