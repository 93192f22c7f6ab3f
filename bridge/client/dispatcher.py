"""Dispatch of a client's requests to endpoints: queue, round robin, deadlines, retries.

All is decided synchronously: a request is sent or queued; what makes room (an answer, an endpoint that comes
up) sends from the queue. An answer is a REPLY, an error, or the first message of a stream.

Invariants:
  - requests have all the same limit, so `_requests` is in the order of their deadlines;
  - a cancelled request keeps its place until its answer or its deadline: the bridge counts it;
  - a lost connection's idempotent requests go to the head of the queue, the others fail.
"""

import asyncio
import itertools
import random
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

import structlog

from ...configs.data import BridgeSettings
from ...configs.errors import BadInput
from .. import wire
from ..errors import BridgeDown
from ..frames import Buffer, Header, MessageKind, Packet, pack_encoded, pack_message, zmq
from .connection import ClientStream, Connection, ConnectionLost, CurveKeys

log = structlog.get_logger("bridge")

SETTLE_S = 1.0
OTHER_STORE_S = 1.0
"""Before an endpoint with a bridge of another store is tried again."""
BACKOFF_S = 0.02
"""After Busy, and half as much more at random."""
MAX_TICK_S = 0.25
LINGER_MS = 500
"""At the end: for what the bridge should know (which streams are not wanted any more)."""


class Response(NamedTuple):
    """Answer to a request."""

    words: bytes
    body: Buffer
    stream: ClientStream | None
    """The stream that it opened."""


@dataclass(slots=True, eq=False)
class PendingRequest:
    """A request in flight or in the queue."""

    number: int
    message: Packet
    repeat: bool
    """Whether it may be done twice."""
    deadline: float
    answer: asyncio.Future[Response]
    connection: Connection | None = None


class Dispatcher:
    """Sends requests to the endpoints that are up."""

    def __init__(
        self, settings: BridgeSettings, context: "zmq.Context[zmq.Socket[bytes]]", name: str, keys: CurveKeys
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._request_s = settings.request_timeout_ms / 1000
        self._connect_s = settings.connect_timeout_ms / 1000
        self._requests: dict[int, PendingRequest] = {}
        self._waiting: deque[PendingRequest] = deque()
        self._streams: dict[int, ClientStream] = {}
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
        self._connections = [
            Connection(context, endpoint, name, keys, self) for endpoint in settings.endpoints
        ]

    def __repr__(self) -> str:
        return (
            f"<Dispatcher: {len(self._requests)} requests ({len(self._waiting)} in line), "
            f"{len(self._streams)} streams, {self._connections}>"
        )

    def ask(
        self, kind: MessageKind, words: bytes, body: Buffer = b"", repeat: bool = True
    ) -> asyncio.Future[Response]:
        """Send or queue a request. Fails with BridgeDown, or what the bridge answers."""
        if self._refusal:
            raise BadInput(self._refusal)
        if self._closed:
            raise BridgeDown("this client is closed")
        number = next(self._numbers)
        message = pack_encoded(kind, number, words, body)
        now = self._loop.time()
        answer: asyncio.Future[Response] = self._loop.create_future()
        request = PendingRequest(number, message, repeat, now + self._request_s, answer)
        self._requests[number] = request
        if self._waiting or not self._send(request):
            self._waiting.append(request)
        if self._timer is None:
            self._start_timer()
        return answer

    async def wait_until_tried(self) -> None:
        """Wait until it is known of each endpoint whether a bridge answers, `SETTLE_S` at most.

        Raises BadInput, before anything has gone to one store that would be looked for in another.
        """
        if len(self._connections) > 1:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._tried.wait(), SETTLE_S)
        if self._refusal:
            raise BadInput(self._refusal)

    def end(self, stream: ClientStream) -> None:
        """Drop a stream, and abort it at the bridge if that still knows of it."""
        if self._streams.pop(stream.number, None) is None:
            return
        stream.send(MessageKind.ABORT)
        stream.open = False
        self._made_room(stream.connection)

    def close(self) -> None:
        """Fail all requests in flight, and close the sockets."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for stream in self._streams.values():
            stream.send(MessageKind.ABORT)
        for connection in self._connections:
            connection.close(LINGER_MS if connection.welcome else 0)
        self._fail_all(BridgeDown("the client was closed while this was under way"))

    def _fail_all(self, error: Exception) -> None:
        for request in self._requests.values():
            _fail(request, error)
        for stream in self._streams.values():
            stream.fail(error)
        self._requests.clear()
        self._waiting.clear()
        self._streams.clear()

    # what links tell

    def on_message(self, connection: Connection, head: Header, body: Buffer) -> None:
        """Handle an answer, or a message about a stream."""
        request = self._requests.get(head.correlation)
        if request is None:
            stream = self._streams.get(head.correlation)
            if stream is not None:
                stream.receive(head, body)
            elif head.kind is MessageKind.CHUNK or head.kind is MessageKind.CREDIT:
                connection.send(pack_encoded(MessageKind.ABORT, head.correlation, b""))
            return
        if head.kind is MessageKind.REPLY:
            self._finish(request, connection)
            if not request.answer.done():
                request.answer.set_result(Response(head.words, body, None))
        elif head.kind is MessageKind.ERROR:
            self._failed(request, connection, wire.error_from(head.words))
        else:
            self._opened(request, connection, head, body)

    def on_tried(self, connection: Connection) -> None:
        """Note that an endpoint has been tried once."""
        if all(each.tried for each in self._connections):
            self._tried.set()

    def on_up(self, connection: Connection) -> None:
        """Handle a bridge that came up. Only bridges of one store are used."""
        assert connection.welcome is not None
        store_id = connection.welcome.store_id
        if self.store_id not in ("", store_id):
            self._tell_apart(connection)
            return
        self.store_id, self._store_at = store_id, self._store_at or connection.endpoint
        log.info("a bridge answers", endpoint=connection.endpoint)
        self._was_up = True
        self.on_tried(connection)
        self._send_line()

    def _tell_apart(self, connection: Connection) -> None:
        """Handle a bridge of another store: with several endpoints, it is unclear which is meant."""
        if len(self._connections) == 1:
            connection.lose("a bridge of another store answers there", OTHER_STORE_S)
            return
        first = self._store_at or "the store that is meant"
        self._refusal = (
            f"{first} and {connection.endpoint} have different stores, and what goes into one is not found "
            "in the other; name one of them, or bridges that share a store"
        )
        for each in self._connections:
            each.close()
        self._fail_all(BadInput(self._refusal))
        self._tried.set()

    def on_down(self, connection: Connection) -> None:
        """Handle a lost bridge: retry what is idempotent, fail the rest."""
        lost = [request for request in self._requests.values() if request.connection is connection]
        for request in reversed(lost):
            request.connection = None
            if request.repeat and not request.answer.done():
                self._waiting.appendleft(request)
            else:
                del self._requests[request.number]
                _fail(
                    request,
                    ConnectionLost(
                        f"{connection.endpoint}: {connection.why}; this request may have been done or not"
                    ),
                )
        for stream in [t for t in self._streams.values() if t.connection is connection]:
            del self._streams[stream.number]
            stream.fail(ConnectionLost(f"{connection.endpoint}: {connection.why} in the middle of a stream"))
        self._send_line()

    # decisions

    def _send(self, request: PendingRequest) -> bool:
        """Send to the next endpoint (round robin) that is up and has room. Returns whether one had."""
        for _ in range(len(self._connections)):
            self._turn = (self._turn + 1) % len(self._connections)
            connection = self._connections[self._turn]
            if connection.has_room:
                connection.in_flight += 1
                request.connection = connection
                connection.send(request.message)
                return True
        return False

    def _send_line(self) -> None:
        while self._waiting:
            request = self._waiting[0]
            if not request.answer.done() and request.number in self._requests and not self._send(request):
                return
            self._waiting.popleft()
            if request.connection is None:
                self._requests.pop(request.number, None)  # its asker has gone

    def _finish(self, request: PendingRequest, connection: Connection) -> None:
        del self._requests[request.number]
        self._made_room(connection)

    def _made_room(self, connection: Connection) -> None:
        connection.in_flight = max(0, connection.in_flight - 1)
        if self._waiting:
            self._send_line()

    def _opened(self, request: PendingRequest, connection: Connection, head: Header, body: Buffer) -> None:
        """Handle the first message of a stream."""
        del self._requests[request.number]
        stream = ClientStream(request.number, connection, self._request_s)
        stream.receive(head, body)
        self._streams[request.number] = stream
        if request.answer.done():
            self.end(stream)
        else:
            request.answer.set_result(Response(head.words, body, stream))

    def _failed(self, request: PendingRequest, connection: Connection, error: Exception) -> None:
        request.connection = None
        if isinstance(error, wire.Busy):
            connection.in_flight -= 1
            delay = BACKOFF_S * (1 + random.random() / 2)
            self._loop.call_later(delay, self._again, request)
        elif isinstance(error, wire.Closing):
            connection.in_flight -= 1
            connection.retire()
            self._waiting.appendleft(request)
            self._send_line()
        else:
            self._finish(request, connection)
            _fail(request, error)

    def _again(self, request: PendingRequest) -> None:
        """Retry a request of which nothing was done, unless its deadline has passed."""
        if request.number in self._requests and request.connection is None:
            self._waiting.append(request)
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
        if self._requests or self._streams:
            self._start_timer()

    def _expire(self, now: float) -> None:
        """Fail requests past their deadline. An endpoint that was silent all the while is lost."""
        late: list[PendingRequest] = []
        for request in self._requests.values():
            if request.deadline > now:
                break
            late.append(request)
        silent: set[Connection] = set()
        for request in late:
            del self._requests[request.number]
            if request.connection is None:
                _fail(request, self._nobody_answers(self._request_s))
                continue
            self._made_room(request.connection)
            if request.connection.heard_at < request.deadline - self._request_s:
                silent.add(request.connection)
            _fail(
                request, BridgeDown(f"{request.connection.endpoint}: no answer within {self._request_s:g} s")
            )
        for connection in silent:
            connection.lose(f"no answer within {self._request_s:g} s")

    def _expire_line(self, now: float) -> None:
        """While no endpoint has ever been up, fail queued requests after the connect timeout.

        One that was up and went away is being started again, which takes a busy machine long: for that a
        request waits its whole time.
        """
        if self._was_up:
            return
        waiting = [c for c in self._waiting if c.deadline - self._request_s + self._connect_s <= now]
        for request in waiting:
            self._waiting.remove(request)
            self._requests.pop(request.number, None)
            _fail(request, self._nobody_answers(self._connect_s))

    def _nobody_answers(self, limit_s: float) -> BridgeDown:
        reasons = "; ".join(f"{connection.endpoint}: {connection.why}" for connection in self._connections)
        return BridgeDown(f"no bridge answers within {limit_s:g} s ({reasons})")

    def _keep_alive(self, now: float) -> None:
        """Send keep-alives for open streams, several times in a lease."""
        for connection in self._connections:
            if connection.welcome is None or now - self._kept_alive_at < connection.welcome.lease_s / 4:
                continue
            self._kept_alive_at = now
            numbers = tuple(t.number for t in self._streams.values() if t.connection is connection and t.open)
            if numbers:
                connection.send(pack_message(MessageKind.KEEPALIVE, 0, wire.KeepAlive(streams=numbers)))


def _fail(request: PendingRequest, error: Exception) -> None:
    if not request.answer.done():
        request.answer.set_exception(error)
