"""The store protocols. All of it blocks: the bridge server calls it from threads.

Invariants of every store:
  - a blob is its last committed put, whole, or absent: never torn, whatever is killed when;
  - what `commit` returned for is there after any crash;
  - a reader that is open goes on reading the bytes it was opened on, whatever is put meanwhile.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from ...messages.data import BlobInfo, BlobMatch, BlobMeta, BlobPage

MAX_NAME_BYTES = 16 << 10
"""Of a tag or a name, in UTF-8."""


class BlobWriter(Protocol):
    """A put under way."""

    def write(self, chunk: bytes | memoryview) -> None:
        """Append to the blob. Raises StoreFull, StoreError."""

    def commit(self) -> BlobInfo:
        """Make it durable, and the blob of this name from now on."""

    def begin_commit(self) -> Callable[[], BlobInfo]:
        """The same in two steps: what it returns waits for the end, and is to be called.

        Commits that have begun share a flush to the disk. Those that one thread begins keep their order.
        """

    def abort(self) -> None:
        """Forget it. Does nothing after `commit`."""


class BlobReader(Protocol):
    """One blob, open."""

    info: BlobInfo

    def read(self, offset: int, size: int) -> bytes:
        """Bytes from `offset`, fewer than `size` only at the end. Raises BlobDamaged, StoreError."""

    def close(self) -> None:
        """Let go of it."""


class Store(Protocol):
    """Named bytes under tags. Threads may share one."""

    kind: str
    id: str
    """Tells it from all other stores."""
    """`iowarp` or `embedded`."""
    put_threads: int
    """Useful number of concurrent writer threads."""

    def put(self, tag: str, name: str, meta: BlobMeta) -> BlobWriter:
        """Open a writer for a blob. Raises BadName."""

    def open(self, tag: str, name: str, *, digest: bool = True) -> BlobReader:
        """Raises NoSuchBlob. Without `digest` it is the caller who holds the SHA-256 to what was read."""

    def stat(self, tag: str, name: str) -> BlobInfo | None:
        """Metadata of a blob; None if there is none."""

    def list(self, tag_pattern: str, name_pattern: str = "*", after: str = "", limit: int = 1000) -> BlobPage:
        """Blobs whose tag and name match (glob: `*`, `?`, `[abc]`), ordered, a page at a time.

        Tags that begin with a dot match only patterns that do.
        """

    def search(self, tag: str, query: str, k: int = 10) -> Sequence[BlobMatch] | None:
        """At most k blobs of text that hold words of the query, the best first; None: it does not search."""

    def delete(self, tag: str, names: Sequence[str]) -> int:
        """Remove blobs for good; how many there were."""

    def destroy(self, tags: Sequence[str]) -> int:
        """Remove tags with all their blobs for good; how many blobs there were."""

    def close(self) -> None:
        """Finish what is under way and let go of the store."""
