"""The client's side of a stream.

Invariant: chunks that have come and were not taken yet are at most the window that was granted; a chunk
is granted anew when one is taken.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import NamedTuple

from . import wire
from .errors import BridgeDown
from .frames import Buffer
from .link import Link

ONE_MORE = wire.Credit(chunks=1).model_dump_json().encode()


class LinkLost(BridgeDown):
    """The bridge was lost on the way; another, or the same later, can be asked."""


class Chunk(NamedTuple):
    """A piece that has come."""

    words: bytes
    data: Buffer
    last: bool


class Transfer:
    """One stream of a client."""

    def __init__(self, number: int, link: Link, timeout_s: float) -> None:
        self.number = number
        self.link = link
        self.credit = 0
        """Of a put: chunks that may be sent."""
        self.chunks: deque[Chunk] = deque()
        """Of a get: what has come."""
        self.result: bytes | None = None
        """Of a put: its answer."""
        self.error: Exception | None = None
        self.open = True
        """Whether the bridge knows of it."""
        self._timeout_s = timeout_s
        self._news = asyncio.Event()

    def receive(self, head: wire.Head, body: Buffer) -> None:
        """A message about it."""
        match head.kind:
            case wire.Kind.CREDIT:
                self.credit += wire.read_words(wire.Credit, head.words).chunks
            case wire.Kind.CHUNK:
                self.chunks.append(Chunk(head.words, body, bool(head.flags & wire.LAST)))
            case wire.Kind.REPLY:
                self.result = head.words
                self.open = False
            case wire.Kind.ERROR:
                self.error = wire.error_of(head.words)
                self.open = False
        self._news.set()

    def fail(self, error: Exception) -> None:
        """It has come to a bad end."""
        self.error = error
        self.open = False
        self._news.set()

    def send(self, kind: wire.Kind, words: bytes = b"", body: Buffer = b"") -> None:
        """A message about it, if the bridge still knows of it."""
        if self.open:
            self.link.send(wire.pack_raw(kind, self.number, words, body))

    async def news(self) -> None:
        """Wait for the next message. Raises what went wrong; BridgeDown if none comes in time."""
        self._news.clear()
        if self.error is None:
            try:
                async with asyncio.timeout(self._timeout_s):
                    await self._news.wait()
            except TimeoutError:
                raise BridgeDown(
                    f"{self.link.endpoint}: a stream stood still for {self._timeout_s:g} s"
                ) from None
        if self.error is not None:
            raise self.error


async def upload(transfer: Transfer, pieces: AsyncIterator[memoryview]) -> bytes:
    """Send all pieces as they are granted; the put's answer."""
    async for piece in pieces:
        while not transfer.credit:
            await transfer.news()
        if transfer.error is not None:
            raise transfer.error
        transfer.credit -= 1
        transfer.send(wire.Kind.CHUNK, body=piece)
    transfer.send(wire.Kind.END)
    while transfer.result is None:
        await transfer.news()
    return transfer.result


async def download(transfer: Transfer) -> AsyncIterator[memoryview]:
    """All pieces as they come; each that is taken makes room for another."""
    while True:
        while not transfer.chunks:
            await transfer.news()
        chunk = transfer.chunks.popleft()
        transfer.send(wire.Kind.CREDIT, ONE_MORE)
        if chunk.last:
            transfer.open = False
        yield memoryview(chunk.data)
        if chunk.last:
            return


async def slices(data: memoryview, size: int) -> AsyncIterator[memoryview]:
    """A value in pieces."""
    for begin in range(0, len(data), size):
        yield data[begin : begin + size]


async def evenly(
    first: bytearray, rest: AsyncIterator[bytes | memoryview], size: int
) -> AsyncIterator[memoryview]:
    """What comes in pieces of any size, in pieces of one size."""
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
