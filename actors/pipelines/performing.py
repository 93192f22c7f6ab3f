"""Who carries a step of a pipeline out."""

from collections.abc import Callable
from typing import Protocol

from actors.environment import DataEnvironment
from actors.pipelines.plan import PlannedStep
from messages.data import Action, StepResult


class Perform(Protocol):
    """Carries one step out. May be called for several steps at once."""

    async def __call__(self, step: PlannedStep, action: Action) -> StepResult:
        """What the action led to. Raises AgentFactoryError for what failed and may be tried again."""


def by_actions(open_environment: Callable[[], DataEnvironment]) -> Perform:
    """Steps are actions in an environment, one of its own for each step."""

    async def perform(step: PlannedStep, action: Action) -> StepResult:
        environment = open_environment()
        try:
            return await environment.step(action)
        finally:
            await environment.close()

    return perform
