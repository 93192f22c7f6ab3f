"""Sessions with an environment, as client and server speak of them."""

from typing import Literal

from pydantic import Field

from .base import Message
from .data import TaskSpec

EnvironmentKind = Literal["training", "evaluation", "fine_tuning"]
"""`training`: drawn tasks on a live data plane; `evaluation`: the same, but the fixed held-out tasks in their
order; `fine_tuning`: episodes that were recorded."""


class OpenSession(Message):
    """Give me an environment."""

    kind: EnvironmentKind = "training"


class SessionInfo(Message):
    """An environment that is one client's."""

    id: str
    kind: EnvironmentKind
    explore: bool
    """Whether the agent is to try things out; where not, it is to do what it thinks best (temperature 0)."""
    episodes: int | None = Field(default=None, ge=0)
    """How many there are, one with each reset; None for as many as one likes."""
    idle_s: float
    """After so many seconds without a request the session is closed."""


class SessionList(Message):
    """The sessions that are open."""

    sessions: tuple[SessionInfo, ...]


class ResetSession(Message):
    """Begin an episode."""

    task: TaskSpec | None = None
    """None: the environment's own. `evaluation` takes no other; `fine_tuning` the instruction of a record."""
