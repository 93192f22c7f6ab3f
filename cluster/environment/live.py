"""Errands on a live data plane: each episode in a space of its own, and an answer that is judged.

Invariants: no two episodes meet, whoever runs them; what an episode stored is destroyed when the next one
begins or the environment is closed; only an answer is judged, and a judge that fails is raised: it is no
score of anybody's.
"""

import uuid
from collections.abc import Callable

from ...actors.agents.base import ANSWER
from ...actors.domains.data.judge import DataJudge
from ...actors.environment import DataEnvironment, EnvironmentOver
from ...actors.namespaces import DataAccess, Namespace, clear, new_namespace
from ...configs.errors import BadInput
from ...messages.data import Action, ActionStep, ActionTrajectory, Observation, StepResult, TaskSpec
from ...messages.episodes import Solution
from ...messages.tasks import Task

SPACES = "served"
"""Stands in the names of spaces where a run has its own."""


class LiveEnvironment:
    """See `cluster.environment.base.ServedEnvironment`."""

    def __init__(
        self,
        data: DataAccess,
        next_task: Callable[[], Task],
        *,
        open_book: bool,
        max_steps: int,
        timeout_s: float,
    ) -> None:
        """`next_task` raises EnvironmentOver where there are no more.

        `open_book`: tasks of the agent's own are taken, and a verdict says what was wrong.
        """
        self._data = data
        self._next_task = next_task
        self._open_book = open_book
        self._max_steps = max_steps
        self._timeout_s = timeout_s
        self._judge = DataJudge(data.retriever)
        self._inner: DataEnvironment | None = None
        self._task: Task | None = None
        self._space = ""
        self._answered: ActionStep | None = None
        self._closed = False

    @property
    def trajectory(self) -> ActionTrajectory:
        """All steps since the last reset, the answer included."""
        taken = self._inner.trajectory if self._inner is not None else ActionTrajectory()
        if self._answered is None:
            return taken
        return ActionTrajectory(
            steps=(*taken.steps, self._answered),
            total_reward=taken.total_reward + self._answered.result.reward,
        )

    async def reset(self, task: TaskSpec | None = None) -> Observation:
        """Begin an episode: this task, or a drawn one. Raises EnvironmentOver, BadInput."""
        if self._closed:
            raise EnvironmentOver("the environment is closed")
        if task is not None and not self._open_book:
            raise BadInput("evaluation sets its own tasks: reset without one")
        drawn = self._next_task() if task is None else None
        await self._leave()
        self._task = drawn
        said = task or TaskSpec(instruction=drawn.description if drawn else "", max_steps=self._max_steps)
        if said.max_steps is None:
            said = said.model_copy(update={"max_steps": self._max_steps})
        self._space = new_namespace(SPACES, uuid.uuid4().hex[:12])
        self._inner = DataEnvironment(
            self._data.ingestor,
            self._data.retriever,
            self._data.rewards,
            timeout_s=self._timeout_s,
            space=Namespace(self._space, self._data.library),
        )
        return await self._inner.reset(said)

    async def step(self, action: Action) -> StepResult:
        """Act, or answer: the action `answer` with a `text` ends the episode and is judged."""
        if self._inner is None:
            raise EnvironmentOver("no episode has begun: reset the environment")
        if action.name != ANSWER or self._answered is not None:
            return await self._inner.step(action)
        if self._inner.over:
            raise EnvironmentOver("the task is over: reset the environment")
        self._answered = ActionStep(action=action, result=await self._judged(action))
        await self._inner.close()
        return self._answered.result

    def observe(self) -> Observation:
        """The last observation."""
        if self._answered is not None:
            return self._answered.result.observation
        return self._inner.observe() if self._inner is not None else Observation(text="")

    async def close(self) -> None:
        """Destroy what the episode has stored."""
        self._closed = True
        await self._leave()

    async def _leave(self) -> None:
        inner, self._inner = self._inner, None
        self._answered = None
        if inner is not None:
            await inner.close()
            await clear(self._data, [self._space])

    async def _judged(self, action: Action) -> StepResult:
        text = str(dict(action.params).get("text", ""))
        if self._task is None:
            return StepResult(observation=Observation(text=text), reward=0.0, done=True)
        solution = Solution(
            episode_id=self._space,
            task_id=self._task.id,
            answer=text,
            turns=(),
            stop_reason="answered",
            space=self._space,
        )
        verdict = await self._judge.judge(self._task, solution, text)
        said = "right" if verdict.correct else "not right"
        if self._open_book and not verdict.correct:
            said = f"{said}: {verdict.explanation}"
        return StepResult(observation=Observation(text=said), reward=verdict.score, done=True)
