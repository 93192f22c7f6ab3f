"""The store over a catalog and a chunk store, with its writers and readers.

A put writes its chunks under a version of its own and then moves the name to it in one transaction.
A reader holds a reference to the version that it was opened on; garbage collection deletes what was replaced
or deleted meanwhile when the last reader closes, or when the store is opened the next time.
"""

import hashlib
import logging
import secrets
import threading
import time
import uuid
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

import xxhash

from ...messages.data import BlobInfo, BlobMatch, BlobMeta, BlobPage
from ..errors import BlobDamaged, NoSuchBlob, StoreError
from .catalog import BlobRecord, Catalog, CatalogEntry
from .chunk_store import ChunkKey, ChunkSet, ChunkStore
from .lmdb_writer import GroupCommitWriter, OutcomeUnknown
from .names import check_name

_LOG = logging.getLogger(__name__)
_MAX_TOMBSTONES = 1000


class CatalogStore:
    """A `Store` over any chunk store. It owns the LMDB writer and the chunk store."""

    def __init__(self, kind: str, writer: GroupCommitWriter, chunk_store: ChunkStore) -> None:
        self.kind = kind
        self.id = uuid.uuid4().hex
        self.put_threads = chunk_store.put_threads
        self.chunk_store = chunk_store
        self._writer = writer
        self._catalog = Catalog(writer)
        self._lease = int(time.time()).to_bytes(4).hex() + secrets.token_hex(4)
        self._numbers = iter(range(1 << 32))
        self._guard = threading.Lock()
        self._refcounts: Counter[str] = Counter()
        self._uploads = 0
        self._tombstones = {chunk_set.key.version: chunk_set for chunk_set in self._catalog.tombstones()}
        self._collecting = threading.Lock()
        self._wake = threading.Event()
        self._closed = False
        self._recover()
        self._collector = threading.Thread(target=self._collect_forever, name="store-sweeper", daemon=True)
        self._collector.start()

    def put(self, tag: str, name: str, meta: BlobMeta) -> "ChunkedBlobWriter":
        """Open a writer for a blob. Raises BadName."""
        check_name("tag", tag)
        check_name("name", name)
        with self._guard:
            self._check_open()
            self._uploads += 1
            version = self._lease + next(self._numbers).to_bytes(4).hex()
        return ChunkedBlobWriter(self, ChunkKey(tag, name, version, meta.content_type), meta)

    def open(self, tag: str, name: str, *, digest: bool = True) -> "ChunkedBlobReader":
        """Raises NoSuchBlob. Without `digest` it is the caller who holds the SHA-256 to what was read."""
        with self._guard:  # a version is pinned before the sweeper can look for pins
            self._check_open()
            entry = self._catalog.find(tag, name)
            if entry is None:
                raise NoSuchBlob(f"{tag[:60]!r}/{name[:60]!r}: there is no such blob")
            self._refcounts[entry.record.info.version] += 1
        return ChunkedBlobReader(entry, self.chunk_store, self._unref, digest)

    def stat(self, tag: str, name: str) -> BlobInfo | None:
        """Metadata of a blob; None if there is none."""
        entry = self._catalog.find(tag, name)
        return entry.record.info if entry else None

    def list(self, tag_pattern: str, name_pattern: str = "*", after: str = "", limit: int = 1000) -> BlobPage:
        """Blobs whose tag and name match, ordered as `bridge.store.names` says. Raises BadInput."""
        return self._catalog.page(tag_pattern, name_pattern, after, limit)

    def search(self, tag: str, query: str, k: int = 10) -> Sequence[BlobMatch] | None:
        """None: only IOWarp's chunk store can search what it holds."""
        return None

    def delete(self, tag: str, names: Sequence[str]) -> int:
        """Remove blobs for good; how many there were."""
        return self._drop(self._catalog.remove(tag, names))

    def destroy(self, tags: Sequence[str]) -> int:
        """Remove tags with all their blobs for good; how many blobs there were."""
        return sum(self._drop(chunk_sets) for tag in tags for chunk_sets in self._catalog.remove_tag(tag))

    def close(self) -> None:
        """Finish what is under way and let go of the store. Readers that are open read no further."""
        with self._guard:
            if self._closed:
                return
            self._closed = True
            clean = not self._uploads
        self._wake.set()
        self._collector.join()
        try:
            self._refcounts.clear()
            self._collect_garbage()
            if clean:
                self._catalog.end_lease(self._lease)
        finally:
            self._writer.close()
            self.chunk_store.close()

    def begin_commit(self, entry: CatalogEntry, key: ChunkKey) -> Callable[[], None]:
        """Commit an upload; what it returns waits for the end."""
        return partial(self._committed, self._catalog.begin_commit(entry, self.chunk_store.commit_hook(key)))

    def _committed(self, wait: Callable[[], ChunkSet | None]) -> None:
        old = wait()
        with self._guard:
            self._uploads -= 1
            if old:
                self._tombstones[old.key.version] = old
        if len(self._tombstones) > _MAX_TOMBSTONES:
            self._collect_garbage()
        elif old:
            self._wake.set()

    def discard(self, chunk_set: ChunkSet) -> None:
        """Discard an upload. What cannot be removed now is collected at the next opening."""
        try:
            self.chunk_store.drop([chunk_set])
        except StoreError as error:
            _LOG.warning("an aborted upload could not be removed yet: %s", error)
            return
        with self._guard:
            self._uploads -= 1

    def _drop(self, chunk_sets: Sequence[ChunkSet]) -> int:
        with self._guard:
            self._tombstones.update((chunk_set.key.version, chunk_set) for chunk_set in chunk_sets)
        self._collect_garbage()
        return len(chunk_sets)

    def _unref(self, version: str) -> None:
        with self._guard:
            self._refcounts[version] -= 1
            if not self._refcounts[version]:
                del self._refcounts[version]
            waiting = version in self._tombstones
        if waiting:
            self._wake.set()

    def _collect_garbage(self) -> None:
        """Collect garbage: delete tombstoned versions that no reader has open."""
        with self._collecting:
            with self._guard:
                free = [
                    chunk_set
                    for version, chunk_set in self._tombstones.items()
                    if version not in self._refcounts
                ]
            if not free:
                return
            self.chunk_store.drop(free)
            self._catalog.forget(free)
            with self._guard:
                for chunk_set in free:
                    del self._tombstones[chunk_set.key.version]

    def _collect_forever(self) -> None:
        while self._wake.wait() and not self._closed:
            self._wake.clear()
            try:
                self._collect_garbage()
            except StoreError as error:  # nothing is lost: it stays doomed, and the next sweep has it again
                _LOG.warning("old versions could not be removed yet: %s", error)

    def _recover(self) -> None:
        """Collect the orphaned chunks of a process that died."""
        for lease in self._catalog.leases():
            orphans = self.chunk_store.drop_orphans(lease, self._is_known)
            if orphans:
                _LOG.info("%d unfinished uploads of an earlier run were cleared away", orphans)
            self._catalog.end_lease(lease)
        self._collect_garbage()
        self._catalog.begin_lease(self._lease)

    def _is_known(self, version: str) -> bool:
        return version in self._tombstones or self._catalog.is_live(version)

    def _check_open(self) -> None:
        if self._closed:
            raise StoreError("the store is closed; open it again")


class ChunkedBlobWriter:
    """A `BlobWriter`. For one thread at a time."""

    def __init__(self, store: CatalogStore, key: ChunkKey, meta: BlobMeta) -> None:
        self._store = store
        self._key = key
        self._meta = meta
        self._digest = hashlib.sha256()
        self._sums: list[int] = []
        self._held = bytearray()
        self._size = 0
        self._kept = 0
        self._ended = False

    def write(self, chunk: bytes | memoryview) -> None:
        """Append to the blob. Raises StoreFull, StoreError; then the put is over."""
        self._check()
        view = memoryview(chunk).cast("B")
        self._digest.update(view)
        self._size += len(view)
        room = self._store.chunk_store.chunk_bytes
        while len(self._held) + len(view) >= room:
            take = room - len(self._held)
            self._keep(b"".join((self._held, view[:take])))
            self._held.clear()
            view = view[take:]
        self._held += view

    def commit(self) -> BlobInfo:
        """Make it durable, and the blob of this name from now on. Raises StoreFull, StoreError."""
        return self.begin_commit()()

    def begin_commit(self) -> Callable[[], BlobInfo]:
        """The same in two steps: what it returns waits for the end."""
        self._check()
        if self._held:
            self._keep(bytes(self._held))
        info = BlobInfo(
            tag=self._key.tag,
            name=self._key.name,
            size=self._size,
            sha256=self._digest.hexdigest(),
            version=self._key.version,
            stored_at=time.time(),
            meta=self._meta,
        )
        record = BlobRecord(info=info, chunk_bytes=self._store.chunk_store.chunk_bytes, checksum="xxh3")
        try:
            wait = self._store.begin_commit(CatalogEntry(record, tuple(self._sums)), self._key)
        except BaseException:
            self.abort()
            raise
        return partial(self._committed, wait, info)

    def _committed(self, wait: Callable[[], None], info: BlobInfo) -> BlobInfo:
        try:
            wait()
        except OutcomeUnknown:
            self._ended = True  # the chunks may be needed: the next opening of the store finds out
            raise
        except BaseException:
            self.abort()
            raise
        self._ended = True
        return info

    def abort(self) -> None:
        """Forget it. Does nothing after `commit`."""
        if not self._ended:
            self._ended = True
            self._store.discard(ChunkSet(self._key, len(self._sums), self._kept))

    def _keep(self, data: bytes) -> None:
        self._sums.append(_xxh3(data))
        try:
            self._store.chunk_store.put(self._key, len(self._sums) - 1, data)
        except BaseException:
            self.abort()
            raise
        self._kept += len(data)

    def _check(self) -> None:
        if self._ended:
            raise StoreError(f"{self._key.name[:60]!r}: this put is over; begin another")


class ChunkedBlobReader:
    """A `BlobReader`. For one thread at a time.

    Every chunk is checked by its checksum, and a blob read from its beginning to its end in order by
    its SHA-256 too, unless the caller does that.
    """

    def __init__(
        self, entry: CatalogEntry, chunk_store: ChunkStore, unpin: Callable[[str], None], digest: bool
    ) -> None:
        self.info = entry.record.info
        self._chunk_set = entry.record.chunk_set
        self._chunk_bytes = entry.record.chunk_bytes
        self._sums = entry.sums
        self._sum = _xxh3 if entry.record.checksum == "xxh3" else zlib.crc32
        self._chunk_store = chunk_store
        self._unref = unpin
        self._digest = hashlib.sha256() if digest else None
        self._digested = 0
        self._last: tuple[int, bytes] = (-1, b"")
        self._closed = False

    def read(self, offset: int, size: int) -> bytes:
        """Bytes from `offset`, fewer than `size` only at the end. Raises BlobDamaged, StoreError."""
        if self._closed:
            raise StoreError(f"{self.info.name[:60]!r}: this reader is closed")
        end = min(self.info.size, offset + size)
        parts: list[bytes] = []
        at = offset
        while at < end:
            number, skip = divmod(at, self._chunk_bytes)
            parts.append(self._chunk(number)[skip : skip + end - at])
            at += len(parts[-1])
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        self._digest_in_order(offset, data)
        return data

    def close(self) -> None:
        """Let go of it."""
        if not self._closed:
            self._closed = True
            self._unref(self.info.version)

    def _chunk(self, number: int) -> bytes:
        if self._last[0] != number:
            size = min(self._chunk_bytes, self.info.size - number * self._chunk_bytes)
            data = self._chunk_store.get(self._chunk_set.key, number, size)
            if len(data) != size or self._sum(data) != self._sums[number]:
                raise self._damaged(f"bytes {number * self._chunk_bytes} and on are not what was put")
            self._last = (number, data)
        return self._last[1]

    def _digest_in_order(self, offset: int, data: bytes) -> None:
        if self._digest is not None and data and offset == self._digested:
            self._digest.update(data)
            self._digested += len(data)
            if self._digested == self.info.size and self._digest.hexdigest() != self.info.sha256:
                raise self._damaged("its SHA-256 is not the one that was put")

    def _damaged(self, why: str) -> BlobDamaged:
        return BlobDamaged(f"{self.info.tag[:60]!r}/{self.info.name[:60]!r}: {why}; put it again")


def _xxh3(data: bytes) -> int:
    """32 bits of XXH3: it finds accidents; SHA-256 over the whole blob finds the rest."""
    return int(xxhash.xxh3_64_intdigest(data)) & 0xFFFFFFFF
