"""The Ingestor.

Consumes Assimilate and Destroy; produces StepResult; waits for files, for the bridge and for the cache;
unblocked by the bridge's own limits, and by whoever asked giving up.

Invariants: what it reports as stored is in the store for good, and no older value of it is in the cache;
bad input stores nothing and is an observation with the reward for errors; over all requests no more
blobs are under way than the settings allow.
"""

from contextlib import AsyncExitStack

from ..bridge.client.tiered_store import (
    CLIENT_ERRORS,
    OpenTieredStore,
    TieredStore,
    WriteThroughStore,
    delete_tags,
)
from ..bridge.errors import NoSuchBlob
from ..bridge.ingest.ingest import Ingest
from ..bridge.ingest.resolver import UriResolver
from ..bridge.ingest.uri import printable_uri
from ..configs.data import DataSettings
from ..messages.data import Assimilate, Destroy, Destroyed, IngestReport, Observation, StepResult
from ..runtime.actor import Actor

NAMED_FAILURES = 3
"""Blobs that failed and that the text tells of; the data has all."""


class Ingestor(Actor):
    """Brings data in through both tiers, and removes it from both."""

    concurrency = 64  # what costs something is bounded by `UriSettings.concurrency`

    def __init__(self, settings: DataSettings, open_tiers: OpenTieredStore) -> None:
        self._settings = settings
        self._open_tiers = open_tiers
        self._open = AsyncExitStack()
        self._tiers: TieredStore
        self._resolver: UriResolver
        self._ingest: Ingest

    async def start(self) -> None:
        """Connect to both tiers."""
        uris = self._settings.uris
        self._tiers = await self._open.enter_async_context(self._open_tiers(self._settings))
        self._resolver = UriResolver(uris, self._tiers.store)
        self._ingest = Ingest(
            WriteThroughStore(self._tiers),
            uris.concurrency,
            self._settings.cache.max_value_size,
            uris.temp_folder,
        )

    async def aclose(self) -> None:
        """Disconnect."""
        await self._open.aclose()

    async def assimilate(self, message: Assimilate) -> StepResult:
        """Store what the URIs name, in both tiers."""
        tag = message.dst or self._settings.actions.default_tag
        rewards = self._settings.rewards
        try:
            blobs = await self._resolver.resolve(message.src)
            report = await self._ingest.put(tag, blobs, message.format)
        except CLIENT_ERRORS as error:
            return StepResult.refused(type(error).__name__, str(error), rewards.error)
        reward = rewards.assimilate_success if report.complete else rewards.error
        return StepResult(observation=Observation(text=_in_words(report), data=report), reward=reward)

    async def destroy(self, message: Destroy) -> StepResult:
        """Remove tags from both tiers, for good. Nothing under any of them is an error."""
        tags = tuple(dict.fromkeys(message.tags))
        named = ", ".join(printable_uri(tag) for tag in tags)
        try:
            removed = await delete_tags(self._tiers, tags)
            if not removed:
                raise NoSuchBlob(f"there is nothing under {named}")
        except CLIENT_ERRORS as error:
            return StepResult.refused(type(error).__name__, str(error), self._settings.rewards.error)
        return StepResult(
            observation=Observation(
                text=f"destroyed {_count(removed, 'blob')} under {named}, for good",
                data=Destroyed(tags=tags, blobs=removed),
            ),
            reward=self._settings.rewards.destroy_success,
        )


def _in_words(report: IngestReport) -> str:
    parts = [
        f"stored {_count(len(report.stored), 'blob')} ({_count(report.stored_bytes, 'byte')}) "
        f"under {printable_uri(report.tag)}"
    ]
    if report.unchanged:
        parts.append(f"{len(report.unchanged)} unchanged")
    if report.failed:
        parts.append(f"{len(report.failed)} failed")
        first = report.failed[:NAMED_FAILURES]
        parts += (f"{printable_uri(blob.name)} because {blob.reason}" for blob in first)
        parts.append("doing it again completes it")
    return "; ".join(parts)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
