"""The store on IOWarp: the catalog in LMDB, the bytes in IOWarp, and IOWarp's own search over them."""

import glob
from collections.abc import Iterator, Sequence
from pathlib import Path

from ....configs.errors import BadInput
from ....messages.blobs import BlobInfo, BlobMatch
from ..blobs import CatalogStore
from ..catalog import Catalog
from ..ledger import Ledger
from ..names import check_name
from .shelf import IOWarpShelf, shown
from .supervisor import IOWarp

_CATALOG_SHARE = 8
_MOST = 1000


class IOWarpStore(CatalogStore):
    """A `Store` that can also search the text it holds."""

    def __init__(self, ledger: Ledger, shelf: IOWarpShelf, warp: IOWarp) -> None:
        self.warp = warp
        self._shelf = shelf
        super().__init__("iowarp", ledger, shelf)

    def search(self, tag: str, query: str, k: int = 10) -> Sequence[BlobMatch]:
        """Blobs of text (content type `text/…`) under a tag that hold words of the query, the best first.

        IOWarp's BM25 over chunks of one MiB. Raises BadInput, BadName, StoreError.
        """
        if not 1 <= k <= _MOST:
            raise BadInput(f"k: {k} is not between 1 and {_MOST}")
        check_name("tag", tag)
        check_name("query", query)
        found: dict[str, BlobMatch] = {}
        for name, version, score in self._shelf.search(tag, query, 4 * k):  # versions may be on their way out
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
            if shown(info.name) == name
        )


def open_iowarp(folder: Path, max_gb: float, outage_s: float = 20.0) -> IOWarpStore:
    """Open the store on an IOWarp of its own in `folder`, which is made. Raises StoreError.

    `outage_s`: how long requests wait for an IOWarp that went away.
    """
    max_bytes = int(max_gb * (1 << 30))
    ledger = Ledger(folder, max(64 << 20, max_bytes // _CATALOG_SHARE))
    try:
        warp = IOWarp(folder / "iowarp", max_gb, outage_s)
        warp.start()
    except BaseException:
        ledger.close()
        raise
    try:
        shelf = IOWarpShelf(warp, Catalog(ledger).total_bytes(), max_bytes)
        ledger.settle = shelf.sync
        return IOWarpStore(ledger, shelf, warp)
    except BaseException:
        ledger.close()
        warp.stop()
        raise
