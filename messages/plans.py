"""Plans: several calls of tools that are written down before the first of them runs."""

from typing import Literal

from pydantic import Field, JsonValue

from .base import Message
from .turns import Failure

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
