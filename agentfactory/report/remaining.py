"""Estimate of the time that a run still takes, from the steps that it has made."""

from collections import deque
from typing import Final

STEPS: Final = 4
"""Steps that are looked back upon."""
LEAST_FILLED: Final = 0.25
"""Share of the first batch from which on its step can be estimated."""


class RemainingTime:
    """Takes note of when steps end, in seconds of work.

    >>> remaining = RemainingTime()
    >>> for elapsed_s in (10.0, 30.0): remaining.mark(elapsed_s)
    >>> remaining.estimate(elapsed_s=35.0, steps=3, filled=0.1)
    55.0
    """

    def __init__(self) -> None:
        self._marks: deque[float] = deque(maxlen=STEPS + 1)

    def mark(self, elapsed_s: float) -> None:
        """Work began, or a step ended."""
        self._marks.append(elapsed_s)

    def estimate(self, *, elapsed_s: float, steps: int, filled: float) -> float | None:
        """Seconds for `steps` more steps; None while nothing can be said.

        `filled` is the share of the batch of the step under way that is there.
        """
        if not self._marks or steps < 1:
            return None
        since = elapsed_s - self._marks[-1]
        if len(self._marks) > 1:
            each = (self._marks[-1] - self._marks[0]) / (len(self._marks) - 1)
        elif filled >= LEAST_FILLED:
            each = since / min(1.0, filled)
        else:
            return None
        return max(0.0, each - since) + each * (steps - 1)
