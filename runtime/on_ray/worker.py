"""The Ray actor that a supervised actor of ours lives in, and its inbox for each client.

Consumes exchanges and control calls; produces answers; waits for the actor; an exchange is unblocked by
the first answer, by the client's next exchange, or after `POLL_S`.

Invariants:
  - a client's messages enter the mailbox in the order in which it sent them;
  - what does not fit waits for admission, and the client is told to hold back (backpressure), so an
    inbox never holds more than the two batches that a client has under way;
  - an exchange comes back after `POLL_S` at the latest, whatever the actor does.
"""

import asyncio
import os
import time
import uuid
from functools import partial

import psutil
import structlog

from ...configs.errors import AgentFactoryError
from ...messages.base import Message
from ..errors import TransportError
from ..mailbox import Envelope
from ..supervised_actor import CLOSE_S, RestartPolicy, SupervisedActor, consume_exception, wait_until_started
from ..telemetry import LogSettings, Metrics, configure_logging
from ..transport import ProcessStatistics, SpawnSpec
from ..watchdog import EventLoopWatchdog
from .codec import (
    ORDER_S,
    POLL_S,
    Batch,
    ExchangeReply,
    InboundReply,
    OutboundMessage,
    RemoteError,
    pack_each,
    unpack_outgoing,
)
from .linger import AdaptiveLinger
from .link import flush_channels

log = structlog.get_logger("host")


class ClientInbox:
    """Takes one client's batches, and collects its answers."""

    def __init__(self, supervised: SupervisedActor) -> None:
        self.used_at = time.monotonic()
        self._supervised = supervised
        self._open: dict[int, Envelope] = {}
        self._linger_time = AdaptiveLinger()
        self._ready: list[InboundReply] = []
        self._in_line = 0
        self._first_exchange_done = False
        self._arrived = -1
        self._poller: asyncio.Future[None] | None = None
        self._batch_arrived = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Port: {len(self._open)} open, {len(self._ready)} ready, {self._in_line} in line>"

    @property
    def idle(self) -> bool:
        """Whether the client has nothing here."""
        return not (self._open or self._ready or self._in_line)

    @property
    def backpressured(self) -> bool:
        """Whether the client must hold back."""
        return self._in_line > 0

    async def deliver(self, batch: Batch) -> None:
        """Put a batch into the mailbox; what does not fit stands in line."""
        self.used_at = time.monotonic()
        await self._wait_for_turn(batch.after)
        self._wake_poller()  # an older exchange that waits goes home: this one waits in its place
        if batch.messages:
            for item in unpack_outgoing(batch.messages):
                self._accept(item)
        self._arrived = max(self._arrived, batch.number)
        self._batch_arrived.set()
        for number in batch.cancelled:
            envelope = self._open.get(number)
            if envelope is not None and envelope.reply is not None:
                envelope.reply.cancel()
                self._supervised.abandon(envelope)

    async def collect(self) -> bytes:
        """The answers that are ready; waits for the first, or for room, while there is reason to.

        The very first exchange never waits: the client learns at once which process it talks to, and
        how large that is, and can say so if it dies over the first message.
        """
        first, self._first_exchange_done = not self._first_exchange_done, True
        if not (first or self._ready) and (self._open or self._in_line):
            poller = self._poller = asyncio.get_running_loop().create_future()
            await asyncio.wait((poller,), timeout=POLL_S)
            await self._linger()
        ready, self._ready = self._ready, []
        return pack_answers(ready) if ready else b""

    async def _linger(self) -> None:
        """Let answers that are about to be ready come along: a Ray call costs more than the wait."""
        loop = asyncio.get_running_loop()
        until = loop.time() + self._linger_time.linger_s
        await asyncio.sleep(0)  # what becomes ready in this turn of the loop
        while self._ready and self._open and (left := until - loop.time()) > 0:
            poller = self._poller = loop.create_future()
            await asyncio.wait((poller,), timeout=left)

    async def _wait_for_turn(self, after: int) -> None:
        try:
            async with asyncio.timeout(ORDER_S):
                while self._arrived < after:
                    self._batch_arrived.clear()
                    await self._batch_arrived.wait()
        except TimeoutError:
            log.warning("a batch has been lost", batch=after)

    def _accept(self, item: OutboundMessage) -> None:
        reply: asyncio.Future[Message] | None = None
        if item.timeout_s is not None:
            loop = asyncio.get_running_loop()
            reply = loop.create_future()
        envelope = Envelope(item.message, reply)
        try:
            place = self._supervised.mailbox.enqueue_or_wait(envelope)
        except AgentFactoryError as error:
            if reply is None:
                log.warning("message lost: the actor has ended", message=envelope.kind)
            else:
                self._ready.append(InboundReply(item.number, RemoteError.of(error)))
            return
        if place is not None:
            self._in_line += 1
            place.add_done_callback(self._admitted)
        if reply is not None and item.timeout_s is not None:
            timer = loop.call_later(item.timeout_s, self._supervised.expire, envelope, item.timeout_s)
            self._open[item.number] = envelope
            reply.add_done_callback(partial(self._answered, item.number, timer, loop.time()))

    def _admitted(self, place: asyncio.Future[None]) -> None:
        if not place.cancelled() and place.exception() is not None:  # a tell: nobody else hears of it
            log.warning("message lost: the actor has ended")
        self._in_line -= 1
        if not self._in_line:
            self._wake_poller()

    def _answered(
        self, number: int, timer: asyncio.TimerHandle, since: float, reply: asyncio.Future[Message]
    ) -> None:
        """An ask is done, well or badly."""
        timer.cancel()
        self._linger_time.answered(asyncio.get_running_loop().time() - since)
        self._open.pop(number, None)
        if reply.cancelled():
            return
        error = reply.exception()
        self._ready.append(InboundReply(number, RemoteError.of(error) if error else reply.result()))
        self._wake_poller()

    def _wake_poller(self) -> None:
        if self._poller is not None and not self._poller.done():
            self._poller.set_result(None)


def pack_answers(answers: list[InboundReply]) -> bytes:
    """Pack; an answer that cannot be pickled becomes the error that says so."""
    return pack_each(answers, _unpicklable)


def _unpicklable(item: InboundReply, error: Exception) -> InboundReply:
    fault = TransportError(f"the answer {type(item.answer).__name__} cannot be pickled: {error}")
    return InboundReply(item.number, RemoteError.of(fault))


IDLE_PORT_S = 600.0
MEMORY_LOOK_S = 0.5
FLUSH_S = 1.0
"""Time for the actor's last messages to leave the process before whoever stopped it kills it."""
REPLY_S = 0.05
"""Time for the last answers to do so: their exchanges have been released."""


class ActorHost:
    """Hosts one supervised actor. Ray restarts the process; the supervisor restarts the actor inside it."""

    def __init__(self, spec: SpawnSpec, logging: LogSettings, stall_s: float) -> None:
        configure_logging(logging, actor=spec.name)
        policy = RestartPolicy(spec.max_restarts, spec.backoff_s, spec.start_timeout_s)
        self._supervised = SupervisedActor(spec.name, lambda: spec.actor(*spec.args), spec.mailbox, policy)
        self._start_timeout_s = spec.start_timeout_s
        self._metrics = Metrics(spec.name)
        self._ports: dict[str, ClientInbox] = {}
        self._watch = EventLoopWatchdog(stall_s)
        self._process = psutil.Process()
        self._name = uuid.uuid4().hex
        self._memory_mb = 0
        self._memory_seen_at = 0.0
        self._life: asyncio.Task[None] | None = None

    async def wait_ready(self) -> RemoteError | None:
        """Return once the actor has started, or with the error if it cannot (Ray would drop its cause)."""
        try:
            await wait_until_started(self._supervised, self._live(), self._start_timeout_s)
        except AgentFactoryError as error:
            return RemoteError.of(error)
        return None

    async def exchange(self, client: str, batch: Batch) -> ExchangeReply:
        """Deliver a batch, and bring back the answers that are ready."""
        self._live()
        port = self._port(client)
        await port.deliver(batch)
        answers = await port.collect()
        return ExchangeReply(answers, port.backpressured, self._name, self._memory())

    async def describe(self) -> ProcessStatistics | RemoteError:
        """What the actor is doing, or why the supervisor gave up on it; Ray's metrics hear of it, too."""
        self._live()
        gave_up = self._supervised.terminal_error()
        if gave_up is not None:
            return RemoteError.of(gave_up)
        lag_ms = self._watch.worst_lag_ms()
        self._metrics.take({**self._supervised.measures(), "memory_mb": self._memory(), "lag_ms": lag_ms})
        self._metrics.export()
        return ProcessStatistics(self._supervised.statistics(), os.getpid(), self._memory(), lag_ms)

    async def stop(self, grace_s: float) -> None:
        """Let what is in hand finish, answer the rest, close the actor."""
        life = self._live()
        await self._supervised.stop(grace_s)
        seen = self._supervised.statistics()
        log.info("actor stopped", handled=seen.handled, restarts=seen.restarts, memory_mb=self._memory())
        life.cancel()
        await asyncio.wait((life,), timeout=2 * CLOSE_S)
        await self._watch.aclose()
        await flush_channels(FLUSH_S)
        await asyncio.sleep(REPLY_S)

    def _live(self) -> asyncio.Task[None]:
        """The actor's life; begun by the first call, since `__init__` has no running loop."""
        if self._life is None:
            self._watch.start()
            self._life = asyncio.create_task(self._supervised.run(), name=self._supervised.name)
            self._life.add_done_callback(consume_exception)
        return self._life

    def _port(self, client: str) -> ClientInbox:
        port = self._ports.get(client)
        if port is None:
            forget_before = time.monotonic() - IDLE_PORT_S
            for other in [name for name, p in self._ports.items() if p.idle and p.used_at < forget_before]:
                del self._ports[other]
            port = self._ports[client] = ClientInbox(self._supervised)
        return port

    def _memory(self) -> int:
        """Resident memory in MB, at most half a second old: looking costs as much as a message."""
        now = time.monotonic()
        if now - self._memory_seen_at > MEMORY_LOOK_S:
            self._memory_mb, self._memory_seen_at = self._process.memory_info().rss >> 20, now
        return self._memory_mb
