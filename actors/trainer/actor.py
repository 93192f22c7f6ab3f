"""The Trainer.

Consumes TrainStep; produces StepReport; waits for its own computation, which runs in a thread;
unblocked when that ends.

Invariant: a version that was reported is on disk; asked again for the same step, it answers from
there.
"""

from collections.abc import Mapping
from pathlib import Path

import anyio

from configs.models import ModelSettings
from configs.roles import TrainerSettings
from messages.adapters import Policy
from messages.learning import StepReport, TrainStep
from runtime.actor import Actor


class Trainer(Actor):
    """Trains the adapters, one step at a time."""

    def __init__(
        self,
        settings: TrainerSettings,
        model: ModelSettings,
        policies: Mapping[Policy, float],
        folder: Path,
        seed: int,
    ) -> None:
        self._settings = settings
        self._model = model
        self._policies = policies
        self._folder = folder
        self._seed = seed

    async def start(self) -> None:
        """Load the base model."""
        from training.learner import Learner  # imports torch: only where a Trainer runs

        self._learner = Learner(self._model, self._settings, self._policies, self._folder, self._seed)
        await anyio.to_thread.run_sync(self._learner.start)

    async def train(self, message: TrainStep) -> StepReport:
        """Make the next version of a policy."""
        return await anyio.to_thread.run_sync(self._learner.step, message)
