"""Who takes a step of a pipeline."""

from collections.abc import Callable
from typing import NamedTuple, Protocol

from actors.environment import DataEnvironment
from actors.pipelines.plan import Asked, PlannedStep
from configs.errors import BadInput
from messages.data import Action, StepResult


class Taken(NamedTuple):
    """What a step has come to."""

    action: Action | None
    """None where the agent did not know what to do."""
    result: StepResult


class Perform(Protocol):
    """Takes one step. May be called for several steps at once."""

    async def __call__(self, step: PlannedStep, asked: Asked) -> Taken:
        """What was done. Raises AgentFactoryError for what failed and may be tried again."""


def by_actions(open_environment: Callable[[], DataEnvironment]) -> Perform:
    """Steps are actions, each in an environment of its own. None of them has anything to decide."""

    async def perform(step: PlannedStep, asked: Asked) -> Taken:
        if asked.action is None:
            raise BadInput(f"there is no agent who could follow {asked.instruction!r}")
        environment = open_environment()
        try:
            return Taken(asked.action, await environment.step(asked.action))
        finally:
            await environment.close()

    return perform
