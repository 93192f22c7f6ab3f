"""A client's requests under way: which endpoint takes which, until when, and what becomes of them.

All is decided synchronously: a request is sent, or stands in line; what makes room (an answer, an endpoint
that comes up) sends what stands in line. An answer is a REPLY, an error, or the first message of a stream.

Invariants:
  - requests have all the same limit, so `_calls` is in the order of their deadlines;
  - a request whose asker has gone keeps its place until its answer or its deadline: the bridge counts it;
  - a lost link's requests that may be repeated go to the head of the line, the others fail.
"""

import asyncio
import itertools
import random
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

import structlog

from ..configs.data import BridgeSettings
from . import wire
from .errors import BridgeDown, SeparateStores
from .frames import Buffer, Packed
from .link import Keys, Link
from .transfers import LinkLost, Transfer
from .wire import Kind
from .zeromq import zmq

log = structlog.get_logger("bridge")

SETTLE_S = 1.0
OTHER_STORE_S = 1.0
"""Before an endpoint with a bridge of another store is tried again."""
BACK_OFF_S = 0.02
"""After Busy, and half as much more at random."""
MAX_TICK_S = 0.25
LINGER_MS = 500
"""At the end: for what the bridge should know (which streams are not wanted any more)."""


class Answer(NamedTuple):
    """What came of a request."""

    words: bytes
    body: Buffer
    transfer: Transfer | None
    """The stream that it opened."""


@dataclass(slots=True, eq=False)
class Call:
    """A request, until it is answered."""

    number: int
    message: Packed
    repeat: bool
    """Whether it may be done twice."""
    deadline: float
    answer: asyncio.Future[Answer]
    link: Link | None = None


class Dispatcher:
    """Sends requests to the endpoints that are up."""

    def __init__(
        self, settings: BridgeSettings, context: "zmq.Context[zmq.Socket[bytes]]", name: str, keys: Keys
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._request_s = settings.request_timeout_ms / 1000
        self._connect_s = settings.connect_timeout_ms / 1000
        self._calls: dict[int, Call] = {}
        self._line: deque[Call] = deque()
        self._transfers: dict[int, Transfer] = {}
        self._numbers = itertools.count(1)
        self._turn = 0
        self._was_up = False
        """Whether any endpoint has ever answered."""
        self._kept_alive_at = 0.0
        self._closed = False
        self._refusal = ""
        """Why nothing is asked any more; empty while it is."""
        self.store_id = settings.store_id
        self._store_at = ""
        """Which endpoint said so first."""
        self._tried = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._links = [Link(context, endpoint, name, keys, self) for endpoint in settings.endpoints]

    def __repr__(self) -> str:
        return (
            f"<Dispatcher: {len(self._calls)} requests ({len(self._line)} in line), "
            f"{len(self._transfers)} streams, {self._links}>"
        )

    def ask(
        self, kind: Kind, words: bytes, body: Buffer = b"", repeat: bool = True
    ) -> asyncio.Future[Answer]:
        """Send a request, or put it in line. Fails with BridgeDown, or what the bridge answers."""
        if self._refusal:
            raise SeparateStores(self._refusal)
        if self._closed:
            raise BridgeDown("this client is closed")
        number = next(self._numbers)
        message = wire.pack_raw(kind, number, words, body)
        now = self._loop.time()
        answer: asyncio.Future[Answer] = self._loop.create_future()
        call = Call(number, message, repeat, now + self._request_s, answer)
        self._calls[number] = call
        if self._line or not self._send(call):
            self._line.append(call)
        if self._timer is None:
            self._start_timer()
        return answer

    async def settle(self) -> None:
        """Wait until it is known of each endpoint whether a bridge answers, `SETTLE_S` at most.

        Raises SeparateStores, before anything has gone to one store that would be looked for in another.
        """
        if len(self._links) > 1:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._tried.wait(), SETTLE_S)
        if self._refusal:
            raise SeparateStores(self._refusal)

    def end(self, transfer: Transfer) -> None:
        """Forget a stream; the bridge is told, if it still knows of it."""
        if self._transfers.pop(transfer.number, None) is None:
            return
        transfer.send(Kind.ABORT)
        transfer.open = False
        self._made_room(transfer.link)

    def close(self) -> None:
        """Fail all that is under way, and let go of the sockets."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for transfer in self._transfers.values():
            transfer.send(Kind.ABORT)
        for link in self._links:
            link.close(LINGER_MS if link.welcome else 0)
        self._fail_all(BridgeDown("the client was closed while this was under way"))

    def _fail_all(self, error: Exception) -> None:
        for call in self._calls.values():
            _fail(call, error)
        for transfer in self._transfers.values():
            transfer.fail(error)
        self._calls.clear()
        self._line.clear()
        self._transfers.clear()

    # what links tell

    def on_message(self, link: Link, head: wire.Head, body: Buffer) -> None:
        """An answer, or a message about a stream."""
        call = self._calls.get(head.correlation)
        if call is None:
            transfer = self._transfers.get(head.correlation)
            if transfer is not None:
                transfer.receive(head, body)
            elif head.kind is Kind.CHUNK or head.kind is Kind.CREDIT:
                link.send(wire.pack_raw(Kind.ABORT, head.correlation, b""))
            return
        if head.kind is Kind.REPLY:
            self._finish(call, link)
            if not call.answer.done():
                call.answer.set_result(Answer(head.words, body, None))
        elif head.kind is Kind.ERROR:
            self._failed(call, link, wire.error_of(head.words))
        else:
            self._opened(call, link, head, body)

    def on_tried(self, link: Link) -> None:
        """It is known whether an endpoint answers."""
        if all(each.tried for each in self._links):
            self._tried.set()

    def on_up(self, link: Link) -> None:
        """An endpoint answers. Only those of one store are spoken to."""
        assert link.welcome is not None
        store_id = link.welcome.store_id
        if self.store_id not in ("", store_id):
            self._tell_apart(link)
            return
        self.store_id, self._store_at = store_id, self._store_at or link.endpoint
        log.info("a bridge answers", endpoint=link.endpoint)
        self._was_up = True
        self.on_tried(link)
        self._send_line()

    def _tell_apart(self, link: Link) -> None:
        """A bridge of another store answers; of several, nobody can tell which is meant."""
        if len(self._links) == 1:
            link.lose("a bridge of another store answers there", OTHER_STORE_S)
            return
        first = self._store_at or "the store that is meant"
        self._refusal = (
            f"{first} and {link.endpoint} have different stores, and what goes into one is not found in the "
            "other; name one of them, or bridges that share a store"
        )
        for each in self._links:
            each.close()
        self._fail_all(SeparateStores(self._refusal))
        self._tried.set()

    def on_down(self, link: Link) -> None:
        """An endpoint is lost, with all that was under way there."""
        lost = [call for call in self._calls.values() if call.link is link]
        for call in reversed(lost):
            call.link = None
            if call.repeat and not call.answer.done():
                self._line.appendleft(call)
            else:
                del self._calls[call.number]
                _fail(call, LinkLost(f"{link.endpoint}: {link.why}; this request may have been done or not"))
        for transfer in [t for t in self._transfers.values() if t.link is link]:
            del self._transfers[transfer.number]
            transfer.fail(LinkLost(f"{link.endpoint}: {link.why} in the middle of a stream"))
        self._send_line()

    # decisions

    def _send(self, call: Call) -> bool:
        """Send to the next endpoint that is up and has room; whether there is one."""
        for _ in range(len(self._links)):
            self._turn = (self._turn + 1) % len(self._links)
            link = self._links[self._turn]
            if link.has_room:
                link.in_flight += 1
                call.link = link
                link.send(call.message)
                return True
        return False

    def _send_line(self) -> None:
        while self._line:
            call = self._line[0]
            if not call.answer.done() and call.number in self._calls and not self._send(call):
                return
            self._line.popleft()
            if call.link is None:
                self._calls.pop(call.number, None)  # its asker has gone

    def _finish(self, call: Call, link: Link) -> None:
        del self._calls[call.number]
        self._made_room(link)

    def _made_room(self, link: Link) -> None:
        link.in_flight = max(0, link.in_flight - 1)
        if self._line:
            self._send_line()

    def _opened(self, call: Call, link: Link, head: wire.Head, body: Buffer) -> None:
        """The first message of a stream."""
        del self._calls[call.number]
        transfer = Transfer(call.number, link, self._request_s)
        transfer.receive(head, body)
        self._transfers[call.number] = transfer
        if call.answer.done():
            self.end(transfer)
        else:
            call.answer.set_result(Answer(head.words, body, transfer))

    def _failed(self, call: Call, link: Link, error: Exception) -> None:
        call.link = None
        if isinstance(error, wire.Busy):
            link.in_flight -= 1
            delay = BACK_OFF_S * (1 + random.random() / 2)
            self._loop.call_later(delay, self._again, call)
        elif isinstance(error, wire.Closing):
            link.in_flight -= 1
            link.retire()
            self._line.appendleft(call)
            self._send_line()
        else:
            self._finish(call, link)
            _fail(call, error)

    def _again(self, call: Call) -> None:
        """Nothing was done of it: ask once more, unless its time is over."""
        if call.number in self._calls and call.link is None:
            self._line.append(call)
            self._send_line()

    # time

    def _start_timer(self) -> None:
        delay = min(MAX_TICK_S, self._request_s / 8, self._connect_s / 8)
        self._timer = self._loop.call_later(delay, self._tick)

    def _tick(self) -> None:
        self._timer = None
        now = self._loop.time()
        self._expire(now)
        self._expire_line(now)
        self._keep_alive(now)
        if self._calls or self._transfers:
            self._start_timer()

    def _expire(self, now: float) -> None:
        """Requests whose time is over. An endpoint that has said nothing all the while is lost."""
        late: list[Call] = []
        for call in self._calls.values():
            if call.deadline > now:
                break
            late.append(call)
        silent: set[Link] = set()
        for call in late:
            del self._calls[call.number]
            if call.link is None:
                _fail(call, self._nobody_answers(self._request_s))
                continue
            self._made_room(call.link)
            if call.link.heard_at < call.deadline - self._request_s:
                silent.add(call.link)
            _fail(call, BridgeDown(f"{call.link.endpoint}: no answer within {self._request_s:g} s"))
        for link in silent:
            link.lose(f"no answer within {self._request_s:g} s")

    def _expire_line(self, now: float) -> None:
        """While no endpoint has ever been up, nobody waits longer than for a connection.

        One that was up and went away is being started again, which takes a busy machine long: for that a
        request waits its whole time.
        """
        if self._was_up:
            return
        waiting = [c for c in self._line if c.deadline - self._request_s + self._connect_s <= now]
        for call in waiting:
            self._line.remove(call)
            self._calls.pop(call.number, None)
            _fail(call, self._nobody_answers(self._connect_s))

    def _nobody_answers(self, limit_s: float) -> BridgeDown:
        reasons = "; ".join(f"{link.endpoint}: {link.why}" for link in self._links)
        return BridgeDown(f"no bridge answers within {limit_s:g} s ({reasons})")

    def _keep_alive(self, now: float) -> None:
        """Tell each bridge which streams are still wanted, several times in a lease."""
        for link in self._links:
            if link.welcome is None or now - self._kept_alive_at < link.welcome.lease_s / 4:
                continue
            self._kept_alive_at = now
            numbers = tuple(t.number for t in self._transfers.values() if t.link is link and t.open)
            if numbers:
                link.send(wire.pack(Kind.KEEPALIVE, 0, wire.KeepAlive(streams=numbers)))


def _fail(call: Call, error: Exception) -> None:
    if not call.answer.done():
        call.answer.set_exception(error)
