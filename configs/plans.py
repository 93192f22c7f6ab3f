"""Limits of plans."""

from pydantic import Field

from .section import Section


class PlanSettings(Section):
    """The executor of plans, and the tool `plan`."""

    max_steps: int = Field(default=32, ge=1, le=1024)
    max_parallel: int = Field(default=4, ge=1)
    """Steps that run at the same time."""
    step_timeout_s: float = Field(default=60.0, gt=0.0, le=3600.0)
    """Of a step that does not say its own."""
    timeout_s: float = Field(default=300.0, gt=0.0, le=3600.0)
    """Of a plan that does not say its own."""
    max_kept_mb: int = Field(default=64, ge=1)
    """Files of the workspace that are kept in memory while a plan runs that may be rolled back."""
    max_chars: int = Field(default=4000, ge=100)
    """Length of what a model is shown of a plan's outcome, in characters."""
