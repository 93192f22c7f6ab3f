import asyncio

import pytest
from players import Happened, SomethingElse

from agentfactory.messages.base import Event
from agentfactory.runtime import topics
from agentfactory.runtime.ref import ActorRef
from agentfactory.runtime.system import ActorSystem
from agentfactory.runtime.topics import (
    BATCH,
    BUFFER,
    IDLE_S,
    EventBatch,
    EventsMissed,
    NextEvents,
    Publish,
    Subscribe,
    Subscription,
    TopicBroker,
    UnknownSubscription,
    Unsubscribe,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def next_events(subscription: Subscription, count: int) -> list[Event]:
    events: list[Event] = []
    while len(events) < count:
        events += await subscription.take()
    return events


async def test_events_arrive_in_order_at_everyone_who_subscribed(system: ActorSystem) -> None:
    subscriptions = [await system.topics.subscribe() for _ in range(20)]
    for number in range(10):
        await system.publish(Happened(number=number))
    received = await asyncio.gather(*(next_events(s, 10) for s in subscriptions))
    assert received == [[Happened(number=number) for number in range(10)]] * 20
    for subscription in subscriptions:
        await subscription.aclose()


async def test_only_the_kinds_that_were_asked_for_arrive(system: ActorSystem) -> None:
    subscription = await system.topics.subscribe(SomethingElse)
    await system.publish(Happened(number=1))
    await system.publish(SomethingElse())
    assert await next_events(subscription, 1) == [SomethingElse()]
    await subscription.aclose()


async def test_a_take_without_events_comes_back_empty(system: ActorSystem) -> None:
    subscription = await system.topics.subscribe(SomethingElse)
    assert await subscription.take(wait_s=0.01) == ()
    await subscription.aclose()


async def test_who_is_too_slow_is_told_how_many_are_gone(system: ActorSystem) -> None:
    subscription = await system.topics.subscribe(Happened)
    total = BUFFER + 100
    for number in range(total):
        await system.publish(Happened(number=number))
    marker = await system.topics.subscribe(SomethingElse)
    await system.publish(SomethingElse())
    await next_events(marker, 1)  # by now the hub has seen everything
    first = await subscription.take()
    assert first[:2] == (EventsMissed(count=100), Happened(number=100))
    rest = await next_events(subscription, BUFFER - BATCH)
    assert rest[-1] == Happened(number=total - 1)
    assert len(first) + len(rest) == BUFFER + 1
    await subscription.aclose()
    await marker.aclose()


async def test_the_hub_keeps_what_has_not_been_confirmed() -> None:
    hub = TopicBroker()
    await hub.subscribe(Subscribe(subscriber="s"))
    for number in range(2):
        await hub.publish(Publish(event=Happened(number=number)))
    for _ in range(2):
        batch = await hub.next_events(NextEvents(subscriber="s", after=0))
        assert batch == EventBatch(last=2, events=(Happened(number=0), Happened(number=1)))
    rest = await hub.next_events(NextEvents(subscriber="s", after=1, wait_s=0))
    assert rest.events == (Happened(number=1),)
    none = await hub.next_events(NextEvents(subscriber="s", after=2, wait_s=0))
    assert none == EventBatch(last=2, events=())


async def test_the_hub_waits_for_an_event_and_for_those_that_come_right_after_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(topics, "GATHER_S", 1.0)
    hub = TopicBroker()
    await hub.subscribe(Subscribe(subscriber="s"))
    for last in (0, 2):  # also once all that had come was confirmed
        taking = asyncio.create_task(hub.next_events(NextEvents(subscriber="s", after=last, wait_s=60)))
        for number in range(last, last + 2):
            await turns()
            assert not taking.done()
            await hub.publish(Publish(event=Happened(number=number)))
        assert (await taking).events == (Happened(number=last), Happened(number=last + 1))


async def test_a_subscriber_that_has_not_asked_for_long_is_forgotten() -> None:
    hub = TopicBroker()
    await hub.subscribe(Subscribe(subscriber="s"))
    hub._subscriptions["s"].taken_at -= 2 * IDLE_S
    await hub.next_events(NextEvents(subscriber="s", wait_s=0))  # it asks, and counts as awake again
    await hub.publish(Publish(event=Happened(number=1)))
    assert (await hub.next_events(NextEvents(subscriber="s"))).events == (Happened(number=1),)
    hub._subscriptions["s"].taken_at -= 2 * IDLE_S
    await hub.publish(Publish(event=Happened(number=2)))
    with pytest.raises(UnknownSubscription, match="subscribe again"):
        await hub.next_events(NextEvents(subscriber="s"))


async def test_nothing_is_kept_for_who_has_unsubscribed() -> None:
    hub = TopicBroker()
    await hub.subscribe(Subscribe(subscriber="s"))
    await hub.unsubscribe(Unsubscribe(subscriber="s"))
    await hub.unsubscribe(Unsubscribe(subscriber="s"))  # twice is no error
    with pytest.raises(UnknownSubscription, match="no subscription named 's'"):
        await hub.next_events(NextEvents(subscriber="s", wait_s=0))


async def turns() -> None:
    """Let everything run that can."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_a_cancelled_take_loses_nothing(system: ActorSystem) -> None:
    subscription = await system.topics.subscribe(Happened)
    taking = asyncio.create_task(subscription.take())
    await asyncio.sleep(0)
    await system.publish(Happened(number=1))
    taking.cancel()
    await asyncio.wait((taking,))
    assert await next_events(subscription, 1) == [Happened(number=1)]
    await subscription.aclose()


async def test_a_restarted_hub_is_noticed(system: ActorSystem, register: ActorRef) -> None:
    subscription = await system.topics.subscribe(Happened)
    await system.kill("topics")
    seen: list[Event] = []
    while EventsMissed(count=-1) not in seen:
        seen += await subscription.take(wait_s=0.1)
    await system.publish(Happened(number=2))
    assert Happened(number=2) in await next_events(subscription, 1)
    await subscription.aclose()
