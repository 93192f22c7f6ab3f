"""What `agentfactory domains` and `agentfactory verify` do, once their arguments are read."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from pydantic import JsonValue, ValidationError
from rich.console import Console
from rich.table import Table

from ..actors.domains import domain_named, names
from ..actors.verifier.actor import Verifier
from ..configs.errors import BadInput
from ..configs.load import load_settings
from ..configs.printable import printable
from ..configs.settings import Settings
from ..messages.episodes import Solution
from ..messages.judging import JudgeSolution, Verdict
from ..messages.tasks import Task
from ..runtime.ref import Ref
from ..runtime.system import ActorSystem
from ..runtime.telemetry import LogSettings, configure_logging

EPISODE: str = "verify"
ASK_TIMEOUT_S: float = 600.0


def domains(*, as_json: bool) -> int:
    """Show the domains that there are."""
    found = {name: domain_named(name).about for name in names()}
    if as_json:
        print(json.dumps({"domains": [{"name": n, "about": about} for n, about in found.items()]}))
        return 0
    console = Console()
    if not console.is_terminal:
        print("\n".join(f"{name}\t{about}" for name, about in found.items()))
        return 0
    table = Table("domain", "tasks and judge", box=None, pad_edge=False)
    for name, about in found.items():
        table.add_row(name, about)
    console.print(table)
    return 0


def verify(domain: str, *, task: str, answer: str, preset: str, space: str, as_json: bool) -> int:
    """Judge one answer; 0 whether it is right or wrong, since either is a verdict."""
    domain_named(domain)  # before anything is read or started
    asked = read_task(Path(task), domain)
    given = sys.stdin.read() if answer == "-" else answer
    if domain == "data" and not space:
        raise BadInput("verify data: --space says which tags of the store the attempt left its blobs under")
    settings = load_settings(preset)
    configure_logging(LogSettings(level="error", format="console"))
    verdict = asyncio.run(_judged(settings, asked, given, space))
    if as_json:
        print(verdict.model_dump_json(exclude={"episode_id"}))
        return 0
    print(f"{'right' if verdict.correct else 'wrong'}: {printable(verdict.explanation)}")
    print(f"score {verdict.score:.3f}, confidence {verdict.confidence:.3f}")
    for credit in verdict.breakdown:
        print(f"  {printable(credit.name)}\t{credit.score:.3f}")
    return 0


def read_task(file: Path, domain: str) -> Task:
    """A task from a JSON file. Only what the judge needs must be in it. Raises BadInput."""
    try:
        found: JsonValue = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInput(f"{file}: the task cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise BadInput(f"{file}: this is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise BadInput(f'{file}: expected a JSON object, such as {{"reference": "42"}}')
    if found.get("domain", domain) != domain:
        raise BadInput(f"{file}: the task is of the domain {found['domain']!r}, not {domain!r}")
    shape: dict[str, JsonValue] = {"id": file.stem, "description": "", "difficulty": 0.5, "domain": domain}
    try:
        return Task.model_validate(shape | found)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise BadInput(f"{file}: {where}: {first['msg']}") from error


async def _judged(settings: Settings, task: Task, answer: str, space: str) -> Verdict:
    """The verdict of a Verifier of its own."""
    solution = Solution(
        episode_id=EPISODE, task_id=task.id, answer=answer, turns=(), stop_reason="answered", space=space
    )
    async with _retriever(settings, task) as retriever, ActorSystem.open("local") as system:
        weak = settings.student.sandbox.allow_weak
        verifier = await system.spawn(Verifier, settings.verifier, weak, retriever, (), name="verifier")
        return await verifier.ask(JudgeSolution(task=task, solution=solution), timeout_s=ASK_TIMEOUT_S)


@asynccontextmanager
async def _retriever(settings: Settings, task: Task) -> AsyncIterator[Ref | None]:
    """Who shows the store, for tasks that are about it."""
    if task.domain != "data":
        yield None
        return
    from ..data import DataPlane  # slow to import, and seldom needed here

    async with DataPlane.open(settings.data) as plane:
        yield plane.retriever
