"""One endpoint of a client: a DEALER socket, whether a bridge answers there, and the streams over it.

    connecting --- the bridge says Welcome ---> up --- disconnected, or silent ---> connecting

Invariants:
  - a connection that lost its bridge gets a new socket, so nothing that was queued for the old one is sent;
  - every message that had arrived is handed on before the loss is reported;
  - a connection never gives up: it reconnects until it is closed. ZeroMQ's heartbeats find a peer that hangs;
  - flow control: chunks of a stream that have come and were not taken yet are at most the window that was
    granted; a chunk is granted anew when one is taken.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import NamedTuple, Protocol

import structlog

from .. import wire
from ..errors import BridgeDown
from ..frames import (
    FLUSH_AT,
    LAST_CHUNK,
    BadFrames,
    Buffer,
    Header,
    MessageKind,
    Packet,
    decode_json,
    pack_encoded,
    pack_message,
    receive,
    recv_monitor_message,
    send_all,
    unpack_messages,
    zmq,
)

log = structlog.get_logger("bridge")

MAX_READS_PER_TURN = 64
"""Messages that are read before others of the loop have their turn."""
RETRY_S = 0.2
"""Before a bridge that was lost is tried again."""
HEARTBEAT_MS = 1000
_LOSS_EVENTS: dict[int, str] = {
    zmq.EVENT_DISCONNECTED: "the connection broke",
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL: "the handshake failed",
    zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL: "the handshake failed: is that a bridge, with the same security?",
    zmq.EVENT_HANDSHAKE_FAILED_AUTH: "the bridge does not accept this client's key",
}


class CurveKeys:
    """The CURVE keys of a client; all empty where nothing is encrypted."""

    def __init__(self, server: str, secret: str) -> None:
        self.server = server.encode()
        self._secret = secret.strip().encode()

    def apply(self, socket: zmq.Socket[bytes]) -> None:
        """Encrypt what goes over a socket that is not connected yet."""
        if not self.server:
            return
        secret = self._secret or zmq.curve_keypair()[1]
        socket.curve_serverkey = self.server
        socket.curve_secretkey = secret
        socket.curve_publickey = zmq.curve_public(secret)


class ConnectionListener(Protocol):
    """Callbacks of a connection."""

    def on_message(self, link: "Connection", head: Header, body: Buffer) -> None:
        """A message about a request or a stream."""

    def on_tried(self, link: "Connection") -> None:
        """A connection attempt failed: nobody listens there, for now."""

    def on_up(self, link: "Connection") -> None:
        """Requests can be sent."""

    def on_down(self, link: "Connection") -> None:
        """Everything in flight is lost; `connection.why` says why."""


class Connection:
    """One endpoint."""

    def __init__(
        self,
        context: "zmq.Context[zmq.Socket[bytes]]",
        endpoint: str,
        name: str,
        keys: CurveKeys,
        listener: ConnectionListener,
    ) -> None:
        self.endpoint = endpoint
        self.why = "no answer yet"
        self.welcome: wire.Welcome | None = None
        """What the bridge said when it came up; None while it is down."""
        self.tried = False
        """Whether it is known if a bridge answers there."""
        self.in_flight = 0
        self.heard_at = 0.0
        """By the loop's clock."""
        self._context = context
        self._name = name
        self._keys = keys
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._scheduled = False
        self._outbox: list[Packet] = []
        self._retired = False
        self._socket: zmq.Socket[bytes] | None = None
        self._monitor: zmq.Socket[bytes] | None = None
        self._retry: asyncio.TimerHandle | None = None
        self._connect()

    def __repr__(self) -> str:
        state = "up" if self.welcome else f"down ({self.why})"
        return f"<Connection {self.endpoint}: {state}, {self.in_flight} in flight>"

    @property
    def has_room(self) -> bool:
        """True if a request can be sent now."""
        return self.welcome is not None and not self._retired and self.in_flight < self.welcome.max_in_flight

    def send(self, message: Packet) -> None:
        """Queue a message; it is sent with others of this turn of the loop.

        Never waits: credit and `max_in_flight` bound what is queued. To a bridge that was lost nothing is
        sent; its requests fail with the loss.
        """
        if self._socket is not None:
            self._outbox.append(message)
            if len(self._outbox) >= FLUSH_AT:
                self._flush()
            self._schedule()

    def retire(self) -> None:
        """Stop sending requests; those in flight go on until the bridge is gone."""
        self._retired = True

    def lose(self, why: str, retry_s: float = RETRY_S) -> None:
        """Drop the connection, and reconnect after a while."""
        was_up = self.welcome is not None
        self.close()
        self.why = why
        self._retry = self._loop.call_later(retry_s, self._connect)
        if was_up:
            log.warning("a bridge was lost", endpoint=self.endpoint, why=why)
            self._listener.on_down(self)

    def close(self, linger_ms: int = 0) -> None:
        """Close the socket; queued messages have `linger_ms` to leave."""
        self.welcome = None
        self.in_flight = 0
        if linger_ms and self._socket is not None and self._outbox:
            send_all(self._socket, self._outbox)
        self._outbox.clear()
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        if self._socket is not None and self._monitor is not None:
            self._loop.remove_reader(self._socket.FD)
            self._loop.remove_reader(self._monitor.FD)
            self._socket.disable_monitor()
            self._monitor.close(linger=0)
            self._socket.close(linger=linger_ms)
        self._socket = self._monitor = None

    def _connect(self) -> None:
        self._retry = None
        self._retired = False
        socket = self._socket = self._context.socket(zmq.DEALER)
        socket.linger = 0
        socket.sndhwm = socket.rcvhwm = 0  # bounded by credit and `max_in_flight`, in both directions
        socket.reconnect_ivl = 50
        socket.reconnect_ivl_max = 1000
        socket.heartbeat_ivl = HEARTBEAT_MS
        socket.heartbeat_timeout = 5 * HEARTBEAT_MS
        self._keys.apply(socket)
        monitor = self._monitor = socket.get_monitor_socket(sum(_LOSS_EVENTS) | zmq.EVENT_CONNECT_RETRIED)
        socket.connect(self.endpoint)
        self._loop.add_reader(socket.FD, self._read)
        self._loop.add_reader(monitor.FD, self._watch)
        self._loop.call_soon(self._watch)
        self.send(pack_message(MessageKind.HELLO, 0, wire.HelloRequest(client=self._name)))

    def _watch(self) -> None:
        """Read the socket's monitor for lost connections."""
        while self._monitor is not None:
            try:
                event = recv_monitor_message(self._monitor, zmq.NOBLOCK)
            except zmq.Again:
                return
            if event["event"] == zmq.EVENT_CONNECT_RETRIED and not self.tried:
                self.tried = True
                self._listener.on_tried(self)
            why = _LOSS_EVENTS.get(event["event"])
            if why is not None:
                self._read_all()
                self.lose(why)

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._take_turn)

    def _take_turn(self) -> None:
        self._scheduled = False
        self._flush()
        self._read()  # the descriptor may have told of what came to the send only

    def _flush(self) -> None:
        if self._socket is not None and self._outbox:
            outbox, self._outbox = self._outbox, []
            send_all(self._socket, outbox)

    def _read(self) -> None:
        """Handle what has arrived, at most `MAX_READS_PER_TURN` messages."""
        for _ in range(MAX_READS_PER_TURN):
            if not self._read_one():
                return
        self._schedule()

    def _read_all(self) -> None:
        while self._read_one():
            pass

    def _read_one(self) -> bool:
        if self._socket is None:
            return False
        try:
            frames = receive(self._socket)
        except zmq.Again:
            return False
        self.heard_at = self._loop.time()
        try:
            for head, body in unpack_messages(frames):
                self._handle(head, body)
                if self._socket is None:
                    break
        except BadFrames as error:
            self.lose(f"it does not speak this dialect: {error}", 1.0)
        return True

    def _handle(self, head: Header, body: Buffer) -> None:
        if head.correlation:
            self._listener.on_message(self, head, body)
        elif head.kind is MessageKind.REPLY:
            self.welcome = decode_json(wire.Welcome, head.words)
            self.tried = True
            self._listener.on_up(self)
        elif head.kind is MessageKind.ERROR:
            self.lose(str(wire.error_from(head.words)), 1.0)


ONE_CREDIT = wire.ChunkCredit(chunks=1).model_dump_json().encode()


class ConnectionLost(BridgeDown):
    """The connection was lost mid-request; a retry on another bridge, or later, may succeed."""


class ReceivedChunk(NamedTuple):
    """A received piece."""

    words: bytes
    data: Buffer
    last: bool


class ClientStream:
    """One stream of a client."""

    def __init__(self, number: int, connection: Connection, timeout_s: float) -> None:
        self.number = number
        self.connection = connection
        self.credit = 0
        """Of a put: chunks that may be sent."""
        self.chunks: deque[ReceivedChunk] = deque()
        """Of a get: what has come."""
        self.result: bytes | None = None
        """Of a put: its answer."""
        self.error: Exception | None = None
        self.open = True
        """Whether the bridge knows of it."""
        self._timeout_s = timeout_s
        self._news = asyncio.Event()

    def receive(self, head: Header, body: Buffer) -> None:
        """Handle a message about this stream."""
        match head.kind:
            case MessageKind.CREDIT:
                self.credit += decode_json(wire.ChunkCredit, head.words).chunks
            case MessageKind.CHUNK:
                self.chunks.append(ReceivedChunk(head.words, body, bool(head.flags & LAST_CHUNK)))
            case MessageKind.REPLY:
                self.result = head.words
                self.open = False
            case MessageKind.ERROR:
                self.error = wire.error_from(head.words)
                self.open = False
        self._news.set()

    def fail(self, error: Exception) -> None:
        """Mark the stream as failed with `error`."""
        self.error = error
        self.open = False
        self._news.set()

    def send(self, kind: MessageKind, words: bytes = b"", body: Buffer = b"") -> None:
        """A message about it, if the bridge still knows of it."""
        if self.open:
            self.connection.send(pack_encoded(kind, self.number, words, body))

    async def wait_for_message(self) -> None:
        """Wait for the next message. Raises what went wrong; BridgeDown if none comes in time."""
        self._news.clear()
        if self.error is None:
            try:
                async with asyncio.timeout(self._timeout_s):
                    await self._news.wait()
            except TimeoutError:
                raise BridgeDown(
                    f"{self.connection.endpoint}: a stream stood still for {self._timeout_s:g} s"
                ) from None
        if self.error is not None:
            raise self.error


async def upload(stream: ClientStream, pieces: AsyncIterator[memoryview]) -> bytes:
    """Send all pieces as credit allows. Returns the put's answer."""
    async for piece in pieces:
        while not stream.credit:
            await stream.wait_for_message()
        if stream.error is not None:
            raise stream.error
        stream.credit -= 1
        stream.send(MessageKind.CHUNK, body=piece)
    stream.send(MessageKind.END)
    while stream.result is None:
        await stream.wait_for_message()
    return stream.result


async def download(stream: ClientStream) -> AsyncIterator[memoryview]:
    """Receive all pieces; each one that is taken grants credit for another."""
    while True:
        while not stream.chunks:
            await stream.wait_for_message()
        chunk = stream.chunks.popleft()
        stream.send(MessageKind.CREDIT, ONE_CREDIT)
        if chunk.last:
            stream.open = False
        yield memoryview(chunk.data)
        if chunk.last:
            return


async def slices(data: memoryview, size: int) -> AsyncIterator[memoryview]:
    """A value in pieces."""
    for begin in range(0, len(data), size):
        yield data[begin : begin + size]


async def rechunk(
    first: bytearray, rest: AsyncIterator[bytes | memoryview], size: int
) -> AsyncIterator[memoryview]:
    """Re-slice a stream of arbitrary pieces into pieces of one size."""
    held = first
    while len(held) >= size:
        yield memoryview(bytes(held[:size]))
        held = held[size:]
    async for piece in rest:
        view = memoryview(piece).cast("B")
        while len(held) + len(view) >= size:
            taken = size - len(held)
            yield memoryview(bytes(held) + view[:taken]) if held else view[:taken]
            held, view = bytearray(), view[taken:]
        held += view
    if held:
        yield memoryview(bytes(held))
