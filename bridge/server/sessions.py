"""The server's ROUTER socket, and per-client accounting: requests and streams in flight.

The socket's descriptor tells of changes only once (it is edge-triggered), so after every read to the end,
and after every send, the socket is asked again.

Invariants:
  - no call waits: a client that does not read its answers loses them, and nobody waits for it;
  - answers to one client leave in the order in which they were given;
  - a client is known only while something of it is in flight, so clients that come and go leave nothing;
  - no client has more than `max_in_flight` requests in flight: the next is refused with Busy;
  - each request is answered once.
"""

import asyncio
import errno
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from ...configs.errors import AgentFactoryError
from ...messages.base import Message
from .. import wire
from ..cache.base import CacheUnavailable
from ..frames import (
    FLUSH_AT,
    MAGIC,
    SEPARATE_FRAME_BYTES,
    Buffer,
    MessageKind,
    Packet,
    pack_encoded,
    receive,
    send_all,
    zmq,
)
from .memory_budget import MemoryBudget

log = structlog.get_logger("bridge")

MAX_READS_PER_TURN = 64
"""Messages that are read before others of the loop have their turn."""

BinaryReceiver = Callable[[bytes, list[Buffer]], None]
"""Of a client's frames that came together."""
JsonReceiver = Callable[[bytes, list[Buffer], bool], None]
"""The same, and whether an empty frame stood before them, as a REQ socket sends it."""


class RouterSocket:
    """Reads messages of both dialects, and sends answers. `on_lost(client)` hears of lost clients."""

    def __init__(
        self,
        socket: zmq.Socket[bytes],
        on_binary: BinaryReceiver,
        on_json: JsonReceiver,
        on_lost: Callable[[bytes], None],
    ) -> None:
        self.lost_replies = 0
        self._socket = socket
        self._on_binary = on_binary
        self._on_json = on_json
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._outbox: dict[bytes, list[Packet]] = {}
        self._scheduled = False
        self._closed = False
        self._loop.add_reader(socket.FD, self._read)
        self._schedule()

    def close(self, linger_ms: int) -> None:
        """Stop reading; answers that are still to be sent have `linger_ms`."""
        self._flush()
        self._closed = True
        self._loop.remove_reader(self._socket.FD)
        self._socket.close(linger=linger_ms)

    def send(self, client: bytes, message: Packet) -> None:
        """Send a message of ours to a client, with others of this turn of the loop."""
        waiting = self._outbox.setdefault(client, [])
        waiting.append(message)
        if len(waiting) >= FLUSH_AT:
            self._flush()
        self._schedule()

    def send_plain(self, client: bytes, frame: bytes, delimiter: bool) -> zmq.MessageTracker | None:
        """Send a message that stands alone; of a large one, when ZeroMQ has let go of it."""
        frames = [client, b"", frame] if delimiter else [client, frame]
        tracker: zmq.MessageTracker | None = None
        if self._closed:
            self.lost_replies += 1
            return None
        try:
            large = len(frame) >= SEPARATE_FRAME_BYTES
            tracker = self._socket.send_multipart(frames, zmq.NOBLOCK, copy=not large, track=large)
        except zmq.ZMQError as error:
            self._not_sent(client, 1, error)
        self._schedule()
        return tracker

    def _dispatch(self, client: bytes, frames: list[Buffer]) -> None:
        """Binary messages begin with the magic; all others are JSON."""
        delimiter = len(frames) > 1 and not len(frames[0])
        if delimiter:
            del frames[0]
        if frames and bytes(frames[0][:4]) == MAGIC and not delimiter:
            self._on_binary(client, frames)
        else:
            self._on_json(client, frames, delimiter)

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._scheduled = False
        self._flush()
        self._read()

    def _flush(self) -> None:
        if not self._outbox:
            return
        outbox, self._outbox = self._outbox, {}
        for client, messages in outbox.items():
            if self._closed:
                self.lost_replies += len(messages)
                continue
            try:
                send_all(self._socket, messages, client)
            except zmq.ZMQError as error:
                self._not_sent(client, len(messages), error)

    def _not_sent(self, client: bytes, messages: int, error: zmq.ZMQError) -> None:
        if error.errno not in {errno.EAGAIN, errno.EHOSTUNREACH}:
            raise error
        self.lost_replies += messages
        self._loop.call_soon(self._on_lost, client)

    def _read(self) -> None:
        for _ in range(MAX_READS_PER_TURN):
            if self._closed:
                return
            try:
                client, *frames = receive(self._socket)
            except zmq.Again:
                return
            try:
                self._dispatch(bytes(client), frames)
            except Exception:  # one message must not end the server
                log.exception("a message could not be handled")
        self._schedule()


class ServerStream(Protocol):
    """A chunked transfer in progress."""

    heard_at: float
    """By `time.monotonic()`: when its client last showed that it wants it."""

    def abort(self) -> None:
        """Discard it without a message to the client."""


@dataclass(slots=True)
class ClientSession:
    """A client with requests or streams in flight."""

    identity: bytes
    in_flight: int = 0
    streams: dict[int, ServerStream] = field(default_factory=dict)


@dataclass(slots=True)
class ServerCounters:
    """Counters that `statistics` reports."""

    requests: int = 0
    errors: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    started_at: float = field(default_factory=time.monotonic)


class SessionTable:
    """All clients with something in flight."""

    def __init__(self, max_in_flight: int) -> None:
        self.counters = ServerCounters()
        self.draining = False
        """Whether new requests are refused."""
        self.max_in_flight = max_in_flight
        self.router: RouterSocket
        self.idle: Callable[[], None] = lambda: None
        """Called when nothing is under way any more."""
        self._known: dict[bytes, ClientSession] = {}

    def __len__(self) -> int:
        return len(self._known)

    @property
    def in_flight(self) -> int:
        """Requests in flight, of all clients."""
        return sum(session.in_flight for session in self._known.values())

    def streams(self) -> list[ServerStream]:
        """All open streams."""
        return [stream for session in self._known.values() for stream in session.streams.values()]

    def with_streams(self) -> list[bytes]:
        """Clients that have open streams."""
        return [session.identity for session in self._known.values() if session.streams]

    def stream(self, identity: bytes, correlation: int) -> ServerStream | None:
        """An open stream of this client."""
        session = self._known.get(identity)
        return None if session is None else session.streams.get(correlation)

    def begin(self, identity: bytes) -> ClientSession:
        """Admit a request. Raises Busy."""
        self.counters.requests += 1
        session = self._known.get(identity)
        if session is None:
            session = self._known[identity] = ClientSession(identity)
        if session.in_flight >= self.max_in_flight:
            raise wire.Busy(
                f"{session.in_flight} requests of this client are under way: read the answers first"
            )
        session.in_flight += 1
        return session

    def end(self, session: ClientSession) -> None:
        """Count a request as ended."""
        session.in_flight -= 1
        if not session.in_flight:
            del self._known[session.identity]
            if not self._known:
                self.idle()

    def lost(self, identity: bytes) -> None:
        """Abort the streams of a client that is gone."""
        session = self._known.get(identity)
        for stream in [] if session is None else list(session.streams.values()):
            stream.abort()

    def note(self, error: Exception) -> None:
        """Count an error, and log an unexpected one."""
        self.counters.errors += 1
        if not isinstance(error, AgentFactoryError | CacheUnavailable):
            log.error("a request failed unexpectedly", exc_info=error)


class PendingReply:
    """One request of the binary dialect, until it is answered."""

    __slots__ = ("_budget", "_held", "_sessions", "correlation", "session")

    def __init__(self, sessions: SessionTable, session: ClientSession, correlation: int) -> None:
        self._sessions = sessions
        self._budget: MemoryBudget | None = None
        self._held = 0
        self.session = session
        self.correlation = correlation

    def hold(self, budget: MemoryBudget, size: int) -> None:
        """Reserve the request's body until the end. Raises Busy."""
        if not budget.try_acquire_unfair(size):
            raise wire.Busy(f"the bridge has no room for {size} bytes more; try again")
        self._budget, self._held = budget, size

    def answer(self, words: Message) -> None:
        """Send the answer, and end the request."""
        self.answer_raw(words.model_dump_json().encode())

    def answer_raw(self, words: bytes, body: Buffer = b"") -> None:
        """Send an answer that is JSON already, and end the request."""
        self.send(MessageKind.REPLY, words, body)
        self.end()

    def fail(self, error: Exception) -> None:
        """Send an error as the answer, and end the request."""
        self._sessions.note(error)
        self.send(MessageKind.ERROR, wire.error_reply(error).model_dump_json().encode())
        self.end()

    def send(self, kind: MessageKind, words: bytes, body: Buffer = b"", flags: int = 0) -> None:
        """Send a message about this request, which goes on."""
        self._sessions.counters.bytes_out += len(body)
        self._sessions.router.send(
            self.session.identity, pack_encoded(kind, self.correlation, words, body, flags)
        )

    def note(self, error: Exception) -> None:
        """Count an error that the client does not hear of."""
        self._sessions.note(error)

    def end(self) -> None:
        """Release what the request holds, and count it as answered."""
        if self._budget is not None:
            self._budget.release(self._held)
        self._sessions.end(self.session)
