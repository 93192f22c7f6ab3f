"""A run's life: what the Coordinator is told, what it tells the world, what its journal keeps."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, model_validator

from .adapters import AdapterRef, Policy
from .base import Done, Event, Message, Request
from .episodes import Rewards
from .tasks import Proposal


def _renamed(values: object, **names: str) -> object:
    """The values of an older journal under their names of today; an empty name drops one."""
    if not isinstance(values, Mapping) or not values.keys() & names.keys():
        return values
    return {names.get(key, key): value for key, value in values.items() if names.get(key, key)}


Fate = Literal["accepted", "filtered", "failed"]
"""Of a group: trained on, outside the frontier, or with too few verdicts."""


class StartRun(Request[Done]):
    """Begin, or go on with what the journal in the run's folder says. Answered at once."""


class DrainRun(Request[Done]):
    """Lease nothing new, finish what runs, save, stop. Answered when that is done."""


class RunStarted(Event):
    """The first entry of a journal."""

    kind: Literal["run_started"] = "run_started"
    run_id: str
    seed: int
    at: float
    settings_sha256: str


class RunResumed(Event):
    """Another sitting of the same run begins here."""

    kind: Literal["run_resumed"] = "run_resumed"
    at: float


class GroupLeased(Event):
    """A task was given out: its episodes' ids are fixed from here on."""

    kind: Literal["group_leased"] = "group_leased"
    group_id: str
    proposal: Proposal
    episode_ids: tuple[str, ...]
    version: int
    """Policy version at the time of the lease."""
    at: float


class GroupFinished(Event):
    """All episodes of a group are judged and durable."""

    kind: Literal["group_finished"] = "group_finished"
    group_id: str
    fate: Fate
    """Accepted for training; outside the frontier; or too few episodes ended with a verdict."""
    episodes: int
    failed: int = 0
    success: float = 0.0
    """Share of correct answers."""
    majority_share: float = 0.0
    difficulty: float = 0.0
    """The proposed task's own, as estimated from it; what was asked for is the curriculum's."""
    tool_calls: float = 0.0
    """Mean tool calls an episode."""
    rewards: Rewards
    """Means over the episodes."""
    oldest_version: int = 0
    tokens: int = 0
    at: float

    @model_validator(mode="before")
    @classmethod
    def _of_old_journals(cls, values: object) -> object:
        return _renamed(values, teacher_reward="")  # always 0.0: it is known later, see TasksRewarded


class TasksRewarded(Event):
    """What proposals have earned the Teacher: known when it learns from them, after the Student has tried."""

    kind: Literal["tasks_rewarded"] = "tasks_rewarded"
    version: int
    """Of the Teacher's policy that learns from them next."""
    task_ids: tuple[str, ...]
    rewards: tuple[float, ...]
    """One a task: frontier and tools, less what near-duplicates in the batch cost."""
    at: float

    @property
    def mean(self) -> float:
        """Over the tasks; 0 for none."""
        return sum(self.rewards) / len(self.rewards) if self.rewards else 0.0


class GroupDropped(Event):
    """An accepted group grew too old before a batch was full."""

    kind: Literal["group_dropped"] = "group_dropped"
    group_id: str
    oldest_version: int
    version: int
    """The policy's version when it was dropped."""
    at: float


class StepFinished(Event):
    """A training step ended; its groups are consumed."""

    kind: Literal["step_finished"] = "step_finished"
    policy: Policy
    adapter: AdapterRef
    group_ids: tuple[str, ...]
    """The groups that the step consumed; for the Teacher, the ids of the tasks."""
    loss: float
    kl_to_base: float | None = None
    """Mean estimate over policy tokens, nats; None where it is not measured."""
    clip_fraction: float
    entropy: float
    grad_norm: float
    tokens: int
    train_s: float
    rollout_s: float = 0.0
    """Time since the previous step in which rollouts for this batch were running."""
    staleness: float = 0.0
    """Mean version gap of the batch."""
    at: float


class DomainScore(Message):
    """One domain's part of a version's evaluation."""

    domain: str
    pass_at_1: float
    n: int
    """Held-out episodes of this domain that were judged."""
    ci95: tuple[float, float]
    """Wilson score interval of pass@1."""
    tool_use: float
    """Share of them with at least one tool call."""


class RoundFinished(Event):
    """A version's evaluation is in. Round 0 is the base model."""

    kind: Literal["round_finished"] = "round_finished"
    version: int
    pass_at_1: float
    n: int
    """Held-out episodes judged."""
    ci95: tuple[float, float]
    """Wilson score interval of pass@1."""
    mean_reward: float
    tool_use: float
    """Share of held-out episodes with at least one tool call."""
    train_s: float
    rollout_s: float
    tokens: int
    asked_difficulty: float
    """What the curriculum asked for when the round ended."""
    proposed_difficulty: float | None = None
    """Mean of the tasks' own over the groups that this version learned from; None before the first."""
    staleness: float = 0.0
    eval_s: float = 0.0
    failed: int = 0
    """Held-out episodes that ended without a verdict, left out of `n`."""
    domains: tuple[DomainScore, ...] = ()
    """The same by domain, in the order of the held-out tasks."""
    at: float

    @model_validator(mode="before")
    @classmethod
    def _of_old_journals(cls, values: object) -> object:
        return _renamed(values, difficulty="asked_difficulty")


class RunProgress(Event):
    """A few times a second: what the live view shows. Not kept in the journal."""

    kind: Literal["run_progress"] = "run_progress"
    version: int
    rounds: int
    running: int
    accepted: int
    batch: int
    evaluating: int
    episodes: int
    failed: int
    dropped_stale: int
    filtered: int
    tokens: int
    tokens_per_s: float
    mean_reward: float
    success: float
    asked_difficulty: float
    """What the curriculum asks for."""
    proposed_difficulty: float | None = None
    """Mean of the tasks' own since the last step, or before it; None before the first group."""
    elapsed_s: float


class EpisodeSample(Event):
    """One judged training episode in a few words, for whoever watches. Not kept in the journal."""

    kind: Literal["episode_sample"] = "episode_sample"
    episode_id: str
    domain: str
    task: str
    """Its beginning, as the answer's and the call's."""
    tool: str = ""
    """Of the last call; empty where none was made."""
    call: str = ""
    output: str = ""
    answer: str | None = None
    correct: bool


class DescribeRun(Request[RunProgress]):
    """Ask the Coordinator how the run stands."""


class RunFinished(Event):
    """The last entry of a journal that ended well."""

    kind: Literal["run_finished"] = "run_finished"
    reason: Literal["rounds", "drained", "frontier_exhausted"]
    episodes: int
    failed: int
    dropped_stale: int
    tokens: int
    wall_s: float
    """Seconds of work, summed over the sittings of a resumed run."""
    at: float


class RunFailed(Event):
    """The run cannot go on by itself; the journal says where to resume."""

    kind: Literal["run_failed"] = "run_failed"
    error: str
    reason: str
    exit_code: int = 1
    """What the command line ends with: 2 for what a person has to mend first, such as a full disk."""
    at: float


class ActorRestarted(Event):
    """The supervisor put an actor back on its feet."""

    kind: Literal["actor_restarted"] = "actor_restarted"
    actor: str
    cause: str
    restarts: int
    at: float


JournalEntry = Annotated[
    RunStarted
    | RunResumed
    | GroupLeased
    | GroupFinished
    | TasksRewarded
    | GroupDropped
    | StepFinished
    | RoundFinished
    | RunFinished
    | RunFailed,
    Field(discriminator="kind"),
]


class RoundSummary(Message):
    """One row of a run's result."""

    version: int
    pass_at_1: float
    n: int
    ci95: tuple[float, float]
    mean_reward: float
    tool_use: float
    train_s: float
    rollout_s: float
    asked_difficulty: float | None = None
    """What the curriculum asked for when the version was evaluated."""
    proposed_difficulty: float | None = None
    """Mean of the tasks' own over the groups that the version learned from; None for the base model."""
    kl_to_base: float | None = None
    """Of the step that made the version, nats; None where it is not measured."""
    domains: tuple[DomainScore, ...] = ()


class RunResult(Message):
    """What a run came to: the content of `run.json` and of `--json`."""

    run_dir: str
    rounds: tuple[RoundSummary, ...]
    episodes: int
    failed: int
    dropped_stale: int
    tokens: int
    wall_s: float
