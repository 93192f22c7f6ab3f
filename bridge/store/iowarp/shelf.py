"""Chunks as IOWarp blobs, under IOWarp's own tags, with names that a person recognises.

A blob `docs/a.md` of one chunk is the IOWarp blob `a.md@<version>.0.txt` of the tag `docs`; `.txt`
ends the names of chunks of text, and those are indexed for `search`. Tags and names that are long or
not printable are cut and, tags, given a hash.
"""

import hashlib
import os
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from ...errors import StoreError, StoreFull
from ..ledger import Txn
from ..shelf import Bundle, Label, Settle
from .frames import DELETE, FIND, GET, PUT, SEARCH
from .runtime import SEARCHABLE
from .supervisor import IOWarp, Request

_CHUNK_BYTES: Final = 1 << 20
_SHOWN: Final = 100
_SPECIAL: Final = frozenset(r".^$*+?()[]{}|\\")


class IOWarpShelf:
    """Chunks in a supervised IOWarp. `used` bytes lie there already; `max_bytes` is the limit."""

    chunk_bytes: int = _CHUNK_BYTES
    put_threads: int = 32

    def __init__(self, warp: IOWarp, used: int, max_bytes: int) -> None:
        self._warp = warp
        self._used = used
        self._max_bytes = max_bytes
        self._guard = threading.Lock()
        self._unsynced = False

    def put(self, label: Label, number: int, data: bytes) -> None:
        """Keep a chunk: it survives the end of the runtime, and after `sync` a power cut."""
        with self._guard:
            if self._used + len(data) > self._max_bytes:
                raise StoreFull(
                    f"the store holds {self._used} bytes, and {len(data)} more would pass its limit of "
                    f"{self._max_bytes}; delete blobs, or raise store.max_gb"
                )
            self._used += len(data)
        try:
            self._warp.ask([PUT, tag_of(label.tag), _chunk_name(label, number), _is_text(label)], data)
        except BaseException:
            with self._guard:
                self._used -= len(data)
            raise
        self._unsynced = True

    def settle(self, label: Label) -> Settle:
        """Nothing: the ledger calls `sync` before it commits."""
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

    def get(self, label: Label, number: int, size: int) -> bytes:
        """A chunk; zeros if it is not there."""
        return self._warp.ask([GET, tag_of(label.tag), _chunk_name(label, number), size])[1]

    def drop(self, bundles: Iterable[Bundle]) -> None:
        """Remove uploads."""
        requests: list[Request] = []
        freed = 0
        for label, chunks, size in bundles:
            tag, text = tag_of(label.tag), _is_text(label)
            requests += (([DELETE, tag, _chunk_name(label, n), text], b"") for n in range(chunks))
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
    if len(tag) <= _SHOWN and tag.isprintable():
        return tag
    return f"{shown(tag)}~{hashlib.sha256(tag.encode()).hexdigest()[:32]}"


def shown(name: str) -> str:
    """A name as IOWarp's names begin with it."""
    return "".join(c if c.isprintable() else "?" for c in name[:_SHOWN])


def version_in(chunk_name: str) -> str:
    """The version in the name of a chunk."""
    return chunk_name.rpartition("@")[2].partition(".")[0]


def _chunk_name(label: Label, number: int) -> str:
    return f"{shown(label.name)}@{label.version}.{number}{SEARCHABLE if _is_text(label) else ''}"


def _is_text(label: Label) -> bool:
    return label.content_type.startswith("text/")


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
