"""How long a message may wait for company on its way.

A Ray call costs about a millisecond of processor time on either side, however much it carries. Where
answers come quickly a message waits for others hardly at all; where they take long it can wait for
longer, since nobody notices: an answer that took a second may come 25 ms later.
"""

SHORTEST_S, LONGEST_S = 0.005, 0.025
SHARE = 0.05
"""Of the time that an answer takes."""
SMOOTHING = 0.05


class AdaptiveLinger:
    """The mean time of the latest answers, and what follows from it.

    >>> pace = Pace()
    >>> pace.linger_s
    0.005
    >>> for _ in range(100):
    ...     pace.answered(10.0)
    >>> pace.linger_s
    0.025
    """

    def __init__(self) -> None:
        self._mean_s = 0.0

    def answered(self, took_s: float) -> None:
        """An ask was answered after so long."""
        self._mean_s += SMOOTHING * (took_s - self._mean_s)

    @property
    def linger_s(self) -> float:
        """Seconds that a message may wait."""
        return min(LONGEST_S, max(SHORTEST_S, SHARE * self._mean_s))
