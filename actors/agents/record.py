"""What agents did, as the trajectories that every training method reads.

A session's agents write no tokens down: behavioural cloning tokenizes the thought and the action in
whatever form its model speaks.
"""

import json
import time
from collections.abc import Sequence
from typing import Final, NamedTuple

from ...messages.data import Action, Refused, Retrieved, StepResult
from ...messages.episodes import StopReason
from ...messages.judging import Rewards
from ...messages.tasks import Task
from ...messages.trajectories import Trajectory
from ...messages.turns import ToolCall, ToolResult, Turn
from ..observations import show
from .base import ANSWER

_as_json: Final = json.JSONEncoder(ensure_ascii=False).encode


class Step(NamedTuple):
    """One decision, and what it led to."""

    thought: str
    action: Action | None
    """None where the agent did not know, or was not allowed, what it was asked for."""
    result: StepResult

    @property
    def refused(self) -> bool:
        """Whether it could not be done."""
        return isinstance(self.result.observation.data, Refused)

    def without_content(self) -> "Step":
        """The same without a blob's bytes: what may be kept for long."""
        data = self.result.observation.data
        if not isinstance(data, Retrieved):
            return self
        seen = self.result.observation.model_copy(update={"data": data.model_copy(update={"content": None})})
        return self._replace(result=self.result.model_copy(update={"observation": seen}))


class Episode(NamedTuple):
    """A task, from the command to its end."""

    id: str
    instruction: str
    steps: tuple[Step, ...]

    @property
    def reward(self) -> float:
        """Of all steps together."""
        return sum(step.result.reward for step in self.steps)

    @property
    def answer(self) -> str | None:
        """What the agent said at the end; None if it only acted."""
        last = self.steps[-1].action if self.steps else None
        return str(dict(last.params).get("text", "")) if last is not None and last.name == ANSWER else None


def trajectory_of(episode: Episode, *, group_id: str, version: int, max_chars: int) -> Trajectory:
    """The record of an episode. `version`: the policy's; 0 for a model that is not ours."""
    now = time.time()
    return Trajectory(
        episode_id=episode.id,
        group_id=group_id,
        task=Task(
            id=episode.id, domain="data", description=episode.instruction, difficulty=0.0, created_at=now
        ),
        turns=tuple(_turn(step, version, max_chars) for step in episode.steps),
        answer=episode.answer,
        stop_reason=_stop_reason(episode.steps),
        rewards=Rewards(total=episode.reward),
        finished_at=now,
    )


def _turn(step: Step, version: int, max_chars: int) -> Turn:
    action = step.action
    acts = action is not None and action.name != ANSWER
    return Turn(
        prompt_ids=(),
        completion_ids=(),
        logprobs=(),
        loss_mask=(),
        policy_version=version,
        text=step.thought,
        calls=(_call(action),) if action is not None and acts else (),
        results=(_result(step, max_chars),) if acts else (),
    )


def _result(step: Step, max_chars: int) -> ToolResult:
    return ToolResult(
        output=show(step.result.observation, max_chars),
        ok=not step.refused,
        failure="error" if step.refused else "",
        reward=step.result.reward,
    )


def _call(action: Action) -> ToolCall:
    return ToolCall(tool=action.name, input=_as_json(dict(action.params)))


def _stop_reason(steps: Sequence[Step]) -> StopReason:
    last = steps[-1].action if steps else None
    if last is None:
        return "no_action"
    return "answered" if last.name == ANSWER else "turn_limit"
