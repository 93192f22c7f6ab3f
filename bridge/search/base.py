"""Protocols and types shared by indexing and search."""

import glob
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final, NamedTuple, Protocol

from ...messages.data import BlobInfo, BlobMatch, BlobMeta, BlobPage

INDEX_PREFIX: Final = ".index/"


def index_tag(tag: str) -> str:
    """Under which tag the index of a tag lies."""
    return INDEX_PREFIX + tag


class BlobLister(Protocol):
    """A blob store, as far as listing goes."""

    async def list(
        self, tag_pattern: str, name_pattern: str = "*", after: str = "", limit: int = 1000
    ) -> BlobPage:
        """Blobs whose tag and name match (glob), ordered by both, a page at a time."""


async def blob_pages(blobs: BlobLister, tag: str) -> AsyncIterator[Sequence[BlobInfo]]:
    """All blobs of a tag, a page at a time; no page is empty."""
    after = ""
    while True:
        page = await blobs.list(glob.escape(tag), "*", after)
        if page.blobs:
            yield page.blobs
        after = page.next
        if not after:
            return


class Blobs(BlobLister, Protocol):
    """The blob store that holds texts and their indexes; the bridge's client is one."""

    async def put(self, tag: str, name: str, data: bytes, meta: BlobMeta | None = None) -> BlobInfo:
        """Store a blob. Once this returns, it is there for good."""

    async def get(self, tag: str, name: str) -> bytes:
        """The bytes of a blob. Raises NoSuchBlob."""

    async def stat(self, tag: str, name: str) -> BlobInfo | None:
        """Metadata of a blob; None if there is none."""

    async def search(self, tag: str, words: str, k: int = 10) -> Sequence[BlobMatch] | None:
        """Blobs of text that hold these words, by the store's own search; None if it has none."""

    async def delete(self, tag: str, names: Sequence[str]) -> int:
        """Remove blobs; how many there were."""


class IndexProgress(NamedTuple):
    """Progress of an index update."""

    texts: int
    texts_total: int
    passages: int
    """Embedded so far."""


IndexProgressCallback = Callable[[IndexProgress], None]


class Hit(NamedTuple):
    """One passage of a ranking."""

    row: int
    score: float
    share: float = 1.0
    """How much of the question it speaks of, 0..1, where that is known: its weight in a fusion."""
