"""The server's socket: every message that is there is read in one turn of the loop.

The socket's descriptor tells of changes only once (it is edge-triggered), so after every read to the end,
and after every send, the socket is asked again.

Invariants:
  - no call waits: a client that does not read its answers loses them, and nobody waits for it;
  - answers to one client leave in the order in which they were given.
"""

import asyncio
import errno
from collections.abc import Callable

import structlog

from ..frames import APART_BYTES, EAGER, Buffer, Packed, receive, send_all
from ..zeromq import zmq

log = structlog.get_logger("bridge")

TURN = 64
"""Messages that are read before others of the loop have their turn."""

OnMessage = Callable[[bytes, list[Buffer]], None]


class Router:
    """Receives for `on_message(client, frames)`; `on_lost(client)` hears of clients that are gone."""

    def __init__(self, socket: zmq.Socket[bytes], on_message: OnMessage, on_lost: Callable[[bytes], None]):
        self.lost_replies = 0
        self._socket = socket
        self._on_message = on_message
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._outbox: dict[bytes, list[Packed]] = {}
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

    def send(self, client: bytes, message: Packed) -> None:
        """Send a message of ours to a client, with others of this turn of the loop."""
        waiting = self._outbox.setdefault(client, [])
        waiting.append(message)
        if len(waiting) >= EAGER:
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
            large = len(frame) >= APART_BYTES
            tracker = self._socket.send_multipart(frames, zmq.NOBLOCK, copy=not large, track=large)
        except zmq.ZMQError as error:
            self._not_sent(client, 1, error)
        self._schedule()
        return tracker

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
        for _ in range(TURN):
            if self._closed:
                return
            try:
                client, *frames = receive(self._socket)
            except zmq.Again:
                return
            try:
                self._on_message(bytes(client), frames)
            except Exception:  # one message must not end the server
                log.exception("a message could not be handled")
        self._schedule()
