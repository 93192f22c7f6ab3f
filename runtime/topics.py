"""Topics: facts go to whoever subscribed.

A hub actor keeps, for each subscriber, a bounded buffer of numbered events; a subscriber takes them
by a long poll, from any process, and each poll confirms what came before. A subscriber that is too
slow loses the oldest events and is told how many (`EventsMissed`): a viewer must not be able to
hold up a run. What may not be lost belongs in a request, or in the run's journal.
"""

import asyncio
import uuid
from collections import deque
from collections.abc import AsyncIterator

from pydantic import Field, SerializeAsAny

from ..messages.base import Done, Event, Message, Request
from .actor import Actor
from .errors import ActorDown, ActorError, AskTimeout
from .ref import ActorRef

BUFFER = 4096
BATCH = 512
GATHER_S = 0.05
"""Events that come so soon after one that was waited for go along with it."""
POLL_S = 5.0
IDLE_S = 120.0
"""A subscriber that has not asked for this long is forgotten."""


class UnknownSubscription(ActorError):
    """The hub does not know this subscriber (any more): subscribe again."""


class EventsMissed(Event):
    """The subscriber was too slow (or the hub was restarted), and this many events are gone."""

    count: int
    """-1 where it is not known."""


class Publish(Message):
    """A fact for everyone."""

    event: SerializeAsAny[Event]


class Subscribe(Request[Done]):
    """Keep events of these types for me. An empty tuple asks for all."""

    subscriber: str
    kinds: tuple[str, ...] = ()


class Unsubscribe(Message):
    """Keep nothing more for me."""

    subscriber: str


class EventBatch(Message):
    """Events in the order in which they were published."""

    last: int
    """Number of the last event in here; the subscriber's first event has number 1."""
    events: tuple[SerializeAsAny[Event], ...]


class NextEvents(Request[EventBatch]):
    """Take what has been kept for me; waits up to `wait_s` for the first."""

    subscriber: str
    after: int = Field(default=0, ge=0)
    """The last event that has arrived: the hub may forget it and all before it."""
    wait_s: float = Field(default=POLL_S, ge=0.0, le=IDLE_S / 2)


class _Subscription:
    """One subscriber's buffer: the events numbered `last - len(events) + 1` to `last`."""

    def __init__(self, kinds: tuple[str, ...]) -> None:
        self.taken_at = asyncio.get_running_loop().time()
        self._kinds = frozenset(kinds)
        self._events: deque[Event] = deque(maxlen=BUFFER)
        self._last = 0
        self._arrived = asyncio.Event()

    def keep(self, event: Event) -> None:
        """Number and keep it, if it is of a kind that is wanted; the oldest makes room."""
        if not self._kinds or type(event).__name__ in self._kinds:
            self._events.append(event)
            self._last += 1
            self._arrived.set()

    async def wait(self, limit_s: float) -> bool:
        """Wait for an event, at most `limit_s`; whether one had to be waited for, and came."""
        if self._arrived.is_set():
            return False
        try:
            async with asyncio.timeout(limit_s):
                return await self._arrived.wait()
        except TimeoutError:
            return False  # an empty batch tells the subscriber that the hub is alive

    def confirm(self, after: int) -> None:
        """Forget what has arrived."""
        while self._events and self._last - len(self._events) < after:
            self._events.popleft()
        if not self._events:
            self._arrived.clear()

    def batch(self, after: int) -> EventBatch:
        """The oldest events kept, behind the news of a gap if there is one."""
        self.taken_at = asyncio.get_running_loop().time()
        before = self._last - len(self._events)
        events = tuple(self._events)[:BATCH]
        last = before + len(events)
        if before > after:
            events = (EventsMissed(count=before - after), *events)
        return EventBatch(last=last, events=events)


class TopicBroker(Actor):
    """Keeps events for subscribers.

    Consumes Publish, Subscribe, NextEvents; produces EventBatch; waits for events; unblocked by the
    poll's own limit.
    """

    concurrency = 4096

    def __init__(self) -> None:
        self._subscriptions: dict[str, _Subscription] = {}

    async def publish(self, message: Publish) -> None:
        """Keep the event for everyone who wants it, and forget who no longer asks."""
        now = asyncio.get_running_loop().time()
        for name, subscription in list(self._subscriptions.items()):
            if now - subscription.taken_at > IDLE_S:
                del self._subscriptions[name]
            else:
                subscription.keep(message.event)

    async def subscribe(self, message: Subscribe) -> Done:
        """Begin to keep events; asking again changes nothing."""
        self._subscriptions.setdefault(message.subscriber, _Subscription(message.kinds))
        return Done()

    async def unsubscribe(self, message: Unsubscribe) -> None:
        """Stop keeping events."""
        self._subscriptions.pop(message.subscriber, None)

    async def next_events(self, message: NextEvents) -> EventBatch:
        """What has been kept, oldest first."""
        subscription = self._subscriptions.get(message.subscriber)
        if subscription is None:
            raise UnknownSubscription(f"no subscription named {message.subscriber!r}; subscribe again")
        subscription.confirm(message.after)
        if await subscription.wait(message.wait_s):
            await asyncio.sleep(GATHER_S)
        return subscription.batch(message.after)


class Topics:
    """Publishes and subscribes, from any actor or from outside. Can be passed to constructors."""

    def __init__(self, hub: ActorRef) -> None:
        self._hub = hub

    async def publish(self, event: Event) -> None:
        """Tell everyone."""
        await self._hub.tell(Publish(event=event))

    async def subscribe(self, *kinds: type[Event]) -> "Subscription":
        """Events of these types (all, if none is named) from now on."""
        subscription = Subscription(self._hub, tuple(kind.__name__ for kind in kinds))
        await subscription.open()
        return subscription


class Subscription:
    """An async iterator over events. Cancelling a `take` loses nothing: the next one brings it again."""

    def __init__(self, hub: ActorRef, kinds: tuple[str, ...]) -> None:
        self._hub = hub
        self._kinds = kinds
        self._name = uuid.uuid4().hex
        self._after = 0

    async def open(self) -> None:
        """Subscribe (again)."""
        self._after = 0
        self._name = uuid.uuid4().hex  # numbers begin anew
        await self._hub.ask(Subscribe(subscriber=self._name, kinds=self._kinds), timeout_s=30.0)

    async def take(self, wait_s: float = POLL_S) -> tuple[Event, ...]:
        """The next events; waits up to `wait_s` (at most a minute) for the first.

        Empty when nothing happened. Raises ActorDown once the hub is gone for good.
        """
        try:
            request = NextEvents(subscriber=self._name, after=self._after, wait_s=min(wait_s, IDLE_S / 2))
            batch = await self._hub.ask(request, timeout_s=request.wait_s + 30.0)
        except (ActorDown, AskTimeout) as error:
            if isinstance(error, ActorDown) and error.permanent:
                raise
            return ()  # the hub is being restarted; the next take finds out whether it still knows us
        except UnknownSubscription:
            await self.open()
            return (EventsMissed(count=-1),)
        self._after = batch.last
        return batch.events

    async def __aiter__(self) -> AsyncIterator[Event]:
        while True:
            for event in await self.take():
                yield event

    async def aclose(self) -> None:
        """Unsubscribe."""
        await self._hub.tell(Unsubscribe(subscriber=self._name))
