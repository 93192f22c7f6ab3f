"""The held-out tasks of each domain: the same for every run with these settings, and never trained on."""

from collections.abc import Sequence
from pathlib import Path

from configs.data import DataSettings
from configs.errors import BadInput
from configs.roles import EvaluationSettings
from messages.tasks import Task
from training.tasks import arithmetic, errands
from training.tasks.library import read_library


def held_out(settings: EvaluationSettings, domains: Sequence[str], data: DataSettings) -> list[Task]:
    """`settings.tasks` tasks, spread evenly over the domains. Raises BadInput for an unknown domain."""
    tasks: list[Task] = []
    names = list(dict.fromkeys(domains))
    for place, domain in enumerate(names):
        count = settings.tasks // len(names) + (place < settings.tasks % len(names))
        match domain:
            case "math":
                tasks += _math(count, settings.seed)
            case "data":
                tasks += _data(count, settings.seed, Path(data.locate_library()))
            case _:
                raise BadInput(f"curriculum.domains: there are no held-out tasks of a domain {domain!r}")
    return tasks


def _math(count: int, seed: int) -> list[Task]:
    return [
        Task(
            id=f"held-out-{number}",
            domain="math",
            description=task.text,
            difficulty=task.difficulty,
            reference=task.answer,
            reference_kind="computed",
        )
        for number, task in enumerate(arithmetic.held_out_tasks(count, seed))
    ]


def _data(count: int, seed: int, folder: Path) -> list[Task]:
    library = read_library(folder)
    return [
        Task(
            id=f"held-out-data-{number}",
            domain="data",
            description=task.text,
            difficulty=task.difficulty,
            reference=errands.answer_of(task.errand, library),
            reference_kind="computed",
            goal=errands.goal_of(task.errand, library),
        )
        for number, task in enumerate(errands.held_out_errands(library, count, seed))
    ]
