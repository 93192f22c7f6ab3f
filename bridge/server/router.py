"""The server's socket: every message that is there is read in one turn of the loop.

A plain ZeroMQ socket whose file descriptor the loop watches costs a third of a `zmq.asyncio` one. That
descriptor tells of changes only once (it is edge-triggered), so after every read to the end, and after
every send, the socket is asked again.

Invariants:
  - no call waits: a client that does not read its answers loses them, and nobody waits for it;
  - a message with too many frames is read to its end, so the next one begins where it should.
"""

import asyncio
import errno
from collections.abc import Callable, Sequence

import structlog
import zmq

log = structlog.get_logger("bridge")

Buffer = bytes | memoryview
TURN = 256
"""Messages that are read before others of the loop have their turn."""
MAX_FRAMES = 4
"""Delimiter, header, body: what is beyond is read and dropped, and the message refused."""
COPY_UNDER = 16 << 10
"""Smaller frames are cheaper to copy than to keep."""

OnMessage = Callable[[bytes, list[Buffer]], None]


class Router:
    """Receives for `on_message(client, frames)`; `on_lost(client)` hears of clients that are gone."""

    def __init__(self, socket: zmq.Socket[bytes], on_message: OnMessage, on_lost: Callable[[bytes], None]):
        self.lost_replies = 0
        self._socket = socket
        self._on_message = on_message
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._asked = False
        self._closed = False
        self._loop.add_reader(socket.FD, self._read)
        self._ask_again()

    def close(self, linger_ms: int) -> None:
        """Stop reading; answers that are still to be sent have `linger_ms`."""
        self._closed = True
        self._loop.remove_reader(self._socket.FD)
        self._socket.close(linger=linger_ms)

    def send(self, client: bytes, frames: Sequence[Buffer], delimiter: bool = False) -> None:
        """Send a message to a client, now or never."""
        if self._closed:
            self.lost_replies += 1
            return
        socket = self._socket
        try:
            socket.send(client, zmq.SNDMORE | zmq.NOBLOCK)
            if delimiter:
                socket.send(b"", zmq.SNDMORE | zmq.NOBLOCK)
            for frame in frames[:-1]:
                socket.send(frame, zmq.SNDMORE | zmq.NOBLOCK)
            last = frames[-1]
            socket.send(last, zmq.NOBLOCK, copy=len(last) < COPY_UNDER)
        except zmq.ZMQError as error:
            self._not_sent(client, error)
        self._ask_again()

    def send_large(self, client: bytes, frame: bytes, delimiter: bool) -> zmq.MessageTracker | None:
        """The same for one large frame; the tracker tells when ZeroMQ has let go of its bytes."""
        frames: list[bytes | zmq.Frame] = [client, b"", frame] if delimiter else [client, frame]
        tracker: zmq.MessageTracker | None = None
        try:
            tracker = self._socket.send_multipart(frames, zmq.NOBLOCK, copy=False, track=True)
        except zmq.ZMQError as error:
            self._not_sent(client, error)
        self._ask_again()
        return tracker

    def _not_sent(self, client: bytes, error: zmq.ZMQError) -> None:
        if error.errno not in {errno.EAGAIN, errno.EHOSTUNREACH}:
            raise error
        self.lost_replies += 1
        self._loop.call_soon(self._on_lost, client)

    def _ask_again(self) -> None:
        if not self._asked:
            self._asked = True
            self._loop.call_soon(self._read_asked)

    def _read_asked(self) -> None:
        self._asked = False
        self._read()

    def _read(self) -> None:
        for _ in range(TURN):
            if self._closed:
                return
            try:
                client = self._socket.recv(zmq.NOBLOCK)
            except zmq.Again:
                return
            frames = self._rest()
            try:
                self._on_message(client, frames)
            except Exception:  # one message must not end the server
                log.exception("a message could not be handled")
        self._ask_again()

    def _rest(self) -> list[Buffer]:
        frames: list[Buffer] = []
        more = self._socket.get(zmq.RCVMORE)
        while more:
            frame = self._socket.recv(zmq.NOBLOCK, copy=False)
            more = frame.more
            if len(frames) <= MAX_FRAMES:
                frames.append(frame.bytes if len(frame) < COPY_UNDER else frame.buffer)
        return frames
