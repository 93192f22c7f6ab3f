"""The data plane as an environment: an agent acts, observes, and is rewarded.

Invariants: every action leads to one step, whatever it says: one that is unknown or does not fit is an
observation with the reward for errors. What goes wrong in the data plane itself is raised and is no step.
"""

import asyncio

from pydantic import ValidationError

from ..configs.data import DataRewards
from ..configs.errors import AgentFactoryError
from ..messages.base import Request
from ..messages.data import (
    Action,
    ActionStep,
    ActionTrajectory,
    Assimilate,
    Destroy,
    ListBlobs,
    Observation,
    Prune,
    Query,
    Retrieve,
    StepResult,
    TaskSpec,
)
from ..runtime.ref import Ref, ask_with_retry
from .namespaces import Namespace

ACTIONS: dict[str, type[Request[StepResult]]] = {
    "assimilate": Assimilate,
    "query": Query,
    "retrieve": Retrieve,
    "prune": Prune,
    "destroy": Destroy,
    "list_blobs": ListBlobs,
}
_OF_THE_INGESTOR = ("assimilate", "destroy")


class EnvironmentOver(AgentFactoryError):
    """The task has ended, or the environment is closed; reset it, or make another."""


class DataEnvironment:
    """Environment of one agent. The actors behind it may be shared by many.

    A worked example::

        environment = DataEnvironment(ingestor, retriever, settings.rewards)
        seen = await environment.reset(TaskSpec(instruction="Load the notes.", max_steps=5))
        result = await environment.step(Action.of("query", tag_pattern="*"))
    """

    def __init__(
        self,
        ingestor: Ref,
        retriever: Ref,
        rewards: DataRewards,
        *,
        timeout_s: float = 600.0,
        space: Namespace | None = None,
    ) -> None:
        """`space` keeps the agent to a part of the store of its own; None: it acts on all of it."""
        self._ingestor = ingestor
        self._retriever = retriever
        self._rewards = rewards
        self._timeout_s = timeout_s
        self._space = space
        self._closed = self._over = False
        self._stepping = asyncio.Lock()
        self._begin(None)

    @property
    def trajectory(self) -> ActionTrajectory:
        """All steps since the last reset."""
        return ActionTrajectory(steps=tuple(self._steps), total_reward=self._total_reward)

    @property
    def over(self) -> bool:
        """True if no step may be taken any more."""
        return self._over

    async def reset(self, task: TaskSpec | None = None) -> Observation:
        """Begin anew. The data stays as it is. Raises EnvironmentOver once closed."""
        if self._closed:
            raise EnvironmentOver("the environment is closed")
        self._begin(task)
        return self._seen

    async def step(self, action: Action) -> StepResult:
        """Act; steps that are asked for at the same time are taken one after another, in their order.

        Raises EnvironmentOver after the last step, and what the data plane fails with."""
        async with self._stepping:
            return await self._step(action)

    async def _step(self, action: Action) -> StepResult:
        if self._over:
            raise EnvironmentOver("the task is over: reset the environment")
        result = await self._result_of(action)
        limit = self._task.max_steps if self._task else None
        if limit is not None and len(self._steps) + 1 >= limit:
            result = result.model_copy(update={"done": True})
        self._steps.append(ActionStep(action=action, result=result))
        self._total_reward += result.reward
        self._seen = result.observation
        self._over = result.done
        return result

    def observe(self) -> Observation:
        """The last observation."""
        return self._seen

    async def close(self) -> None:
        """Take no more steps. The actors go on: they are not ours."""
        self._closed = self._over = True

    def _begin(self, task: TaskSpec | None) -> None:
        self._task = task
        self._steps: list[ActionStep] = []
        self._total_reward = 0.0
        self._seen = Observation(text=task.instruction if task else "")
        self._over = False

    async def _result_of(self, action: Action) -> StepResult:
        request_type = ACTIONS.get(action.name)
        if request_type is None:
            known = ", ".join(ACTIONS)
            return self._refusal("UnknownAction", f"{action.name!r} is not one of {known}")
        try:
            request = request_type.model_validate(dict(action.params))
        except ValidationError as error:
            return self._refusal("BadParameters", f"{action.name}: {format_parameter_errors(error)}")
        if self._space is None:
            return await self._carry_out(action.name, request)
        result = await self._carry_out(action.name, self._space.to_store(request))
        return self._space.from_store(result)

    async def _carry_out(self, name: str, request: Request[StepResult]) -> StepResult:
        if name in _OF_THE_INGESTOR:
            return await self._ingestor.ask(request, timeout_s=self._timeout_s)
        return await ask_with_retry(self._retriever, request, timeout_s=self._timeout_s)

    def _refusal(self, error: str, reason: str) -> StepResult:
        return StepResult.refused(error, reason, self._rewards.error)


def format_parameter_errors(error: ValidationError) -> str:
    """Describe which parameters do not fit, and why."""
    return "; ".join(
        f"{'.'.join(map(str, found['loc'])) or 'parameters'}: {found['msg']}" for found in error.errors()
    )
