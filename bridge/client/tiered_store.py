"""The two tiers as their users see them: the store behind the bridge, and the cache in front of it.

A table that was stored as an Arrow file keeps its original, byte for byte, under a hidden tag beside its own:
`docs/x.csv` is an Arrow file; the CSV is `.original/docs/x.csv`, and its SHA-256 stands in the Arrow file's
meta data. It costs the store as much again as the file has, and the cache nothing.
"""

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from functools import partial
from typing import Final, NamedTuple, Protocol, TypeVar

from ...configs.data import DataSettings
from ...configs.errors import AgentFactoryError, BadInput
from ...messages.data import BlobInfo, BlobMeta, BlobUpload
from ..errors import BadName, NoSuchBlob
from ..search.base import BlobLister, blob_pages, index_tag

T = TypeVar("T")
Blob = tuple[str, str]
"""Tag and name."""

CLIENT_ERRORS = (BadInput, NoSuchBlob)
"""Errors caused by the caller's input. Every other error fails the episode and is not scored."""


class BlobSink(BlobLister, Protocol):
    """The part of the bridge's client that putting blobs needs."""

    async def put(
        self,
        tag: str,
        name: str,
        data: bytes | AsyncIterator[bytes | memoryview],
        meta: BlobMeta | None = None,
    ) -> BlobInfo:
        """Store a blob. If the iterator raises, nothing is stored and that is raised."""

    def stream(self, tag: str, name: str) -> AbstractAsyncContextManager[AsyncIterable[bytes | memoryview]]:
        """The bytes of a blob, in pieces. Raises NoSuchBlob."""

    async def stat(self, tag: str, name: str) -> BlobInfo | None:
        """Metadata of a blob; None if there is none."""


class IngestSink(BlobSink, Protocol):
    """The destination of an ingestion."""

    async def put_many(self, tag: str, blobs: Sequence[BlobUpload]) -> Sequence[BlobInfo | AgentFactoryError]:
        """Store small blobs of different names; what came of each, in their order."""

    async def touch(self, tag: str, name: str, data: bytes, sha256: str) -> None:
        """Refresh a value that the store has already, known by its digest."""

    async def delete(self, tag: str, names: Sequence[str]) -> int:
        """Remove blobs for good; how many there were."""

    async def flush_index(self) -> None:
        """Flush the cache's index, so that all that was put can be found. Called at the end, in any case."""


class BlobStore(BlobSink, Protocol):
    """The store, as the bridge's client offers it."""

    async def put_many(self, tag: str, blobs: Sequence[BlobUpload]) -> Sequence[BlobInfo | AgentFactoryError]:
        """Store small blobs that are sent together; what came of each, in their order."""

    async def get(self, tag: str, name: str) -> bytes:
        """All bytes of a blob. Raises NoSuchBlob."""

    async def delete(self, tag: str, names: Sequence[str]) -> int:
        """Remove blobs for good; how many there were."""


class CachedBlobInfo(Protocol):
    """A blob that is cached."""

    @property
    def tag(self) -> str: ...  # noqa: D102

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def size(self) -> int:
        """Bytes."""


class BlobCache(Protocol):
    """The cache. No error of its own leaves it: a cache that is down has nothing and keeps nothing."""

    async def read_through(
        self, tag: str, name: str, load: Callable[[], Awaitable[bytes | None]], force: bool = False
    ) -> tuple[bytes | None, bool]:
        """The bytes, and whether they were cached; if not, they come from `load` and are cached now."""

    async def write_through(
        self,
        tag: str,
        name: str,
        put: Callable[[], Awaitable[T]],
        value: bytes | None,
        *,
        one_of_many: bool = False,
    ) -> T:
        """Put, then cache the value (None: leave it to the store)."""

    async def write_many_through(
        self, values: Mapping[Blob, bytes], put: Callable[[], Awaitable[Sequence[T | AgentFactoryError]]]
    ) -> Sequence[T | AgentFactoryError]:
        """Put many, each as one of many, then cache the values of those that the store took."""

    async def flush_index(self) -> None:
        """Flush the index: all processes find by `query` what was written as one of many."""

    async def delete_through(
        self, blobs: Iterable[Blob], delete: Callable[[], Awaitable[Iterable[Blob]]]
    ) -> Sequence[Blob]:
        """Delete, and forget `blobs` and what `delete` says it removed."""

    async def prune(self, tag: str, names: Iterable[str]) -> int:
        """Forget blobs; how many were cached."""

    async def query(self, tag_pattern: str = "*", name_pattern: str = "*") -> Sequence[CachedBlobInfo]:
        """The blobs that are cached and match (glob)."""


class TieredStore(NamedTuple):
    """Both."""

    store: BlobStore
    cache: BlobCache


OpenTieredStore = Callable[[DataSettings], AbstractAsyncContextManager[TieredStore]]
"""Connects to both, for as long as the block lasts. An actor takes it to its own process."""


class WriteThroughStore:
    """Write-through: every put goes to the store and then to the cache, unless it is a stream.

    What was put is found by a query of the cache once `flush_index` has returned.
    """

    def __init__(self, tiers: TieredStore) -> None:
        self._store, self._cache = tiers
        self.delete = partial(delete_blobs, tiers)
        self.stat = self._store.stat
        self.list = self._store.list
        self.stream = self._store.stream
        self.flush_index = self._cache.flush_index

    async def put(
        self,
        tag: str,
        name: str,
        data: bytes | AsyncIterator[bytes | memoryview],
        meta: BlobMeta | None = None,
    ) -> BlobInfo:
        """Put to the store, then to the cache."""
        put = partial(self._store.put, tag, name, data, meta)
        value = data if isinstance(data, bytes) else None
        return await self._cache.write_through(tag, name, put, value, one_of_many=True)

    async def put_many(self, tag: str, blobs: Sequence[BlobUpload]) -> Sequence[BlobInfo | AgentFactoryError]:
        """Put to the store, then to the cache, all together; what came of each, in their order."""
        values = {(tag, blob.name): blob.data for blob in blobs}
        return await self._cache.write_many_through(values, partial(self._store.put_many, tag, blobs))

    async def touch(self, tag: str, name: str, data: bytes, sha256: str) -> None:
        """Cache a value that the store has already, if the cache has forgotten it."""
        store, cache = self._store, self._cache

        async def load() -> bytes | None:
            """Looked up only now, after the lease was taken, so that a concurrent put is seen."""
            info = await store.stat(tag, name)
            return data if info is not None and info.sha256 == sha256 else None

        await cache.read_through(tag, name, load)


async def delete_tags(tiers: TieredStore, tags: Sequence[str]) -> int:
    """Remove tags from the store and from the cache, for good, with their search indexes and originals.

    Page by page, each blob by its name, so that the cache knows of every one before it goes (see
    `delete_through`), however many there are: nothing that is gone stays cached, and nothing else is
    forgotten. What was put before this began is gone when it returns; what is put meanwhile may stay.
    Returns how many blobs there were, without those of search indexes and originals.
    """
    removed = 0
    for tag in tags:
        async for page in blob_pages(tiers.store, tag):
            removed += await delete_blobs(tiers, tag, [info.name for info in page])
        for beside in (index_tag(tag), original_tag(tag)):
            with suppress(BadName):  # so long a tag has nothing beside it
                async for page in blob_pages(tiers.store, beside):
                    await delete_blobs(tiers, beside, [info.name for info in page])
    return removed


async def delete_blobs(tiers: TieredStore, tag: str, names: Sequence[str]) -> int:
    """Remove blobs from the store and from the cache, for good; how many there were."""
    store, cache = tiers
    removed = 0
    blobs = [(tag, name) for name in names]

    async def delete() -> list[Blob]:
        nonlocal removed
        removed = await store.delete(tag, names)
        return blobs

    await cache.delete_through(blobs, delete)
    return removed


ORIGINAL_PREFIX: Final = ".original/"


def original_tag(tag: str) -> str:
    """Under which tag the originals of a tag lie."""
    return ORIGINAL_PREFIX + tag
