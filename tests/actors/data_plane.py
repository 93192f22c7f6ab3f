"""Both tiers in memory, handed to the actors as the real ones are."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from agentfactory.actors.ingestor import Ingestor
from agentfactory.actors.namespaces import DataAccess
from agentfactory.actors.retriever import Retriever
from agentfactory.bridge.client.tiered_store import TieredStore
from agentfactory.configs.data import LIBRARY, ActionSettings, CacheSettings, DataSettings, UriSettings
from agentfactory.messages.data import StepResult
from agentfactory.runtime.system import ActorSystem
from tests.bridge.fake_blobs import FakeBlobCache, FakeBlobStore

TIMEOUT_S = 180


class Plane:
    """The tiers, and how an actor opens them."""

    def __init__(self) -> None:
        self.store = FakeBlobStore()
        self.cache = FakeBlobCache()
        self.open_now = 0

    @asynccontextmanager
    async def open(self, settings: DataSettings) -> AsyncIterator[TieredStore]:
        self.open_now += 1
        try:
            yield TieredStore(self.store, self.cache)
        finally:
            self.open_now -= 1


def settings(root: Path) -> DataSettings:
    return DataSettings(
        uris=UriSettings(roots=(str(root),), concurrency=4),
        cache=CacheSettings(max_value_size=100 << 10),
        actions=ActionSettings(default_tag="mine", max_answer_mb=1),
    )


def error_of(result: StepResult) -> str:
    """Type of the error that an action was refused with."""
    data = result.observation.data
    assert data is not None
    assert data.kind == "refused"
    assert result.reward == -0.5
    return data.error


async def access(system: ActorSystem, plane: Plane) -> DataAccess:
    """Ingestors and Retrievers over the tiers, as the `data` domain has them."""
    made = settings(LIBRARY)
    ingestors = await system.spawn_pool(Ingestor, made, plane.open, name="ingestor", copies=1)
    retrievers = await system.spawn_pool(Retriever, made, plane.open, name="retriever", copies=1)
    return DataAccess(ingestors, retrievers, made.rewards, str(LIBRARY))
