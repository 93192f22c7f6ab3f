"""The Retriever.

Consumes Query, Retrieve, Prune and ListBlobs; produces StepResult; waits for the cache and for the
bridge; unblocked by their own limits.

Invariants: `query` and `prune` never touch the store, `list` never the cache; what was retrieved is what
the store has, whatever becomes of the cache; nothing larger than `max_answer_mb` is in memory here, or in
an answer.
"""

from contextlib import AsyncExitStack

from ..bridge.client.tiered_store import CLIENT_ERRORS, OpenTieredStore, TieredStore
from ..bridge.errors import NoSuchBlob
from ..bridge.ingest.uri import printable_uri
from ..configs.data import DataSettings
from ..messages.data import (
    ActionData,
    CachedBlob,
    ListBlobs,
    ListResult,
    Observation,
    Prune,
    Pruned,
    Query,
    QueryResult,
    Retrieve,
    Retrieved,
    StepResult,
)
from ..runtime.actor import Actor


class _TooLarge(Exception):
    """The blob is not to be loaded here."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.size = size


class Retriever(Actor):
    """Gives data out, from the cache where it can."""

    concurrency = 1024

    def __init__(self, settings: DataSettings, open_tiers: OpenTieredStore) -> None:
        self._settings = settings
        self._rewards = settings.rewards
        self._max_answer = settings.actions.max_answer_mb << 20
        self._open_tiers = open_tiers
        self._open = AsyncExitStack()
        self._tiers: TieredStore

    async def start(self) -> None:
        """Connect to both tiers."""
        self._tiers = await self._open.enter_async_context(self._open_tiers(self._settings))

    async def aclose(self) -> None:
        """Disconnect."""
        await self._open.aclose()

    async def query(self, message: Query) -> StepResult:
        """What the cache holds."""
        found = await self._tiers.cache.query(message.tag_pattern, message.blob_pattern)
        matches = tuple(CachedBlob(tag=blob.tag, blob_name=blob.name, size=blob.size) for blob in found)
        return _result(
            f"the cache holds {len(matches):,} that match",
            QueryResult(matches=matches),
            self._rewards.query_success,
        )

    async def retrieve(self, message: Retrieve) -> StepResult:
        """A blob, from the cache, else from the store, and then the cache has it again."""
        store, cache = self._tiers
        tag, name = message.tag, message.blob_name

        async def load() -> bytes | None:
            info = await store.stat(tag, name)
            if info is not None and info.size > self._max_answer:
                raise _TooLarge(info.size)
            return await store.get(tag, name) if info is not None else None

        try:
            value, hit = await cache.read_through(tag, name, load, message.force)
            if value is None:
                raise NoSuchBlob(f"there is no blob {printable_uri(name)} under {printable_uri(tag)}")
        except _TooLarge as error:
            return self._retrieved(message, None, error.size, hit=False)
        except CLIENT_ERRORS as error:
            return StepResult.refused(type(error).__name__, str(error), self._rewards.error)
        return self._retrieved(message, value, len(value), hit)

    async def prune(self, message: Prune) -> StepResult:
        """Let the cache forget blobs; the store keeps them."""
        count = await self._tiers.cache.prune(message.tag, message.blob_names)
        return _result(
            f"the cache forgot {count:,} of {len(message.blob_names):,} under {printable_uri(message.tag)}; "
            "the store keeps what it has",
            Pruned(tag=message.tag, blob_names=message.blob_names),
            self._rewards.prune_success,
        )

    async def list(self, message: ListBlobs) -> StepResult:
        """What the store holds, a page of it."""
        try:
            page = await self._tiers.store.list(
                message.tag_pattern, message.blob_pattern, message.after, message.limit
            )
        except CLIENT_ERRORS as error:
            return StepResult.refused(type(error).__name__, str(error), self._rewards.error)
        more = ", and there are more" if page.next else ""
        return _result(
            f"the store holds {len(page.blobs):,} that match{more}",
            ListResult(blobs=page.blobs, next=page.next),
            self._rewards.list_success,
        )

    def _retrieved(self, asked: Retrieve, value: bytes | None, size: int, hit: bool) -> StepResult:
        content = value if size <= self._max_answer else None
        origin = "the cache" if hit else "the store"
        amount = "1 byte" if size == 1 else f"{size:,} bytes"
        text = f"{printable_uri(asked.blob_name)} under {printable_uri(asked.tag)}: {amount} from {origin}"
        if content is None:
            text += ", too large for an answer: stream it from the bridge"
        data = Retrieved(tag=asked.tag, blob_name=asked.blob_name, size=size, hit=hit, content=content)
        return _result(text, data, self._rewards.cache_hit if hit else self._rewards.cache_miss)


def _result(text: str, data: ActionData, reward: float) -> StepResult:
    return StepResult(observation=Observation(text=text, data=data), reward=reward)
