"""Incremental index updates: only texts whose version has changed are read and embedded again.

What is to be done is decided from the manifest and the listing alone (`diff_index`). Parts and manifests are
written as it goes on, so an update that is cut off is not lost: the next one goes on where the last manifest
was written. Memory: one part's passages, beside the table.
"""

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import Final, NamedTuple, TypeVar

import anyio
import numpy as np
import structlog

from ...configs.data import SearchSettings
from ...messages.data import BlobInfo
from ...messages.search import IndexReport
from ..errors import IndexFull, NoSuchBlob
from .base import Blobs, Hit, IndexProgress, IndexProgressCallback
from .chunking import split_passages
from .embedding import Embedder, Vectors
from .index_store import (
    IndexConfig,
    IndexDamaged,
    IndexedBlob,
    IndexManifest,
    IndexPart,
    IndexSegment,
    IndexStore,
    all_blobs,
    pack,
    unpack,
)
from .table import PassageRow, PassageTable

T = TypeVar("T")

PART_PASSAGES: Final = 2048
"""From so many passages on, a part is written."""
MAX_SMALL_PARTS: Final = 8
"""More parts that are less than half full are made one."""
EMBED_PASSAGES: Final = 16
"""Passages embedded in one go: a question waits for no more than these."""
log = structlog.get_logger("search")


_TEXT_TYPES: Final = frozenset(
    {"javascript", "json", "sql", "toml", "x-ndjson", "x-python", "x-sh", "x-tex", "x-yaml", "xml", "yaml"}
)
"""Under `application/`."""
_MARKDOWN: Final = (".md", ".markdown", ".mdown")


class IndexDiff(NamedTuple):
    """Difference between an index and the store."""

    texts: tuple[BlobInfo, ...]
    """New or changed: to be read and embedded."""
    removed: frozenset[str]
    """Texts that are covered and no more there."""
    not_text: tuple[IndexedBlob, ...]
    """All blobs that are no text, done with."""
    too_large: tuple[IndexedBlob, ...]

    def is_needed(self, manifest: IndexManifest) -> bool:
        """Return whether the manifest has to change."""
        skipped = (manifest.not_text, manifest.too_large)
        return bool(self.texts or self.removed or (self.not_text, self.too_large) != skipped)


def diff_index(manifest: IndexManifest, infos: Sequence[BlobInfo], max_bytes: int) -> IndexDiff:
    """Compare the manifest with the blobs that are stored."""
    texts = [info for info in infos if is_text(info)]
    fitting = {info.name: info for info in texts if info.size <= max_bytes}
    covered = {blob.name: blob.version for part in manifest.parts for blob in part.blobs}
    return IndexDiff(
        texts=tuple(info for name, info in fitting.items() if covered.get(name) != info.version),
        removed=frozenset(covered.keys() - fitting.keys()),
        not_text=_as_indexed(info for info in infos if not is_text(info)),
        too_large=_as_indexed(info for info in texts if info.name not in fitting),
    )


def is_text(info: BlobInfo) -> bool:
    """Return whether its content type is text."""
    kind = info.meta.content_type.partition(";")[0].strip().lower()
    family, _, name = kind.partition("/")
    return family == "text" or (
        family == "application" and (name in _TEXT_TYPES or name.endswith(("+json", "+xml")))
    )


def rows_in(data: bytes, info: BlobInfo, settings: SearchSettings) -> list[PassageRow] | None:
    """The passages of a text; None if these are not the bytes that were listed.

    Bytes that are no UTF-8 become U+FFFD. Blocks.
    """
    if hashlib.sha256(data).hexdigest() != info.sha256:
        return None
    text = data.decode("utf-8", errors="replace")
    markdown = "markdown" in info.meta.content_type or info.name.lower().endswith(_MARKDOWN)
    spans = split_passages(text, settings.passage_chars, settings.overlap_chars, markdown=markdown)
    return [
        PassageRow(info.name, span.start, span.end, span.heading, text[span.start : span.end])
        for span in spans
    ]


def without(parts: Iterable[IndexPart], gone: Collection[str]) -> tuple[IndexPart, ...]:
    """The parts in which these blobs no longer count; a part in which none counts is left out."""
    left = (
        part.model_copy(update={"blobs": tuple(blob for blob in part.blobs if blob.name not in gone)})
        for part in parts
    )
    return tuple(part for part in left if part.blobs)


def config_changes(was: IndexConfig, wanted: IndexConfig) -> str:
    """Describe the differences between two configurations."""
    old, new = was.model_dump(), wanted.model_dump()
    changes = (f"{key} was {old[key]!r} and is {new[key]!r}" for key in old if old[key] != new[key])
    return ", ".join(changes)


def _as_indexed(infos: Iterable[BlobInfo]) -> tuple[IndexedBlob, ...]:
    return tuple(IndexedBlob(name=info.name, version=info.version) for info in infos)


class LoadedIndex(NamedTuple):
    """An index in memory, and what the store had of it then."""

    manifest: IndexManifest
    version: str
    """Of the manifest; empty if none is stored yet."""
    table: PassageTable


class Indexer:
    """Makes indexes, and keeps them up to date. Threads do what blocks, as many as `limiter` lets."""

    def __init__(
        self, blobs: Blobs, settings: SearchSettings, embedder: Embedder, limiter: anyio.CapacityLimiter
    ) -> None:
        self._blobs = blobs
        self._settings = settings
        self._embedder = embedder
        self._limiter = limiter
        self._recipe = IndexConfig(
            embedder=embedder.name,
            dimensions=embedder.dimensions,
            passage_chars=settings.passage_chars,
            overlap_chars=settings.overlap_chars,
        )

    async def update(
        self,
        tag: str,
        opened: LoadedIndex | None,
        publish: Callable[[LoadedIndex], None],
        watch: IndexProgressCallback | None,
    ) -> IndexReport:
        """Make the index cover the tag as it is now; `publish` is told each state that can be searched.

        Raises NoSuchBlob for a tag without blobs, IndexFull.
        """
        store = IndexStore(self._blobs, tag)
        infos = await all_blobs(self._blobs, tag)
        if not infos:
            await store.sweep(None)
            raise NoSuchBlob(f"there are no blobs under the tag {tag!r}: nothing to search")
        useless: frozenset[str] = frozenset()
        if opened is None or (
            self._plan(opened, infos).is_needed(opened.manifest) and opened.version != await store.version()
        ):
            opened, useless = await self._open(store, tag)
        plan = self._plan(opened, infos)
        work = _Update(self, tag, store, plan, publish, watch)
        if plan.is_needed(opened.manifest) or not opened.version:
            before = {part.name for part in opened.manifest.parts}
            opened = await work.run(opened)
            await store.sweep(opened.manifest, before | useless)
        publish(opened)
        return IndexReport(
            tag=tag,
            embedder=self._embedder.name,
            blobs=sum(len(part.blobs) for part in opened.manifest.parts),
            passages=len(opened.table.rows),
            embedded=work.covered,
            removed=len(plan.removed),
            not_text=len(plan.not_text),
            too_large=len(plan.too_large),
            rebuilt=bool(useless),
        )

    async def thread(self, function: Callable[[], T]) -> T:
        """Run it in a thread."""
        return await anyio.to_thread.run_sync(function, limiter=self._limiter)

    async def rows_of(self, info: BlobInfo) -> list[PassageRow] | None:
        """The passages of a text; None if it is no longer the one that was listed."""
        try:
            data = await self._blobs.get(info.tag, info.name)
        except NoSuchBlob:
            return None
        return await self.thread(partial(rows_in, data, info, self._settings))

    async def embed(self, rows: Sequence[PassageRow], told: Callable[[int], None]) -> Vectors:
        """Their vectors; `told` hears how many more there are."""
        pieces = [np.zeros((0, self._embedder.dimensions), dtype=np.float32)]
        for begin in range(0, len(rows), EMBED_PASSAGES):
            texts = [row.indexed for row in rows[begin : begin + EMBED_PASSAGES]]
            pieces.append(await self.thread(partial(self._embedder.embed, texts)))
            told(len(texts))
        return np.concatenate(pieces)

    def search(self, table: PassageTable, question: str, k: int, blobs: Mapping[str, float]) -> list[Hit]:
        """The passages of a table that fit a question best (see `PassageTable.search`). Blocks."""
        return table.search(question, self._embedder.embed([question]), k, blobs)

    def check_size(self, tag: str, passages: int) -> None:
        """Raises IndexFull."""
        if passages > self._settings.max_passages:
            raise IndexFull(
                f"the texts under {tag!r} make more than {self._settings.max_passages} passages "
                "(data.search.max_passages): spread them over several tags, or allow more"
            )

    async def _open(self, store: IndexStore, tag: str) -> tuple[LoadedIndex, frozenset[str]]:
        """Load the stored index; else an empty one, and the names of unusable files."""
        useless: frozenset[str] = frozenset()
        try:
            manifest = await store.read_manifest()
            if manifest is not None and manifest.recipe != self._recipe:
                raise IndexDamaged(config_changes(manifest.recipe, self._recipe))
            if manifest is not None:
                return await self._read(store, manifest), useless
        except IndexDamaged as error:
            useless = await store.names()
            log.warning("search index made anew", tag=tag, reason=str(error))
        table = await self.thread(partial(PassageTable.empty, self._embedder.dimensions))
        return LoadedIndex(IndexManifest(recipe=self._recipe), "", table), useless

    async def _read(self, store: IndexStore, manifest: IndexManifest) -> LoadedIndex:
        version = await store.version()
        contents = [IndexSegment([], np.zeros((0, self._embedder.dimensions), dtype=np.float32))]
        for part in manifest.parts:
            data = await store.read_part(part)
            contents.append(await self.thread(partial(unpack, data, part, self._embedder.dimensions)))
        rows = [row for content in contents for row in content.rows]
        table = await self.thread(
            lambda: PassageTable.empty(self._embedder.dimensions).replaced(
                (), rows, np.concatenate([content.vectors for content in contents])
            )
        )
        return LoadedIndex(manifest, version, table)

    def _plan(self, opened: LoadedIndex, infos: Sequence[BlobInfo]) -> IndexDiff:
        return diff_index(opened.manifest, infos, self._settings.max_blob_mb << 20)


class _Update:
    """One update under way."""

    def __init__(
        self,
        indexer: Indexer,
        tag: str,
        store: IndexStore,
        plan: IndexDiff,
        publish: Callable[[LoadedIndex], None],
        watch: IndexProgressCallback | None,
    ) -> None:
        self._indexer = indexer
        self._tag = tag
        self._store = store
        self._plan = plan
        self._publish = publish
        self._watch = watch
        self._texts = 0
        self._embedded = 0
        self.covered = 0
        """Texts that the index has taken in."""

    async def run(self, opened: LoadedIndex) -> LoadedIndex:
        """Do what is planned, part after part."""
        covered: list[IndexedBlob] = []
        rows: list[PassageRow] = []
        gone = self._plan.removed
        for info in self._plan.texts:
            found = await self._indexer.rows_of(info)
            self._texts += 1
            if found is None:
                continue
            covered.append(IndexedBlob(name=info.name, version=info.version, passages=len(found)))
            rows += found
            if len(rows) >= PART_PASSAGES:
                opened = await self._flush(opened, covered, rows, gone)
                covered, rows, gone = [], [], frozenset()
        if covered or not opened.version or self._plan._replace(texts=()).is_needed(opened.manifest):
            opened = await self._flush(opened, covered, rows, gone)
        return await self._merge(opened)

    async def _flush(
        self, opened: LoadedIndex, covered: list[IndexedBlob], rows: list[PassageRow], removed: frozenset[str]
    ) -> LoadedIndex:
        """Write a part of these and a manifest that names it."""
        gone = removed | {blob.name for blob in covered}
        staying = sum(row.blob not in gone for row in opened.table.rows)
        self._indexer.check_size(self._tag, staying + len(rows))
        vectors = await self._indexer.embed(rows, self._tell)
        parts = without(opened.manifest.parts, gone)
        if covered:
            parts = (*parts, await self._write(covered, rows, vectors))
        manifest = opened.manifest.model_copy(
            update={"parts": parts, "not_text": self._plan.not_text, "too_large": self._plan.too_large}
        )
        table = await self._indexer.thread(partial(opened.table.replaced, gone, rows, vectors))
        opened = LoadedIndex(manifest, await self._store.write_manifest(manifest), table)
        self._publish(opened)
        self.covered += len(covered)
        return opened

    async def _merge(self, opened: LoadedIndex) -> LoadedIndex:
        """Make the small parts one, if there are many."""
        small = [part for part in opened.manifest.parts if part.live < PART_PASSAGES // 2]
        if len(small) <= MAX_SMALL_PARTS:
            return opened
        covered = [blob for part in small for blob in part.blobs]
        names = {blob.name for blob in covered}
        rows, vectors = await self._indexer.thread(partial(opened.table.vectors_of, names))
        large = tuple(part for part in opened.manifest.parts if part not in small)
        merged = await self._write(covered, rows, vectors)
        manifest = opened.manifest.model_copy(update={"parts": (*large, merged)})
        return LoadedIndex(manifest, await self._store.write_manifest(manifest), opened.table)

    async def _write(
        self, covered: Sequence[IndexedBlob], rows: list[PassageRow], vectors: Vectors
    ) -> IndexPart:
        data = await self._indexer.thread(partial(pack, IndexSegment(rows, vectors)))
        return IndexPart(name=await self._store.write_part(data), blobs=tuple(covered), rows=len(rows))

    def _tell(self, passages: int) -> None:
        self._embedded += passages
        if self._watch is not None:
            self._watch(IndexProgress(self._texts, len(self._plan.texts), self._embedded))
