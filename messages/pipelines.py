"""What happens in a pipeline: each step's outcome, and the facts on the way there."""

from typing import Literal

from pydantic import Field

from .base import Event, Message
from .data import Action, Param, StepResult

StepState = Literal["running", "retrying", "done", "kept", "failed", "skipped", "cancelled"]
"""`kept`: done by an earlier run; `skipped`: what it depends on failed; `cancelled`: another step failed."""


class StepOutput(Message):
    """How a step ended."""

    step: str
    state: StepState
    instruction: str = ""
    """What the agent was told, where it had to decide."""
    action: Action | None = None
    """What was done; None if it never came to that."""
    result: StepResult | None = None
    """The last attempt's; None if that gave none."""
    reason: str = ""
    """Why it is not done."""
    attempts: int = Field(default=0, ge=0)
    seconds: float = Field(default=0.0, ge=0.0)

    @property
    def done(self) -> bool:
        """Whether what depends on it may begin."""
        return self.state in ("done", "kept")


class StepChanged(Event):
    """A step of a pipeline begins, is tried again, or has ended."""

    pipeline_id: str
    step: str
    state: StepState
    reason: str = ""
    attempt: int = Field(default=0, ge=0)
    seconds: float = Field(default=0.0, ge=0.0)
    """Since it began."""


class PipelineBegun(Message):
    """The first line of a pipeline's state file."""

    pipeline_id: str
    variables: tuple[tuple[str, Param], ...]


class PipelineResult(Message):
    """What became of a pipeline."""

    pipeline_id: str
    steps: tuple[StepOutput, ...]
    """In the file's order."""
    seconds: float = Field(ge=0.0)

    @property
    def complete(self) -> bool:
        """Whether all steps are done."""
        return all(step.done for step in self.steps)

    @property
    def total_reward(self) -> float:
        """Of the steps that gave a result, in this run or before."""
        return sum(step.result.reward for step in self.steps if step.result is not None)
