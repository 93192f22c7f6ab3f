"""One event loop's way to one actor on Ray.

Consumes what refs send; produces exchanges; waits for the actor's answers; unblocked by answers,
by each ask's deadline, and by the actor's death.

Invariants:
  - at most two exchanges are under way, so whatever piles up meanwhile travels as one batch;
  - while an ask is unanswered at least one exchange is under way: it brings the answer, or the
    news of the actor's death, without polling;
  - an exchange is sent once. What was in it when the actor died is reported as ActorDown and never
    sent again: whether to redo it is the asker's decision;
  - while the process is away nothing but probes (empty exchanges) is sent: what is in the outbox
    waits there until the actor is back, and asks among it until their deadline.
"""

import asyncio
import itertools
import uuid
from collections import deque
from dataclasses import dataclass
from functools import partial

import ray
import ray.actor
import ray.exceptions
import structlog

from ...configs.errors import AgentFactoryError
from ...messages.base import Message
from ..daemon_thread import in_daemon_thread
from ..errors import ActorDown, ActorStopped, AskTimeout, MailboxFull, TransportError, copy_error
from ..mailbox import PUT_LIMIT_S
from .codec import (
    ORDER_S,
    POLL_S,
    Batch,
    ExchangeReply,
    OutboundMessage,
    RemoteError,
    pack_each,
    unpack_incoming,
)
from .errors import map_ray_error
from .linger import AdaptiveLinger

log = structlog.get_logger("channel")

MAX_EXCHANGES = 2
MAX_BATCH = 512
MAX_BATCH_BYTES = 4 << 20
OUTBOX = 4096
EXCHANGE_LIMIT_S = POLL_S + ORDER_S + 300.0
"""No exchange is waited for longer: its node is lost, or its process blocked for minutes. The asks in
it keep their own deadlines, and the next exchange may still bring their answers."""
PROBE_S = (0.05, 1.0)
"""First and longest pause between probes of a process that is away."""
FIND_S = 2.0
"""How long a name that Ray does not know yet is looked for."""


@dataclass(slots=True)
class _Ask:
    reply: asyncio.Future[Message]
    kind: str
    since: float
    exchange: int = -1
    """The exchange that carried it; -1 while it is in the outbox."""
    process: str = ""
    """The process that has it; empty until the exchange that carried it is back."""


class Channel:
    """Gathers messages and carries them to one named actor."""

    def __init__(self, name: str, ray_name: str, namespace: str, loop: asyncio.AbstractEventLoop) -> None:
        self.name = name
        self.loop = loop
        self._ray_name = ray_name
        self._namespace = namespace
        self._client = uuid.uuid4().hex
        self._numbers = itertools.count()
        self._exchange_numbers = itertools.count()
        self._outbox: deque[OutboundMessage] = deque()
        self._asks: dict[int, _Ask] = {}
        self._cancelled: list[int] = []
        self._room: deque[asyncio.Future[None]] = deque()
        self._under_way: dict[int, asyncio.Task[None]] = {}
        self._flush_planned = False
        self._backpressured = False
        self._disconnected = False
        """Whether the process was lost, and has not been heard of since."""
        self._probe_pause_s = 0.0
        self._bytes_each = MAX_BATCH_BYTES // 64
        self._handle: ray.actor.ActorHandle | None = None
        self._memory_mb = 0
        self._process = ""
        """The one that was heard of last."""
        self._carried: dict[int, list[_Ask]] = {}
        """The asks of each exchange under way."""
        self._linger_time = AdaptiveLinger()
        self._end: ActorDown | ActorStopped | None = None

    def __repr__(self) -> str:
        return (
            f"<Channel {self.name}: {len(self._outbox)} to send, {len(self._asks)} unanswered, "
            f"{len(self._under_way)} exchanges>"
        )

    async def tell(self, message: Message) -> None:
        """Queue the message; waits while the outbox is full. Raises MailboxFull after `PUT_LIMIT_S`."""
        if len(self._outbox) >= OUTBOX or self._end is not None:
            await self._wait_for_room()
        self._queue(OutboundMessage(next(self._numbers), None, message))

    async def ask(self, message: Message, timeout_s: float) -> Message:
        """Queue the message and wait for its answer."""
        number = next(self._numbers)
        ask = self._asks[number] = _Ask(self.loop.create_future(), type(message).__name__, self.loop.time())
        timer = self.loop.call_later(timeout_s, self._expire, ask, timeout_s)
        try:
            if self._end is not None:
                raise self._ending(ask.kind)
            self._queue(OutboundMessage(number, timeout_s, message))
            return await ask.reply
        finally:
            timer.cancel()
            if self._asks.pop(number, None) is not None and ask.exchange >= 0 and self._waits(ask):
                self._cancelled.append(number)
                self._plan_flush()

    def close(self) -> None:
        """End: the actor has been stopped, or this process is done with it."""
        self._finish(ActorStopped(self.name))
        for task in self._under_way.values():
            task.cancel()

    async def flush(self) -> None:
        """Return once everything told so far has left this process, and the other side has it."""
        while self._outbox and self._end is None:
            await asyncio.wait(self._under_way.values() or (asyncio.create_task(asyncio.sleep(0)),))
        if self._under_way:
            await asyncio.wait(self._under_way.values())

    @staticmethod
    def _waits(ask: _Ask) -> bool:
        """Whether the other side may still be working on it: no answer came, and no news of its death."""
        if not ask.reply.done() or ask.reply.cancelled():
            return True
        return isinstance(ask.reply.exception(), AskTimeout)

    def _queue(self, item: OutboundMessage) -> None:
        self._outbox.append(item)
        if not self._flush_planned:
            self._plan_flush()

    async def _wait_for_room(self) -> None:
        while len(self._outbox) >= OUTBOX and self._end is None:
            room: asyncio.Future[None] = self.loop.create_future()
            self._room.append(room)
            try:
                async with asyncio.timeout(PUT_LIMIT_S):
                    await room
            except (asyncio.CancelledError, TimeoutError) as error:
                self._wake_senders()  # pass the place on to the next in line
                if isinstance(error, TimeoutError):
                    raise MailboxFull(f"{self.name!r} has made no room within {PUT_LIMIT_S:g} s") from None
                raise
        if self._end is not None:
            raise self._ending("")

    def _wake_senders(self) -> None:
        count = len(self._room) if self._end is not None else OUTBOX - len(self._outbox)
        while self._room and count > 0:
            room = self._room.popleft()
            if not room.done():
                room.set_result(None)
                count -= 1

    def _plan_flush(self) -> None:
        """Flush at the end of this turn of the loop, so that all that it sends goes together.

        While an exchange is under way, a little later: what trickles in shares a Ray call.
        """
        if self._flush_planned or self.loop.is_closed():
            return
        self._flush_planned = True
        if self._under_way:
            self.loop.call_later(self._linger_time.linger_s, self._flush)
        else:
            self.loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_planned = False
        if self._end is not None or not self._may_exchange():
            return
        number = next(self._exchange_numbers)
        items = [] if self._backpressured or self._disconnected else self._next_items(number)
        after = max(self._under_way, default=-1)
        task = asyncio.create_task(self._exchange(number, after, items), name=f"exchange-{self.name}")
        self._under_way[number] = task
        task.add_done_callback(lambda _: self._exchange_done(number))
        if self._outbox:
            self._plan_flush()

    def _may_exchange(self) -> bool:
        """Decides whether there is anything to send, or to wait for, and leave to do so."""
        under_way = len(self._under_way)
        if self._disconnected:
            return under_way == 0 and bool(self._outbox)
        if under_way >= MAX_EXCHANGES:
            return False
        if self._cancelled or (self._outbox and not self._backpressured):
            return True
        return under_way == 0 and (self._backpressured or self._awaiting())

    def _awaiting(self) -> bool:
        return any(ask.exchange >= 0 for ask in self._asks.values())

    def _next_items(self, exchange: int) -> list[OutboundMessage]:
        items: list[OutboundMessage] = []
        carried = self._carried[exchange] = []
        limit = min(MAX_BATCH, max(1, MAX_BATCH_BYTES // self._bytes_each))
        while self._outbox and len(items) < limit:
            item = self._outbox.popleft()
            if item.timeout_s is not None:
                ask = self._asks.get(item.number)
                if ask is None:
                    continue  # the asker gave up before it was sent
                ask.exchange = exchange
                carried.append(ask)
            items.append(item)
        if self._room:
            self._wake_senders()
        return items

    async def _exchange(self, number: int, after: int, items: list[OutboundMessage]) -> None:
        cancelled, self._cancelled = tuple(self._cancelled), []
        try:
            batch = Batch(number, after, self._packed(items), cancelled)
            async with asyncio.timeout(EXCHANGE_LIMIT_S):
                handle = await self._find()
                result: ExchangeReply = await handle.exchange.remote(self._client, batch)
            self._received(number, result)
        except TimeoutError:
            log.error("exchange given up", actor=self.name, messages=len(items), after_s=EXCHANGE_LIMIT_S)
        except Exception as error:
            self._exchange_failed(number, items, map_ray_error(error, self.name, self._memory_mb))

    def _packed(self, items: list[OutboundMessage]) -> bytes:
        """One pickle. A message that cannot be pickled is left out, and its asker is told."""
        if not items:
            return b""
        data = pack_each(items, self._unpicklable)
        self._bytes_each = max(1, len(data) // max(1, len(items)))
        return data

    def _unpicklable(self, item: OutboundMessage, error: Exception) -> None:
        kind = type(item.message).__name__
        fault = TransportError(f"{kind} cannot be sent to {self.name!r}: it cannot be pickled: {error}")
        fault.__cause__ = error
        ask = self._asks.get(item.number)
        if ask is None:
            log.error("message lost", error=str(fault))
        elif not ask.reply.done():
            ask.reply.set_exception(fault)

    def _received(self, number: int, result: ExchangeReply) -> None:
        self._memory_mb = result.memory_mb
        self._backpressured = result.backpressured
        self._disconnected, self._probe_pause_s = False, 0.0
        if result.answers:
            for answered, answer in unpack_incoming(result.answers):
                ask = self._asks.get(answered)
                if ask is None or ask.reply.done():
                    continue
                self._linger_time.answered(self.loop.time() - ask.since)
                if isinstance(answer, RemoteError):
                    ask.reply.set_exception(self._informed(answer.unwrap()))
                else:
                    ask.reply.set_result(answer)
        for ask in self._carried.get(number, ()):
            ask.process = result.process
        if result.process != self._process:
            self._process = result.process
            for ask in self._asks.values():
                if ask.process and ask.process != result.process and not ask.reply.done():
                    lost = ActorDown(self.name, "its process was lost", ask.kind, self._memory_mb)
                    ask.reply.set_exception(lost)  # it died, and came back, between two exchanges

    def _informed(self, error: BaseException) -> BaseException:
        if isinstance(error, ActorDown) and error.actor == self.name:
            error.memory_mb = self._memory_mb
        return error

    def _exchange_failed(self, number: int, items: list[OutboundMessage], error: AgentFactoryError) -> None:
        """Tell whoever is concerned: the batch's askers, or everyone whose message the dead process had."""
        tells = sum(item.timeout_s is None for item in items)
        if tells:
            log.error("messages lost", actor=self.name, count=tells, error=str(error))
        died = isinstance(error, ActorDown | ActorStopped)
        for ask in self._asks.values():
            if (ask.exchange == number or (died and ask.exchange >= 0)) and not ask.reply.done():
                ask.reply.set_exception(_for_asker(error, ask.kind))
        self._backpressured = False
        self._disconnected = died
        if isinstance(error, ActorStopped) or (isinstance(error, ActorDown) and error.permanent):
            self._finish(error)

    def _finish(self, error: ActorDown | ActorStopped) -> None:
        self._end = error
        for ask in self._asks.values():
            if not ask.reply.done():
                ask.reply.set_exception(self._ending(ask.kind))
        tells = sum(item.timeout_s is None for item in self._outbox)
        if tells:
            log.error("messages lost", actor=self.name, count=tells, error=str(error))
        self._outbox.clear()
        self._wake_senders()

    def _ending(self, kind: str) -> AgentFactoryError:
        assert self._end is not None
        return _for_asker(self._end, kind)

    def _exchange_done(self, number: int) -> None:
        del self._under_way[number]
        self._carried.pop(number, None)
        if not self._disconnected:
            self._plan_flush()
        elif not self._under_way:
            self.loop.call_later(self._probe_pause_s, self._plan_flush)
            self._probe_pause_s = min(PROBE_S[1], max(PROBE_S[0], 2 * self._probe_pause_s))

    def _expire(self, ask: _Ask, timeout_s: float) -> None:
        if not ask.reply.done():
            message = f"{self.name!r} did not answer {ask.kind} within {timeout_s:g} s"
            ask.reply.set_exception(AskTimeout(message))

    async def _find(self) -> ray.actor.ActorHandle:
        """The actor's handle, looked up by name once (a blocking call, so in a thread)."""
        patience = self.loop.time() + FIND_S
        find = partial(ray.get_actor, self._ray_name, self._namespace)
        while self._handle is None:
            try:
                self._handle = await in_daemon_thread(find)
            except ValueError:
                if self.loop.time() > patience:
                    raise
                await asyncio.sleep(FIND_S / 20)
        return self._handle


def _for_asker(error: AgentFactoryError, kind: str) -> AgentFactoryError:
    return error.over(kind) if isinstance(error, ActorDown) else copy_error(error)
