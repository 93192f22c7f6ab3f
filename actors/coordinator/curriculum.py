"""Curriculum: how hard the next tasks are and from which domain, and a small queue of them, prefetched."""

from collections import deque

import anyio

from ...configs.errors import AgentFactoryError
from ...configs.roles import CurriculumSettings
from ...messages.tasks import Proposal, ProposeTasks
from ...messages.turns import Turn
from ...runtime.engines.base import EngineError
from ...runtime.ref import Ref, ask_with_retry
from .publisher import PolicyPublisher


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


PROPOSE_TIMEOUT_S = 300.0
MAX_EMPTY_ANSWERS = 5
MAX_REJECTED = 512


class NoTasks(AgentFactoryError):
    """The Teacher has nothing new to propose."""


class TaskPrefetcher:
    """Asks the Teacher for a batch at a time, at the curriculum's difficulty of that moment."""

    def __init__(self, teacher: Ref, publisher: PolicyPublisher, curriculum: Curriculum, batch: int) -> None:
        self._teacher = teacher
        self._publisher = publisher
        self._curriculum = curriculum
        self._batch = batch
        self._queue: list[Proposal] = []
        self._empty = 0
        self._filling = anyio.Lock()
        self.rejected: list[Turn] = []
        """Turns that came to nothing, for the Teacher to learn from; the newest are kept."""

    async def next(self) -> Proposal:
        """The next task. Raises NoTasks when the Teacher keeps repeating itself."""
        async with self._filling:
            while not self._queue:
                await self._fill()
        return self._queue.pop(0)

    async def _fill(self) -> None:
        request = ProposeTasks(
            count=self._batch,
            domain=self._curriculum.next_domain(),
            difficulty=self._curriculum.difficulty,
            adapter=self._publisher.current("teacher"),
        )
        try:
            answer = await ask_with_retry(self._teacher, request, timeout_s=PROPOSE_TIMEOUT_S)
        except EngineError:
            await self._publisher.reload()  # the engine was restarted and has lost its adapters
            answer = await ask_with_retry(self._teacher, request, timeout_s=PROPOSE_TIMEOUT_S)
        self._queue.extend(answer.proposals)
        self.rejected = (self.rejected + list(answer.rejected))[-MAX_REJECTED:]
        self._empty = 0 if answer.proposals else self._empty + 1
        if self._empty >= MAX_EMPTY_ANSWERS:
            raise NoTasks(
                f"the Teacher proposed nothing new in {self._empty} batches ({answer.malformed} malformed, "
                f"{answer.duplicates} near-duplicates in the last); raise teacher.temperature or "
                "teacher.novelty.duplicate_similarity"
            )
