"""What a fork server and its client say: JSON objects behind a four-byte length (big-endian).

Standard library only: the server imports this file with no third-party package in reach.
"""

import json
from collections.abc import Iterator
from typing import Final, Literal, TypedDict, cast

MAX_FRAME_BYTES: Final = 64 * 2**20
_HEADER_BYTES: Final = 4

Ending = Literal["ok", "error", "timeout", "memory", "output", "forbidden", "crashed"]
"""How a piece of work ended."""


class Setup(TypedDict):
    """The client's first frame: the limits of every piece of work, and what to load before it."""

    modules: list[str]
    memory_mb: int
    """Address space on top of what the warm process has."""
    output_bytes: int
    reads: bool
    """Leave reading files to the work, under the server's own user."""
    allow_weak: bool


class Hello(TypedDict):
    """The server's first frame."""

    error: str
    """Why it cannot serve; empty if it can."""
    level: str
    namespaces: list[str]
    user: str
    detail: str


class Work(TypedDict):
    """Do this in a process of its own, or stop doing it."""

    id: int
    input: str
    timeout_s: float
    cancel: bool
    """Kill the work of this id; there will be no answer."""


class Answer(TypedDict):
    """What became of a piece of work."""

    id: int
    ending: Ending
    output: str


class BadFrame(Exception):
    """The other side does not speak this protocol."""


def encode(frame: Setup | Hello | Work | Answer) -> bytes:
    """The bytes to send."""
    body = json.dumps(frame, separators=(",", ":")).encode("ascii")
    return len(body).to_bytes(_HEADER_BYTES, "big") + body


class Decoder:
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


def read_hello(body: bytes) -> Hello:
    """Parse the server's first frame."""
    return cast(Hello, json.loads(body))


def read_work(body: bytes) -> Work:
    """Parse a frame from the client."""
    return cast(Work, json.loads(body))


def read_answer(body: bytes) -> Answer:
    """Parse a frame from the server."""
    return cast(Answer, json.loads(body))
