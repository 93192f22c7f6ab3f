"""Chunked transfers: a client's value into the store (`UploadStream`), a stored one out (`DownloadStream`).

Invariants:
  - every chunk in flight is reserved in the budget: from before it is granted (upload) or read (download)
    until it has been written, or the client acknowledges it with credit;
  - a stream has at most `window` chunks in flight, and works in a serial executor of its own;
  - however a stream ends, its writer is committed or aborted, its reader closed, its budget given back.
"""

import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from ...messages.data import BlobInfo
from .. import wire
from ..frames import LAST_CHUNK, BadFrames, Buffer, MessageKind
from ..store.base import BlobReader, BlobWriter
from .memory_budget import MemoryBudget
from .serial_executor import SerialExecutors, StoreJob
from .sessions import PendingReply

READ_AHEAD = 2
"""Chunks of one stream that are being read while others are being sent."""


@dataclass(frozen=True, slots=True)
class StreamConfig:
    """Shared limits and executors of all streams of a server."""

    executors: SerialExecutors
    budget: MemoryBudget
    chunk: int
    """Bytes."""
    window: int
    """Chunks."""


class _Stream(ABC):
    """Base of both directions. Raises BadFrames if the client has a stream of this number."""

    def __init__(self, reply: PendingReply, config: StreamConfig) -> None:
        self.heard_at = time.monotonic()
        self._reply = reply
        self._config = config
        self._executor = config.executors.new_executor()
        self._under_way: deque[int] = deque()
        """Sizes of the chunks that are reserved, oldest first."""
        self._waiting = False
        self._ended = False
        if reply.correlation in reply.session.streams:
            raise BadFrames(f"stream {reply.correlation} is open already")
        reply.session.streams[reply.correlation] = self

    def abort(self) -> None:
        """Discard it without a message to the client."""
        if self._end():
            self._reply.end()

    def fail(self, error: Exception) -> None:
        """Discard it, and send the error to the client."""
        if self._end():
            self._reply.fail(error)

    @abstractmethod
    def _wanted(self) -> int:
        """Size of the chunk to reserve next; 0 for none."""

    @abstractmethod
    def _use(self, size: int) -> None:
        """Use a chunk's reservation."""

    @abstractmethod
    def _let_go(self) -> None:
        """In a thread, after all else: abort the writer, close the reader."""

    def _advance(self) -> None:
        """Reserve what is wanted, as far as there is room."""
        budget = self._config.budget
        while not (self._ended or self._waiting) and (size := self._wanted()):
            if self._under_way:
                if not budget.try_acquire_spare(size):
                    return  # the next chunk that is done asks again
            elif not budget.try_acquire(size):
                self._waiting = True
                budget.acquire_later(size, partial(self._reserved, size))
                return
            self._under_way.append(size)
            self._use(size)

    def _reserved(self, size: int) -> None:
        """Continue after a reservation that had to wait."""
        self._waiting = False
        if self._ended:
            self._config.budget.release(size)
            return
        self._under_way.append(size)
        self._use(size)
        self._advance()

    def _release(self) -> None:
        """Release the oldest chunk's reservation."""
        self._config.budget.release(self._under_way.popleft())

    def _end(self) -> bool:
        """Release everything. Returns False if it had ended before."""
        if self._ended:
            return False
        self._ended = True
        del self._reply.session.streams[self._reply.correlation]
        self._executor.submit(StoreJob(self._let_go, self._gone, self._gone))
        return True

    def _gone(self, outcome: Exception | None) -> None:
        if outcome is not None:
            self._reply.note(outcome)
        while self._under_way:
            self._release()


class UploadStream(_Stream):
    """A chunked put."""

    def __init__(
        self,
        reply: PendingReply,
        config: StreamConfig,
        size: int,
        begin: Callable[[], BlobWriter],
        committed: Callable[[BlobInfo], object],
    ) -> None:
        super().__init__(reply, config)
        self._size = size
        self._ungranted = size
        self._unreceived: deque[int] = deque()
        """Sizes of the chunks that are granted."""
        self._received = 0
        self._fresh = 0
        self._complete = False
        self._writer: BlobWriter | None = None
        """Used in the executor only. None before the blob is begun, and after a write has failed."""
        self._begin = begin
        self._committed = committed
        self._executor.submit(StoreJob(self._open, self._opened, self.fail))

    def chunk(self, body: Buffer) -> None:
        """Handle the next chunk."""
        if self._complete or not self._unreceived or len(body) > self._unreceived[0]:
            self.fail(BadFrames(f"a chunk of {len(body)} bytes that nobody has granted"))
            return
        self._unreceived.popleft()
        self._received += len(body)
        self._executor.submit(StoreJob(partial(self._write, body), self._written, self.fail))

    def finish(self) -> None:
        """Handle the end of the upload: commit."""
        if self._complete:
            return
        self._complete = True
        if self._size not in {-1, self._received}:
            self.fail(BadFrames(f"{self._received} bytes have come, {self._size} were announced"))
            return
        self._executor.submit(StoreJob(self._commit, self._done, self.fail))

    def _wanted(self) -> int:
        if self._complete or len(self._under_way) >= self._config.window:
            return 0
        return self._config.chunk if self._size < 0 else min(self._config.chunk, self._ungranted)

    def _use(self, size: int) -> None:
        self._ungranted -= size
        self._unreceived.append(size)
        if not self._fresh:
            self._config.executors.loop.call_soon(self._grant)
        self._fresh += 1

    def _grant(self) -> None:
        """One message for all that was granted in this turn of the loop."""
        fresh, self._fresh = self._fresh, 0
        if not self._ended:
            self._reply.send(MessageKind.CREDIT, wire.ChunkCredit(chunks=fresh).model_dump_json().encode())

    def _open(self) -> None:
        self._writer = self._begin()

    def _opened(self, _: None) -> None:
        self._advance()

    def _write(self, body: Buffer) -> None:
        if self._writer is None or self._ended:
            return
        try:
            self._writer.write(body)
        except BaseException:
            self._let_go()  # else a commit that waits in the executor would keep a torn blob
            raise

    def _written(self, _: None) -> None:
        self._release()
        self._advance()

    def _commit(self) -> BlobInfo | None:
        return None if self._writer is None or self._ended else self._writer.commit()

    def _done(self, info: BlobInfo | None) -> None:
        if info is None:
            return
        self._committed(info)
        if self._end():
            self._reply.answer(info)

    def _let_go(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.abort()


class DownloadStream(_Stream):
    """A chunked get."""

    def __init__(
        self, reply: PendingReply, config: StreamConfig, reader: BlobReader, offset: int, credit: int
    ) -> None:
        super().__init__(reply, config)
        self._reader = reader
        self._offset = offset
        self._end_at = reader.info.size
        self._credit = min(credit, config.window)
        self._reading = 0
        self._info = reader.info.model_dump_json().encode()
        self._advance()

    def more(self, chunks: int) -> None:
        """Handle credit: the client took so many chunks, and has room for as many more."""
        if chunks > len(self._under_way) - self._reading:
            self.fail(BadFrames(f"credit for {chunks} chunks that were not sent"))
            return
        for _ in range(chunks):
            self._release()
        self._credit += chunks
        if self._offset >= self._end_at and not self._under_way:
            self.abort()  # it has all
        else:
            self._advance()

    def _wanted(self) -> int:
        if self._credit <= 0 or self._reading >= READ_AHEAD:
            return 0
        return min(self._config.chunk, self._end_at - self._offset)

    def _use(self, size: int) -> None:
        self._credit -= 1
        self._reading += 1
        read = partial(self._reader.read, self._offset, size)
        self._offset += size
        last = self._offset >= self._end_at
        self._executor.submit(StoreJob(read, partial(self._send, last), self.fail))

    def _send(self, last: bool, data: bytes) -> None:
        self._reading -= 1
        if self._ended:
            return
        words, self._info = self._info, b""
        self._reply.send(MessageKind.CHUNK, words, data, LAST_CHUNK if last else 0)
        self._advance()

    def _let_go(self) -> None:
        self._reader.close()
