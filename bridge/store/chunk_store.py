"""The chunk store protocol. It knows versions of uploads only, not which blob points to which."""

from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol

from .lmdb_writer import Txn

CommitHook = Callable[[Txn], None]


class ChunkKey(NamedTuple):
    """Identity of one upload's chunks."""

    tag: str
    name: str
    version: str
    """Hexadecimal; never used for another upload."""
    content_type: str


class ChunkSet(NamedTuple):
    """The chunks of one upload: numbers 0 to `chunks` − 1."""

    key: ChunkKey
    chunks: int
    size: int
    """Bytes of all of them."""


class ChunkStore(Protocol):
    """Keeps chunks. Threads may share one."""

    chunk_bytes: int
    """How much goes into one chunk."""
    put_threads: int
    """Useful number of concurrent writer threads."""

    def put(self, key: ChunkKey, number: int, data: bytes) -> None:
        """Keep a chunk, not yet for good. Raises StoreFull, StoreError."""

    def commit_hook(self, key: ChunkKey) -> CommitHook:
        """Return what has to run in the transaction that commits the upload and makes its chunks durable."""

    def get(self, key: ChunkKey, number: int, size: int) -> bytes:
        """A chunk of `size` bytes; whatever came back, if that is another number. Raises StoreError."""

    def drop(self, chunk_sets: Iterable[ChunkSet]) -> None:
        """Remove uploads, whole or half done; those that are not there do not matter."""

    def drop_orphans(self, lease: str, is_live: Callable[[str], bool]) -> int:
        """Remove uploads whose version begins with `lease` and is not live; how many there were."""

    def close(self) -> None:
        """Let go of it."""
