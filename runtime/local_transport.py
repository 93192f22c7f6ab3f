"""The transport in this process: all actors share one event loop, messages pass by reference."""

import asyncio
import os
from collections.abc import Sequence

import psutil

from ..messages.base import Message
from .errors import NoSuchActor, TransportError
from .mailbox import Envelope
from .ref import ActorRef
from .supervised_actor import CLOSE_S, RestartPolicy, SupervisedActor, consume_exception, wait_until_started
from .transport import PlacementBundle, ProcessStatistics, Resources, SpawnSpec
from .watchdog import EventLoopWatchdog


class LocalChannel:
    """Reaches an actor of this process."""

    def __init__(self, supervised: SupervisedActor) -> None:
        self._supervised = supervised

    def __reduce__(self) -> tuple[object, ...]:
        raise TransportError(
            f"a ref of the local transport ({self._supervised.name!r}) cannot leave its process"
        )

    async def tell(self, message: Message) -> None:
        """Queue the message; waits while the mailbox is full."""
        await self._supervised.mailbox.put(Envelope(message))

    async def ask(self, message: Message, timeout_s: float) -> Message:
        """Queue the message and wait for its answer."""
        loop = asyncio.get_running_loop()
        reply: asyncio.Future[Message] = loop.create_future()
        envelope = Envelope(message, reply)
        self._supervised.mailbox.enqueue_or_wait(envelope)
        timer = loop.call_later(timeout_s, self._supervised.expire, envelope, timeout_s)
        try:
            return await reply
        except asyncio.CancelledError:
            self._supervised.abandon(envelope)
            raise
        finally:
            timer.cancel()


class LocalTransport:
    """Actors as tasks of the running event loop."""

    def __init__(self, watch: EventLoopWatchdog) -> None:
        self._actors: dict[str, tuple[SupervisedActor, asyncio.Task[None]]] = {}
        self._watch = watch

    async def reserve(
        self, name: str, parts: Sequence[Resources], timeout_s: float
    ) -> tuple[PlacementBundle, ...]:
        """Nothing needs to be set aside in one process."""
        return tuple(PlacementBundle(name, index) for index in range(len(parts)))

    async def spawn(self, spec: SpawnSpec) -> ActorRef:
        """Make the actor and wait until its `start` has returned."""
        if spec.name in self._actors:
            raise TransportError(f"there is an actor named {spec.name!r} already")
        policy = RestartPolicy(spec.max_restarts, spec.backoff_s, spec.start_timeout_s)
        supervised = SupervisedActor(spec.name, lambda: spec.actor(*spec.args), spec.mailbox, policy)
        life = asyncio.create_task(supervised.run(), name=spec.name)
        life.add_done_callback(consume_exception)
        self._actors[spec.name] = (supervised, life)
        try:
            await wait_until_started(supervised, life, spec.start_timeout_s)
        except BaseException:
            del self._actors[spec.name]
            await _end(supervised.name, life)
            raise
        return ActorRef(spec.name, LocalChannel(supervised))

    async def describe(self, name: str) -> ProcessStatistics:
        """What the actor is doing."""
        supervised, _ = self._find(name)
        gave_up = supervised.terminal_error()
        if gave_up is not None:
            raise gave_up
        memory_mb = psutil.Process().memory_info().rss >> 20
        return ProcessStatistics(supervised.statistics(), os.getpid(), memory_mb, self._watch.worst_lag_ms())

    async def stop(self, name: str, grace_s: float) -> None:
        """Stop one actor."""
        supervised, life = self._find(name)
        del self._actors[name]
        try:
            await supervised.stop(grace_s)
        finally:
            await _end(name, life)

    async def kill(self, name: str) -> None:
        """End the actor's life abruptly; its supervisor takes over."""
        self._find(name)[0].kill("it was killed")

    async def aclose(self) -> None:
        """Stop everything, the youngest first."""
        for name in reversed(list(self._actors)):
            await self.stop(name, grace_s=0.0)

    def _find(self, name: str) -> tuple[SupervisedActor, asyncio.Task[None]]:
        try:
            return self._actors[name]
        except KeyError:
            raise NoSuchActor(f"there is no actor named {name!r}") from None


async def _end(name: str, life: asyncio.Task[None]) -> None:
    """Cancel a life and wait for its end (bounded, since the supervised actor bounds it)."""
    life.cancel()
    await asyncio.wait((life,), timeout=2 * CLOSE_S)
