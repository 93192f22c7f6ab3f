"""Blobs in a dict, a store and a cache in memory, with what the bridge's client and the cache tier offer."""

import asyncio
import fnmatch
import hashlib
import itertools
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from fnmatch import fnmatchcase
from typing import NamedTuple, TypeVar

from agentfactory.bridge.errors import NoSuchBlob
from agentfactory.configs.errors import AgentFactoryError
from agentfactory.messages.data import BlobInfo, BlobMatch, BlobMeta, BlobPage, BlobUpload

MARKDOWN = BlobMeta(content_type="text/markdown")
PAGE = 3
"""Blobs of a page of a listing: few, so that listings have several."""


class FakeBlobs:
    """Named bytes; counts what was asked of it. `fail_at` names a blob whose put fails;
    `scores` is what its own search says of blobs, None if it has no search."""

    def __init__(self) -> None:
        self.blobs: dict[tuple[str, str], tuple[BlobInfo, bytes]] = {}
        self.read: list[str] = []
        self.written: list[str] = []
        self.fail_at = ""
        self.scores: dict[str, float] | None = None
        self._versions = itertools.count(1)

    async def __aenter__(self) -> "FakeBlobs":
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


T = TypeVar("T")


class FakeBlobStore:
    """Blobs in a dictionary; counts what it is asked."""

    def __init__(self) -> None:
        self.blobs: dict[tuple[str, str], tuple[BlobInfo, bytes]] = {}
        self.puts: list[str] = []
        """Names in the order in which their puts began."""
        self.lookups = 0
        self.reads = 0
        self.at_once = self.most_at_once = 0
        self.begun = asyncio.Event()
        """Set when the first put begins."""
        self.fail: Callable[[str], AgentFactoryError | None] = lambda name: None
        """What a put of this name fails with."""
        self.hold: asyncio.Event | None = None
        """Puts wait for it."""
        self.settled = False
        """Whether it was told that all has been put."""
        self._versions = itertools.count()

    async def flush_index(self) -> None:
        self.settled = True

    async def put(
        self,
        tag: str,
        name: str,
        data: bytes | AsyncIterator[bytes | memoryview],
        meta: BlobMeta | None = None,
    ) -> BlobInfo:
        self.puts.append(name)
        self.begun.set()
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await (self.hold.wait() if self.hold else asyncio.sleep(0))
            error = self.fail(name)
            if error is not None:
                raise error
            whole = data if isinstance(data, bytes) else b"".join([chunk async for chunk in data])
        finally:
            self.at_once -= 1
        info = BlobInfo(
            tag=tag,
            name=name,
            size=len(whole),
            sha256=hashlib.sha256(whole).hexdigest(),
            version=str(next(self._versions)),
            stored_at=0.0,
            meta=meta or BlobMeta(),
        )
        self.blobs[tag, name] = (info, whole)
        return info

    async def put_many(self, tag: str, blobs: Sequence[BlobUpload]) -> list[BlobInfo | AgentFactoryError]:
        async def outcome(blob: BlobUpload) -> BlobInfo | AgentFactoryError:
            try:
                return await self.put(tag, blob.name, blob.data, blob.meta)
            except AgentFactoryError as error:
                return error

        return await asyncio.gather(*map(outcome, blobs))

    async def stat(self, tag: str, name: str) -> BlobInfo | None:
        self.lookups += 1
        found = self.blobs.get((tag, name))
        return found[0] if found else None

    async def list(
        self, tag_pattern: str, name_pattern: str = "*", after: str = "", limit: int = 1000
    ) -> BlobPage:
        self.lookups += 1
        matching = [
            self.blobs[key][0]
            for key in sorted(self.blobs)
            if re.match(fnmatch.translate(tag_pattern), key[0])
            and re.match(fnmatch.translate(name_pattern), key[1])
        ]
        left = [info for info in matching if f"{info.tag}\0{info.name}" > after]
        page = left[:limit]
        more = f"{page[-1].tag}\0{page[-1].name}" if len(left) > limit else ""
        return BlobPage(blobs=tuple(page), next=more)

    async def get(self, tag: str, name: str) -> bytes:
        self.reads += 1
        try:
            return self.blobs[tag, name][1]
        except KeyError:
            raise NoSuchBlob(f"there is no blob {name!r} of tag {tag!r}") from None

    @asynccontextmanager
    async def stream(self, tag: str, name: str) -> AsyncIterator[AsyncIterator[bytes]]:
        data = await self.get(tag, name)

        async def pieces() -> AsyncIterator[bytes]:
            for offset in range(0, len(data), 1000):
                yield data[offset : offset + 1000]

        yield pieces()

    async def delete(self, tag: str, names: Sequence[str]) -> int:
        return sum(self.blobs.pop((tag, name), None) is not None for name in names)

    async def touch(self, tag: str, name: str, data: bytes, sha256: str) -> None:
        """There is no cache in front of it."""

    def named(self, tag: str) -> dict[str, bytes]:
        """The bytes under a tag."""
        return {key[1]: data for key, (_, data) in self.blobs.items() if key[0] == tag}


class Cached(NamedTuple):
    """What a query finds."""

    tag: str
    name: str
    size: int


class FakeBlobCache:
    """Cached blobs in a dictionary."""

    def __init__(self) -> None:
        self.values: dict[tuple[str, str], bytes] = {}
        self.unnamed: set[tuple[str, str]] = set()
        """Not found by a query."""
        self.down = False
        """Nothing is kept and nothing is found."""

    async def read_through(
        self, tag: str, name: str, load: Callable[[], Awaitable[bytes | None]], force: bool = False
    ) -> tuple[bytes | None, bool]:
        if not force and not self.down and (tag, name) in self.values:
            return self.values[tag, name], True
        value = await load()
        if value is not None and not force and not self.down:
            self.values[tag, name] = value
        return value, False

    async def write_through(
        self,
        tag: str,
        name: str,
        put: Callable[[], Awaitable[T]],
        value: bytes | None,
        *,
        one_of_many: bool = False,
    ) -> T:
        self.values.pop((tag, name), None)
        done = await put()
        if one_of_many:
            self.unnamed.add((tag, name))
        if value is not None and not self.down:
            self.values[tag, name] = value
        return done

    async def write_many_through(
        self,
        values: Mapping[tuple[str, str], bytes],
        put: Callable[[], Awaitable[Sequence[T | AgentFactoryError]]],
    ) -> Sequence[T | AgentFactoryError]:
        for blob in values:
            self.values.pop(blob, None)
        outcomes = await put()
        for (blob, value), outcome in zip(values.items(), outcomes, strict=True):
            if not isinstance(outcome, AgentFactoryError) and not self.down:
                self.unnamed.add(blob)
                self.values[blob] = value
        return outcomes

    async def flush_index(self) -> None:
        self.unnamed.clear()

    async def delete_through(
        self, blobs: Iterable[tuple[str, str]], delete: Callable[[], Awaitable[Iterable[tuple[str, str]]]]
    ) -> Sequence[tuple[str, str]]:
        removed = list(await delete())
        for key in [*blobs, *removed]:
            self.values.pop(key, None)
        return removed

    async def prune(self, tag: str, names: Iterable[str]) -> int:
        return sum(self.values.pop((tag, name), None) is not None for name in names)

    async def query(self, tag_pattern: str = "*", name_pattern: str = "*") -> Sequence[Cached]:
        return [
            Cached(tag, name, len(value))
            for (tag, name), value in sorted(self.values.items())
            if fnmatch.fnmatchcase(tag, tag_pattern)
            and fnmatch.fnmatchcase(name, name_pattern)
            and (tag, name) not in self.unnamed
        ]
