"""Caches of unfinished episodes, kept between their turns."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from .row import Row


class ParkedSessions:
    """At most `limit` parked rows, the longest unused dropped first; one for each session."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._rows: OrderedDict[str, Row] = OrderedDict()

    def __len__(self) -> int:
        return len(self._rows)

    def park(self, row: Row) -> None:
        """Keep the cache of an active row that has ended, if its request names a session."""
        assert row.band is not None
        session = row.request.session
        if session is None or self._limit == 0:
            row.band.free(row)
            return
        self.end((session,))
        row.band.park(row)
        self._rows[session] = row
        if len(self._rows) > self._limit:
            self._drop(next(iter(self._rows)))

    def take(self, row: Row) -> Row | None:
        """The parked row that `row` continues: same session and adapter, and its tokens are a prefix.

        A session that goes on in another way, or under another adapter, loses its cache: keys and
        values of an older policy are never used.
        """
        session = row.request.session
        parked = self._rows.get(session) if session is not None else None
        if session is None or parked is None:
            return None
        known = parked.tokens[: parked.cached]
        same_policy = parked.request.adapter == row.request.adapter
        if same_policy and len(row.tokens) > len(known) and row.tokens[: len(known)] == known:
            return self._rows.pop(session)
        self._drop(session)
        return None

    def end(self, sessions: Iterable[str]) -> None:
        """Drop these; unknown ones are ignored."""
        for session in sessions:
            if session in self._rows:
                self._drop(session)

    def drop_adapter(self, adapter: str) -> None:
        """Drop all rows of an adapter that goes."""
        self.end([session for session, row in self._rows.items() if row.request.adapter == adapter])

    def _drop(self, session: str) -> None:
        row = self._rows.pop(session)
        assert row.band is not None
        row.band.free(row)
