"""Task graphs: pipelines of agents' actions and plans of tool calls, step by step."""

from typing import Literal

from pydantic import Field, JsonValue

from .base import Event, Message
from .data import Action, Param, StepResult
from .turns import Failure

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


StepId = r"^([A-Za-z_]\w{0,31}|\d{1,4})$"
StepStatus = Literal["done", "failed", "skipped", "not_run"]
"""Skipped: a step that it needs did not succeed. Not run: the plan had stopped before."""


class PlanStep(Message):
    """One call of a tool."""

    id: str = Field(pattern=StepId)
    tool: str = Field(min_length=1)
    input: JsonValue = ""
    """A text, or an object with the tool's parameters by name. In its texts `$step` stands for what that
    step's tool answered, `$step.key` for a part of an answer that is JSON, `$$` for a dollar sign."""
    after: tuple[str, ...] = ()
    """Steps that must have succeeded before, beside those that the input names."""
    timeout_s: float | None = Field(default=None, gt=0.0, le=3600.0)
    on_error: Literal["stop", "skip", "go_on"] = "stop"
    """If the step fails: begin no further step; or leave out the steps that need it; or let those have
    the text of the error for its answer."""


class Plan(Message):
    """Steps, in any order. Those that do not need one another run at the same time."""

    name: str = ""
    steps: tuple[PlanStep, ...] = Field(min_length=1)
    sequential: bool = False
    """Each step needs the one before."""
    roll_back: bool = False
    """If the plan does not succeed, put the workspace's files back as they were."""
    timeout_s: float | None = Field(default=None, gt=0.0, le=3600.0)
    """For all steps together."""


class StepOutcome(Message):
    """What became of a step."""

    id: str
    tool: str
    status: StepStatus
    input: str = ""
    """As the tool got it."""
    output: str = ""
    """What the tool answered, or why the step did not run."""
    failure: Failure = ""
    duration_s: float = Field(default=0.0, ge=0.0)


class PlanOutcome(Message):
    """What became of a plan."""

    name: str = ""
    ok: bool
    """Every step is done, but for failed ones that were told to go on."""
    steps: tuple[StepOutcome, ...]
    """In the plan's order."""
    put_back: tuple[str, ...] = ()
    """Files of the workspace that were put back as they were, or removed because they were new."""
    duration_s: float = Field(default=0.0, ge=0.0)
