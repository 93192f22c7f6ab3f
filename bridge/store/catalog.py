"""The catalog of blobs: tag and name -> record, with tombstones of versions not yet collected.

One transaction makes a record point to the new version and leaves a tombstone of the old one, so a blob is
its last committed put, whole. A version with a tombstone is deleted once no reader has it open. A version
begins with the lease of the opening of the store that made it; a lease that is still there at the next
opening belongs to a process that died, which may have left orphaned chunks.
"""

import json
import struct
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import takewhile
from typing import Literal, NamedTuple

from ...configs.errors import BadInput
from ...messages.base import Message
from ...messages.data import BlobInfo, BlobPage
from .chunk_store import ChunkKey, ChunkSet, CommitHook
from .lmdb_writer import GroupCommitWriter, Txn, fetch, rows
from .names import NamePattern, blob_key, names_in, read_cursor, tag_prefix, write_cursor

MAX_PAGE = 10_000
_SLICE = 1000


class BlobRecord(Message):
    """Catalog record of one blob."""

    info: BlobInfo
    chunk_bytes: int
    checksum: Literal["crc32", "xxh3"] = "crc32"
    """Of each chunk, 32 bits. New records have xxh3."""

    @property
    def chunk_set(self) -> ChunkSet:
        """Its chunks."""
        info = self.info
        key = ChunkKey(info.tag, info.name, info.version, info.meta.content_type)
        return ChunkSet(key, -(-info.size // self.chunk_bytes), info.size)


class CatalogEntry(NamedTuple):
    """A record with the checksum of each chunk."""

    record: BlobRecord
    sums: tuple[int, ...]


class Catalog:
    """The catalog's tables in LMDB."""

    def __init__(self, writer: GroupCommitWriter) -> None:
        self._writer = writer
        tables = writer.tables
        self._blobs = tables["blobs"]
        self._sums = tables["sums"]
        self._doomed = tables["doomed"]
        self._leases = tables["leases"]

    def begin_commit(self, entry: CatalogEntry, commit_hook: CommitHook) -> Callable[[], ChunkSet | None]:
        """Make a record the one of its name, for good; the bundle that it replaces is doomed.

        What it returns waits for the end.
        """
        info = entry.record.info
        key, row = blob_key(info.tag, info.name), entry.record.model_dump_json().encode()
        sums = struct.pack(f">{len(entry.sums)}I", *entry.sums)

        def op(txn: Txn) -> ChunkSet | None:
            commit_hook(txn)
            self._writer.require(txn, len(row) + len(sums))
            old = fetch(txn, self._blobs, key)
            txn.put(key, row, db=self._blobs)
            txn.put(bytes.fromhex(info.version), sums, db=self._sums)
            return self._add_tombstone(txn, old) if old else None

        return self._writer.begin(op)

    def find(self, tag: str, name: str) -> CatalogEntry | None:
        """The record of a blob, with its sums."""
        key = blob_key(tag, name)
        with self._writer.read() as txn:
            row = fetch(txn, self._blobs, key)
            if row is None:
                return None
            record = BlobRecord.model_validate_json(row)
            packed = fetch(txn, self._sums, bytes.fromhex(record.info.version)) or b""
        return CatalogEntry(record, struct.unpack(f">{len(packed) // 4}I", packed))

    def page(self, tag_pattern: str, name_pattern: str, after: str, limit: int) -> BlobPage:
        """Records that match, in the order of their keys. Raises BadInput, BadName."""
        if not 1 <= limit <= MAX_PAGE:
            raise BadInput(f"limit: {limit} is not between 1 and {MAX_PAGE}")
        pattern = NamePattern(tag_pattern, name_pattern)
        start = max(pattern.prefix, read_cursor(after) + b"\0") if after else pattern.prefix
        found: list[BlobInfo] = []
        last = b""
        with self._writer.read() as txn:
            for key, row in self._rows(txn, start, pattern.prefix):
                names = names_in(key)
                if names and not pattern.matches(*names):
                    continue
                info = BlobRecord.model_validate_json(row).info
                if names or pattern.matches(info.tag, info.name):
                    if len(found) == limit:
                        return BlobPage(blobs=tuple(found), next=write_cursor(last))
                    found.append(info)
                    last = key
        return BlobPage(blobs=tuple(found))

    def remove(self, tag: str, names: Sequence[str]) -> list[ChunkSet]:
        """Forget blobs for good; what is doomed by it."""
        keys = [blob_key(tag, name) for name in names]
        tombstones: list[ChunkSet] = []
        for at in range(0, len(keys), _SLICE):
            tombstones += self._writer.run(partial(self._remove, keys=keys[at : at + _SLICE]))
        return tombstones

    def remove_tag(self, tag: str) -> Iterator[list[ChunkSet]]:
        """Forget all blobs under a tag for good, some at a time; what is doomed by it."""
        prefix = tag_prefix(tag)
        start = prefix
        while True:
            keys: list[bytes] = []
            with self._writer.read() as txn:
                for key, row in self._rows(txn, start, prefix):
                    names = names_in(key)
                    if (names[0] if names else BlobRecord.model_validate_json(row).info.tag) == tag:
                        keys.append(key)
                    start = key
                    if len(keys) == _SLICE:
                        break
            if not keys:
                return
            yield self._writer.run(partial(self._remove, keys=keys))

    def tombstones(self) -> list[ChunkSet]:
        """All tombstones: versions that were dropped and not yet collected."""
        with self._writer.read() as txn:
            return [_chunk_set(row) for _, row in rows(txn, self._doomed)]

    def forget(self, chunk_sets: Sequence[ChunkSet]) -> None:
        """Delete tombstones whose chunks have been deleted."""
        versions = [bytes.fromhex(chunk_set.key.version) for chunk_set in chunk_sets]

        def op(txn: Txn) -> None:
            for version in versions:
                txn.delete(version, db=self._doomed)

        self._writer.run(op)

    def is_live(self, version: str) -> bool:
        """Return whether a record points to this version."""
        with self._writer.read() as txn:
            return fetch(txn, self._sums, bytes.fromhex(version)) is not None

    def leases(self) -> list[str]:
        """Openings of the store that have not been closed."""
        with self._writer.read() as txn:
            return [key.hex() for key, _ in rows(txn, self._leases)]

    def begin_lease(self, lease: str) -> None:
        """From now on versions may begin with it."""
        self._writer.run(lambda txn: txn.put(bytes.fromhex(lease), b"", db=self._leases))

    def end_lease(self, lease: str) -> None:
        """No version of it lies anywhere but those in the catalog."""
        self._writer.run(lambda txn: txn.delete(bytes.fromhex(lease), db=self._leases))

    def total_bytes(self) -> int:
        """Of all blobs, with those that are doomed. Reads every record."""
        with self._writer.read() as txn:
            live = sum(BlobRecord.model_validate_json(row).info.size for _, row in rows(txn, self._blobs))
        return live + sum(chunk_set.size for chunk_set in self.tombstones())

    def _rows(self, txn: Txn, start: bytes, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        return takewhile(lambda item: item[0].startswith(prefix), rows(txn, self._blobs, start))

    def _remove(self, txn: Txn, keys: Sequence[bytes]) -> list[ChunkSet]:
        removed: list[ChunkSet] = []
        for key in keys:
            row = fetch(txn, self._blobs, key)
            if row is not None:
                txn.delete(key, db=self._blobs)
                removed.append(self._add_tombstone(txn, row))
        return removed

    def _add_tombstone(self, txn: Txn, row: bytes) -> ChunkSet:
        chunk_set = BlobRecord.model_validate_json(row).chunk_set
        version = bytes.fromhex(chunk_set.key.version)
        txn.delete(version, db=self._sums)
        txn.put(version, json.dumps([*chunk_set.key, *chunk_set[1:]]).encode(), db=self._doomed)
        return chunk_set


def _chunk_set(row: bytes) -> ChunkSet:
    *key, chunks, size = json.loads(row)
    return ChunkSet(ChunkKey(*key), chunks, size)
