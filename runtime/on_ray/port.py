"""One client's side of an actor's host: its asks in flight, and the answers that are ready.

Invariants:
  - a client's messages enter the mailbox in the order in which it sent them;
  - what does not fit stands in line at the mailbox, and the client is told to hold back, so a port
    never holds more than the two batches that a client has under way;
  - an exchange comes back after `POLL_S` at the latest, whatever the actor does.
"""

import asyncio
import time
from functools import partial

import structlog

from ...configs.errors import AgentFactoryError
from ...messages.base import Message
from ..cell import Cell
from ..envelope import Envelope
from ..errors import TransportError
from .failure import Failure
from .pace import Pace
from .wire import Batch, Incoming, Outgoing, pack, unpack_outgoing

log = structlog.get_logger("host")

POLL_S = 10.0
"""An exchange with nothing to bring comes back after this long."""
ORDER_S = 2.0
"""How long a batch waits for the one before it; that one is lost if it takes longer."""


class Port:
    """Takes one client's batches, and collects its answers."""

    def __init__(self, cell: Cell) -> None:
        self.used_at = time.monotonic()
        self._cell = cell
        self._open: dict[int, Envelope] = {}
        self._pace = Pace()
        self._ready: list[Incoming] = []
        self._in_line = 0
        self._greeted = False
        self._arrived = -1
        self._news: asyncio.Future[None] | None = None
        self._turn = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Port: {len(self._open)} open, {len(self._ready)} ready, {self._in_line} in line>"

    @property
    def idle(self) -> bool:
        """Whether the client has nothing here."""
        return not (self._open or self._ready or self._in_line)

    @property
    def held(self) -> bool:
        """Whether the client must hold back."""
        return self._in_line > 0

    async def deliver(self, batch: Batch) -> None:
        """Put a batch into the mailbox; what does not fit stands in line."""
        self.used_at = time.monotonic()
        await self._wait_for_turn(batch.after)
        self._tell_news()  # an older exchange that waits goes home: this one waits in its place
        if batch.messages:
            for item in unpack_outgoing(batch.messages):
                self._accept(item)
        self._arrived = max(self._arrived, batch.number)
        self._turn.set()
        for number in batch.given_up:
            envelope = self._open.get(number)
            if envelope is not None and envelope.reply is not None:
                envelope.reply.cancel()
                self._cell.abandon(envelope)

    async def collect(self) -> bytes:
        """The answers that are ready; waits for the first, or for room, while there is reason to.

        The very first exchange never waits: the client learns at once which process it talks to, and
        how large that is, and can say so if it dies over the first message.
        """
        first, self._greeted = not self._greeted, True
        if not (first or self._ready) and (self._open or self._in_line):
            news = self._news = asyncio.get_running_loop().create_future()
            await asyncio.wait((news,), timeout=POLL_S)
            await self._linger()
        ready, self._ready = self._ready, []
        return pack_answers(ready) if ready else b""

    async def _linger(self) -> None:
        """Let answers that are about to be ready come along: a Ray call costs more than the wait."""
        loop = asyncio.get_running_loop()
        until = loop.time() + self._pace.linger_s
        await asyncio.sleep(0)  # what becomes ready in this turn of the loop
        while self._ready and self._open and (left := until - loop.time()) > 0:
            news = self._news = loop.create_future()
            await asyncio.wait((news,), timeout=left)

    async def _wait_for_turn(self, after: int) -> None:
        try:
            async with asyncio.timeout(ORDER_S):
                while self._arrived < after:
                    self._turn.clear()
                    await self._turn.wait()
        except TimeoutError:
            log.warning("a batch has been lost", batch=after)

    def _accept(self, item: Outgoing) -> None:
        reply: asyncio.Future[Message] | None = None
        if item.timeout_s is not None:
            loop = asyncio.get_running_loop()
            reply = loop.create_future()
        envelope = Envelope(item.message, reply)
        try:
            place = self._cell.mailbox.line_up(envelope)
        except AgentFactoryError as error:
            if reply is None:
                log.warning("message lost: the actor has ended", message=envelope.kind)
            else:
                self._ready.append(Incoming(item.number, Failure.of(error)))
            return
        if place is not None:
            self._in_line += 1
            place.add_done_callback(self._admitted)
        if reply is not None and item.timeout_s is not None:
            timer = loop.call_later(item.timeout_s, self._cell.expire, envelope, item.timeout_s)
            self._open[item.number] = envelope
            reply.add_done_callback(partial(self._answered, item.number, timer, loop.time()))

    def _admitted(self, place: asyncio.Future[None]) -> None:
        if not place.cancelled() and place.exception() is not None:  # a tell: nobody else hears of it
            log.warning("message lost: the actor has ended")
        self._in_line -= 1
        if not self._in_line:
            self._tell_news()

    def _answered(
        self, number: int, timer: asyncio.TimerHandle, since: float, reply: asyncio.Future[Message]
    ) -> None:
        """An ask is done, well or badly."""
        timer.cancel()
        self._pace.answered(asyncio.get_running_loop().time() - since)
        self._open.pop(number, None)
        if reply.cancelled():
            return
        error = reply.exception()
        self._ready.append(Incoming(number, Failure.of(error) if error else reply.result()))
        self._tell_news()

    def _tell_news(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)


def pack_answers(answers: list[Incoming]) -> bytes:
    """Pack; an answer that cannot be pickled becomes the error that says so."""
    try:
        return pack(answers)
    except Exception:  # any __reduce__ may raise anything; found below, one by one
        return pack([_packable(answer) for answer in answers])


def _packable(item: Incoming) -> Incoming:
    try:
        pack([item])
    except Exception as error:
        fault = TransportError(f"the answer {type(item.answer).__name__} cannot be pickled: {error}")
        return Incoming(item.number, Failure.of(fault))
    return item
