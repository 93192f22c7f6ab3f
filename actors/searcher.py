"""The Searcher.

Consumes Search, SamplePassages and UpdateIndex; produces SearchResult and IndexReport; waits for the
store and for its one thread; unblocked by the store's own deadlines.
"""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack

import structlog

from ..bridge.search.base import Blobs
from ..bridge.search.search import PassageSearch
from ..configs.data import SearchSettings
from ..configs.errors import AgentFactoryError
from ..messages.search import IndexReport, SamplePassages, Search, SearchResult, UpdateIndex
from ..runtime.actor import Actor

OpenBlobs = Callable[[], AbstractAsyncContextManager[Blobs]]
"""Opens the way to the store, such as `partial(BridgeClient, settings.bridge)`."""

log = structlog.get_logger("searcher")


class Searcher(Actor):
    """Searches stored texts by meaning and by words."""

    concurrency = 256  # a search must not queue behind the making of another tag's index

    def __init__(self, settings: SearchSettings, open_blobs: OpenBlobs, warm: tuple[str, ...] = ()) -> None:
        """`warm`: tags whose indexes are brought up to date before anybody asks."""
        self._settings = settings
        self._open_blobs = open_blobs
        self._warm = warm
        self._stack = AsyncExitStack()
        self._search: PassageSearch

    async def start(self) -> None:
        """Open the way to the store."""
        blobs = await self._stack.enter_async_context(self._open_blobs())
        self._search = PassageSearch(blobs, self._settings)

    async def run(self) -> None:
        """Make the indexes that will be asked for; a tag that cannot be indexed is told to who asks."""
        for tag in self._warm:
            try:
                await self._search.update(tag)
            except AgentFactoryError as error:
                log.warning("search index not ready", tag=tag, reason=str(error))

    async def aclose(self) -> None:
        """Close the way to the store."""
        await self._stack.aclose()

    async def search(self, message: Search) -> SearchResult:
        """The passages that fit a question best."""
        passages = await self._search.search(message.tag, message.question, message.k)
        return SearchResult(tag=message.tag, passages=passages)

    async def sample(self, message: SamplePassages) -> SearchResult:
        """Passages drawn at random."""
        passages = await self._search.sample(message.tag, message.count, message.seed)
        return SearchResult(tag=message.tag, passages=passages)

    async def update(self, message: UpdateIndex) -> IndexReport:
        """Bring a tag's index up to date now."""
        return await self._search.update(message.tag)
