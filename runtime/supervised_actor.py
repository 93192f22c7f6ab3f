"""Where an actor lives, on every transport: it takes, handles, answers; and is restarted.

Invariants:
  - each ask that is put in the mailbox is answered exactly once: by its handler, by the error that
    the handler raised, by ActorDown when the actor died over it, or by ActorStopped;
  - messages still in the mailbox outlive a restart; the ones in hand do not;
  - a handling whose asker gave up is cancelled;
  - no wait on the actor's own code is unbounded once the actor is to end.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import structlog

from .actor import Actor, Supervision
from .dispatch import MessageProcessor
from .errors import ActorDown, ActorStopped, AskTimeout, Killed
from .mailbox import Envelope, Mailbox
from .tasks import unwrap_exception_group

log = structlog.get_logger("actor")

CLOSE_S = 10.0
"""How long an actor's `aclose`, and a handler that is being cancelled, may take."""


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """How often, and after which pause, a dead actor is replaced."""

    max_restarts: int = 5
    backoff_s: float = 0.2
    """Pause before the first restart; doubled for each further one."""
    start_timeout_s: float = 300.0
    """An actor whose `start` takes longer has died of it."""

    def pause_s(self, restarts: int) -> float:
        """Pause before restart number `restarts` (from 0), at most 30 s."""
        return min(30.0, self.backoff_s * 2.0 ** min(restarts, 16))


class ActorStatistics(NamedTuple):
    """What one actor is doing."""

    name: str
    alive: bool
    waiting: int
    capacity: int
    handling: tuple[str, ...]
    """Types of the messages in hand, as `Generate` or `Generate x3`."""
    handled: int
    restarts: int
    last_failure: str = ""
    """What it last died of, and over which message; empty while it never died."""


class SupervisedActor:
    """The supervised life of one actor."""

    def __init__(
        self, name: str, make: Callable[[], Actor], mailbox_capacity: int, policy: RestartPolicy
    ) -> None:
        self.name = name
        self.mailbox = Mailbox(name, mailbox_capacity)
        self._make = make
        self._policy = policy
        self._processor = MessageProcessor(name, self.mailbox)
        self._life: asyncio.Task[None] | None = None
        self._actor: Actor | None = None
        self._supervision = Supervision()  # the default holds until there is an actor to ask
        self._ready = asyncio.Event()
        self._restarts = 0
        self._kill_reason = ""
        self._last_failure = ""
        self._given_up: BaseException | None = None

    def __repr__(self) -> str:
        stats = self.statistics()
        state = "alive" if stats.alive else "down"
        return (
            f"<SupervisedActor {self.name}: {state}, {len(stats.handling)} in hand, {stats.waiting} waiting, "
            f"{stats.restarts} restarts>"
        )

    def statistics(self) -> ActorStatistics:
        """What it is doing now."""
        return ActorStatistics(
            name=self.name,
            alive=self._ready.is_set(),
            waiting=len(self.mailbox),
            capacity=self.mailbox.capacity,
            handling=self._processor.in_flight_types(),
            handled=self._processor.handled,
            restarts=self._restarts,
            last_failure=self._last_failure,
        )

    def measures(self) -> Mapping[str, float]:
        """The actor's own numbers, and those of its life."""
        own = self._actor.measures() if self._actor is not None else {}
        return {
            "waiting": len(self.mailbox),
            "in_hand": len(self._processor),
            "handled_total": self._processor.handled,
            "restarts_total": self._restarts,
            **own,
        }

    def terminal_error(self) -> ActorDown | None:
        """Why the supervisor gave up, with the cause; None while it has not. New for each caller."""
        return self._down(self._given_up, permanent=True) if self._given_up is not None else None

    async def run(self) -> None:
        """Live until cancelled. Raises ActorDown once the supervisor gives up."""
        structlog.contextvars.bind_contextvars(actor=self.name)
        try:
            while True:
                cause = await self._run_once()
                self._fail_in_flight(cause)
                if self._restarts >= self._policy.max_restarts or isinstance(cause, self._supervision.fatal):
                    self._given_up = cause
                    raise self._down(cause, permanent=True)
                pause_s = self._policy.pause_s(self._restarts)
                self._restarts += 1
                log.warning("actor restarts", cause=repr(cause), restarts=self._restarts, pause_s=pause_s)
                await asyncio.sleep(pause_s)
        finally:
            self._answer_the_rest()

    async def wait_ready(self) -> None:
        """Return once `start` has returned."""
        await self._ready.wait()

    async def stop(self, grace_s: float) -> None:
        """Take nothing new, answer what waits, let what is in hand finish for `grace_s`."""
        for envelope in self.mailbox.close(self._stopped):
            envelope.fail(self._stopped())
        if not await self._processor.wait_empty(grace_s):
            log.warning("actor stopped with work in hand", handling=self._processor.in_flight_types())

    def kill(self, reason: str) -> None:
        """Die at once, as if the process had been killed; the supervisor takes over."""
        if self._life is not None and not self._life.done():
            self._kill_reason = reason
            self._life.cancel()

    def abandon(self, envelope: Envelope) -> None:
        """Whoever asked no longer waits: forget the message, or cancel the handling if it has begun."""
        self.mailbox.cancel_wait(envelope)
        self._processor.cancel(envelope)

    def expire(self, envelope: Envelope, timeout_s: float) -> None:
        """The deadline of an ask has passed: say so to the asker and cancel the handling."""
        timeout = AskTimeout(f"{self.name!r} did not answer {envelope.kind} within {timeout_s:g} s")
        if envelope.fail(timeout):
            self.abandon(envelope)

    async def _run_once(self) -> BaseException:
        """One life, from construction to death; returns what it died of."""
        self._kill_reason = ""
        life = self._life = asyncio.create_task(self._live(), name=f"{self.name}-life")
        try:
            await asyncio.wait((life,))
        except asyncio.CancelledError:  # we are being stopped
            life.cancel()
            await asyncio.wait((life,), timeout=CLOSE_S)
            if not life.done():
                log.error(
                    "actor does not let itself be cancelled", handling=self._processor.in_flight_types()
                )
            raise
        finally:
            self._ready.clear()
        if life.cancelled():
            return Killed(self._kill_reason or "its task was cancelled from inside")
        return unwrap_exception_group(life.exception() or RuntimeError("the actor's loop ended by itself"))

    async def _live(self) -> None:
        actor = self._make()
        self._supervision = actor.supervision
        try:
            began = time.monotonic()
            await self._start(actor)
            log.info("actor started", kind=type(actor).__name__, start_s=round(time.monotonic() - began, 3))
            self._actor = actor
            self._ready.set()
            async with asyncio.TaskGroup() as group:
                group.create_task(actor.run(), name=f"{self.name}-run")
                await self._processor.serve(actor, group)
        finally:
            self._actor = None
            await self._close(actor)

    async def _start(self, actor: Actor) -> None:
        limit_s = self._policy.start_timeout_s
        try:
            async with asyncio.timeout(limit_s) as limit:
                await actor.start()
        except TimeoutError:
            if limit.expired():
                raise AskTimeout(f"{self.name!r} did not start within {limit_s:g} s") from None
            raise

    async def _close(self, actor: Actor) -> None:
        """Let the actor finish; an error in that must not hide what it died of."""
        try:
            async with asyncio.timeout(CLOSE_S):
                await actor.aclose()
            log.info("actor closed", handled=self._processor.handled)
        except Exception as error:
            log.warning("actor could not be closed", error=repr(error))

    def _fail_in_flight(self, cause: BaseException) -> None:
        """Tell everyone who waited for the dead actor."""
        handling = ", ".join(self._processor.in_flight_types())
        lost = self._processor.take_in_flight()
        over = f" while handling {handling}" if handling else ""
        self._last_failure = f"{_describe(cause)}{over}"
        for envelope in lost:
            if not envelope.fail(self._down(cause, envelope.kind)) and envelope.reply is None:
                log.error("message lost: the actor died over it", message=envelope.kind)

    def _answer_the_rest(self) -> None:
        gave_up = self._given_up is not None
        left = self.mailbox.close(self._refused if gave_up else self._stopped)
        for envelope in [*self._processor.take_in_flight(), *left]:
            cause = self._given_up
            envelope.fail(self._stopped() if cause is None else self._down(cause, envelope.kind, True))

    def _stopped(self) -> ActorStopped:
        return ActorStopped(self.name)

    def _refused(self) -> ActorDown:
        assert self._given_up is not None
        return self._down(self._given_up, permanent=True)

    def _down(self, cause: BaseException, last: str = "", permanent: bool = False) -> ActorDown:
        down = ActorDown(self.name, _describe(cause), last, permanent=permanent)
        down.__cause__ = cause
        return down


async def wait_until_started(supervised: SupervisedActor, life: asyncio.Task[None], timeout_s: float) -> None:
    """Wait for `start` to return, for the supervisor to give up, or for the time to run out."""
    ready = asyncio.ensure_future(supervised.wait_ready())
    try:
        await asyncio.wait((ready, life), timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if life.done():
            life.result()  # raises ActorDown with the cause
        if not ready.done():
            raise AskTimeout(f"{supervised.name!r} did not start within {timeout_s:g} s")
    finally:
        ready.cancel()


def consume_exception(life: asyncio.Task[None]) -> None:
    """The error of a life that ended is read through `describe`; asyncio need not report it too."""
    if not life.cancelled():
        life.exception()


def _describe(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
