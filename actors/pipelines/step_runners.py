"""Runners of pipeline steps: the agents that are bound to a pipeline's roles."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from ...configs.data import DataRewards
from ...messages.data import Action, StepResult
from ...runtime.ref import Ref
from ..agents.base import Agent
from ..agents.session import AgentSession
from ..environment import DataEnvironment
from .plan import PlannedStep, StepRequest


class StepExecution(NamedTuple):
    """Action and result of a step."""

    action: Action | None
    """None where the agent did not know what to do."""
    result: StepResult


class StepRunner(Protocol):
    """Takes one step. May be called for several steps at once."""

    async def __call__(self, step: PlannedStep, request: StepRequest) -> StepExecution:
        """Run the step. Raises AgentFactoryError for what failed and may be tried again."""


@dataclass(frozen=True)
class RoleBinding:
    """Binding of an agent and its environment to a role of a pipeline."""

    name: str
    """For the record."""
    agent: Agent
    """Reads the instructions, one after another."""
    open_environment: Callable[[], DataEnvironment]
    rewards: DataRewards
    version: int = 0
    """Of the policy behind the agent."""


class RoleBindings:
    """Takes steps by role: actions at once, each in an environment of its own; instructions by the agent."""

    def __init__(self, members: Mapping[str, RoleBinding], sink: Ref | None = None) -> None:
        """`members` by role. `sink` answers StoreTrajectories: every step is recorded; None: none is."""
        self._members = members
        self._sink = sink
        self._sessions = {role: self._session(member) for role, member in members.items()}

    async def __call__(self, step: PlannedStep, request: StepRequest) -> StepExecution:
        """See `StepRunner`."""
        role = step.spec.agent
        if request.action is None:
            done = await self._sessions[role].command(request.instruction)
        else:
            done = await self._session(self._members[role]).manual(request.action)
        return StepExecution(done.action, done.result)

    def _session(self, member: RoleBinding) -> AgentSession:
        return AgentSession(
            member.name,
            member.agent,
            member.open_environment(),
            sink=self._sink,
            rewards=member.rewards,
            version=member.version,
        )
