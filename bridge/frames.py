"""How both ends write and read frames on a plain ZeroMQ socket.

A socket whose descriptor the loop watches costs a third of a `zmq.asyncio` one. Small messages that are
sent in one turn of the loop go as one frame: each frame costs about as much as all else about a message.
"""

import os
import sys
from collections.abc import Iterable

# MERGED bridge.frames: ZeroMQ, pyzmq's own. The bridge imports all of it from here, and nowhere `zmq` itself.
#
# Where `iowarp-core` is installed, every Python process loads its libraries at the start, for all to see,
# and a ZeroMQ without CURVE is among them: pyzmq would run on that one. Bound to its own, it does not.
#

Buffer = bytes | memoryview
Packet = tuple[bytes] | tuple[bytes, Buffer]
"""A message of ours: one frame, and another for a large body."""
SEPARATE_FRAME_BYTES = 16 << 10
"""A body from this size on travels in a frame of its own, and is not copied."""
MAX_COALESCED = 128
"""Messages that travel in one frame, at most."""
MAX_COALESCED_BYTES = 64 << 10
FLUSH_AT = 32
"""As many are sent before their turn of the loop has ended: the other side can begin with them."""
MAX_FRAMES = 256
"""Of a ZeroMQ message that are looked at; ours have one or two."""


def send_all(socket: zmq.Socket[bytes], messages: Iterable[Packet], client: bytes | None = None) -> None:
    """Send as few frames as may be, to one client. Never waits.

    Raises ZMQError (EAGAIN, EHOSTUNREACH); what follows is not sent then.
    """
    held: list[bytes] = []
    size = 0
    for message in messages:
        held.append(message[0])
        size += len(message[0])
        if len(message) == 2 or size >= MAX_COALESCED_BYTES or len(held) == MAX_COALESCED:
            joined = b"".join(held)
            _send(socket, (joined, message[1]) if len(message) == 2 else (joined,), client)
            held.clear()
            size = 0
    if held:
        _send(socket, (b"".join(held),), client)


def _send(socket: zmq.Socket[bytes], message: Packet, client: bytes | None) -> None:
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
            frames.append(frame.bytes if len(frame) < SEPARATE_FRAME_BYTES else frame.buffer)
    return frames


_flags = sys.getdlopenflags()
if "iowarp_core" in sys.modules:
    sys.setdlopenflags(_flags | os.RTLD_DEEPBIND)
try:
    import zmq
    from zmq.auth import CURVE_ALLOW_ANY
    from zmq.auth.asyncio import AsyncioAuthenticator
    from zmq.utils.monitor import recv_monitor_message
finally:
    sys.setdlopenflags(_flags)

__all__ = ["CURVE_ALLOW_ANY", "AsyncioAuthenticator", "recv_monitor_message", "zmq"]
