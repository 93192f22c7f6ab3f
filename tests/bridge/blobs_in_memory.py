"""Blobs in a dict, for tests of what is made of them."""

import hashlib
import itertools
import time
from collections.abc import Sequence
from fnmatch import fnmatchcase

from agentfactory.bridge.errors import NoSuchBlob
from agentfactory.messages.blobs import BlobInfo, BlobMatch, BlobMeta, BlobPage

MARKDOWN = BlobMeta(content_type="text/markdown")
PAGE = 3
"""Blobs of a page of a listing: few, so that listings have several."""


class MemoryBlobs:
    """Named bytes; counts what was asked of it. `fail_at` names a blob whose put fails;
    `scores` is what its own search says of blobs, None if it has no search."""

    def __init__(self) -> None:
        self.blobs: dict[tuple[str, str], tuple[BlobInfo, bytes]] = {}
        self.read: list[str] = []
        self.written: list[str] = []
        self.fail_at = ""
        self.scores: dict[str, float] | None = None
        self._versions = itertools.count(1)

    async def __aenter__(self) -> "MemoryBlobs":
        return self

    async def __aexit__(self, *error: object) -> None:
        return None

    async def put(self, tag: str, name: str, data: bytes, meta: BlobMeta | None = None) -> BlobInfo:
        if self.fail_at and name.startswith(self.fail_at):
            raise ConnectionError(name)
        info = BlobInfo(
            tag=tag,
            name=name,
            size=len(data),
            sha256=hashlib.sha256(data).hexdigest(),
            version=str(next(self._versions)),
            stored_at=time.time(),
            meta=meta or BlobMeta(),
        )
        self.blobs[tag, name] = (info, data)
        self.written.append(name)
        return info

    async def get(self, tag: str, name: str) -> bytes:
        self.read.append(name)
        if (tag, name) not in self.blobs:
            raise NoSuchBlob(f"{tag}/{name}")
        return self.blobs[tag, name][1]

    async def stat(self, tag: str, name: str) -> BlobInfo | None:
        found = self.blobs.get((tag, name))
        return found[0] if found else None

    def names(self, tag: str) -> list[str]:
        return sorted(name for of, name in self.blobs if of == tag)

    async def list(
        self, tag_pattern: str, name_pattern: str = "*", after: str = "", limit: int = 1000
    ) -> BlobPage:
        keys = sorted(
            key
            for key in self.blobs
            if fnmatchcase(key[0], tag_pattern) and fnmatchcase(key[1], name_pattern)
        )
        left = [key for key in keys if not after or key > tuple(after.split("\0"))]
        page = left[: min(limit, PAGE)]
        more = "\0".join(page[-1]) if len(left) > len(page) else ""
        return BlobPage(blobs=tuple(self.blobs[key][0] for key in page), next=more)

    async def search(self, tag: str, words: str, k: int = 10) -> tuple[BlobMatch, ...] | None:
        if self.scores is None:
            return None
        found = (self.blobs.get((tag, name)) for name in self.scores)
        return tuple(BlobMatch(info=blob[0], score=self.scores[blob[0].name]) for blob in found if blob)

    async def delete(self, tag: str, names: Sequence[str]) -> int:
        return sum(self.blobs.pop((tag, name), None) is not None for name in names)

    async def text(self, name: str, text: str, tag: str = "docs") -> BlobInfo:
        return await self.put(tag, name, text.encode(), MARKDOWN)
