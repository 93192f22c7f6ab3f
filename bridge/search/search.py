"""Passage search in the texts of a tag: `await PassageSearch(blobs, settings).search("docs", "which port?")`.

Invariants:
  - an index is brought up to date by one task at a time; a search meanwhile takes the one that there is,
    and waits only if there is none;
  - what a search answers is no older than `max_age_s`, unless an update is under way;
  - at most `open_tags` indexes are in memory; what blocks runs in one thread at a time.
"""

import random
import time
from collections import OrderedDict
from functools import partial
from typing import Final, NamedTuple
from weakref import WeakValueDictionary

import anyio

from ...configs.data import SearchSettings
from ...configs.errors import BadInput
from ...messages.search import IndexReport, Passage
from ..errors import BadName, NoSuchBlob
from .base import INDEX_PREFIX, Blobs, IndexProgressCallback
from .embedding import local_embedder
from .indexing import Indexer, LoadedIndex
from .table import PassageRow

MAX_QUESTION: Final = 4000
"""Characters of a question that count."""
RANKED_BLOBS: Final = 20
"""Blobs that the store's own search is asked for."""


class _Known(NamedTuple):
    """An index in memory, and when its tag was last looked at."""

    opened: LoadedIndex
    looked_at: float


class PassageSearch:
    """Search over tags. Belongs to the event loop that it is used in."""

    def __init__(self, blobs: Blobs, settings: SearchSettings) -> None:
        self._blobs = blobs
        self._settings = settings
        self._limiter = anyio.CapacityLimiter(1)
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._locks: WeakValueDictionary[str, anyio.Lock] = WeakValueDictionary()
        self._loading = anyio.Lock()
        self._indexer: Indexer | None = None

    def __repr__(self) -> str:
        sizes = (f"{tag}: {len(known.opened.table.rows)}" for tag, known in self._known.items())
        return f"<PassageSearch passages of {', '.join(sizes) or 'nothing yet'}>"

    async def search(self, tag: str, question: str, k: int = 5) -> tuple[Passage, ...]:
        """The passages that fit best, at most k, by meaning and by words.

        Raises NoSuchBlob for a tag without blobs, BadName, IndexFull, BadInput for a question that is none.
        """
        question = _checked(question)
        table = (await self._current(tag)).table
        indexer = await self._ready()
        blobs = await self._whole_blobs(tag, question)
        hits = await indexer.thread(partial(indexer.search, table, question, k, blobs))
        return tuple(_passage(tag, table.rows[hit.row], hit.score) for hit in hits)

    async def _whole_blobs(self, tag: str, question: str) -> dict[str, float]:
        """Scores of whole blobs by the store's own search; empty where it has none."""
        if self._settings.lexical == "own":
            return {}
        found = await self._blobs.search(tag, question, RANKED_BLOBS)
        return {match.info.name: match.score for match in found or ()}

    async def sample(self, tag: str, count: int = 1, seed: int | None = None) -> tuple[Passage, ...]:
        """Different passages drawn at random, at most `count`. Raises NoSuchBlob, BadName, IndexFull."""
        rows = (await self._current(tag)).table.rows
        drawn = random.Random(seed).sample(range(len(rows)), min(count, len(rows)))
        return tuple(_passage(tag, rows[number], 0.0) for number in drawn)

    async def update(self, tag: str, watch: IndexProgressCallback | None = None) -> IndexReport:
        """Bring the index up to date now. Raises NoSuchBlob, BadName, IndexFull."""
        async with self._lock(tag):
            return await self._update(tag, watch)

    async def _current(self, tag: str) -> LoadedIndex:
        """The index to search in; the one there is, while another task brings it up to date."""
        lock = self._lock(tag)
        known = self._known.get(tag)
        if known is not None:
            self._known.move_to_end(tag)
        if known is None or not (self._is_fresh(known) or lock.locked()):
            async with lock:
                known = self._known.get(tag)
                if known is None or not self._is_fresh(known):
                    await self._update(tag)
                    known = self._known[tag]
        return known.opened

    async def _update(self, tag: str, watch: IndexProgressCallback | None = None) -> IndexReport:
        """For who holds the tag's lock. What is known when it fails still holds."""
        if tag.startswith(INDEX_PREFIX):
            raise BadName(f"the tag {tag!r} holds an index, not texts; search {tag[len(INDEX_PREFIX) :]!r}")
        indexer = await self._ready()
        known = self._known.get(tag)
        publish = partial(self._publish, tag, time.monotonic())
        try:
            return await indexer.update(tag, known.opened if known else None, publish, watch)
        except NoSuchBlob:
            self._known.pop(tag, None)
            raise

    def _is_fresh(self, known: _Known) -> bool:
        return time.monotonic() - known.looked_at <= self._settings.max_age_s

    def _publish(self, tag: str, looked_at: float, opened: LoadedIndex) -> None:
        self._known[tag] = _Known(opened, looked_at)
        self._known.move_to_end(tag)
        while len(self._known) > self._settings.open_tags:
            self._known.popitem(last=False)

    def _lock(self, tag: str) -> anyio.Lock:
        lock = self._locks.get(tag)
        if lock is None:
            lock = self._locks[tag] = anyio.Lock()
        return lock

    async def _ready(self) -> Indexer:
        async with self._loading:
            if self._indexer is None:
                embedder = await anyio.to_thread.run_sync(local_embedder, self._settings.embedder)
                self._indexer = Indexer(self._blobs, self._settings, embedder, self._limiter)
            return self._indexer


def _checked(question: str) -> str:
    """As much of it as counts. Raises BadInput."""
    if not question.strip():
        raise BadInput("the question is empty; say what to look for")
    try:
        question.encode()
    except UnicodeEncodeError as error:
        raise BadInput(f"the question cannot be written in UTF-8: {error.reason}") from error
    return question[:MAX_QUESTION]


def _passage(tag: str, row: PassageRow, score: float) -> Passage:
    return Passage(
        tag=tag,
        blob=row.blob,
        start=row.start,
        end=row.end,
        text=row.text,
        heading=row.heading,
        score=score,
    )
