"""Blobs: named bytes under a tag, as the data plane keeps them."""

from typing import NamedTuple

from pydantic import Field

from .base import Message


class BlobMeta(Message):
    """What whoever stores a blob says of it."""

    content_type: str = "application/octet-stream"
    source: str = ""
    """The URI that it came from; empty if it was handed over as bytes."""
    dtype: str = ""
    """Of an array, as NumPy spells it; empty for anything else."""
    shape: tuple[int, ...] = ()
    original: str = ""
    """SHA-256 of the file that this was made from (`original_tag`); empty where these are its bytes."""


class BlobUpload(NamedTuple):
    """A small blob to be put with others."""

    name: str
    data: bytes
    meta: BlobMeta


class BlobInfo(Message):
    """What the store knows of a blob."""

    tag: str
    name: str
    size: int = Field(ge=0)
    """Bytes."""
    sha256: str
    """Hexadecimal digest of the bytes."""
    version: str
    """Names these bytes under this name: another put, even of the same bytes, has another one."""
    stored_at: float
    """Seconds since the epoch."""
    meta: BlobMeta = BlobMeta()


class BlobMatch(Message):
    """A blob of text that a store's own search found."""

    info: BlobInfo
    score: float
    """BM25 of its best chunk; more is better."""


class BlobPage(Message):
    """A part of a listing, ordered by tag and name."""

    blobs: tuple[BlobInfo, ...]
    next: str = ""
    """Give it as `after` to get what follows; empty at the end."""
