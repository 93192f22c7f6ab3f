"""How both ends write and read frames on a plain ZeroMQ socket.

A socket whose descriptor the loop watches costs a third of a `zmq.asyncio` one. Small messages that are
sent in one turn of the loop go as one frame: each frame costs about as much as all else about a message.
"""

from collections.abc import Iterable

from .zeromq import zmq

Buffer = bytes | memoryview
Packed = tuple[bytes] | tuple[bytes, Buffer]
"""A message of ours: one frame, and another for a large body."""
APART_BYTES = 16 << 10
"""A body from this size on travels in a frame of its own, and is not copied."""
TOGETHER = 128
"""Messages that travel in one frame, at most."""
TOGETHER_BYTES = 64 << 10
EAGER = 32
"""As many are sent before their turn of the loop has ended: the other side can begin with them."""
MAX_FRAMES = 256
"""Of a ZeroMQ message that are looked at; ours have one or two."""


def send_all(socket: zmq.Socket[bytes], messages: Iterable[Packed], client: bytes | None = None) -> None:
    """Send as few frames as may be, to one client. Never waits.

    Raises ZMQError (EAGAIN, EHOSTUNREACH); what follows is not sent then.
    """
    held: list[bytes] = []
    size = 0
    for message in messages:
        held.append(message[0])
        size += len(message[0])
        if len(message) == 2 or size >= TOGETHER_BYTES or len(held) == TOGETHER:
            joined = b"".join(held)
            _send(socket, (joined, message[1]) if len(message) == 2 else (joined,), client)
            held.clear()
            size = 0
    if held:
        _send(socket, (b"".join(held),), client)


def _send(socket: zmq.Socket[bytes], message: Packed, client: bytes | None) -> None:
    if client is not None:
        socket.send(client, zmq.SNDMORE | zmq.NOBLOCK)
    if len(message) == 1:
        socket.send(message[0], zmq.NOBLOCK)
    else:
        socket.send(message[0], zmq.SNDMORE | zmq.NOBLOCK)
        socket.send(message[1], zmq.NOBLOCK, copy=False)


def receive(socket: zmq.Socket[bytes]) -> list[Buffer]:
    """One message, to its end; what is far too much of it is dropped. Raises zmq.Again if there is none."""
    frames: list[Buffer] = []
    more = True
    while more:
        frame = socket.recv(zmq.NOBLOCK, copy=False)
        more = frame.more
        if len(frames) < MAX_FRAMES:
            frames.append(frame.bytes if len(frame) < APART_BYTES else frame.buffer)
    return frames
