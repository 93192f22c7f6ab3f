"""A run's state, derived from its journal entry by entry, live and on resume alike.

Invariants: `RunState.apply` is the only thing that changes the state, so a resumed run stands exactly
where the journal ends; `JournaledState.add` is the only thing that applies an entry, and journals it first.
"""

import anyio
import structlog

from ...configs.roles import CurriculumSettings
from ...messages.adapters import AdapterRef, Policy
from ...messages.base import Event
from ...messages.episodes import Rewards
from ...messages.runs import (
    GroupDropped,
    GroupFinished,
    GroupLeased,
    JournalEntry,
    RoundFinished,
    RunFinished,
    RunResumed,
    RunStarted,
    StepFinished,
    TasksRewarded,
)
from ...messages.tasks import TaskOutcome
from ...runtime.topics import Topics
from .curriculum import Curriculum
from .journal import Journal

Open = dict[str, GroupLeased]


class RunState:
    """The state of one run."""

    def __init__(self, curriculum: CurriculumSettings) -> None:
        self.curriculum = Curriculum(curriculum)
        self.run_id = ""
        self.adapters: dict[Policy, AdapterRef] = {
            "student": AdapterRef(policy="student", version=0),
            "teacher": AdapterRef(policy="teacher", version=0),
        }
        self.open: Open = {}
        """Leased and unfinished."""
        self.ready: dict[str, tuple[GroupLeased, GroupFinished]] = {}
        """Accepted and not yet trained on, oldest first."""
        self.outcomes: list[TaskOutcome] = []
        """What the Teacher has not learned from yet."""
        self.rounds: dict[int, RoundFinished] = {}
        self.steps: dict[int, StepFinished] = {}
        """The Student's steps, by the version they made."""
        self.sampled = 0
        """Groups finished since the last step."""
        self.proposed: dict[int, float] = {}
        """Mean difficulty of the tasks that were tried on the way to each version, by their own estimate."""
        self._difficulties: list[float] = []
        self.leased = 0
        self.episodes = 0
        self.failed = 0
        self.filtered = 0
        self.dropped_stale = 0
        self.tokens = 0
        self.last_rewards = Rewards()
        self.last_success = 0.0
        self.finished: RunFinished | None = None
        self._past_s = 0.0
        self._session_started = 0.0
        self._last_at = 0.0

    @property
    def version(self) -> int:
        """Of the Student's policy."""
        return self.adapters["student"].version

    def is_over(self, rounds: int) -> bool:
        """Whether nothing is left to do. A run that had all its rounds goes on where it is given more."""
        return self.finished is not None and (self.finished.reason != "rounds" or rounds <= self.version)

    def wall_s(self, now: float) -> float:
        """Seconds of work so far, over all sittings."""
        return self._past_s + max(0.0, now - self._session_started)

    @property
    def proposed_lately(self) -> float | None:
        """Mean of the tasks' own difficulty since the last step, or before it; None before any group."""
        if self._difficulties:
            return sum(self._difficulties) / len(self._difficulties)
        return self.proposed.get(self.version)

    def apply(self, entry: JournalEntry) -> None:
        """Take one entry into account."""
        match entry:
            case RunStarted():
                self.run_id = entry.run_id
                self._session_started = entry.at
            case RunResumed():
                self.finished = None
                self._past_s += max(0.0, self._last_at - self._session_started)
                self._session_started = entry.at
            case GroupLeased():
                self.open[entry.group_id] = entry
                self.leased += 1
            case GroupFinished():
                self._group_finished(entry)
            case GroupDropped():
                self.ready.pop(entry.group_id, None)
                self.dropped_stale += 1
            case StepFinished():
                self._step_finished(entry)
            case RoundFinished():
                self.rounds[entry.version] = entry
            case RunFinished():
                self.finished = entry
            case _:
                pass  # what a task earned, or a failure: the run goes on from the entries before it
        self._last_at = getattr(entry, "at", self._last_at)

    def _group_finished(self, entry: GroupFinished) -> None:
        lease = self.open.pop(entry.group_id)
        self.sampled += 1
        self._difficulties.append(entry.difficulty)
        self.episodes += entry.episodes
        self.failed += entry.failed
        self.tokens += entry.tokens
        self.last_rewards = entry.rewards
        self.last_success = entry.success
        if entry.fate == "accepted":
            self.ready[entry.group_id] = (lease, entry)
        self.filtered += entry.fate == "filtered"
        if entry.fate != "failed":
            self.curriculum.observe(entry.success)
            self.outcomes.append(
                TaskOutcome(
                    proposal=lease.proposal,
                    majority_share=entry.majority_share,
                    tool_calls=entry.tool_calls,
                )
            )

    def _step_finished(self, entry: StepFinished) -> None:
        self.adapters[entry.policy] = entry.adapter
        if entry.policy == "teacher":
            learned = set(entry.group_ids)
            self.outcomes = [o for o in self.outcomes if o.proposal.task.id not in learned]
            return
        self.steps[entry.adapter.version] = entry
        if self._difficulties:
            self.proposed[entry.adapter.version] = sum(self._difficulties) / len(self._difficulties)
        self._difficulties = []
        self.sampled = 0
        for group_id in entry.group_ids:
            self.ready.pop(group_id, None)


log = structlog.get_logger("coordinator")


class JournaledState:
    """A run's journal and the state that follows from it."""

    def __init__(self, journal: Journal, state: RunState, topics: Topics) -> None:
        self._journal = journal
        self._topics = topics
        self.state = state
        self.changed = ChangeNotifier()
        """Notified after each entry."""

    async def add(self, entry: JournalEntry) -> None:
        """Make the entry part of the run. Raises CannotJournal, with nothing changed."""
        self._journal.append(entry)
        self.state.apply(entry)
        told = _in_the_log(entry)
        if told is not None:
            log.info(entry.kind.replace("_", " "), **told)
        self.changed.notify()
        await self._topics.publish(entry)

    async def tell(self, event: Event) -> None:
        """Tell everyone of something that is no part of the run."""
        await self._topics.publish(event)


def _in_the_log(entry: JournalEntry) -> dict[str, object] | None:
    """What the log tells of an entry; None for the many that the journal alone keeps."""
    match entry:
        case GroupLeased() | GroupFinished() | TasksRewarded():
            return None
        case StepFinished():
            return {"policy": entry.policy, "version": entry.adapter.version, "loss": entry.loss,
                    "groups": len(entry.group_ids), "train_s": entry.train_s}  # fmt: skip
        case RoundFinished():
            return {"version": entry.version, "pass_at_1": entry.pass_at_1, "n": entry.n,
                    "eval_s": entry.eval_s}  # fmt: skip
    return entry.model_dump(exclude={"kind", "at"})


class ChangeNotifier:
    """Wakes everyone who waits. Decide first, then wait: nothing changes between the two."""

    def __init__(self) -> None:
        self._event = anyio.Event()

    def notify(self) -> None:
        """Wake all."""
        self._event.set()
        self._event = anyio.Event()

    async def wait(self) -> None:
        """Until the next `notify`."""
        await self._event.wait()
