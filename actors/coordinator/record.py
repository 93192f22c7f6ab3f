"""The one way in which a run's state changes: journal, take into account, tell everyone."""

import structlog

from ...messages.base import Event
from ...messages.runs import (
    GroupFinished,
    GroupLeased,
    JournalEntry,
    RoundFinished,
    StepFinished,
    TasksRewarded,
)
from ...runtime.topics import Topics
from .journal import Journal
from .signal import Signal
from .state import RunState

log = structlog.get_logger("coordinator")


class Record:
    """A run's journal and the state that follows from it."""

    def __init__(self, journal: Journal, state: RunState, topics: Topics) -> None:
        self._journal = journal
        self._topics = topics
        self.state = state
        self.changed = Signal()
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
