"""What holds wherever actors run."""

import asyncio
from collections.abc import Sequence

import pytest
from players import (
    Add,
    BatchPlayer,
    Break,
    BreaksInTheBackground,
    CancelYourself,
    CrowdPlayer,
    Hold,
    ListNotes,
    NeverStarts,
    NotAnswered,
    Note,
    Player,
    Refusal,
    Refuse,
    RefuseOddly,
    Say,
    StartsForEver,
    Total,
    Unknown,
    WaitFor,
)  # fmt: skip

from agentfactory.messages.base import Done
from agentfactory.messages.runs import ActorRestarted
from agentfactory.runtime.errors import (
    ActorDown,
    ActorStopped,
    AskTimeout,
    NoSuchActor,
    TransportError,
    UnhandledMessage,
)
from agentfactory.runtime.ref import ActorRef
from agentfactory.runtime.system import ActorSystem

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def notes(register: ActorRef) -> tuple[str, ...]:
    return (await register.ask(ListNotes(), timeout_s=120)).texts


async def seen(register: ActorRef, text: str) -> None:
    await register.ask(WaitFor(text=text), timeout_s=120)


async def test_an_ask_is_answered(system: ActorSystem, register: ActorRef) -> None:
    player = await system.spawn(Player, register, name="player")
    assert await player.ask(Add(amount=3), timeout_s=120) == Total(value=3)


async def test_messages_of_one_sender_arrive_in_order(system: ActorSystem, register: ActorRef) -> None:
    player = await system.spawn(Player, register, name="player")
    for number in range(200):
        await player.tell(Note(text=f"{number:03}"))
    await player.ask(Add(amount=1), timeout_s=120)
    await seen(register, "199")
    assert [text for text in await notes(register) if text.isdigit()] == [f"{n:03}" for n in range(200)]


async def test_large_messages_keep_their_place(system: ActorSystem, register: ActorRef) -> None:
    player = await system.spawn(Player, register, name="player")
    sizes = [10_000_000 if n % 3 == 0 else 1 for n in range(7)]
    answers = await asyncio.gather(
        *(player.ask(Say(data=bytes([n]) * size), timeout_s=120) for n, size in enumerate(sizes))
    )
    assert [answer.data[0] for answer in answers] == list(range(7))
    assert len(answers[3].data) == 10_000_000


async def test_a_tell_waits_while_the_mailbox_is_full(system: ActorSystem, register: ActorRef) -> None:
    player = await system.spawn(Player, register, name="player", mailbox=2)
    holding = asyncio.create_task(player.ask(Hold(name="it"), timeout_s=120))
    await seen(register, "holding it")
    sent = 0

    async def flood() -> None:
        nonlocal sent
        for number in range(20_000):
            await player.tell(Note(text=f"flood {number}"))
            sent += 1

    flooding = asyncio.create_task(flood())
    await asyncio.wait((flooding,), timeout=0.5)
    assert sent < 10_000, "the flood has been stopped by the full mailbox"
    assert (await system.describe("player")).actor.waiting == 2
    flooding.cancel()
    await register.tell(Note(text="release it"))
    await holding


async def test_asks_beyond_the_mailbox_are_all_answered(system: ActorSystem, register: ActorRef) -> None:
    player = await system.spawn(Player, register, name="player", mailbox=2)
    totals = await asyncio.gather(*(player.ask(Add(amount=1), timeout_s=120) for _ in range(300)))
    assert sorted(total.value for total in totals) == list(range(1, 301))


async def test_a_deadline_cancels_the_handling(system: ActorSystem, register: ActorRef) -> None:
    player = await system.spawn(Player, register, name="player")
    with pytest.raises(AskTimeout, match="'player' did not answer Hold within"):
        await player.ask(Hold(name="it"), timeout_s=0.2)
    await seen(register, "cancelled it")
    assert (await player.ask(Add(amount=1), timeout_s=120)).value == 1, "and the actor goes on"


async def test_whoever_is_cancelled_cancels_the_handling(system: ActorSystem, register: ActorRef) -> None:
    player = await system.spawn(CrowdPlayer, register, name="player")
    asking = asyncio.create_task(player.ask(Hold(name="it"), timeout_s=120))
    await seen(register, "holding it")
    asking.cancel()
    await seen(register, "cancelled it")
    assert (await player.ask(Add(amount=1), timeout_s=120)).value == 1


async def test_an_error_of_ours_is_the_answer(system: ActorSystem, register: ActorRef) -> None:
    player = await system.spawn(Player, register, name="player")
    with pytest.raises(Refusal, match="refused with 7 at the door") as caught:
        await player.ask(Refuse(code=7), timeout_s=120)
    assert (caught.value.code, caught.value.where) == (7, "the door")
    assert isinstance(caught.value.__cause__, KeyError)
    assert (await system.describe("player")).actor.restarts == 0


async def test_a_message_without_handler_is_refused(system: ActorSystem, register: ActorRef) -> None:
    player = await system.spawn(Player, register, name="player")
    with pytest.raises(UnhandledMessage, match=r"'player' \(Player\) has no handler for Unknown"):
        await player.ask(Unknown(), timeout_s=120)


@pytest.mark.parametrize("role", [Player, CrowdPlayer])
async def test_a_crash_is_told_with_its_cause(
    system: ActorSystem, register: ActorRef, role: type[Player]
) -> None:
    player = await system.spawn(role, register, name="player")
    with pytest.raises(ActorDown, match=r"died while handling Break.*RuntimeError: kaput") as caught:
        await player.ask(Break(text="kaput"), timeout_s=120)
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert (caught.value.last_message, caught.value.permanent) == ("Break", False)
    assert (await player.ask(Add(amount=5), timeout_s=120)).value == 5, "a new actor, without the old state"
    cell = (await system.describe("player")).actor
    assert cell.last_failure == "RuntimeError: kaput while handling Break"


async def test_a_crash_takes_the_others_in_hand_and_leaves_the_queue(
    system: ActorSystem, register: ActorRef
) -> None:
    player = await system.spawn(CrowdPlayer, register, name="player")
    holding = [asyncio.create_task(player.ask(Hold(name=str(n)), timeout_s=120)) for n in range(3)]
    for n in range(3):
        await seen(register, f"holding {n}")
    breaking = asyncio.create_task(player.ask(Break(text="kaput"), timeout_s=120))
    queued = [asyncio.create_task(player.ask(Add(amount=1), timeout_s=120)) for _ in range(5)]
    results = await asyncio.gather(*holding, breaking, return_exceptions=True)
    assert [type(result) for result in results] == [ActorDown] * 4
    assert sorted(total.value for total in await asyncio.gather(*queued)) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("role", [Player, CrowdPlayer])
async def test_a_handler_that_cancels_itself_is_a_crash(
    system: ActorSystem, register: ActorRef, role: type[Player]
) -> None:
    player = await system.spawn(role, register, name="player")
    with pytest.raises(ActorDown, match="the handler of CancelYourself cancelled itself"):
        await player.ask(CancelYourself(), timeout_s=120)
    assert (await player.ask(Add(amount=5), timeout_s=120)).value == 5


async def test_a_missing_answer_is_a_crash(system: ActorSystem, register: ActorRef) -> None:
    player = await system.spawn(Player, register, name="player")
    with pytest.raises(ActorDown, match="the handler of NotAnswered returned nothing"):
        await player.ask(NotAnswered(), timeout_s=120)


async def test_broken_background_work_restarts_the_actor(system: ActorSystem, register: ActorRef) -> None:
    player = await system.spawn(BreaksInTheBackground, register, name="player")
    holding = asyncio.create_task(player.ask(Hold(name="it"), timeout_s=120))
    await seen(register, "holding it")
    await register.tell(Note(text="break now"))
    with pytest.raises(ActorDown, match="the background work broke"):
        await holding


async def test_a_supervisor_that_gives_up_tells_everyone(system: ActorSystem, register: ActorRef) -> None:
    player = await system.spawn(Player, register, name="player")
    for _ in range(4):
        with pytest.raises(ActorDown, match="kaput"):
            await player.ask(Break(text="kaput"), timeout_s=120)
    for _ in range(2):
        with pytest.raises(ActorDown, match="it will not be restarted") as caught:
            await player.ask(Add(amount=1), timeout_s=120)
        assert caught.value.permanent
        assert isinstance(caught.value.__cause__, RuntimeError)
    assert player.terminated
    down = await system.wait_fatal()
    assert down.permanent


async def test_those_in_the_queue_hear_that_the_supervisor_gave_up(
    system: ActorSystem, register: ActorRef
) -> None:
    player = await system.spawn(Player, register, name="player")
    holding = asyncio.create_task(player.ask(Hold(name="it"), timeout_s=120))
    await seen(register, "holding it")
    breaking = [asyncio.create_task(player.ask(Break(text="kaput"), timeout_s=120)) for _ in range(4)]
    await asyncio.sleep(0)
    queued = [asyncio.create_task(player.ask(Add(amount=1), timeout_s=120)) for _ in range(12)]
    await asyncio.sleep(0)
    await register.tell(Note(text="release it"))
    await holding
    results = await asyncio.gather(*breaking, *queued, return_exceptions=True)
    assert all(isinstance(result, ActorDown) for result in results)
    assert [result.permanent for result in results[4:]] == [True] * 12
    assert len({id(result) for result in results}) == 16, "each asker gets an exception of its own"


async def test_an_actor_that_cannot_start_says_why(system: ActorSystem) -> None:
    with pytest.raises(ActorDown, match="the model is missing") as caught:
        await system.spawn(NeverStarts, name="never")
    assert caught.value.permanent
    assert isinstance(caught.value.__cause__, RuntimeError)


async def test_a_start_has_a_limit_and_leaves_nothing(system: ActorSystem) -> None:
    with pytest.raises(AskTimeout, match="'forever' did not start within"):
        await system.spawn(StartsForEver, name="forever", start_timeout_s=0.5)
    with pytest.raises(NoSuchActor):
        await system.describe("forever")


async def test_names_are_unique_until_the_actor_is_stopped(system: ActorSystem, register: ActorRef) -> None:
    await system.spawn(Player, register, name="player")
    with pytest.raises(TransportError, match="there is an actor named 'player' already"):
        await system.spawn(Player, register, name="player")
    await system.stop("player")
    second = await system.spawn(Player, register, name="player")
    assert (await second.ask(Add(amount=2), timeout_s=120)).value == 2


async def test_stop_lets_what_is_in_hand_finish_and_answers_the_rest(
    system: ActorSystem, register: ActorRef
) -> None:
    player = await system.spawn(Player, register, name="player")
    holding = asyncio.create_task(player.ask(Hold(name="it"), timeout_s=120))
    await seen(register, "holding it")
    queued = [asyncio.create_task(player.ask(Add(amount=1), timeout_s=120)) for _ in range(12)]
    await asyncio.sleep(0)
    await system.describe("player")
    stopping = asyncio.create_task(system.stop("player", grace_s=20))
    results = await asyncio.gather(*queued, return_exceptions=True)
    assert {type(result) for result in results} == {ActorStopped}
    await register.tell(Note(text="release it"))
    await stopping
    assert await holding == Done()
    await seen(register, "closed")
    with pytest.raises(ActorStopped, match="actor 'player' has been stopped"):
        await player.ask(Add(amount=1), timeout_s=120)
    assert player.terminated


async def test_stop_without_grace_cancels_what_is_in_hand(system: ActorSystem, register: ActorRef) -> None:
    player = await system.spawn(CrowdPlayer, register, name="player")
    holding = [asyncio.create_task(player.ask(Hold(name=str(n)), timeout_s=120)) for n in range(2)]
    for n in range(2):
        await seen(register, f"holding {n}")
    await system.stop("player", grace_s=0)
    results = await asyncio.gather(*holding, return_exceptions=True)
    assert {type(result) for result in results} == {ActorStopped}


async def test_a_killed_actor_fails_its_askers_and_returns(system: ActorSystem, register: ActorRef) -> None:
    player = await system.spawn(Player, register, name="player")
    holding = asyncio.create_task(player.ask(Hold(name="it"), timeout_s=120))
    await seen(register, "holding it")
    await system.kill("player")
    with pytest.raises(ActorDown, match="died while handling Hold") as caught:
        await holding
    assert not caught.value.permanent
    assert (await player.ask(Add(amount=5), timeout_s=120)).value == 5


async def add_behind_a_hold(
    system: ActorSystem, player: ActorRef, register: ActorRef, *amounts: int
) -> list[asyncio.Task[Total]]:
    """Asks that wait together in the mailbox, in this order, until `it` is released."""
    await player.tell(Hold(name="it"))
    await seen(register, "holding it")
    asks = []
    for amount in amounts:
        asks.append(asyncio.create_task(player.ask(Add(amount=amount), timeout_s=120)))
        await asyncio.sleep(0)
    await player.tell(Note(text="the last in line"))
    async with asyncio.timeout(120):
        while (await system.describe("player")).actor.waiting <= len(amounts):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    return asks


async def test_a_batch_handler_gets_what_waits_and_answers_each(
    system: ActorSystem, register: ActorRef
) -> None:
    player = await system.spawn(BatchPlayer, register, name="player")
    asks = await add_behind_a_hold(system, player, register, 1, 2, 3, 4)
    await register.tell(Note(text="release it"))
    assert [answer.value for answer in await asyncio.gather(*asks)] == [1, 2, 3, 4]
    await seen(register, "the last in line")
    noted = [text for text in await notes(register) if "batch" in text or "last" in text]
    assert noted == ["batch of 3", "batch of 1", "the last in line"]


async def test_an_error_of_a_batch_answers_all_of_it(system: ActorSystem, register: ActorRef) -> None:
    player = await system.spawn(BatchPlayer, register, name="player")
    asks = await add_behind_a_hold(system, player, register, 1, -1, 3, 4)
    await register.tell(Note(text="release it"))
    answers = await asyncio.gather(*asks, return_exceptions=True)
    assert [type(answer) for answer in answers] == [Refusal, Refusal, Refusal, Total]


async def test_one_that_gives_up_does_not_cancel_the_batch(system: ActorSystem, register: ActorRef) -> None:
    player = await system.spawn(BatchPlayer, register, name="player")
    asks = await add_behind_a_hold(system, player, register, 1, 2, 3)
    asks[1].cancel()
    await asyncio.wait((asks[1],))
    await register.tell(Note(text="release it"))
    assert [(await asks[0]).value, (await asks[2]).value] == [1, 3]


async def test_a_batch_dies_with_its_actor(system: ActorSystem, register: ActorRef) -> None:
    class Spoilt(BatchPlayer):
        async def add_many(self, messages: Sequence[Add]) -> Sequence[Total]:
            return [Total(value=0)] * (len(messages) + 1)

    player = await system.spawn(Spoilt, register, name="player")
    with pytest.raises(ActorDown, match="died while handling Add"):
        await player.ask(Add(amount=1), timeout_s=120)


async def test_a_restart_is_published_with_its_cause(system: ActorSystem, register: ActorRef) -> None:
    events = await system.topics.subscribe(ActorRestarted)
    player = await system.spawn(Player, register, name="player")
    await system.describe("player")
    with pytest.raises(ActorDown):
        await player.ask(Break(text="kaput"), timeout_s=120)
    async for event in events:
        assert isinstance(event, ActorRestarted)
        assert event.actor == "player"
        assert event.cause == "RuntimeError: kaput while handling Break"
        break
    await events.aclose()


async def test_an_odd_error_keeps_its_text(system: ActorSystem, register: ActorRef) -> None:
    player = await system.spawn(Player, register, name="player")
    with pytest.raises(Exception, match="this and that") as caught:
        await player.ask(RefuseOddly(), timeout_s=120)
    assert type(caught.value).__name__ in {"Unpicklable", "RemoteFailure"}
