"""Interface of an agent, and the errors that it may answer with.

An agent belongs to one session: `think` keeps what was decided for the `act` that follows.
"""

from abc import ABC, abstractmethod
from typing import Final, NamedTuple, Protocol, runtime_checkable

from ...configs.errors import BadInput
from ...messages.data import Action, Observation, StepResult, TaskSpec

ANSWER: Final = "answer"
"""The name of the action that touches nothing: it says something (`text`) and ends the task."""


class NotUnderstood(BadInput):
    """The command does not say enough, or asks for what no action does. Nothing was done."""


class NotPermitted(BadInput):
    """The agent may not do what it was asked for. Nothing was done."""


class Agent(Protocol):
    """Decides what to do next. To think and then act on the same observation is one decision."""

    async def think(self, observation: Observation) -> str:
        """Decide, and give the reason. Raises NotUnderstood, NotPermitted, ModelError."""

    async def act(self, observation: Observation) -> Action:
        """The action decided on. Raises the same."""


@runtime_checkable
class StatefulAgent(Protocol):
    """An agent that can see the earlier steps of a task."""

    @property
    def remembers(self) -> bool:
        """True if it does so, between `begin` and `forget`."""

    def begin(self) -> None:
        """From here on each observation is seen with those before it: they are steps of one task."""

    def forget(self) -> None:
        """Each observation stands alone again."""


class Environment(Protocol):
    """World that agents act on; `actors.environment.DataEnvironment` is one."""

    async def reset(self, task: TaskSpec | None = None) -> Observation:
        """Begin anew."""

    async def step(self, action: Action) -> StepResult:
        """Act, observe, be rewarded."""


class Decision(NamedTuple):
    """An action and the reason for it."""

    thought: str
    action: Action


class DecidingAgent(ABC):
    """An agent that makes thought and action at once.

    A worked example::

        why = await agent.think(seen)     # decides
        action = await agent.act(seen)    # that decision; nothing is asked a second time
        again = await agent.act(seen)     # a new decision
    """

    def __init__(self) -> None:
        self._kept: tuple[Observation, Decision] | None = None

    async def think(self, observation: Observation) -> str:
        """See `Agent`."""
        self._kept = None
        decision = await self._decide(observation)
        self._kept = (observation, decision)
        return decision.thought

    async def act(self, observation: Observation) -> Action:
        """See `Agent`."""
        kept, self._kept = self._kept, None
        if kept is not None and (kept[0] is observation or kept[0] == observation):
            return kept[1].action
        return (await self._decide(observation)).action

    @abstractmethod
    async def _decide(self, observation: Observation) -> Decision:
        """Make up one's mind."""
