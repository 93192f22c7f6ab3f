"""The chunk store on IOWarp, and the supervisor that keeps IOWarp's runtime and client up.

Chunks are IOWarp blobs under IOWarp's own tags, with names that a person recognises: a blob `docs/a.md` of
one chunk is the IOWarp blob `a.md@<version>.0.txt` of the tag `docs`; `.txt` ends the names of chunks of
text, and those are indexed for `search`. Tags and names that are long or not printable are cut and, tags,
given a hash.

The supervisor consumes requests from any thread; it waits for an answer, or for a new client when the old
one is gone. Every request is idempotent (a chunk's name and bytes never change), so all are retried.

Invariant: one thread starts, watches, restarts and stops both processes; it lives as long as they do.
"""

import hashlib
import logging
import os
import select
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from ...errors import StoreError, StoreFull
from ..chunk_store import ChunkKey, ChunkSet, CommitHook
from ..lmdb_writer import Txn
from .client import (
    DELETE,
    FIND,
    GET,
    PUT,
    SEARCH,
    START_LIMIT_S,
    ClientLost,
    ClientProcess,
    ClientReply,
    JsonHeader,
)
from .runtime import SEARCHABLE, IOWarpRuntime

_LOG = logging.getLogger(__name__)
_MAX_IN_FLIGHT: Final = 32
_RETRY_S: Final = 1.0
"""After a start that failed."""

Request = tuple[JsonHeader, bytes]


class IOWarpProcess:
    """A supervised IOWarp over a folder."""

    def __init__(self, folder: Path, max_gb: float, outage_s: float) -> None:
        """`outage_s`: how long a request waits for a runtime that went away or does not complete it."""
        self.runtime: Final = IOWarpRuntime(folder, max_gb)
        self.restarts = 0
        """Times that the runtime or its client had to be started again."""
        self._outage_s = outage_s
        self._link: ClientProcess | None = None
        self._trouble: Exception | None = None
        self._changed = threading.Condition()
        self._stopping = False
        self._wake_read, self._wake_write = os.pipe()
        self._keeper = threading.Thread(target=self._keep, name="iowarp-keeper", daemon=True)

    def start(self) -> None:
        """Start both, once. Raises StoreError."""
        self._keeper.start()
        with self._changed:
            self._changed.wait_for(lambda: self._link or self._trouble, 3 * START_LIMIT_S)
            if self._link is not None:
                return
            trouble = self._trouble
        self.stop()
        raise StoreError(f"IOWarp does not start: {trouble or 'it took too long'}") from trouble

    def ask(self, head: JsonHeader, data: bytes = b"") -> ClientReply:
        """One request. Raises StoreError."""
        return self.ask_all([(head, data)])[0]

    def ask_all(self, requests: Sequence[Request]) -> list[ClientReply]:
        """Requests, many under way at once; the answers in their order. Raises StoreError."""
        ends = time.monotonic() + self._outage_s
        answers: list[ClientReply] = []
        while len(answers) < len(requests):
            part = requests[len(answers) : len(answers) + _MAX_IN_FLIGHT]
            link = self._current(ends)
            try:
                futures = [link.submit(head, data) for head, data in part]
                answers += [future.result(max(0.0, ends - time.monotonic())) for future in futures]
            except (ClientLost, TimeoutError) as error:
                self._lose(link)
                if time.monotonic() > ends:
                    raise StoreError(f"IOWarp does not answer; see {self.runtime.log}") from error
            else:
                ends = time.monotonic() + self._outage_s
        for head, _ in answers:
            if head[0] == "refused":
                raise StoreError(str(head[1]))
        return answers

    def stop(self) -> None:
        """Stop both; what is not answered yet fails."""
        with self._changed:
            if self._stopping:
                return
            self._stopping = True
            self._changed.notify_all()
        os.write(self._wake_write, b"!")
        self._keeper.join()
        os.close(self._wake_read)
        os.close(self._wake_write)

    def _current(self, ends: float) -> ClientProcess:
        with self._changed:
            self._changed.wait_for(lambda: self._link or self._stopping, ends - time.monotonic())
            if self._link is not None:
                return self._link
            trouble = self._trouble
        if self._stopping:
            raise StoreError("the store is closed; open it again")
        raise StoreError(f"IOWarp is down and does not come back ({trouble}); see {self.runtime.log}")

    def _lose(self, link: ClientProcess) -> None:
        with self._changed:
            if self._link is link:
                self._link = None
        link.process.kill()  # the keeper sees it

    def _keep(self) -> None:
        try:
            self._keep_up()
        finally:
            self.runtime.stop()

    def _keep_up(self) -> None:
        while not self._stopping:
            try:
                self.runtime.start()
                link = ClientProcess(self.runtime, self._outage_s)
            except (StoreError, OSError) as error:
                self.runtime.kill()
                self._say(None, error)
                self._watch([], _RETRY_S)
                continue
            self._say(link, None)
            self._watch([link.process.pid, self.runtime.pid], None)
            self._say(None, None)
            link.close()
            if not self._stopping:  # one without the other is of no use, and a kill loses nothing
                self.runtime.kill()
                self.restarts += 1
                _LOG.warning("IOWarp went away and is started again; see %s", self.runtime.log)

    def _say(self, link: ClientProcess | None, trouble: Exception | None) -> None:
        with self._changed:
            self._link, self._trouble = link, trouble
            self._changed.notify_all()

    def _watch(self, processes: Sequence[int | None], limit_s: float | None) -> None:
        """Wait until one of the processes ends, or `stop` is called, or the time is over."""
        with ExitStack() as stack:
            poll = select.poll()
            poll.register(self._wake_read, select.POLLIN)
            for pid in processes:
                if pid is not None:
                    handle = os.pidfd_open(pid)
                    stack.callback(os.close, handle)
                    poll.register(handle, select.POLLIN)
            poll.poll(None if limit_s is None else limit_s * 1000)


_CHUNK_BYTES: Final = 1 << 20
_DISPLAY_CHARS: Final = 100
_SPECIAL: Final = frozenset(r".^$*+?()[]{}|\\")


class IOWarpChunkStore:
    """Chunks in a supervised IOWarp. `used` bytes lie there already; `max_bytes` is the limit."""

    chunk_bytes: int = _CHUNK_BYTES
    put_threads: int = 32

    def __init__(self, warp: IOWarpProcess, used: int, max_bytes: int) -> None:
        self._warp = warp
        self._used = used
        self._max_bytes = max_bytes
        self._guard = threading.Lock()
        self._unsynced = False

    def put(self, key: ChunkKey, number: int, data: bytes) -> None:
        """Keep a chunk: it survives the end of the runtime, and after `sync` a power cut."""
        with self._guard:
            if self._used + len(data) > self._max_bytes:
                raise StoreFull(
                    f"the store holds {self._used} bytes, and {len(data)} more would pass its limit of "
                    f"{self._max_bytes}; delete blobs, or raise store.max_gb"
                )
            self._used += len(data)
        try:
            self._warp.ask([PUT, tag_of(key.tag), _chunk_name(key, number), _is_text(key)], data)
        except BaseException:
            with self._guard:
                self._used -= len(data)
            raise
        self._unsynced = True

    def commit_hook(self, key: ChunkKey) -> CommitHook:
        """No-op: the writer calls `sync` before it commits."""
        return _nothing

    def sync(self) -> None:
        """Flush what was put to disk. Raises StoreError."""
        if self._unsynced:
            self._unsynced = False
            try:
                for path in self._warp.runtime.durable_files():
                    _flush(path)
            except OSError as error:
                self._unsynced = True
                raise StoreError(f"IOWarp's files cannot be flushed: {error}") from error

    def get(self, key: ChunkKey, number: int, size: int) -> bytes:
        """A chunk; zeros if it is not there."""
        return self._warp.ask([GET, tag_of(key.tag), _chunk_name(key, number), size])[1]

    def drop(self, chunk_sets: Iterable[ChunkSet]) -> None:
        """Remove uploads."""
        requests: list[Request] = []
        freed = 0
        for key, chunks, size in chunk_sets:
            tag, text = tag_of(key.tag), _is_text(key)
            requests += (([DELETE, tag, _chunk_name(key, n), text], b"") for n in range(chunks))
            freed += size
        self._warp.ask_all(requests)
        with self._guard:
            self._used -= freed

    def drop_orphans(self, lease: str, is_live: Callable[[str], bool]) -> int:
        """Remove uploads of a lease that no record knows."""
        found = self._warp.ask([FIND, ".*", f".*@{lease}.*"])[0][1:]
        orphans = [(tag, name) for tag, name in map(_pair, found) if not is_live(version_in(name))]
        self._warp.ask_all([([DELETE, tag, name, name.endswith(SEARCHABLE)], b"") for tag, name in orphans])
        return len({version_in(name) for _, name in orphans})

    def search(self, tag: str, words: str, limit: int) -> list[tuple[str, str, float]]:
        """Chunks of text under a tag that hold these words: name, version, score; the best first."""
        pattern = "".join(f"\\{c}" if c in _SPECIAL else c for c in tag_of(tag))
        hits = self._warp.ask([SEARCH, pattern, ".*", words, limit])[0][1:]
        found = ((str(name), float(str(score))) for name, score in map(_pair, hits))
        return [(name.rpartition("@")[0], version_in(name), score) for name, score in found if score > 0]

    def close(self) -> None:
        """Stop IOWarp."""
        self._warp.stop()


def tag_of(tag: str) -> str:
    """The IOWarp tag that holds the blobs of a tag."""
    if len(tag) <= _DISPLAY_CHARS and tag.isprintable():
        return tag
    return f"{display_name(tag)}~{hashlib.sha256(tag.encode()).hexdigest()[:32]}"


def display_name(name: str) -> str:
    """A name as IOWarp's names begin with it."""
    return "".join(c if c.isprintable() else "?" for c in name[:_DISPLAY_CHARS])


def version_in(chunk_name: str) -> str:
    """The version in the name of a chunk."""
    return chunk_name.rpartition("@")[2].partition(".")[0]


def _chunk_name(key: ChunkKey, number: int) -> str:
    return f"{display_name(key.name)}@{key.version}.{number}{SEARCHABLE if _is_text(key) else ''}"


def _is_text(key: ChunkKey) -> bool:
    return key.content_type.startswith("text/")


def _pair(item: object) -> tuple[str, str]:
    assert isinstance(item, list)
    first, second = item
    return first, second


def _nothing(txn: Txn) -> None:
    pass


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDWR)
    try:
        os.fdatasync(handle)
    finally:
        os.close(handle)
