"""The one way in which a run's state changes: journal, take into account, tell everyone."""

from actors.coordinator.journal import Journal
from actors.coordinator.signal import Signal
from actors.coordinator.state import RunState
from messages.base import Event
from messages.runs import JournalEntry
from runtime.topics import Topics


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
        self.changed.notify()
        await self._topics.publish(entry)

    async def tell(self, event: Event) -> None:
        """Tell everyone of something that is no part of the run."""
        await self._topics.publish(event)
