import asyncio

import pytest
from players import Add, Note

from agentfactory.messages.base import Message
from agentfactory.runtime.errors import ActorStopped, MailboxFull
from agentfactory.runtime.mailbox import Envelope, Mailbox


def told(text: str) -> Envelope:
    return Envelope(Note(text=text))


def asked() -> Envelope:
    reply: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
    return Envelope(Add(amount=1), reply)


def taken(mailbox: Mailbox) -> list[str]:
    texts = []
    while (envelope := mailbox.take_nowait()) is not None:
        assert isinstance(envelope.message, Note)
        texts.append(envelope.message.text)
    return texts


def stopped() -> ActorStopped:
    return ActorStopped("owner")


async def test_a_full_mailbox_says_so_to_whoever_does_not_wait() -> None:
    mailbox = Mailbox("owner", 1)
    mailbox.put_nowait(told("a"))
    with pytest.raises(MailboxFull, match="the mailbox of 'owner' holds 1 messages already"):
        mailbox.put_nowait(told("b"))


async def test_senders_are_let_in_in_the_order_in_which_they_came() -> None:
    mailbox = Mailbox("owner", 1)
    async with asyncio.TaskGroup() as group:
        for text in "abcd":
            group.create_task(mailbox.put(told(text)))
        await asyncio.sleep(0)
        assert repr(mailbox) == "<Mailbox owner: 1/1 waiting, 3 senders blocked>"
        assert taken(mailbox) == ["a", "b", "c", "d"]


async def test_a_newcomer_cannot_overtake_those_in_line() -> None:
    mailbox = Mailbox("owner", 1)
    mailbox.put_nowait(told("a"))
    waiting = asyncio.create_task(mailbox.put(told("b")))
    await asyncio.sleep(0)
    mailbox.take_nowait()
    with pytest.raises(MailboxFull):
        mailbox.put_nowait(told("c"))
    await waiting
    assert taken(mailbox) == ["b"]


async def test_a_sender_that_gives_up_leaves_its_place_to_the_next() -> None:
    mailbox = Mailbox("owner", 1)
    mailbox.put_nowait(told("a"))
    gives_up, waits = (asyncio.create_task(mailbox.put(told(text))) for text in "bc")
    await asyncio.sleep(0)
    gives_up.cancel()
    await asyncio.wait((gives_up,))
    assert mailbox.statistics().blocked_senders == 1
    assert taken(mailbox) == ["a", "c"]
    await waits


async def test_a_sender_cancelled_in_the_turn_in_which_it_was_let_in_has_sent() -> None:
    mailbox = Mailbox("owner", 1)
    mailbox.put_nowait(told("a"))
    waiting = asyncio.create_task(mailbox.put(told("b")))
    await asyncio.sleep(0)
    mailbox.take_nowait()
    waiting.cancel()
    await asyncio.wait((waiting,))
    assert taken(mailbox) == ["b"]


async def test_a_sender_that_is_cancelled_hears_of_it() -> None:
    mailbox = Mailbox("owner", 1)
    mailbox.put_nowait(told("a"))
    waiting = asyncio.create_task(mailbox.put(told("b")))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait((waiting,))
    assert waiting.cancelled()


async def test_one_that_is_taken_makes_room_for_one() -> None:
    mailbox = Mailbox("owner", 1)
    for amount in range(4):
        mailbox.enqueue_or_wait(asked() if amount else told("first"))
    mailbox.take_nowait()
    assert repr(mailbox) == "<Mailbox owner: 1/1 waiting, 2 senders blocked>"


async def test_places_of_asks_that_nobody_waits_for_are_given_up() -> None:
    mailbox = Mailbox("owner", 1)
    mailbox.put_nowait(told("first"))
    left, passed_over, let_in, at_the_end = envelopes = [asked() for _ in range(4)]
    places = [mailbox.enqueue_or_wait(envelope) for envelope in envelopes]
    mailbox.cancel_wait(left)
    mailbox.cancel_wait(asked())  # which has no place
    assert passed_over.fail(stopped())
    mailbox.take_nowait()
    mailbox.close(stopped)
    states = [place.cancelled() for place in places if place is not None]
    assert states == [True, True, False, True]
    assert not any(envelope.abandoned for envelope in (let_in, at_the_end)), "whoever closed answers them"


async def test_nothing_can_be_taken_once_it_is_closed() -> None:
    mailbox = Mailbox("owner", 1)
    for _ in range(3):
        mailbox.enqueue_or_wait(asked())
    assert len(mailbox.close(stopped)) == 3
    assert repr(mailbox) == "<Mailbox owner: 0/1 waiting, 0 senders blocked>"
    assert mailbox.take_nowait() is None


async def test_asks_that_nobody_waits_for_are_not_taken() -> None:
    mailbox = Mailbox("owner", 2)
    envelopes = [asked() for _ in range(4)]
    for envelope in envelopes:
        mailbox.enqueue_or_wait(envelope)
    for envelope in envelopes[:3]:
        assert envelope.reply is not None
        envelope.reply.cancel()
    assert mailbox.take_nowait() is envelopes[3]
    assert mailbox.take_nowait() is None


async def test_wait_returns_when_something_comes() -> None:
    mailbox = Mailbox("owner", 1)
    waiting = asyncio.create_task(mailbox.wait())
    await asyncio.sleep(0)
    assert not waiting.done()
    mailbox.put_nowait(told("a"))
    await waiting


async def test_closing_hands_over_all_and_refuses_the_rest() -> None:
    mailbox = Mailbox("owner", 1)
    ask = asked()
    mailbox.put_nowait(told("a"))
    in_line = asyncio.create_task(mailbox.put(told("b")))
    await asyncio.sleep(0)
    mailbox.enqueue_or_wait(ask)
    left = mailbox.close(stopped)
    assert [envelope.kind for envelope in left] == ["Note", "Note", "Add"]
    assert not ask.abandoned, "to be answered by whoever closed"
    with pytest.raises(ActorStopped):
        await in_line
    with pytest.raises(ActorStopped):
        await mailbox.put(told("c"))
    assert len(mailbox) == 0


async def test_a_run_ends_where_another_type_begins_and_leaves_out_who_gave_up() -> None:
    mailbox = Mailbox("owner", 9)
    asks = [asked() for _ in range(4)]
    for envelope in [*asks[:3], told("between"), asks[3]]:
        mailbox.put_nowait(envelope)
    asks[1].fail(stopped())
    first = mailbox.take_nowait()
    assert first is asks[0]
    assert mailbox.take_batch(first, limit=9) == [asks[0], asks[2]]
    assert taken_kinds(mailbox) == ["Note", "Add"]


async def test_a_run_is_no_longer_than_asked_and_makes_room_for_those_in_line() -> None:
    mailbox = Mailbox("owner", 2)
    asks = [asked() for _ in range(4)]
    for envelope in asks:
        mailbox.enqueue_or_wait(envelope)
    first = mailbox.take_nowait()
    assert first is asks[0]
    assert mailbox.take_batch(first, limit=3) == asks[:3]
    assert mailbox.take_nowait() is asks[3]


def taken_kinds(mailbox: Mailbox) -> list[str]:
    return [envelope.kind for envelope in iter(mailbox.take_nowait, None)]
