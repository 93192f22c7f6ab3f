"""Trajectories: the record that every training method reads, and the training steps made of them."""

from collections.abc import Sequence
from typing import Self

from pydantic import Field, model_validator

from .adapters import AdapterRef, Policy
from .base import SCHEMA_VERSION, Event, Message, Request
from .episodes import Rewards, StopReason, Verdict
from .tasks import Task
from .turns import Turn


class Trajectory(Message):
    """One finished episode: its turns token by token, the verdict, and the rewards."""

    schema_version: int = SCHEMA_VERSION
    episode_id: str
    group_id: str
    """Sibling episodes of one task share it."""
    policy: Policy = "student"
    task: Task
    turns: tuple[Turn, ...]
    answer: str | None = None
    stop_reason: StopReason = "answered"
    verdict: Verdict | None = None
    """None for the Teacher's trajectories, which are rewarded by the Student's outcome."""
    rewards: Rewards
    majority_share: float = Field(default=0.0, ge=0.0, le=1.0)
    """p̂ of the group."""
    confidence: float | None = Field(default=None, ge=0.0, le=1.0)
    """How sure the Student was; None in what was stored before it was kept."""
    finished_at: float = 0.0
    """Seconds since the epoch."""

    @property
    def token_ids(self) -> tuple[int, ...]:
        """All tokens in order, length T."""
        return tuple(token for turn in self.turns for token in turn.prompt_ids + turn.completion_ids)

    @property
    def loss_mask(self) -> tuple[int, ...]:
        """1 where a token was sampled by the policy and counts in the loss, length T."""
        return tuple(bit for turn in self.turns for bit in turn.loss_mask)

    @property
    def behaviour_logprobs(self) -> tuple[float, ...]:
        """Log-probabilities recorded at sampling time, 0 for inserted tokens, length T."""
        return tuple(value for turn in self.turns for value in (0.0,) * len(turn.prompt_ids) + turn.logprobs)

    @property
    def oldest_version(self) -> int:
        """The oldest policy version that produced any of its turns."""
        return min((turn.policy_version for turn in self.turns), default=0)


class Group(Message):
    """Sibling trajectories of one task: what a group-relative advantage is computed over."""

    group_id: str
    trajectories: tuple[Trajectory, ...]


class Stored(Message):
    """What the sink did with a request."""

    stored: int
    duplicates: int
    """Episodes that were on disk already and were not written again."""


class StoreTrajectories(Request[Stored]):
    """Make these durable. The answer means that their bytes are on disk.

    A trajectory becomes JSON once, in the process that made it: what travels is what will lie on the
    disk, and the sink's only work is to write it.
    """

    episode_ids: tuple[str, ...]
    lines: tuple[bytes, ...]
    """One JSON object for each id, with the newline that ends it."""

    @classmethod
    def of(cls, trajectories: Sequence[Trajectory]) -> Self:
        """Write the lines."""
        return cls(
            episode_ids=tuple(trajectory.episode_id for trajectory in trajectories),
            lines=tuple(trajectory.model_dump_json().encode() + b"\n" for trajectory in trajectories),
        )

    @model_validator(mode="after")
    def _one_whole_line_each(self) -> Self:
        if len(self.lines) != len(self.episode_ids):
            raise ValueError(f"{len(self.episode_ids)} episodes need as many lines, not {len(self.lines)}")
        for episode_id, line in zip(self.episode_ids, self.lines, strict=True):
            if line.find(b"\n") != len(line) - 1:
                raise ValueError(f"{episode_id}: a trajectory is one line, with a newline at its end only")
        return self


class TrajectoryStored(Event):
    """Trajectories have become durable."""

    episode_ids: tuple[str, ...]


class FoundTrajectories(Message):
    """The ones that are stored, in the order asked."""

    trajectories: tuple[Trajectory, ...]


class FindTrajectories(Request[FoundTrajectories]):
    """Read stored trajectories back, by episode id (after a restart)."""

    episode_ids: tuple[str, ...]


class StepReport(Message):
    """One finished training step, and the adapter it made."""

    adapter: AdapterRef
    config_json: bytes = b""
    """Empty, like `weights`, where the adapter's files lie in the data plane: see `adapter.tag`."""
    weights: bytes = b""
    loss: float
    kl_to_base: float | None = None
    """Mean estimate over policy tokens, nats; None where it is not measured."""
    clip_fraction: float = 0.0
    entropy: float = 0.0
    """Mean of −log p of the sampled tokens under the new policy, nats."""
    grad_norm: float = 0.0
    """Before clipping, the mean over the step's updates."""
    tokens: int = 0
    """Policy tokens trained on."""
    groups_used: int = 0
    """Groups with a non-zero advantage."""
    train_s: float = 0.0


class TrainStep(Request[StepReport]):
    """Make version `version + 1` of a policy from these groups.

    Asking again with the same `version` (after a crash) redoes the step from the checkpoint of
    `version`; a step that was already finished is answered from its checkpoint.
    """

    policy: Policy
    version: int = Field(ge=0)
    """The version that the Trainer must hold; it restores that checkpoint if it does not."""
    groups: tuple[Group, ...]
    tag: str = ""
    """Where in the data plane to put the new version's files; empty: answer with them."""
