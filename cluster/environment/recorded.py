"""Recorded episodes, to be walked through again: what agents are fine-tuned on.

Invariant: nothing is carried out. Who does what the record has, sees what was seen then and earns what was
earned then; anything else is refused, with the recorded action as the reason, and the episode stays where it
is.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Self

from ...actors.agents.base import ANSWER
from ...actors.domains import domain_names, needs_store
from ...actors.environment import EnvironmentOver
from ...actors.student.tools import action_of
from ...configs.errors import BadInput
from ...messages.data import Action, ActionStep, ActionTrajectory, Observation, StepResult, TaskSpec
from ...messages.trajectories import Trajectory


class RecordedEpisode(NamedTuple):
    """An episode as it can be walked through."""

    instruction: str
    steps: tuple[ActionStep, ...]

    @classmethod
    def of(cls, trajectory: Trajectory) -> Self | None:
        """The steps of a trajectory of the data plane; None for one that has none, or is no success."""
        if not _acts_on_store(trajectory.task.domain) or trajectory.rewards.total <= 0.0:
            return None
        steps = [
            ActionStep(
                action=action_of(call.tool, call.input),
                result=StepResult(observation=Observation(text=result.output), reward=result.reward or 0.0),
            )
            for turn in trajectory.turns
            for call, result in turn.exchanges
            if result is not None and result.ok
        ]
        if trajectory.answer is not None:
            reward = trajectory.verdict.score if trajectory.verdict is not None else 0.0
            answered = StepResult(observation=Observation(text=trajectory.answer), reward=reward)
            steps.append(ActionStep(action=Action.of(ANSWER, text=trajectory.answer), result=answered))
        if not steps:
            return None
        last = steps[-1].result.model_copy(update={"done": True})
        steps[-1] = steps[-1].model_copy(update={"result": last})
        return cls(trajectory.task.description, tuple(steps))


def recorded_episodes(trajectories: Iterable[Trajectory]) -> tuple[RecordedEpisode, ...]:
    """Those that can be walked through, in their order."""
    found = (RecordedEpisode.of(trajectory) for trajectory in trajectories)
    return tuple(episode for episode in found if episode is not None)


class RecordedEnvironment:
    """See `cluster.environment.base.ServedEnvironment`. Each reset begins the next episode, in rotation."""

    def __init__(self, episodes: Sequence[RecordedEpisode], error_reward: float) -> None:
        self._episodes = episodes
        self._error_reward = error_reward
        self._next = 0
        self._episode: RecordedEpisode | None = None
        self._at = 0
        """Steps of the episode that have been taken."""
        self._steps: list[ActionStep] = []
        self._seen = Observation(text="")
        self._closed = False

    @property
    def trajectory(self) -> ActionTrajectory:
        """All steps since the last reset, those that were refused included."""
        total = sum(step.result.reward for step in self._steps)
        return ActionTrajectory(steps=tuple(self._steps), total_reward=total)

    async def reset(self, task: TaskSpec | None = None) -> Observation:
        """Begin the next episode, or the one with this instruction. Raises EnvironmentOver, BadInput."""
        if self._closed:
            raise EnvironmentOver("the environment is closed")
        self._episode = self._chosen(task)
        self._at, self._steps = 0, []
        self._seen = Observation(text=self._episode.instruction)
        return self._seen

    async def step(self, action: Action) -> StepResult:
        """Do what the record has. Raises EnvironmentOver."""
        if self._episode is None or self._at == len(self._episode.steps):
            raise EnvironmentOver("no episode is under way: reset the environment")
        expected = self._episode.steps[self._at]
        if _same(action, expected.action):
            result = expected.result
            self._at += 1
        else:
            reason = f"the record has {expected.action.model_dump_json()} here"
            result = StepResult.refused("OffTheRecord", reason, self._error_reward)
        self._steps.append(ActionStep(action=action, result=result))
        self._seen = result.observation
        return result

    def observe(self) -> Observation:
        """The last observation."""
        return self._seen

    async def close(self) -> None:
        """Take no more steps."""
        self._closed, self._episode = True, None

    def _chosen(self, task: TaskSpec | None) -> RecordedEpisode:
        if task is None:
            episode = self._episodes[self._next % len(self._episodes)]
            self._next += 1
            return episode
        for episode in self._episodes:
            if episode.instruction == task.instruction:
                return episode
        raise BadInput(f"there is no recorded episode with the instruction {task.instruction!r}")


def _same(one: Action, other: Action) -> bool:
    """The same action with the same parameters, in whatever order."""
    return one.name == other.name and dict(one.params) == dict(other.params)


def _acts_on_store(domain: str) -> bool:
    # a record may be of a domain whose package is not installed here
    return domain in domain_names() and needs_store(domain)
