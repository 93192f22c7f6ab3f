"""The transport in this process: all actors share one event loop, messages pass by reference."""

import asyncio
import os
from collections.abc import Sequence

import psutil

from ..messages.base import Message
from .cell import CLOSE_S, Cell, RestartPolicy
from .envelope import Envelope
from .errors import AskTimeout, NoSuchActor, TransportError
from .ref import ActorRef
from .transport import Place, ProcessStatistics, Resources, SpawnSpec
from .watchdog import LoopWatch


class LocalLink:
    """Reaches a cell of this process."""

    def __init__(self, cell: Cell) -> None:
        self._cell = cell

    def __reduce__(self) -> tuple[object, ...]:
        raise TransportError(f"a ref of the local transport ({self._cell.name!r}) cannot leave its process")

    async def tell(self, message: Message) -> None:
        """Queue the message; waits while the mailbox is full."""
        await self._cell.mailbox.put(Envelope(message))

    async def ask(self, message: Message, timeout_s: float) -> Message:
        """Queue the message and wait for its answer."""
        loop = asyncio.get_running_loop()
        reply: asyncio.Future[Message] = loop.create_future()
        envelope = Envelope(message, reply)
        self._cell.mailbox.line_up(envelope)
        timer = loop.call_later(timeout_s, self._cell.expire, envelope, timeout_s)
        try:
            return await reply
        except asyncio.CancelledError:
            self._cell.abandon(envelope)
            raise
        finally:
            timer.cancel()


class LocalTransport:
    """Actors as tasks of the running event loop."""

    def __init__(self, watch: LoopWatch) -> None:
        self._cells: dict[str, tuple[Cell, asyncio.Task[None]]] = {}
        self._watch = watch

    async def reserve(self, name: str, parts: Sequence[Resources], timeout_s: float) -> tuple[Place, ...]:
        """Nothing needs to be set aside in one process."""
        return tuple(Place(name, index) for index in range(len(parts)))

    async def spawn(self, spec: SpawnSpec) -> ActorRef:
        """Make the actor and wait until its `start` has returned."""
        if spec.name in self._cells:
            raise TransportError(f"there is an actor named {spec.name!r} already")
        policy = RestartPolicy(spec.max_restarts, spec.backoff_s, spec.start_timeout_s)
        cell = Cell(spec.name, lambda: spec.actor(*spec.args), spec.mailbox, policy)
        life = asyncio.create_task(cell.run(), name=spec.name)
        life.add_done_callback(mark_seen)
        self._cells[spec.name] = (cell, life)
        try:
            await ready_or_dead(cell, life, spec.start_timeout_s)
        except BaseException:
            del self._cells[spec.name]
            await _end(cell.name, life)
            raise
        return ActorRef(spec.name, LocalLink(cell))

    async def describe(self, name: str) -> ProcessStatistics:
        """What the actor is doing."""
        cell, _ = self._find(name)
        gave_up = cell.gave_up()
        if gave_up is not None:
            raise gave_up
        memory_mb = psutil.Process().memory_info().rss >> 20
        return ProcessStatistics(cell.statistics(), os.getpid(), memory_mb, self._watch.worst_lag_ms())

    async def stop(self, name: str, grace_s: float) -> None:
        """Stop one actor."""
        cell, life = self._find(name)
        del self._cells[name]
        try:
            await cell.stop(grace_s)
        finally:
            await _end(name, life)

    async def kill(self, name: str) -> None:
        """End the actor's life abruptly; its supervisor takes over."""
        self._find(name)[0].kill("it was killed")

    async def aclose(self) -> None:
        """Stop everything, the youngest first."""
        for name in reversed(list(self._cells)):
            await self.stop(name, grace_s=0.0)

    def _find(self, name: str) -> tuple[Cell, asyncio.Task[None]]:
        try:
            return self._cells[name]
        except KeyError:
            raise NoSuchActor(f"there is no actor named {name!r}") from None


async def ready_or_dead(cell: Cell, life: asyncio.Task[None], timeout_s: float) -> None:
    """Wait for `start` to return, for the supervisor to give up, or for the time to run out."""
    ready = asyncio.ensure_future(cell.wait_ready())
    try:
        await asyncio.wait((ready, life), timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if life.done():
            life.result()  # raises ActorDown with the cause
        if not ready.done():
            raise AskTimeout(f"{cell.name!r} did not start within {timeout_s:g} s")
    finally:
        ready.cancel()


def mark_seen(life: asyncio.Task[None]) -> None:
    """The error of a life that ended is read through `describe`; asyncio need not report it too."""
    if not life.cancelled():
        life.exception()


async def _end(name: str, life: asyncio.Task[None]) -> None:
    """Cancel a life and wait for its end (bounded, since the cell bounds it)."""
    life.cancel()
    await asyncio.wait((life,), timeout=2 * CLOSE_S)
