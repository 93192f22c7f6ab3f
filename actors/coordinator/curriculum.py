"""How hard the next tasks are, and from which domain."""

from collections import deque

from ...configs.roles import CurriculumSettings


class Curriculum:
    """Keeps success near the target by moving the difficulty; domains take turns.

    When the mean success over the last `window` tasks leaves `target ± tolerance`, the difficulty
    moves by `step` and the window starts empty, so that each move is judged by tasks of its own.

    >>> curriculum = Curriculum(CurriculumSettings(window=2))
    >>> for success in (1.0, 1.0): curriculum.observe(success)
    >>> curriculum.difficulty
    0.35
    """

    def __init__(self, settings: CurriculumSettings) -> None:
        self._settings = settings
        self._recent: deque[float] = deque(maxlen=settings.window)
        self._turn = 0
        self.difficulty = settings.start_difficulty

    def observe(self, success: float) -> None:
        """Take note of one task's success, 0..1."""
        settings = self._settings
        self._recent.append(success)
        if len(self._recent) < settings.window:
            return
        excess = sum(self._recent) / settings.window - settings.target_success
        if abs(excess) > settings.tolerance + 1e-9:
            step = settings.step if excess > 0 else -settings.step
            self.difficulty = round(min(1.0, max(0.0, self.difficulty + step)), 6)
            self._recent.clear()

    def next_domain(self) -> str:
        """The domain whose turn it is."""
        domain = self._settings.domains[self._turn % len(self._settings.domains)]
        self._turn += 1
        return domain
