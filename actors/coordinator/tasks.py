"""A small stock of proposed tasks, refilled while the ones before are being solved."""

import anyio

from ...configs.errors import AgentFactoryError
from ...messages.tasks import Proposal, ProposeTasks
from ...messages.turns import Turn
from ...runtime.engines.base import EngineError
from ...runtime.ref import Ref
from ...runtime.retry import ask_again
from .curriculum import Curriculum
from .publisher import PolicyPublisher

PROPOSE_TIMEOUT_S = 300.0
MAX_EMPTY_ANSWERS = 5
MAX_REJECTED = 512


class NoTasks(AgentFactoryError):
    """The Teacher has nothing new to propose."""


class TaskStock:
    """Asks the Teacher for a batch at a time, at the curriculum's difficulty of that moment."""

    def __init__(self, teacher: Ref, publisher: PolicyPublisher, curriculum: Curriculum, batch: int) -> None:
        self._teacher = teacher
        self._publisher = publisher
        self._curriculum = curriculum
        self._batch = batch
        self._stock: list[Proposal] = []
        self._empty = 0
        self._filling = anyio.Lock()
        self.rejected: list[Turn] = []
        """Turns that came to nothing, for the Teacher to learn from; the newest are kept."""

    async def next(self) -> Proposal:
        """The next task. Raises NoTasks when the Teacher keeps repeating itself."""
        async with self._filling:
            while not self._stock:
                await self._fill()
        return self._stock.pop(0)

    async def _fill(self) -> None:
        request = ProposeTasks(
            count=self._batch,
            domain=self._curriculum.next_domain(),
            difficulty=self._curriculum.difficulty,
            adapter=self._publisher.current("teacher"),
        )
        try:
            answer = await ask_again(self._teacher, request, timeout_s=PROPOSE_TIMEOUT_S)
        except EngineError:
            await self._publisher.reload()  # the engine was restarted and has lost its adapters
            answer = await ask_again(self._teacher, request, timeout_s=PROPOSE_TIMEOUT_S)
        self._stock.extend(answer.proposals)
        self.rejected = (self.rejected + list(answer.rejected))[-MAX_REJECTED:]
        self._empty = 0 if answer.proposals else self._empty + 1
        if self._empty >= MAX_EMPTY_ANSWERS:
            raise NoTasks(
                f"the Teacher proposed nothing new in {self._empty} batches ({answer.malformed} malformed, "
                f"{answer.duplicates} near-duplicates in the last); raise teacher.temperature or "
                "teacher.novelty.duplicate_similarity"
            )
