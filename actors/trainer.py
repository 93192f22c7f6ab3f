"""The Trainer.

Consumes TrainStep; produces StepReport; waits for its own computation, which runs in a thread;
unblocked when that ends.

Invariant: a version that was reported is on disk, and in the adapter store where the step names a tag; asked
again for the same step, it answers from disk.
"""

from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import anyio
import structlog

from ..configs.model_loading import hide_unused_packages
from ..configs.models import ModelSettings
from ..configs.roles import TrainerSettings
from ..messages.adapters import LoadAdapter, Policy
from ..messages.trajectories import StepReport, TrainStep
from ..runtime.actor import Actor
from ..runtime.engines.base import AdapterStore, AdapterStoreFactory
from ..training.adapter_files import with_location

log = structlog.get_logger("trainer")
_TOLD: Final = {
    *("loss", "entropy", "kl_to_base", "clip_fraction", "grad_norm", "tokens", "groups_used", "train_s"),
}


class Trainer(Actor):
    """Trains the adapters, one step at a time."""

    def __init__(
        self,
        settings: TrainerSettings,
        model: ModelSettings,
        policies: Mapping[Policy, float],
        folder: Path,
        seed: int,
        open_adapter_store: AdapterStoreFactory | None = None,
    ) -> None:
        """`open_adapter_store`: where steps that name a tag put what they make."""
        self._settings = settings
        self._model = model
        self._policies = policies
        self._folder = folder
        self._seed = seed
        self._open_adapter_store = open_adapter_store
        self._adapter_store: AdapterStore | None = None
        self._stack = AsyncExitStack()

    async def start(self) -> None:
        """Open the adapter store, and load the base model."""
        hide_unused_packages()
        from ..training.learner import Learner  # imports torch: only where a Trainer runs

        if self._open_adapter_store is not None:
            self._adapter_store = await self._stack.enter_async_context(self._open_adapter_store())
        self._learner = Learner(self._model, self._settings, self._policies, self._folder, self._seed)
        await anyio.to_thread.run_sync(self._learner.start)

    async def train(self, message: TrainStep) -> StepReport:
        """Make the next version of a policy. Raises what the Learner raises, and what the store raises."""
        log.info("step begins", policy=message.policy, version=message.version, groups=len(message.groups))
        report = await anyio.to_thread.run_sync(self._learner.step, message)
        told = report.model_dump(include=_TOLD)
        log.info("step finished", adapter=report.adapter.name or "base model", **told)
        if self._adapter_store is None or not message.tag:
            return report
        files = LoadAdapter(adapter=report.adapter, config_json=report.config_json, weights=report.weights)
        located = with_location(files, message.tag)
        await self._adapter_store.put(located)
        return report.model_copy(update={"adapter": located.adapter, "config_json": b"", "weights": b""})

    async def aclose(self) -> None:
        """Close the adapter store."""
        await self._stack.aclose()
