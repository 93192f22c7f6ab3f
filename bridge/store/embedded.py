"""The embedded store: chunks beside the catalog, in the same LMDB environment."""

import threading
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Final

from .catalog_store import CatalogStore
from .chunk_store import ChunkKey, ChunkSet, CommitHook
from .lmdb_writer import GroupCommitWriter, Txn, fetch

_PAGE: Final = 4096
_HEADER: Final = 16
_CHUNK_BYTES: Final = (256 << 10) - _HEADER
"""LMDB's header and a chunk fill whole pages, and all full chunks are alike, so freed pages fit the next."""
_CHUNKS_PER_WRITE: Final = 32
"""Chunks of one upload that go into one transaction."""
_CHUNKS_PER_DELETE: Final = 2048
"""Chunks that are removed in one transaction: others need not wait long."""


class LmdbChunkStore:
    """Chunks in LMDB. A small blob is written in the transaction that commits it, and in no other."""

    chunk_bytes: int = _CHUNK_BYTES
    put_threads: int = 4

    def __init__(self, writer: GroupCommitWriter) -> None:
        self._writer = writer
        self._chunks = writer.tables["chunks"]
        self._held: dict[str, list[tuple[bytes, bytes]]] = {}
        self._guard = threading.Lock()

    def put(self, key: ChunkKey, number: int, data: bytes) -> None:
        """Hold a chunk; with enough of them, write them."""
        row = (_key(key.version, number), data)
        with self._guard:
            held = self._held.setdefault(key.version, [])
            held.append(row)
            if len(held) < _CHUNKS_PER_WRITE:
                return
            del self._held[key.version]
        self._writer.run(lambda txn: self._write(txn, held))

    def commit_hook(self, key: ChunkKey) -> CommitHook:
        """Write what is held."""
        with self._guard:
            held = self._held.pop(key.version, [])
        return lambda txn: self._write(txn, held)

    def get(self, key: ChunkKey, number: int, size: int) -> bytes:
        """A chunk; nothing if it is not there."""
        with self._writer.read() as txn:
            return fetch(txn, self._chunks, _key(key.version, number)) or b""

    def drop(self, chunk_sets: Iterable[ChunkSet]) -> None:
        """Remove uploads, a number of chunks at a time."""
        keys: list[bytes] = []
        for chunk_set in chunk_sets:
            with self._guard:
                self._held.pop(chunk_set.key.version, None)
            keys += (_key(chunk_set.key.version, number) for number in range(chunk_set.chunks))
        for at in range(0, len(keys), _CHUNKS_PER_DELETE):
            self._writer.run(partial(self._remove, keys=keys[at : at + _CHUNKS_PER_DELETE]))

    def drop_orphans(self, lease: str, is_live: Callable[[str], bool]) -> int:
        """Remove uploads of a lease that no record knows."""
        with self._writer.read() as txn:
            counts = dict(self._uploads(txn, bytes.fromhex(lease)))
        orphans = [
            ChunkSet(ChunkKey("", "", version, ""), count, 0)
            for version, count in counts.items()
            if not is_live(version)
        ]
        self.drop(orphans)
        return len(orphans)

    def close(self) -> None:
        """No-op: the writer closes the environment."""

    def _uploads(self, txn: Txn, lease: bytes) -> Iterable[tuple[str, int]]:
        """Versions of a lease with the number of their chunks, one step for each version."""
        cursor = txn.cursor(self._chunks)
        found = cursor.set_range(lease)
        while found and (version := bytes(cursor.key())[:-4]).startswith(lease):
            found = cursor.set_range(version + b"\xff\xff\xff\xff")
            cursor.prev() if found else cursor.last()
            yield version.hex(), int.from_bytes(bytes(cursor.key())[-4:]) + 1
            found = cursor.next()

    def _write(self, txn: Txn, rows: list[tuple[bytes, bytes]]) -> None:
        self._writer.require(txn, sum(_pages(len(data)) for _, data in rows))
        for key, data in rows:
            txn.put(key, data, db=self._chunks)

    def _remove(self, txn: Txn, keys: list[bytes]) -> None:
        for key in keys:
            txn.delete(key, db=self._chunks)


def open_embedded(folder: Path, max_gb: float) -> CatalogStore:
    """Open the embedded store in `folder`, which is made. Raises StoreError."""
    writer = GroupCommitWriter(folder, int(max_gb * (1 << 30)))
    try:
        return CatalogStore("embedded", writer, LmdbChunkStore(writer))
    except BaseException:
        writer.close()
        raise


def _key(version: str, number: int) -> bytes:
    return bytes.fromhex(version) + number.to_bytes(4)


def _pages(size: int) -> int:
    return -(-(size + _HEADER) // _PAGE) * _PAGE
