"""The held-out tasks of each domain: the same for every run with these settings, and never trained on."""

from collections.abc import Sequence
from pathlib import Path

from ...configs.data import DataSettings
from ...configs.roles import EvaluationSettings
from ...messages.tasks import Task
from ..domains import domain_named
from ..domains.base import CheckedTask


def held_out(settings: EvaluationSettings, domains: Sequence[str], data: DataSettings) -> list[Task]:
    """`settings.tasks` tasks, spread evenly over the domains. Raises BadInput for an unknown domain."""
    tasks: list[Task] = []
    names = list(dict.fromkeys(domains))
    for place, name in enumerate(names):
        count = settings.tasks // len(names) + (place < settings.tasks % len(names))
        side = domain_named(name).task_generator(Path(data.locate_library()), logic=settings.logic)
        prefix = "held-out" if name == "math" else f"held-out-{name}"
        found = side.held_out(count, settings.seed)
        tasks += [_task(f"{prefix}-{number}", name, task) for number, task in enumerate(found)]
    return tasks


def _task(task_id: str, domain: str, checked: CheckedTask) -> Task:
    return Task(
        id=task_id,
        domain=domain,
        description=checked.description,
        difficulty=checked.difficulty,
        reference=checked.reference,
        reference_kind=checked.reference_kind,
        goal=checked.goal,
    )
