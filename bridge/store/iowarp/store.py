"""The store on IOWarp: the catalog in LMDB, the bytes in IOWarp, and IOWarp's own search over them."""

import glob
from collections.abc import Iterator, Sequence
from pathlib import Path

from ....configs.errors import BadInput
from ....messages.data import BlobInfo, BlobMatch
from ..catalog import Catalog
from ..catalog_store import CatalogStore
from ..lmdb_writer import GroupCommitWriter
from ..names import check_name
from .chunk_store import IOWarpChunkStore, IOWarpProcess, display_name

_CATALOG_SHARE = 8
_MOST = 1000


class IOWarpStore(CatalogStore):
    """A `Store` that can also search the text it holds."""

    def __init__(self, writer: GroupCommitWriter, chunk_store: IOWarpChunkStore, warp: IOWarpProcess) -> None:
        self.warp = warp
        self._chunk_store = chunk_store
        super().__init__("iowarp", writer, chunk_store)

    def search(self, tag: str, query: str, k: int = 10) -> Sequence[BlobMatch]:
        """Blobs of text (content type `text/…`) under a tag that hold words of the query, the best first.

        IOWarp's BM25 over chunks of one MiB. Raises BadInput, BadName, StoreError.
        """
        if not 1 <= k <= _MOST:
            raise BadInput(f"k: {k} is not between 1 and {_MOST}")
        check_name("tag", tag)
        check_name("query", query)
        found: dict[str, BlobMatch] = {}
        for name, version, score in self._chunk_store.search(
            tag, query, 4 * k
        ):  # versions may be on their way out
            info = next((info for info in self._named(tag, name) if info.version == version), None)
            if info is not None and version not in found:
                found[version] = BlobMatch(info=info, score=score)
        return list(found.values())[:k]

    def _named(self, tag: str, name: str) -> Iterator[BlobInfo]:
        """Blobs whose chunks bear this name: the name itself, or what it is the beginning of."""
        info = self.stat(tag, name) if name else None
        if info is not None:
            yield info
        yield from (
            info
            for info in self.list(glob.escape(tag), glob.escape(name.partition("?")[0]) + "*").blobs
            if display_name(info.name) == name
        )


def open_iowarp(folder: Path, max_gb: float, outage_s: float = 20.0) -> IOWarpStore:
    """Open the store on an IOWarp of its own in `folder`, which is made. Raises StoreError.

    `outage_s`: how long requests wait for an IOWarp that went away.
    """
    max_bytes = int(max_gb * (1 << 30))
    writer = GroupCommitWriter(folder, max(64 << 20, max_bytes // _CATALOG_SHARE))
    try:
        warp = IOWarpProcess(folder / "iowarp", max_gb, outage_s)
        warp.start()
    except BaseException:
        writer.close()
        raise
    try:
        chunk_store = IOWarpChunkStore(warp, Catalog(writer).total_bytes(), max_bytes)
        writer.before_commit = chunk_store.sync
        return IOWarpStore(writer, chunk_store, warp)
    except BaseException:
        writer.close()
        warp.stop()
        raise
