"""The life of one actor, where only the in-process transport can look closely."""

import asyncio
import contextlib
import gc
import pickle
import threading

import pytest
from players import Add, Break, Happened, NeverStarts, Player, Register, StartsForEver, Total

from agentfactory.configs.errors import SettingsError
from agentfactory.messages.base import Done, Message, Request
from agentfactory.messages.runs import ActorRestarted
from agentfactory.runtime.actor import Actor, Supervision
from agentfactory.runtime.errors import ActorDown, AskTimeout, TransportError
from agentfactory.runtime.local_transport import LocalTransport
from agentfactory.runtime.mailbox import Envelope
from agentfactory.runtime.ref import ActorRef
from agentfactory.runtime.supervised_actor import RestartPolicy, SupervisedActor
from agentfactory.runtime.system import ActorSystem
from agentfactory.runtime.transport import PlacementBundle, ProcessStatistics, Resources, SpawnSpec
from agentfactory.runtime.watchdog import EventLoopWatchdog


class Start(Request[Done]):
    pass


class Stubborn(Actor):
    """Does not let itself be cancelled."""

    def __init__(self, begun: asyncio.Event, release: asyncio.Event) -> None:
        self._begun = begun
        self._release = release

    async def start_working(self, message: Start) -> Done:
        self._begun.set()
        while not self._release.is_set():
            try:
                await self._release.wait()
            except asyncio.CancelledError:
                continue
        return Done()


class SlowToStart(Actor):
    """Only its second life gets through."""

    def __init__(self, begun: asyncio.Event) -> None:
        self._begun = begun

    async def start(self) -> None:
        if not self._begun.is_set():
            self._begun.set()
            await asyncio.Event().wait()

    async def add(self, message: Add) -> Total:
        return Total(value=message.amount)


class BadlySet(Actor):
    def __init__(self, attempts: list[int]) -> None:
        attempts.append(1)
        raise SettingsError("model.source: there is no such folder")


class GivesUp(Actor):
    """Its own errors are no answers, and a division by zero would happen again."""

    supervision = Supervision(answered=(), fatal=(ZeroDivisionError,))

    def __init__(self, lives: list[int]) -> None:
        lives.append(1)

    async def add(self, message: Add) -> Total:
        return Total(value=1 // message.amount)

    async def start_working(self, message: Start) -> Done:
        raise SettingsError("of ours, and not answered here")


class ClosesBadly(Actor):
    async def start_working(self, message: Start) -> Done:
        raise RuntimeError("the real reason")

    async def aclose(self) -> None:
        raise RuntimeError("not the real reason")


async def fail() -> None:
    raise ValueError("caught by whoever runs this")


class Overhears(Actor):
    """Answers although it was told that nobody waits."""

    def __init__(self, begun: asyncio.Event) -> None:
        self._begun = begun

    async def start_working(self, message: Start) -> Done:
        self._begun.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        return Done()

    async def add(self, message: Add) -> Total:
        with contextlib.suppress(ExceptionGroup):
            async with asyncio.TaskGroup() as group:  # which counts the cancellations of its task
                group.create_task(fail())
                await asyncio.Event().wait()
        return Total(value=message.amount)


async def test_the_pause_doubles_up_to_half_a_minute() -> None:
    policy = RestartPolicy(backoff_s=0.5)
    assert [policy.pause_s(n) for n in (0, 1, 2, 5, 6, 10_000)] == [0.5, 1.0, 2.0, 16.0, 30.0, 30.0]


async def test_a_cell_shows_what_it_is_doing() -> None:
    actor = SupervisedActor("player", NeverStarts, 4, RestartPolicy(max_restarts=2, backoff_s=0.0))
    assert repr(actor) == "<SupervisedActor player: down, 0 in hand, 0 waiting, 0 restarts>"
    with pytest.raises(ActorDown, match="RuntimeError: the model is missing") as caught:
        await actor.run()
    assert caught.value.permanent
    assert actor.statistics().restarts == 2


class Measured(Actor):
    async def add(self, message: Add) -> Total:
        return Total(value=message.amount)

    def measures(self) -> dict[str, float]:
        return {"own": 2.5}


async def test_a_cell_measures_its_life_and_what_its_actor_adds() -> None:
    actor = SupervisedActor("measured", Measured, 4, RestartPolicy())
    assert actor.measures() == {"waiting": 0, "in_hand": 0, "handled_total": 0, "restarts_total": 0}
    life = asyncio.create_task(actor.run())
    await actor.wait_ready()
    reply: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
    actor.mailbox.put_nowait(Envelope(Add(amount=3), reply))
    assert await reply == Total(value=3)
    measured = {"waiting": 0, "in_hand": 0, "handled_total": 1, "restarts_total": 0, "own": 2.5}
    assert actor.measures() == measured
    life.cancel()
    await asyncio.wait((life,))
    assert "own" not in actor.measures()


async def test_a_cell_that_gave_up_says_why_to_each_who_asks() -> None:
    actor = SupervisedActor("player", NeverStarts, 4, RestartPolicy(max_restarts=0))
    assert actor.terminal_error() is None
    with pytest.raises(ActorDown):
        await actor.run()
    first, second = actor.terminal_error(), actor.terminal_error()
    assert isinstance(first, ActorDown)
    assert isinstance(second, ActorDown)
    assert first is not second
    assert (first.permanent, str(first.__cause__)) == (True, "the model is missing")
    with pytest.raises(ActorDown, match="the model is missing"):
        actor.mailbox.put_nowait(Envelope(Add(amount=1)))


async def test_an_actor_can_be_killed_while_it_starts() -> None:
    begun = asyncio.Event()
    async with ActorSystem.open("local", backoff_s=0.0) as system:
        spawning = asyncio.create_task(system.spawn(SlowToStart, begun, name="slow"))
        await begun.wait()
        await system.kill("slow")
        slow = await spawning
        assert (await slow.ask(Add(amount=3), timeout_s=120)).value == 3
        assert (await system.describe("slow")).actor.last_failure == "Killed: it was killed"


async def test_bad_input_is_not_tried_again() -> None:
    attempts: list[int] = []
    async with ActorSystem.open("local") as system:
        with pytest.raises(ActorDown, match="there is no such folder") as caught:
            await system.spawn(BadlySet, attempts, name="bad")
    assert len(attempts) == 1
    assert isinstance(caught.value.__cause__, SettingsError)


async def test_an_actor_says_which_errors_are_fatal_and_which_restart_it() -> None:
    lives: list[int] = []
    async with ActorSystem.open("local", backoff_s=0.0) as system:
        actor = await system.spawn(GivesUp, lives, name="actor")
        with pytest.raises(ActorDown, match="not answered here") as restarted:
            await actor.ask(Start(), timeout_s=120)
        assert not restarted.value.permanent
        assert await actor.ask(Add(amount=1), timeout_s=120) == Total(value=1)
        assert len(lives) == 2
        with pytest.raises(ActorDown, match="ZeroDivisionError"):
            await actor.ask(Add(amount=0), timeout_s=120)
        down = await asyncio.wait_for(system.wait_fatal(), 120)
        assert down.permanent
        assert isinstance(down.__cause__, ZeroDivisionError)
    assert len(lives) == 2


async def test_an_error_while_closing_does_not_hide_the_cause() -> None:
    async with ActorSystem.open("local", backoff_s=0.0) as system:
        actor = await system.spawn(ClosesBadly, name="actor")
        with pytest.raises(ActorDown, match="the real reason") as caught:
            await actor.ask(Start(), timeout_s=120)
        assert str(caught.value.__cause__) == "the real reason"


async def test_a_handler_that_overhears_its_cancelling_does_no_harm() -> None:
    begun = asyncio.Event()
    async with ActorSystem.open("local") as system:
        actor = await system.spawn(Overhears, begun, name="actor")
        asking = asyncio.create_task(actor.ask(Start(), timeout_s=120))
        await begun.wait()
        asking.cancel()
        assert (await actor.ask(Add(amount=2), timeout_s=120)).value == 2
        assert (await system.describe("actor")).actor.restarts == 0


@pytest.mark.parametrize("drain_s", [0.0, 0.05])
async def test_a_system_ends_although_an_actor_is_stuck(
    monkeypatch: pytest.MonkeyPatch, drain_s: float
) -> None:
    monkeypatch.setattr("agentfactory.runtime.supervised_actor.CLOSE_S", 0.05)
    begun, release = asyncio.Event(), asyncio.Event()
    async with ActorSystem.open("local", drain_s=drain_s) as system:
        stubborn = await system.spawn(Stubborn, begun, release, name="stubborn")
        asking = asyncio.create_task(stubborn.ask(Start(), timeout_s=120))
        await begun.wait()
    result = (await asyncio.gather(asking, return_exceptions=True))[0]
    assert type(result).__name__ == "ActorStopped"
    release.set()
    await asyncio.sleep(0)


async def test_draining_stops_the_youngest_first() -> None:
    closed: list[str] = []

    class Closes(Actor):
        def __init__(self, name: str) -> None:
            self._name = name

        async def aclose(self) -> None:
            closed.append(self._name)

    async with ActorSystem.open("local", drain_s=5) as system:
        for name in ("store", "engine", "student"):
            await system.spawn(Closes, name, name=name)
    assert closed == ["student", "engine", "store"]


async def test_draining_lets_what_is_in_hand_finish() -> None:
    class Works(Actor):
        def __init__(self, begun: asyncio.Event, store: ActorRef) -> None:
            self._begun = begun
            self._store = store

        async def start_working(self, message: Start) -> Done:
            self._begun.set()
            await asyncio.sleep(0.01)
            await self._store.ask(Add(amount=1), timeout_s=120)  # the older one must still be there
            return Done()

    begun = asyncio.Event()
    async with ActorSystem.open("local", drain_s=5) as system:
        register = await system.spawn(Register, name="register")
        store = await system.spawn(Player, register, name="store")
        works = await system.spawn(Works, begun, store, name="works")
        asking = asyncio.create_task(works.ask(Start(), timeout_s=120))
        await begun.wait()
    assert await asking == Done()


async def test_interrupting_a_system_stops_its_actors() -> None:
    register_ref: list[ActorRef] = []
    inside = asyncio.Event()

    async def program() -> None:
        async with ActorSystem.open("local") as system:
            register_ref.append(await system.spawn(Register, name="register"))
            inside.set()
            await asyncio.Event().wait()

    running = asyncio.create_task(program())
    await inside.wait()
    running.cancel()  # what Ctrl-C does under asyncio.run
    await asyncio.wait((running,))
    assert running.cancelled()
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("register")]


class Recorded(LocalTransport):
    """Keeps what it is asked to spawn and to describe."""

    def __init__(self) -> None:
        super().__init__(EventLoopWatchdog(30.0))
        self.spawned: dict[str, SpawnSpec] = {}
        self.described: list[str] = []

    async def spawn(self, spec: SpawnSpec) -> ActorRef:
        self.spawned[spec.name] = spec
        return await super().spawn(spec)

    async def describe(self, name: str) -> ProcessStatistics:
        self.described.append(name)
        return await super().describe(name)


async def test_each_of_a_pool_gets_its_own_resources_or_all_the_same() -> None:
    transport = Recorded()
    system = ActorSystem(transport, mailbox=8, max_restarts=1, backoff_s=0.01)
    each = [Resources(gpus=0.5), Resources(cpus=2.0)]
    pool = await system.spawn_pool(Register, name="own", copies=2, resources=each, start_timeout_s=7.0)
    await system.spawn_pool(Register, name="same", copies=2, resources=each[0], mailbox=3)
    assert [member.name for member in pool.members] == ["own-0", "own-1"]
    assert [transport.spawned[f"own-{n}"].resources for n in (0, 1)] == each
    assert [transport.spawned[f"same-{n}"].resources for n in (0, 1)] == [each[0]] * 2
    own, same = transport.spawned["own-0"], transport.spawned["same-0"]
    assert (own.mailbox, own.start_timeout_s, same.mailbox) == (8, 7.0, 3)
    await transport.aclose()


async def test_actors_are_looked_at_once_an_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentfactory.runtime.system.POLL_INTERVAL_S", 1000.0)
    transport = Recorded()
    system = ActorSystem(transport, mailbox=8, max_restarts=1, backoff_s=0.01)
    await system.spawn(Register, name="register")
    looking = asyncio.create_task(system._monitor())
    for _ in range(50):
        await asyncio.sleep(0)
    looking.cancel()
    assert transport.described == ["register"]
    assert system.statistics["register"].actor.restarts == 0
    await system.stop("register")
    assert system.statistics == {}
    await transport.aclose()


async def test_a_restart_is_told_of_once_also_under_a_name_that_was_used_before() -> None:
    async with ActorSystem.open("local", backoff_s=0.001) as system:
        told = await system.topics.subscribe(ActorRestarted)
        register = await system.spawn(Register, name="register")
        for _ in range(2):
            player = await system.spawn(Player, register, name="player")
            with pytest.raises(ActorDown):
                await player.ask(Break(text="kaput"), timeout_s=120)
            await player.ask(Add(amount=1), timeout_s=120)  # answered by its next life
            for _ in range(2):
                await system._poll("player")
            await system.stop("player")
        await system._poll("player")  # it is gone
        events: list[object] = []
        while len(events) < 2:
            events += await told.take()
        await system.publish(Happened(number=1))
        assert [type(event) for event in events] == [ActorRestarted] * 2


async def test_what_the_system_publishes_arrives() -> None:
    async with ActorSystem.open("local") as system:
        events = await system.topics.subscribe(Happened)
        await system.publish(Happened(number=3))
        assert await events.take() == (Happened(number=3),)


async def test_a_system_whose_hub_cannot_start_says_why_and_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("agentfactory.runtime.system.TopicBroker", NeverStarts)
    with pytest.raises(ActorDown, match="the model is missing"):
        async with ActorSystem.open("local", max_restarts=0):
            raise AssertionError("unreachable")
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_the_loop_is_watched_as_long_as_the_system_is_open() -> None:
    def watched() -> bool:
        return any(thread.name == "loop-watch" for thread in threading.enumerate())

    async with ActorSystem.open("local"):
        assert watched()
    assert not watched()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_parts_that_are_set_aside_in_one_process_are_counted_only() -> None:
    async with ActorSystem.open("local") as system:
        assert await system.reserve("gang", [Resources()] * 2) == (
            PlacementBundle("gang", 0),
            PlacementBundle("gang", 1),
        )


async def test_a_ref_of_this_process_cannot_leave_it() -> None:
    async with ActorSystem.open("local") as system:
        register = await system.spawn(Register, name="register")
        with pytest.raises(TransportError, match=r"'register'.* cannot leave its process"):
            pickle.dumps(register)


async def test_a_start_that_is_given_up_leaves_no_task_behind() -> None:
    async with ActorSystem.open("local") as system:
        before = asyncio.all_tasks()
        with pytest.raises(AskTimeout):
            await system.spawn(StartsForEver, name="slow", start_timeout_s=0.01)
        assert asyncio.all_tasks() - before == set()


async def test_an_answered_ask_leaves_no_timer_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    timers: list[asyncio.TimerHandle] = []
    call_later = loop.call_later

    def recorded(delay: float, *args: object) -> asyncio.TimerHandle:
        timers.append(call_later(delay, *args))  # type: ignore[arg-type]
        return timers[-1]

    async with ActorSystem.open("local") as system:
        register = await system.spawn(Register, name="register")
        player = await system.spawn(Player, register, name="player")
        monkeypatch.setattr(loop, "call_later", recorded)
        assert await player.ask(Add(amount=1), timeout_s=12345.0) == Total(value=1)
        monkeypatch.undo()
        assert [timer.cancelled() for timer in timers if timer.when() - loop.time() > 10_000] == [True]


async def test_the_end_of_an_actor_is_told_by_the_system_and_not_by_asyncio() -> None:
    reported: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    async with ActorSystem.open("local", max_restarts=0) as system:
        register = await system.spawn(Register, name="register")
        player = await system.spawn(Player, register, name="player")
        with pytest.raises(ActorDown):
            await player.ask(Break(text="kaput"), timeout_s=120)
        with pytest.raises(AskTimeout):
            await system.spawn(StartsForEver, name="slow", start_timeout_s=0.01)
        assert (await asyncio.wait_for(system.wait_fatal(), 120)).actor == "player"
    del player, system
    gc.collect()
    assert reported == []
