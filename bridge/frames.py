"""How both ends write and read frames on a plain ZeroMQ socket.

A socket whose descriptor the loop watches costs a third of a `zmq.asyncio` one. What is to be sent in one
turn of the loop goes as one ZeroMQ message of many frames, so ZeroMQ's own thread is woken once for all.
"""

from collections.abc import Iterable, Sequence

from bridge.zeromq import zmq

Buffer = bytes | memoryview
COPY_UNDER = 16 << 10
"""Smaller frames are cheaper to copy than to keep."""
MAX_FRAMES = 128
"""Of a message of ours, or a few more; of any other twice as many are looked at."""


def send_all(
    socket: zmq.Socket[bytes], messages: Iterable[Sequence[Buffer]], client: bytes | None = None
) -> None:
    """Send as few ZeroMQ messages as may be, to one client. Never waits.

    Raises ZMQError (EAGAIN, EHOSTUNREACH); what follows is not sent then.
    """
    held: list[Buffer] = []
    for message in messages:
        held.extend(message)
        if len(held) >= MAX_FRAMES or len(message[-1]) >= COPY_UNDER:
            _send(socket, held, client)
            held.clear()
    if held:
        _send(socket, held, client)


def _send(socket: zmq.Socket[bytes], frames: list[Buffer], client: bytes | None) -> None:
    more = zmq.SNDMORE | zmq.NOBLOCK
    last = frames.pop()
    if client is not None:
        socket.send(client, more)
    for frame in frames:
        socket.send(frame, more)
    socket.send(last, zmq.NOBLOCK, copy=len(last) < COPY_UNDER)


def receive(socket: zmq.Socket[bytes]) -> list[Buffer]:
    """One message, to its end; what is far too much of it is dropped. Raises zmq.Again if there is none."""
    frames: list[Buffer] = []
    more = True
    while more:
        frame = socket.recv(zmq.NOBLOCK, copy=False)
        more = frame.more
        if len(frames) <= 2 * MAX_FRAMES:
            frames.append(frame.bytes if len(frame) < COPY_UNDER else frame.buffer)
    return frames
