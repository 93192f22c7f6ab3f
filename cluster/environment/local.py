"""Environments of every kind, in this process."""

import random
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path

from ...actors.coordinator.evaluator import held_out_tasks
from ...actors.domains import domain_named
from ...actors.domains.base import TaskGenerator
from ...actors.environment import EnvironmentOver
from ...actors.namespaces import DataAccess
from ...configs.data import DataSettings
from ...configs.errors import BadInput
from ...configs.http_servers import EnvironmentServerSettings
from ...configs.roles import EvaluationSettings
from ...messages.sessions import EnvironmentKind
from ...messages.tasks import Task
from ...training.tasks import data_tasks
from ...training.tasks.documents import Library, read_library
from .base import ServedEnvironment
from .live import LiveEnvironment
from .recorded import RecordedEnvironment, RecordedEpisode


class LocalEnvironments:
    """See `cluster.environment.base.Environments`.

    A worked example::

        environments = LocalEnvironments(await spawn_data_access(system, data), data, settings)
        environment = await environments.open("evaluation")
    """

    def __init__(
        self,
        access: DataAccess,
        data: DataSettings,
        settings: EnvironmentServerSettings,
        episodes: Sequence[RecordedEpisode] = (),
        rng: random.Random | None = None,
    ) -> None:
        """`episodes` are served for fine-tuning; `rng` draws the tasks of training."""
        self._access = access
        self._data = data
        self._settings = settings
        self._episodes = episodes
        self._rng = rng or random.Random()

    async def open(self, kind: EnvironmentKind = "training") -> ServedEnvironment:
        """A new environment. Raises BadInput where there are no recorded episodes for fine-tuning."""
        match kind:
            case "training":
                return self._live(self._draw, open_book=True)
            case "evaluation":
                return self._live(_in_order(self._held_out), open_book=False)
            case "fine_tuning":
                if not self._episodes:
                    raise BadInput("there are no recorded episodes: say where they lie, with --episodes")
                return RecordedEnvironment(self._episodes, self._access.rewards.error)

    def episodes(self, kind: EnvironmentKind) -> int | None:
        """Number of episodes; None for as many as one likes."""
        return self._settings.evaluation_tasks if kind == "evaluation" else None

    def _live(self, next_task: Callable[[], Task], *, open_book: bool) -> LiveEnvironment:
        return LiveEnvironment(
            self._access,
            next_task,
            open_book=open_book,
            max_steps=self._settings.max_steps,
            timeout_s=self._settings.timeout_s,
        )

    @cached_property
    def _held_out(self) -> list[Task]:
        chosen = EvaluationSettings(
            tasks=self._settings.evaluation_tasks, seed=self._settings.evaluation_seed
        )
        return held_out_tasks(chosen, ["data"], self._data)

    @cached_property
    def _library(self) -> Library:
        return read_library(Path(self._access.library))

    @cached_property
    def _task_generator(self) -> TaskGenerator:
        return domain_named("data").task_generator(Path(self._access.library))

    def _draw(self) -> Task:
        """An errand of any difficulty, none of those that are held out."""
        errand = data_tasks.sample_data_task(self._rng, self._library, self._rng.random())
        text = data_tasks.format_data_task(self._rng, errand)
        checked = self._task_generator.check(f"Task: {text}", errand.difficulty)
        assert checked is not None, text
        return Task(
            id=f"drawn-{self._rng.randrange(1 << 48):012x}",
            domain="data",
            description=checked.description,
            difficulty=checked.difficulty,
            reference=checked.reference,
            reference_kind=checked.reference_kind,
            goal=checked.goal,
        )


def _in_order(tasks: Sequence[Task]) -> Callable[[], Task]:
    left: Iterator[Task] = iter(tasks)

    def take() -> Task:
        task = next(left, None)
        if task is None:
            raise EnvironmentOver(f"all {len(tasks)} tasks of the evaluation have been set")
        return task

    return take
