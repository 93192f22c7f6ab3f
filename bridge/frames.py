"""Framing of the binary dialect, frames on a plain ZeroMQ socket, and ZeroMQ itself.

A message is a fixed header, the operation's words (JSON of the models in `bridge.wire`) and a body of raw
bytes; nothing is base64. A large body is a frame of its own, after that of its header. Small messages that
are sent in one turn of the loop are coalesced into one frame: each frame costs about as much as all else
about a message. A socket whose descriptor the loop watches costs a third of a `zmq.asyncio` one.

Invariant: what cannot be decoded is a BadFrames, which names what was wrong.

All of ZeroMQ is imported from here, and `zmq` itself nowhere else: where `iowarp-core` is installed, every
Python process loads its libraries at the start with global symbols, and a ZeroMQ without CURVE is among
them. pyzmq would bind to that one; with RTLD_DEEPBIND it binds to its own.
"""

import os
import struct
import sys
from collections.abc import Iterable, Iterator, Sequence
from enum import IntEnum
from typing import NamedTuple, TypeVar

from pydantic import ValidationError

from ..messages.base import Message
from .errors import BadName, BridgeError

_flags = sys.getdlopenflags()
if "iowarp_core" in sys.modules:
    sys.setdlopenflags(_flags | os.RTLD_DEEPBIND)
try:
    import zmq as zmq
    from zmq.auth import CURVE_ALLOW_ANY as CURVE_ALLOW_ANY
    from zmq.auth.asyncio import AsyncioAuthenticator as AsyncioAuthenticator
    from zmq.utils.monitor import recv_monitor_message as recv_monitor_message
finally:
    sys.setdlopenflags(_flags)


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
MAGIC = b"\xaaFWB"
VERSION = 1

_HEADER = struct.Struct("!4sBBHQIQ")
"""Magic, version, kind, flags, correlation, bytes of words, bytes of body."""
BODY_IN_NEXT_FRAME = 1
"""The body is the next frame; else it follows the words in this one."""
LAST_CHUNK = 2
"""The last chunk of a get."""


class MessageKind(IntEnum):
    """Type code of a message."""

    HELLO = 1
    PING = 2
    PUT = 3
    PUT_OPEN = 4
    GET = 5
    STAT = 6
    LIST = 7
    DELETE = 8
    DESTROY = 9
    STATISTICS = 10
    CACHE = 11
    SEARCH = 12
    CHUNK = 32
    END = 33
    CREDIT = 34
    ABORT = 35
    KEEPALIVE = 36
    REPLY = 64
    ERROR = 65


_KINDS = {int(kind): kind for kind in MessageKind}


class BadFrames(BridgeError):
    """Frames that are not a message of this dialect."""

    correlation = 0
    """Of that message, where it can be told."""


class Header(NamedTuple):
    """A message without its body."""

    kind: MessageKind
    flags: int
    correlation: int
    words: bytes


MessageT = TypeVar("MessageT", bound=Message)


def encode_json(words: Message) -> bytes:
    """Words as they travel. Raises BadName for text that has no UTF-8."""
    try:
        return words.model_dump_json().encode()
    except ValueError as error:
        raise BadName(f"a tag or a name cannot be written in UTF-8: {error}") from error


def pack_message(
    kind: MessageKind, correlation: int, words: Message | None = None, body: Buffer = b""
) -> Packet:
    """A message as it travels. Raises BadName."""
    return pack_encoded(kind, correlation, b"" if words is None else encode_json(words), body)


def pack_encoded(
    kind: MessageKind, correlation: int, words: bytes, body: Buffer = b"", flags: int = 0
) -> Packet:
    """The same for words that are JSON already."""
    size = len(body)
    if size >= SEPARATE_FRAME_BYTES:
        header = _HEADER.pack(MAGIC, VERSION, kind, flags | BODY_IN_NEXT_FRAME, correlation, len(words), size)
        return header + words, body
    header = _HEADER.pack(MAGIC, VERSION, kind, flags, correlation, len(words), size)
    return (b"".join((header, words, body)),)


def unpack_messages(frames: Sequence[Buffer]) -> Iterator[tuple[Header, Buffer]]:
    """The messages, with their bodies, in frames that came together, one by one.

    Raises BadFrames where the next message cannot be told; what follows it is lost.
    """
    rest = iter(frames)
    room = 2 * MAX_COALESCED
    for frame in rest:
        data, at = bytes(frame), 0
        while at < len(data) or not data:
            try:
                if not room:
                    raise BadFrames(f"more than {2 * MAX_COALESCED} messages came together")
                head, body, end = _message(data, at, rest)
            except BadFrames as error:
                if len(data) - at >= _HEADER.size:
                    error.correlation = _HEADER.unpack_from(data, at)[4]
                raise
            yield head, body
            at = end
            room -= 1


def _message(data: bytes, at: int, rest: Iterator[Buffer]) -> tuple[Header, Buffer, int]:
    """The message that begins there, its body, and where the next begins."""
    head, begin, size = _header(data, at)
    end = begin
    body: Buffer | None
    if head.flags & BODY_IN_NEXT_FRAME:
        body = next(rest, None)
        if body is None or begin < len(data):
            raise BadFrames("the header promises a frame for the body, there is none")
    else:
        end = begin + size
        body = data[begin:end]
    if len(body) != size:
        raise BadFrames(f"the header promises a body of {size} bytes, there are {len(body)}")
    return head, body, end


def _header(data: bytes, at: int) -> tuple[Header, int, int]:
    """The message's head, where it ends, and how many bytes its body has."""
    if len(data) - at < _HEADER.size:
        raise BadFrames(f"a header has {_HEADER.size} bytes, there are {len(data) - at}")
    magic, version, number, flags, correlation, words_size, body_size = _HEADER.unpack_from(data, at)
    if magic != MAGIC:
        raise BadFrames("the header does not begin with this dialect's magic")
    if version != VERSION:
        raise BadFrames(
            f"version {version} of the dialect; this side speaks {VERSION}: use one release on both"
        )
    kind = _KINDS.get(number)
    if kind is None:
        raise BadFrames(f"unknown kind of message {number}")
    begin = at + _HEADER.size
    end = begin + words_size
    if end > len(data):
        raise BadFrames(f"the header promises {words_size} bytes of words, there are {len(data) - begin}")
    return Header(kind, flags, correlation, data[begin:end]), end, body_size


def decode_json(model: type[MessageT], words: bytes) -> MessageT:
    """The words of a message. Raises BadFrames, which names the field."""
    try:
        return model.model_validate_json(words)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        name = model.model_config.get("title", model.__name__)
        raise BadFrames(f"{name}: {where or 'words'}: {first['msg']}") from error


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
