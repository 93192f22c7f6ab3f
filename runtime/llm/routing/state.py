"""Persistent state of a router: spending, model histories, outcomes. One SQLite file.

Each method is one transaction of well under a millisecond, so it is done and over before the event
loop goes on: nobody comes between the check of a budget and its reservation, in this process or in
another that uses the same file. What is committed survives the end of the process at any moment;
a power failure may take the last moments with it.

A reservation counts as spent until it is settled. One whose process died before stays spent.
"""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Self

from ....configs.chat_models import BudgetSettings
from ....configs.errors import CannotWrite
from ....messages.routing import ConfidenceBin, Estimate
from ..errors import RouterClosed, StateDamaged, UnknownDecision
from .confidence import bin_of, bounds_of
from .planning import ModelHistory, RemainingBudget, over_budget

FILE = "router.sqlite"
WAIT_S = 5.0
"""For another process that writes at the same moment."""
MAX_WAITING = 100_000
"""Decisions that wait for their outcome; the oldest are forgotten."""
SCHEMA = """
CREATE TABLE IF NOT EXISTS days (day TEXT PRIMARY KEY, cost REAL NOT NULL, tokens INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS models (model TEXT PRIMARY KEY, history TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS counts (what TEXT PRIMARY KEY, n INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS waiting (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE NOT NULL, model TEXT NOT NULL,
    confidence REAL NOT NULL, task_key TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS bins (
    model TEXT, bin INTEGER, told INTEGER NOT NULL, right_ INTEGER NOT NULL, confidence REAL NOT NULL,
    PRIMARY KEY (model, bin));
"""


class DaySpending(NamedTuple):
    """Spending of one day, reservations included."""

    cost: float
    tokens: int


class PendingDecision(NamedTuple):
    """A decision that waits for its outcome."""

    model: str
    confidence: float
    task_key: str


class RouterState:
    """See the module. Models are known by what identifies them, not by their names."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CannotWrite(
                f"{folder}: cannot be used for the router's state ({error.strerror})"
            ) from error
        with self._translated_errors():
            self._db = sqlite3.connect(self.path, timeout=WAIT_S, isolation_level=None)
            try:
                self._db.execute("PRAGMA journal_mode=WAL")
                self._db.execute("PRAGMA synchronous=NORMAL")
                self._db.executescript(SCHEMA)
            except sqlite3.Error:
                self._db.close()
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def spent(self, day: str) -> DaySpending:
        """Spending of a day."""
        with self._translated_errors():
            row = self._db.execute("SELECT cost, tokens FROM days WHERE day = ?", (day,)).fetchone()
        return DaySpending(*row) if row else DaySpending(0.0, 0)

    def remaining(self, day: str, budget: BudgetSettings) -> RemainingBudget:
        """The rest of a day's budget."""
        cost, tokens = self.spent(day)
        return RemainingBudget(
            None if budget.day_cost is None else budget.day_cost - cost,
            None if budget.day_tokens is None else budget.day_tokens - tokens,
        )

    def reserve(self, day: str, most: Estimate, budget: BudgetSettings) -> str | None:
        """Reserve the most that a call can take; the reason where the day has not as much left."""
        with self._transaction():
            refusal = over_budget(most, self.remaining(day, budget), "the day's")
            if refusal is None:
                self._spend(day, most.max_cost, most.max_tokens)
        return refusal

    def settle(self, day: str, most: Estimate, cost: float, tokens: int) -> None:
        """Replace a reservation by what the call took."""
        with self._transaction():
            self._spend(day, cost - most.max_cost, tokens - most.max_tokens)

    def history(self, model: str) -> ModelHistory:
        """The history of a model; an empty one if it was never asked."""
        with self._translated_errors():
            row = self._db.execute("SELECT history FROM models WHERE model = ?", (model,)).fetchone()
        return ModelHistory.model_validate_json(row[0]) if row else ModelHistory()

    def update_history(self, model: str, change: Callable[[ModelHistory], ModelHistory]) -> None:
        """Replace a model's history by what `change` makes of it."""
        with self._transaction():
            changed = change(self.history(model)).model_dump_json()
            self._db.execute("INSERT OR REPLACE INTO models VALUES (?, ?)", (model, changed))

    def increment(self, what: str) -> None:
        """Increment a counter."""
        with self._transaction():
            self._db.execute(
                "INSERT INTO counts VALUES (?, 1) ON CONFLICT (what) DO UPDATE SET n = n + 1", (what,)
            )

    def count_of(self, what: str) -> int:
        """The value of a counter."""
        with self._translated_errors():
            row = self._db.execute("SELECT n FROM counts WHERE what = ?", (what,)).fetchone()
        return int(row[0]) if row else 0

    def add_decision(self, decision_id: str, waiting: PendingDecision) -> None:
        """Remember a decision until its outcome is told."""
        with self._transaction():
            added = self._db.execute(
                "INSERT INTO waiting (id, model, confidence, task_key) VALUES (?, ?, ?, ?)",
                (decision_id, *waiting),
            )
            self._db.execute("DELETE FROM waiting WHERE number <= ?", ((added.lastrowid or 0) - MAX_WAITING,))

    def take_outcome(self, decision_id: str, correct: bool) -> PendingDecision:
        """Count an outcome, once. Raises UnknownDecision."""
        with self._transaction():
            row = self._db.execute(
                "DELETE FROM waiting WHERE id = ? RETURNING model, confidence, task_key", (decision_id,)
            ).fetchone()
            if row is None:
                raise UnknownDecision(
                    f"decision {decision_id!r}: not known, or its outcome was told before; "
                    "expected the decision_id of a reply"
                )
            waiting = PendingDecision(*row)
            self._db.execute(
                "INSERT INTO bins VALUES (?, ?, 1, ?, ?) ON CONFLICT (model, bin) DO UPDATE SET "
                "told = told + 1, right_ = right_ + excluded.right_, "
                "confidence = confidence + excluded.confidence",
                (waiting.model, bin_of(waiting.confidence), int(correct), waiting.confidence),
            )
        return waiting

    def bins(self, model: str) -> tuple[ConfidenceBin, ...]:
        """Calibration bins that are not empty, from the least sure to the surest."""
        with self._translated_errors():
            rows = self._db.execute(
                "SELECT bin, told, right_, confidence FROM bins WHERE model = ? ORDER BY bin", (model,)
            ).fetchall()
        return tuple(
            ConfidenceBin(
                low=bounds_of(index)[0],
                high=bounds_of(index)[1],
                told=told,
                right=right,
                mean_confidence=confidence / told,
            )
            for index, told, right, confidence in rows
        )

    def _spend(self, day: str, cost: float, tokens: int) -> None:
        self._db.execute(
            "INSERT INTO days VALUES (?, ?, ?) ON CONFLICT (day) DO UPDATE SET "
            "cost = cost + excluded.cost, tokens = tokens + excluded.tokens",
            (day, cost, tokens),
        )

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._translated_errors():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        """Translate SQLite's errors."""
        try:
            yield
        except sqlite3.ProgrammingError as error:
            raise RouterClosed(f"{self.path}: the router was closed meanwhile") from error
        except sqlite3.OperationalError as error:
            raise CannotWrite(
                f"{self.path}: cannot be used ({error}); check its folder and the disk"
            ) from error
        except sqlite3.DatabaseError as error:
            raise StateDamaged(
                f"{self.path}: is not a router's state ({error}); move it away to begin anew"
            ) from error
