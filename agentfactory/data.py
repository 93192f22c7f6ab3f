"""The data plane from Python.

async with DataPlane.open() as data:
    await data.ingest("folder::docs", tag="docs")
    text = await data.get("docs", "setup_guide.md")
"""

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Self, TypeVar

import anyio
import structlog

from .bridge.client.tiered_store import TieredStore, WriteThroughStore, original_tag
from .bridge.errors import NoSuchBlob
from .bridge.ingest.content_types import ARROW_FILE
from .bridge.ingest.conversion import is_table_name
from .bridge.ingest.ingest import Ingest
from .bridge.ingest.progress import IngestProgressCallback
from .bridge.ingest.resolver import UriResolver
from .cluster.data_plane.services import bring_up, choose_cache, down, running_plan
from .cluster.data_plane.tiers import open_tiers, spawn_data_actors, spawn_searcher
from .configs.data import DataSettings
from .configs.errors import BadInput
from .messages.base import Request
from .messages.data import (
    ActionData,
    ActionError,
    BlobInfo,
    CachedBlob,
    Destroy,
    Destroyed,
    Format,
    IngestReport,
    ListBlobs,
    ListResult,
    Prune,
    Pruned,
    Query,
    QueryResult,
    Retrieve,
    Retrieved,
    StepResult,
)
from .messages.search import MAX_PASSAGES, Passage, Search
from .runtime.ref import Ref
from .runtime.system import ActorSystem
from .runtime.telemetry import LogSettings, ensure_logging
from .runtime.topics import Topics

log = structlog.get_logger("data")

ACTION_TIMEOUT_S = 600.0
PAGE = 1000
DataT = TypeVar("DataT", bound=ActionData)


class ActionRefused(BadInput):
    """The data plane cannot do what was asked; the message says why."""


class DataPlane:
    """Blobs in the store, with the cache in front of them. Make it with `open`."""

    def __init__(
        self, settings: DataSettings, tiers: TieredStore, system: ActorSystem, ingestor: Ref, retriever: Ref
    ) -> None:
        self.settings = settings
        self.notes: tuple[str, ...] = ()
        """What of a data plane that was started here is not as the settings say, in sentences."""
        self._tiers = tiers
        self._system = system
        self._ingestor = ingestor
        self._retriever = retriever
        self._searcher: Ref | None = None
        self._spawning = anyio.Lock()

    @property
    def retriever(self) -> Ref:
        """The Retriever, which lists and fetches blobs."""
        return self._retriever

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: DataSettings | None = None) -> AsyncIterator[Self]:
        """Join the data plane that is up in the settings' folder, or start one while the block lasts.

        What is stored stays either way. Raises BadInput, CannotStart, BridgeDown.
        """
        ensure_logging(LogSettings())
        chosen = settings or DataSettings()
        folder = data_folder(chosen)
        async with AsyncExitStack() as stack:
            notes: tuple[str, ...] = ()
            plan = running_plan(folder)
            if plan is None:
                plan = await bring_up(chosen, folder, owner=os.getpid())
                stack.push_async_callback(down, folder)
                notes = plan.state.notes
            plane = await stack.enter_async_context(cls._over(plan.data))
            plane.notes = notes
            for note in notes:
                log.warning("the data plane is not as the settings say", note=note)
            yield plane

    @classmethod
    @asynccontextmanager
    async def join(cls, settings: DataSettings) -> AsyncIterator[Self]:
        """Join the data plane that answers at the settings' endpoints, whoever runs it. Raises BridgeDown."""
        ensure_logging(LogSettings())
        cache = settings.cache.model_copy(update={"kind": choose_cache(settings).kind})
        async with cls._over(settings.model_copy(update={"cache": cache})) as plane:
            yield plane

    @classmethod
    @asynccontextmanager
    async def _over(cls, settings: DataSettings) -> AsyncIterator[Self]:
        async with open_tiers(settings) as tiers, ActorSystem.open("local") as system:
            ingestor, retriever = await spawn_data_actors(system, settings)
            yield cls(settings, tiers, system, ingestor, retriever)

    @property
    def topics(self) -> Topics:
        """Topics on which what is done here is published."""
        return self._system.topics

    async def ingest(
        self,
        src: str | Sequence[str],
        *,
        tag: str,
        format: Format = "arrow",
        watch: IngestProgressCallback | None = None,
    ) -> IngestReport:
        """Store what URIs name under a tag, in both tiers. The report says what went in and what did not.

        Doing it again completes it: what is there already is not sent again. Raises URIResolveError for
        bad input, with nothing stored. `watch` is told how far it is.
        """
        sources = (src,) if isinstance(src, str) else tuple(src)
        uris = self.settings.uris
        blobs = await UriResolver(uris, self._tiers.store).resolve(sources)
        ingest = Ingest(
            WriteThroughStore(self._tiers),
            uris.concurrency,
            self.settings.cache.max_value_size,
            uris.temp_folder,
        )
        return await ingest.put(tag, blobs, format, watch)

    async def query(self, tag_pattern: str = "*", blob_pattern: str = "*") -> tuple[CachedBlob, ...]:
        """Blobs in the cache; the store is not asked."""
        request = Query(tag_pattern=tag_pattern, blob_pattern=blob_pattern)
        return (await self._ask(self._retriever, request, QueryResult)).matches

    async def get(self, tag: str, name: str, *, force: bool = False, original: bool = False) -> bytes:
        """A blob's bytes, from the cache where it has them; `force` goes past it. Raises ActionRefused.

        One that is too large for an answer comes from the store, in pieces; `stream` spares the memory.
        `original`: of a table that is stored as an Arrow file, the file as it was, from the store.
        """
        if original:
            async with self.stream(tag, name, original=True) as pieces:
                return b"".join([piece async for piece in pieces])
        request = Retrieve(tag=tag, blob_name=name, force=force)
        found = await self._ask(self._retriever, request, Retrieved)
        return found.content if found.content is not None else await self._tiers.store.get(tag, name)

    @asynccontextmanager
    async def stream(
        self, tag: str, name: str, *, original: bool = False
    ) -> AsyncIterator[AsyncIterator[bytes | memoryview]]:
        """A blob in pieces, from the store; `original` as for `get`. Raises ActionRefused."""
        tag = await self._tag_of_original(tag, name) if original else tag
        try:
            async with self._tiers.store.stream(tag, name) as pieces:
                yield aiter(pieces)
        except NoSuchBlob as error:
            raise ActionRefused(str(error)) from error

    async def list(
        self, tag_pattern: str = "*", blob_pattern: str = "*", *, hidden: bool = False
    ) -> AsyncIterator[BlobInfo]:
        """Blobs in the store, in the order of its pages.

        Tags that begin with a dot, such as those of search indexes, are listed where the pattern begins
        so; `hidden` lists them too where it begins with `*`.
        """
        if hidden and tag_pattern.startswith("*"):
            async for blob in self.list(f".{tag_pattern}", blob_pattern):
                yield blob
        after = ""
        while True:
            request = ListBlobs(tag_pattern=tag_pattern, blob_pattern=blob_pattern, after=after, limit=PAGE)
            page = await self._ask(self._retriever, request, ListResult)
            for blob in page.blobs:
                yield blob
            after = page.next
            if not after:
                return

    async def search(self, tag: str, question: str, k: int = 5) -> tuple[Passage, ...]:
        """The passages of the texts under a tag that speak of a question, the best first, at most k.

        The first search of a tag makes its index, and one after a change takes the change in. Raises
        NoSuchBlob for a tag without blobs, IndexFull, BadInput; AskTimeout if that takes longer than
        `ACTION_TIMEOUT_S`: the next search goes on where it was.
        """
        if not 1 <= k <= MAX_PASSAGES:
            raise BadInput(f"k: {k} passages; expected 1 to {MAX_PASSAGES}")
        searcher = await self.searcher()
        request = Search(tag=tag, question=question, k=k)
        return (await searcher.ask(request, timeout_s=ACTION_TIMEOUT_S)).passages

    async def prune(self, tag: str, names: Sequence[str] = ()) -> tuple[str, ...]:
        """Let the cache forget blobs (none named: all that it holds of the tag); the store keeps them."""
        forget = tuple(names) or tuple(b.blob_name for b in await self.query(_literally(tag)))
        if not forget:
            return ()
        return (await self._ask(self._retriever, Prune(tag=tag, blob_names=forget), Pruned)).blob_names

    async def destroy(self, *tags: str) -> int:
        """Remove tags and all their blobs for good, from both tiers; how many blobs. Raises ActionRefused."""
        return (await self._ask(self._ingestor, Destroy(tags=tags), Destroyed)).blobs

    async def searcher(self) -> Ref:
        """The Searcher; spawned when it is first needed, since it loads FAISS and an embedder."""
        async with self._spawning:
            if self._searcher is None:
                self._searcher = await spawn_searcher(self._system, self.settings)
        return self._searcher

    async def _tag_of_original(self, tag: str, name: str) -> str:
        """Tag of the file that a blob was made from: its own, if it keeps the file's bytes."""
        stat = self._tiers.store.stat
        info = await stat(tag, name)
        if info is None or (not info.meta.original and not _is_converted(info)):
            return tag
        original = await stat(original_tag(tag), name)
        if original is None or original.sha256 != info.meta.original:
            raise ActionRefused(f"{tag}/{name}: its original is not there; ingest it again")
        return original_tag(tag)

    @staticmethod
    async def _ask(actor: Ref, request: Request[StepResult], kind: type[DataT]) -> DataT:
        data = (await actor.ask(request, timeout_s=ACTION_TIMEOUT_S)).observation.data
        if isinstance(data, ActionError):
            raise ActionRefused(data.reason)
        assert isinstance(data, kind)
        return data


def _is_converted(info: BlobInfo) -> bool:
    """True if it was made of a table; before originals were kept, nothing else says so."""
    return info.meta.content_type == ARROW_FILE and is_table_name(info.name)


def data_folder(settings: DataSettings) -> Path:
    """Folder with the state of its processes."""
    return Path(settings.folder).resolve()


def _literally(tag: str) -> str:
    """A glob that matches this tag and no other."""
    return "".join(f"[{char}]" if char in "*?[" else char for char in tag)
