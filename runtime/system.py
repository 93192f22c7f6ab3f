"""An actor system: spawn actors, publish facts, watch over all of it."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Literal, TypeVarTuple

import structlog

from ..messages.base import Event
from ..messages.runs import ActorRestarted
from .actor import Actor
from .errors import ActorDown, ActorError, NoSuchActor
from .local_transport import LocalTransport
from .ref import ActorRef, PoolRef
from .tasks import task_group
from .telemetry import LogSettings, ensure_logging
from .topics import TopicBroker, Topics
from .transport import PlacementBundle, ProcessStatistics, Resources, SpawnSpec, Transport
from .watchdog import EventLoopWatchdog

log = structlog.get_logger("system")
Args = TypeVarTuple("Args")

POLL_INTERVAL_S = 1.0
DRAIN_GRACE_S = 10.0
"""How much longer than its grace a drain may take before the rest is stopped at once."""


class ActorSystem:
    """Actors, their topics, and their watch. Open one with `ActorSystem.open`.

    A worked example::

        async with ActorSystem.open("local") as system:
            verifier = await system.spawn(Verifier, config, name="verifier")
            verdict = await verifier.ask(JudgeSolution(task=task, solution=solution), timeout_s=10)
    """

    def __init__(self, transport: Transport, mailbox: int, max_restarts: int, backoff_s: float) -> None:
        self._transport = transport
        self._mailbox = mailbox
        self._max_restarts = max_restarts
        self._backoff_s = backoff_s
        self._names: list[str] = []
        self._restarts: dict[str, tuple[int, int]] = {}
        """Restarts seen, by actor: of its process, and of the actor in the newest process."""
        self._given_up: asyncio.Future[ActorDown] = asyncio.get_running_loop().create_future()
        self.statistics: dict[str, ProcessStatistics] = {}
        """The last look at each actor."""
        self.topics: Topics

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        transport: Literal["local", "ray"],
        *,
        namespace: str = "",
        mailbox: int = 1024,
        max_restarts: int = 5,
        backoff_s: float = 0.2,
        stall_s: float = 30.0,
        drain_s: float = 0.0,
        logging: LogSettings = LogSettings(),  # noqa: B008 - frozen
    ) -> AsyncIterator["ActorSystem"]:
        """Open a system; all of its actors end with the block.

        With `ray`, Ray must have been initialised (see `runtime.on_ray.session`). With `drain_s`,
        actors are stopped one after the other, the youngest first, and have that long between them
        to finish what they have in hand; without it all are stopped at once.
        """
        ensure_logging(logging)
        watch = EventLoopWatchdog(stall_s)
        watch.start()
        made: Transport
        if transport == "ray":
            from .on_ray.transport import RayTransport

            made = RayTransport(namespace or f"agentfactory-{uuid.uuid4().hex[:8]}", logging, stall_s)
        else:
            made = LocalTransport(watch)
        system = cls(made, mailbox, max_restarts, backoff_s)
        looking = None
        try:
            system.topics = Topics(await system.spawn(TopicBroker, name="topics"))
            looking = asyncio.create_task(system._monitor(), name="look-after")
            yield system
        finally:
            if looking is not None:
                looking.cancel()
                await asyncio.gather(looking, return_exceptions=True)
            try:
                if drain_s > 0:
                    await system._drain(drain_s)
            finally:
                await made.aclose()
                await watch.aclose()

    async def spawn(
        self,
        actor: Callable[[*Args], Actor],
        *args: *Args,
        name: str,
        resources: Resources = Resources(),  # noqa: B008 - frozen
        mailbox: int | None = None,
        start_timeout_s: float = 300.0,
    ) -> ActorRef:
        """Make one actor. Raises ActorDown with the cause if it cannot start."""
        spec = SpawnSpec(
            name=name,
            actor=actor,
            args=args,
            mailbox=mailbox or self._mailbox,
            max_restarts=self._max_restarts,
            backoff_s=self._backoff_s,
            resources=resources,
            start_timeout_s=start_timeout_s,
        )
        ref = await self._transport.spawn(spec)
        self._names.append(name)
        return ref

    async def spawn_pool(
        self,
        actor: Callable[[*Args], Actor],
        *args: *Args,
        name: str,
        copies: int,
        resources: Resources | Sequence[Resources] = Resources(),  # noqa: B008 - frozen
        mailbox: int | None = None,
        start_timeout_s: float = 300.0,
    ) -> PoolRef:
        """Make `copies` equal actors, `name-0`, `name-1`, …, at the same time.

        `resources`: of each, or one for each.
        """
        members: dict[int, ActorRef] = {}
        each = [resources] * copies if isinstance(resources, Resources) else resources

        async def one(number: int) -> None:
            members[number] = await self.spawn(
                actor,
                *args,
                name=f"{name}-{number}",
                resources=each[number],
                mailbox=mailbox,
                start_timeout_s=start_timeout_s,
            )

        async with task_group() as group:
            for number in range(copies):
                group.start_soon(one, number)
        return PoolRef(name, tuple(members[number] for number in range(copies)))

    async def reserve(
        self, name: str, parts: Sequence[Resources], *, timeout_s: float = 60.0
    ) -> tuple[PlacementBundle, ...]:
        """Set parts of the cluster aside for actors to come: all, or none. Raises TransportError."""
        return await self._transport.reserve(name, parts, timeout_s)

    @property
    def names(self) -> tuple[str, ...]:
        """The actors that have been spawned and not stopped, the oldest first."""
        return tuple(self._names)

    async def publish(self, event: Event) -> None:
        """Tell every subscriber."""
        await self.topics.publish(event)

    async def describe(self, name: str) -> ProcessStatistics:
        """What one actor is doing now."""
        return await self._transport.describe(name)

    async def stop(self, name: str, grace_s: float = 5.0) -> None:
        """Stop one actor: what is in hand may finish, what waits is answered with ActorStopped."""
        await self._transport.stop(name, grace_s)
        self._names.remove(name)
        self.statistics.pop(name, None)
        self._restarts.pop(name, None)

    async def kill(self, name: str) -> None:
        """Kill an actor as a crash would. For fault tests."""
        await self._transport.kill(name)

    async def wait_fatal(self) -> ActorDown:
        """Return once the supervisor has given up on any actor: the system cannot go on whole."""
        return await asyncio.shield(self._given_up)

    async def _drain(self, grace_s: float) -> None:
        """Stop all actors in reverse order of spawning; together they get `grace_s` seconds."""
        loop = asyncio.get_running_loop()
        end = loop.time() + grace_s
        try:
            async with asyncio.timeout(grace_s + DRAIN_GRACE_S):
                for name in reversed(list(self._names)):
                    await self.stop(name, grace_s=max(0.0, end - loop.time()))
        except TimeoutError:
            log.error("actors are stuck: the rest is stopped at once", left=list(self._names))

    async def _monitor(self) -> None:
        """Look at every actor once a second: statistics, restarts, and who is gone for good."""
        while True:
            await asyncio.gather(*(self._poll(name) for name in list(self._names)))
            await asyncio.sleep(POLL_INTERVAL_S)

    async def _poll(self, name: str) -> None:
        try:
            seen = await self._transport.describe(name)
            self.statistics[name] = seen
            await self._report_restarts(name, seen)
        except NoSuchActor:
            return  # it has been stopped since
        except ActorDown as down:
            if down.permanent and not self._given_up.done():
                log.error("actor is gone for good", actor=name, cause=str(down))
                self._given_up.set_result(down)
        except ActorError as error:
            log.warning("actor does not answer", actor=name, error=str(error))

    async def _report_restarts(self, name: str, seen: ProcessStatistics) -> None:
        """Publish ActorRestarted with the cause, if there has been a restart since the last look."""
        before = self._restarts.get(name, (0, 0))
        now = self._restarts[name] = (seen.process_restarts, seen.actor.restarts)
        if now == before or now == (0, 0):
            return
        cause = seen.lost if now[0] > before[0] else seen.actor.last_failure
        event = ActorRestarted(actor=name, cause=cause, restarts=sum(now), at=time.time())
        log.warning("actor restarted", actor=name, cause=cause, restarts=event.restarts)
        await self.topics.publish(event)
