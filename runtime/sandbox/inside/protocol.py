"""The protocol of a fork server and its client: JSON objects behind a four-byte length (big-endian).

Launch specs and the cells of sessions travel in the same frames.

The work itself is never said: a `Work` to begin travels with descriptors that its process alone reads
and writes: its text, the pipe for its output, and its standard input if it has one. Standard library
only: the server imports this file with no third-party package in reach.
"""

import json
import os
import socket
import sys
from collections.abc import Iterator
from tempfile import TemporaryFile
from typing import Final, Literal, TypedDict, cast

MAX_FRAME_BYTES: Final = 64 * 2**20
_DESCRIPTORS: Final = 3
"""What comes with a `Work` to begin, at most."""
_HEADER_BYTES: Final = 4
_CHUNK: Final = 65536
_PIPE_BYTES: Final = 4096
"""What any new pipe has room for, whatever the system's limits."""

Ending = Literal["ok", "error", "timeout", "memory", "output", "disk", "forbidden", "crashed"]
"""How a piece of work ended."""


class Setup(TypedDict):
    """The client's first frame: the limits of every piece of work, and what to load before it."""

    modules: list[str]
    memory_mb: int
    """Address space on top of what the warm process has."""
    reads: bool
    """Leave reading files to the work, under the server's own user."""
    stderr: bool
    """What goes to standard error is output, too; otherwise it is thrown away."""
    allow_weak: bool


class ServerHello(TypedDict):
    """The server's first frame."""

    error: str
    """Why it cannot serve; empty if it can."""
    level: str
    namespaces: list[str]
    user: str
    detail: str


class Work(TypedDict):
    """Begin a piece of work in a process of its own, or kill that."""

    id: int
    cpu_s: int
    """Processor time that it may use."""
    stdin: bool
    """Its standard input comes with it; otherwise there is nothing to read."""
    kill: bool
    """Kill the work of this id instead; no descriptors come with it."""


class Exit(TypedDict):
    """A piece of work has ended, by itself or killed."""

    id: int
    ending: Ending


class BadFrame(Exception):
    """The other side does not speak this protocol."""


def encode(frame: Setup | ServerHello | Work | Exit) -> bytes:
    """The bytes to send."""
    return with_length(json.dumps(frame, separators=(",", ":")).encode("ascii"))


def with_length(body: bytes) -> bytes:
    """A frame of these bytes: what every socket between a sandbox and its client carries."""
    return len(body).to_bytes(_HEADER_BYTES, "big") + body


def receive_frame(control: socket.socket) -> bytes | None:
    """The next frame's body; None where the other side is gone. Nothing behind it is read. Blocks."""
    header = _receive_exactly(control, _HEADER_BYTES)
    if header is None:
        return None
    length = int.from_bytes(header, "big")
    if length > MAX_FRAME_BYTES:
        raise BadFrame(f"a frame of {length} bytes; at most {MAX_FRAME_BYTES} are read")
    return _receive_exactly(control, length)


def _receive_exactly(control: socket.socket, count: int) -> bytes | None:
    data = bytearray()
    while len(data) < count:
        chunk = control.recv(min(count - len(data), _CHUNK))
        if not chunk:
            return None
        data += chunk
    return bytes(data)


class FrameDecoder:
    """Cuts a stream of bytes into frames.

    >>> decoder = Decoder()
    >>> list(decoder.feed(b"\\x00\\x00\\x00\\x02{"))
    []
    >>> list(decoder.feed(b"}"))
    [b'{}']
    """

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Take what came in; yield the body of each frame that is complete. BadFrame if too long."""
        self._buffer += data
        while len(self._buffer) >= _HEADER_BYTES:
            length = int.from_bytes(self._buffer[:_HEADER_BYTES], "big")
            if length > MAX_FRAME_BYTES:
                raise BadFrame(f"a frame of {length} bytes; at most {MAX_FRAME_BYTES} are read")
            end = _HEADER_BYTES + length
            if len(self._buffer) < end:
                return
            body = bytes(self._buffer[_HEADER_BYTES:end])
            del self._buffer[:end]
            yield body


def read_setup(body: bytes) -> Setup:
    """Parse the client's first frame."""
    return cast(Setup, json.loads(body))


def read_hello(body: bytes) -> ServerHello:
    """Parse the server's first frame."""
    return cast(ServerHello, json.loads(body))


def read_work(body: bytes) -> Work:
    """Parse a frame from the client."""
    return cast(Work, json.loads(body))


def read_exit(body: bytes) -> Exit:
    """Parse a frame from the server."""
    return cast(Exit, json.loads(body))


def write_input(data: bytes) -> int:
    """A descriptor from which the data can be read, once."""
    if len(data) > _PIPE_BYTES:
        return _in_a_file(data)
    reader, writer = os.pipe()
    os.write(writer, data)
    os.close(writer)
    return reader


def read_input(descriptor: int) -> bytes:
    """All that there is to read."""
    data = b""
    while chunk := os.read(descriptor, _CHUNK):
        data += chunk
    return data


def _in_a_file(data: bytes) -> int:
    """A descriptor of a file without a name."""
    with TemporaryFile() if sys.platform != "linux" else os.fdopen(os.memfd_create("input"), "w+b") as file:
        file.write(data)
        file.seek(0)
        return os.dup(file.fileno())


def receive(control: socket.socket) -> tuple[bytes, list[int]]:
    """The next bytes from the client, and the descriptors that came with them; empty if it is gone."""
    try:
        data, descriptors, _, _ = socket.recv_fds(control, _CHUNK, _DESCRIPTORS)
    except ConnectionError:
        return b"", []
    return data, descriptors
