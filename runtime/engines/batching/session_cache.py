"""KV caches of unfinished episodes, kept between their turns."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from .sequence import SequenceState


class SessionKvCache:
    """LRU cache of at most `limit` parked sequences, one for each session."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._sequences: OrderedDict[str, SequenceState] = OrderedDict()

    def __len__(self) -> int:
        return len(self._sequences)

    def park(self, sequence: SequenceState) -> None:
        """Keep the cache of an active sequence that has ended, if its request names a session."""
        assert sequence.bucket is not None
        session = sequence.request.session
        if session is None or self._limit == 0:
            sequence.bucket.free(sequence)
            return
        self.end((session,))
        sequence.bucket.park(sequence)
        self._sequences[session] = sequence
        if len(self._sequences) > self._limit:
            self._drop(next(iter(self._sequences)))

    def take(self, sequence: SequenceState) -> SequenceState | None:
        """The parked sequence that `sequence` continues: same session and adapter, its tokens a prefix.

        A session that goes on in another way, or under another adapter, loses its cache: keys and
        values of an older policy are never used.
        """
        session = sequence.request.session
        parked = self._sequences.get(session) if session is not None else None
        if session is None or parked is None:
            return None
        known = parked.tokens[: parked.cached]
        same_policy = parked.request.adapter == sequence.request.adapter
        if same_policy and len(sequence.tokens) > len(known) and sequence.tokens[: len(known)] == known:
            return self._sequences.pop(session)
        self._drop(session)
        return None

    def end(self, sessions: Iterable[str]) -> None:
        """Drop these; unknown ones are ignored."""
        for session in sessions:
            if session in self._sequences:
                self._drop(session)

    def drop_adapter(self, adapter: str) -> None:
        """Drop all sequences of an adapter that is unloaded."""
        self.end(
            [session for session, sequence in self._sequences.items() if sequence.request.adapter == adapter]
        )

    def _drop(self, session: str) -> None:
        sequence = self._sequences.pop(session)
        assert sequence.bucket is not None
        sequence.bucket.free(sequence)
