"""Brings a tag's index up to date: only texts whose version has changed are read and embedded again.

Parts and manifests are written as it goes on, so an update that is cut off is not lost: the next one goes
on where the last manifest was written. Memory: one part's passages, beside the table.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final, NamedTuple, TypeVar

import anyio
import numpy as np
import structlog

from ...configs.data import SearchSettings
from ...messages.blobs import BlobInfo
from ...messages.search import IndexReport
from ..errors import IndexFull, NoSuchBlob
from .base import Blobs, Hit, Progress, Watch
from .embedding import Embedder, Vectors
from .planning import Plan, difference, make_plan, rows_in, without
from .shelf import Content, Covered, IndexDamaged, Manifest, Part, Recipe, Shelf, listed, pack, unpack
from .table import Row, Table

T = TypeVar("T")

PART_PASSAGES: Final = 2048
"""From so many passages on, a part is written."""
MAX_SMALL_PARTS: Final = 8
"""More parts that are less than half full are made one."""
EMBED_PASSAGES: Final = 16
"""Passages embedded in one go: a question waits for no more than these."""
log = structlog.get_logger("search")


class Opened(NamedTuple):
    """An index in memory, and what the store had of it then."""

    manifest: Manifest
    version: str
    """Of the manifest; empty if none is stored yet."""
    table: Table


class Indexer:
    """Makes indexes, and keeps them up to date. Threads do what blocks, as many as `limiter` lets."""

    def __init__(
        self, blobs: Blobs, settings: SearchSettings, embedder: Embedder, limiter: anyio.CapacityLimiter
    ) -> None:
        self._blobs = blobs
        self._settings = settings
        self._embedder = embedder
        self._limiter = limiter
        self._recipe = Recipe(
            embedder=embedder.name,
            dimensions=embedder.dimensions,
            passage_chars=settings.passage_chars,
            overlap_chars=settings.overlap_chars,
        )

    async def update(
        self, tag: str, opened: Opened | None, publish: Callable[[Opened], None], watch: Watch | None
    ) -> IndexReport:
        """Make the index cover the tag as it is now; `publish` is told each state that can be searched.

        Raises NoSuchBlob for a tag without blobs, IndexFull.
        """
        shelf = Shelf(self._blobs, tag)
        infos = await listed(self._blobs, tag)
        if not infos:
            await shelf.sweep(None)
            raise NoSuchBlob(f"there are no blobs under the tag {tag!r}: nothing to search")
        useless: frozenset[str] = frozenset()
        if opened is None or (
            self._plan(opened, infos).is_needed(opened.manifest) and opened.version != await shelf.version()
        ):
            opened, useless = await self._open(shelf, tag)
        plan = self._plan(opened, infos)
        work = _Update(self, tag, shelf, plan, publish, watch)
        if plan.is_needed(opened.manifest) or not opened.version:
            before = {part.name for part in opened.manifest.parts}
            opened = await work.run(opened)
            await shelf.sweep(opened.manifest, before | useless)
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

    async def rows_of(self, info: BlobInfo) -> list[Row] | None:
        """The passages of a text; None if it is no longer the one that was listed."""
        try:
            data = await self._blobs.get(info.tag, info.name)
        except NoSuchBlob:
            return None
        return await self.thread(partial(rows_in, data, info, self._settings))

    async def embed(self, rows: Sequence[Row], told: Callable[[int], None]) -> Vectors:
        """Their vectors; `told` hears how many more there are."""
        pieces = [np.zeros((0, self._embedder.dimensions), dtype=np.float32)]
        for begin in range(0, len(rows), EMBED_PASSAGES):
            texts = [row.indexed for row in rows[begin : begin + EMBED_PASSAGES]]
            pieces.append(await self.thread(partial(self._embedder.embed, texts)))
            told(len(texts))
        return np.concatenate(pieces)

    def search(self, table: Table, question: str, k: int, blobs: Mapping[str, float]) -> list[Hit]:
        """The passages of a table that fit a question best (see `Table.search`). Blocks."""
        return table.search(question, self._embedder.embed([question]), k, blobs)

    def check_size(self, tag: str, passages: int) -> None:
        """Raises IndexFull."""
        if passages > self._settings.max_passages:
            raise IndexFull(
                f"the texts under {tag!r} make more than {self._settings.max_passages} passages "
                "(data.search.max_passages): spread them over several tags, or allow more"
            )

    async def _open(self, shelf: Shelf, tag: str) -> tuple[Opened, frozenset[str]]:
        """What the store has; else an empty index, and the names of what is of no use there."""
        useless: frozenset[str] = frozenset()
        try:
            manifest = await shelf.read_manifest()
            if manifest is not None and manifest.recipe != self._recipe:
                raise IndexDamaged(difference(manifest.recipe, self._recipe))
            if manifest is not None:
                return await self._read(shelf, manifest), useless
        except IndexDamaged as error:
            useless = await shelf.names()
            log.warning("search index made anew", tag=tag, reason=str(error))
        table = await self.thread(partial(Table.empty, self._embedder.dimensions))
        return Opened(Manifest(recipe=self._recipe), "", table), useless

    async def _read(self, shelf: Shelf, manifest: Manifest) -> Opened:
        version = await shelf.version()
        contents = [Content([], np.zeros((0, self._embedder.dimensions), dtype=np.float32))]
        for part in manifest.parts:
            data = await shelf.read_part(part)
            contents.append(await self.thread(partial(unpack, data, part, self._embedder.dimensions)))
        rows = [row for content in contents for row in content.rows]
        table = await self.thread(
            lambda: Table.empty(self._embedder.dimensions).replaced(
                (), rows, np.concatenate([content.vectors for content in contents])
            )
        )
        return Opened(manifest, version, table)

    def _plan(self, opened: Opened, infos: Sequence[BlobInfo]) -> Plan:
        return make_plan(opened.manifest, infos, self._settings.max_blob_mb << 20)


class _Update:
    """One update under way."""

    def __init__(
        self,
        indexer: Indexer,
        tag: str,
        shelf: Shelf,
        plan: Plan,
        publish: Callable[[Opened], None],
        watch: Watch | None,
    ) -> None:
        self._indexer = indexer
        self._tag = tag
        self._shelf = shelf
        self._plan = plan
        self._publish = publish
        self._watch = watch
        self._texts = 0
        self._embedded = 0
        self.covered = 0
        """Texts that the index has taken in."""

    async def run(self, opened: Opened) -> Opened:
        """Do what is planned, part after part."""
        covered: list[Covered] = []
        rows: list[Row] = []
        gone = self._plan.removed
        for info in self._plan.texts:
            found = await self._indexer.rows_of(info)
            self._texts += 1
            if found is None:
                continue
            covered.append(Covered(name=info.name, version=info.version, passages=len(found)))
            rows += found
            if len(rows) >= PART_PASSAGES:
                opened = await self._flush(opened, covered, rows, gone)
                covered, rows, gone = [], [], frozenset()
        if covered or not opened.version or self._plan._replace(texts=()).is_needed(opened.manifest):
            opened = await self._flush(opened, covered, rows, gone)
        return await self._merge(opened)

    async def _flush(
        self, opened: Opened, covered: list[Covered], rows: list[Row], removed: frozenset[str]
    ) -> Opened:
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
        opened = Opened(manifest, await self._shelf.write_manifest(manifest), table)
        self._publish(opened)
        self.covered += len(covered)
        return opened

    async def _merge(self, opened: Opened) -> Opened:
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
        return Opened(manifest, await self._shelf.write_manifest(manifest), opened.table)

    async def _write(self, covered: Sequence[Covered], rows: list[Row], vectors: Vectors) -> Part:
        data = await self._indexer.thread(partial(pack, Content(rows, vectors)))
        return Part(name=await self._shelf.write_part(data), blobs=tuple(covered), rows=len(rows))

    def _tell(self, passages: int) -> None:
        self._embedded += passages
        if self._watch is not None:
            self._watch(Progress(self._texts, len(self._plan.texts), self._embedded))
