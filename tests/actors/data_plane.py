"""Both tiers in memory, handed to the actors as the real ones are."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from bridge.tiers import Tiers
from configs.data import ActionSettings, CacheSettings, DataSettings, UriSettings
from messages.data import StepResult
from tests.bridge.memory import MemoryCache, MemoryStore

TIMEOUT_S = 30


class Plane:
    """The tiers, and how an actor opens them."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.cache = MemoryCache()
        self.open_now = 0

    @asynccontextmanager
    async def open(self, settings: DataSettings) -> AsyncIterator[Tiers]:
        self.open_now += 1
        try:
            yield Tiers(self.store, self.cache)
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
