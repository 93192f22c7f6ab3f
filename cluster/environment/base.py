"""Protocols of environments, wherever they live."""

from typing import Protocol

from ...messages.data import Action, ActionTrajectory, Observation, StepResult, TaskSpec
from ...messages.sessions import EnvironmentKind


class ServedEnvironment(Protocol):
    """Environment of one agent. `actors.environment.DataEnvironment` is one, too.

    A worked example::

        seen = await environment.reset()
        result = await environment.step(Action.of("retrieve", tag="docs", blob_name="a.md"))
        result = await environment.step(Action.of("answer", text="# a"))   # ends it, where answers are judged
    """

    @property
    def trajectory(self) -> ActionTrajectory:
        """All steps since the last reset."""

    async def reset(self, task: TaskSpec | None = None) -> Observation:
        """Begin an episode. Raises EnvironmentOver where there is none, or no more."""

    async def step(self, action: Action) -> StepResult:
        """Act. Raises EnvironmentOver after the last step, and what the environment fails with."""

    def observe(self) -> Observation:
        """The last observation."""

    async def close(self) -> None:
        """Let go of all that it holds. May be called again."""


class Environments(Protocol):
    """Source of environments: this process, or a server."""

    async def open(self, kind: EnvironmentKind = "training") -> ServedEnvironment:
        """A new one. Raises BadInput for a kind that there is not here, and TooManySessions."""
