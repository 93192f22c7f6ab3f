"""Byte sources of blobs to be stored. All of it blocks: threads read.

Invariant: a source yields the bytes that it was checked on, all of them, or raises SourceChanged;
so what is read to its end is never torn.
"""

import os
import stat
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple, Protocol, Self

from ...configs.errors import BadInput
from ...messages.data import BlobInfo, BlobMeta
from .uri import printable_uri

CHUNK_BYTES = 1 << 20
"""Bytes of one piece of a source that is read in pieces."""


class SourceChanged(BadInput):
    """A source changed between check and read: written to, replaced, or deleted."""


class Source(Protocol):
    """Bytes that can be read here, as often as one likes."""

    @property
    def size(self) -> int:
        """Bytes."""

    def chunks(self) -> Generator[bytes, None, None]:
        """All bytes, in pieces. Raises SourceChanged at the latest instead of ending."""


class FileIdentity(NamedTuple):
    """Identity and state of a file, to detect changes."""

    device: int
    inode: int
    size: int
    modified_ns: int

    @classmethod
    def of(cls, found: os.stat_result) -> Self:
        """Of what `stat` found."""
        return cls(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)

    def difference(self, now: "FileIdentity") -> str:
        """Describe the change from this to `now`."""
        if (now.device, now.inode) != (self.device, self.inode):
            return "another file has taken its place"
        if now.size != self.size:
            return f"it had {self.size} bytes and has {now.size} now"
        return f"it was written to {(now.modified_ns - self.modified_ns) / 1e9:.3f} s after it was checked"


@dataclass(frozen=True, slots=True)
class FileSource:
    """A regular file."""

    path: str
    """Without symbolic links."""
    identity: FileIdentity
    uri: str

    @property
    def size(self) -> int:
        """Bytes."""
        return self.identity.size

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """The file, checked when it is opened and when the block ends. Raises SourceChanged."""
        # Neither a link nor a FIFO can have taken the file's place unseen, and none can make us wait.
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        try:
            descriptor = os.open(self.path, flags)
        except OSError as error:
            raise self._gone(error) from error
        with open(descriptor, "rb", buffering=0) as file:
            self._compare(os.fstat(descriptor))
            yield file
            self.check()

    def chunks(self) -> Generator[bytes, None, None]:
        """All bytes, in pieces. Raises SourceChanged."""
        with self.open() as file:
            left = self.size
            while left:
                try:
                    chunk = file.read(min(CHUNK_BYTES, left))
                except OSError as error:
                    raise self._gone(error) from error
                if not chunk:
                    raise SourceChanged(
                        f"{printable_uri(self.uri)} changed while it was read: it ended {left} bytes early"
                    )
                left -= len(chunk)
                yield chunk

    def check(self) -> None:
        """Raise SourceChanged unless the file lies there as it was."""
        try:
            now = os.stat(self.path, follow_symlinks=False)
        except OSError as error:
            raise self._gone(error) from error
        self._compare(now)

    def _compare(self, now: os.stat_result) -> None:
        if FileIdentity.of(now) != self.identity:
            what = self.identity.difference(FileIdentity.of(now))
            raise SourceChanged(f"{printable_uri(self.uri)} changed while it was read: {what}")

    def _gone(self, error: OSError) -> SourceChanged:
        return SourceChanged(f"{printable_uri(self.uri)} cannot be read any more: {error.strerror}")


@dataclass(frozen=True, slots=True)
class BytesSource:
    """Bytes at hand."""

    data: bytes

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.data)

    def chunks(self) -> Generator[bytes, None, None]:
        """All bytes, in pieces."""
        for offset in range(0, len(self.data), CHUNK_BYTES):
            yield self.data[offset : offset + CHUNK_BYTES]


@dataclass(frozen=True, slots=True)
class StoredSource:
    """Another blob of the store, which is read from there."""

    info: BlobInfo

    @property
    def size(self) -> int:
        """Bytes."""
        return self.info.size


@dataclass(frozen=True, slots=True)
class PendingBlob:
    """A blob that is to be stored."""

    name: str
    meta: BlobMeta
    source: Source | StoredSource
    original: "PendingBlob | None" = None
    """The file that this was made from, to be kept beside it."""

    @property
    def uri(self) -> str:
        """URI of its source."""
        return self.meta.source


def file_source(path: str, uri: str) -> FileSource | None:
    """The regular file at a path without links, as it is now; None for anything else. Raises OSError."""
    found = os.stat(path, follow_symlinks=False)
    return FileSource(path, FileIdentity.of(found), uri) if stat.S_ISREG(found.st_mode) else None
