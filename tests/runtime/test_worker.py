"""One client's side of a host, without Ray."""

import asyncio

import pytest
from players import Add, Note, Total

from agentfactory.messages.base import Message
from agentfactory.runtime.on_ray import worker as port_module
from agentfactory.runtime.on_ray.codec import (
    Batch,
    InboundReply,
    OutboundMessage,
    RemoteError,
    pack,
    unpack_incoming,
)
from agentfactory.runtime.on_ray.worker import ClientInbox, pack_answers
from agentfactory.runtime.supervised_actor import RestartPolicy, SupervisedActor

pytestmark = pytest.mark.ray  # imports it, though it starts none


def cell_of(capacity: int) -> SupervisedActor:
    return SupervisedActor("player", lambda: pytest.fail("not started"), capacity, RestartPolicy())


async def port_to(cell: SupervisedActor) -> ClientInbox:
    """A port whose client has been here before."""
    port = ClientInbox(cell)
    assert await port.collect() == b""
    return port


def batch(number: int, messages: list[Message], after: int = -1, given_up: tuple[int, ...] = ()) -> Batch:
    items = [
        OutboundMessage(100 * number + n, None if isinstance(message, Note) else 30.0, message)
        for n, message in enumerate(messages)
    ]
    return Batch(number, after, pack(items), given_up)


def waiting(cell: SupervisedActor) -> list[Message]:
    messages = []
    while (envelope := cell.mailbox.take_nowait()) is not None:
        messages.append(envelope.message)
    return messages


async def test_a_batch_that_overtook_another_waits_for_it() -> None:
    cell = cell_of(10)
    port = ClientInbox(cell)
    second = asyncio.create_task(port.deliver(batch(1, [Note(text="b")], after=0)))
    await asyncio.sleep(0)
    assert len(cell.mailbox) == 0
    await port.deliver(batch(0, [Note(text="a")]))
    await second
    assert waiting(cell) == [Note(text="a"), Note(text="b")]


async def test_a_batch_does_not_wait_for_ever_for_one_that_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(port_module, "ORDER_S", 0.01)
    cell = cell_of(10)
    await ClientInbox(cell).deliver(batch(1, [Note(text="b")], after=0))
    assert waiting(cell) == [Note(text="b")]


async def test_what_does_not_fit_is_held_until_there_is_room() -> None:
    cell = cell_of(2)
    port = await port_to(cell)
    await port.deliver(batch(0, [Note(text=text) for text in "abcd"]))
    assert port.backpressured
    collecting = asyncio.create_task(port.collect())
    await asyncio.sleep(0)
    assert not collecting.done()
    assert waiting(cell) == [Note(text=text) for text in "abcd"]
    assert await collecting == b""
    assert not port.backpressured
    assert port.idle


async def test_what_is_given_up_leaves_the_line() -> None:
    cell = cell_of(1)
    port = await port_to(cell)
    await port.deliver(batch(0, [Add(amount=1), Add(amount=2), Add(amount=3)]))
    await port.deliver(Batch(1, -1, b"", cancelled=(0, 1)))
    assert waiting(cell) == [Add(amount=3)]
    await asyncio.sleep(0)
    assert repr(port) == "<Port: 1 open, 0 ready, 0 in line>"


async def test_an_exchange_comes_home_when_the_next_one_comes() -> None:
    cell = cell_of(4)
    port = await port_to(cell)
    await port.deliver(batch(0, [Add(amount=1)]))
    first = asyncio.create_task(port.collect())
    await asyncio.sleep(0)
    await port.deliver(batch(1, [Add(amount=2)]))
    assert await first == b""


async def test_the_first_exchange_does_not_wait() -> None:
    port = ClientInbox(cell_of(4))
    await port.deliver(batch(0, [Add(amount=1)]))
    assert await port.collect() == b""


async def test_answers_travel_together() -> None:
    cell = cell_of(4)
    port = await port_to(cell)
    await port.deliver(batch(0, [Add(amount=1), Add(amount=2)]))
    collecting = asyncio.create_task(port.collect())
    await asyncio.sleep(0)
    while (envelope := cell.mailbox.take_nowait()) is not None:
        envelope.answer(Total(value=7))
    assert unpack_incoming(await collecting) == [
        InboundReply(0, Total(value=7)),
        InboundReply(1, Total(value=7)),
    ]


def test_an_answer_that_cannot_be_pickled_does_not_spoil_the_others() -> None:
    bad = Total.model_construct(value=lambda: 3)  # type: ignore[arg-type]
    good, failed = unpack_incoming(pack_answers([InboundReply(1, Total(value=1)), InboundReply(2, bad)]))
    assert good == InboundReply(1, Total(value=1))
    assert isinstance(failed.answer, RemoteError)
    assert "the answer Total cannot be pickled" in str(failed.answer.unwrap())


def test_a_failure_keeps_its_cause_and_survives_what_cannot_be_read() -> None:
    error = ValueError("outer")
    error.__cause__ = KeyError("inner")
    (back,) = unpack_incoming(pack([InboundReply(1, RemoteError.of(error))]))
    assert isinstance(back.answer, RemoteError)
    unwrapped = back.answer.unwrap()
    assert (str(unwrapped), repr(unwrapped.__cause__)) == ("outer", "KeyError('inner')")

    class Odd(Exception):
        def __init__(self, one: int, two: int) -> None:
            super().__init__(f"{one} {two}")

    assert "Odd: 1 2" in str(RemoteError.of(Odd(1, 2)).unwrap())
