"""`agentfactory domains` and `verify`: what tasks are about, and the judging of one answer."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ..configs.errors import BadInput
from ..configs.printable import printable
from .arguments import AddParser

if TYPE_CHECKING:
    from pydantic import JsonValue

    from ..configs.settings import Settings
    from ..messages.episodes import Verdict
    from ..messages.tasks import Task
    from ..runtime.ref import Ref

EPISODE: str = "verify"
ASK_TIMEOUT_S: float = 600.0


def add_domain_commands(add_parser: AddParser) -> None:
    """Add them to the parser. Nothing heavy is imported until one of them runs."""
    parser = add_parser("domains", help="what tasks can be about, and how their answers are judged")
    parser.add_argument("--json", action="store_true", help="print one JSON object to stdout")
    parser.set_defaults(command=domains)

    parser = add_parser("verify", help="judge one answer to a task")
    parser.add_argument("domain", metavar="DOMAIN", help="one of those that `agentfactory domains` shows")
    parser.add_argument("task", metavar="TASK.json", help="a task, with its reference or goal")
    parser.add_argument("answer", metavar="ANSWER", help="the answer itself; - reads it from standard input")
    parser.add_argument("--json", action="store_true", help="print one JSON object to stdout")
    parser.add_argument("--preset", default="laptop", help="a preset or a .yaml file, for its limits")
    parser.add_argument(
        "--space", default="", help="what the attempt's tags begin with in the store, for domains like data"
    )
    parser.set_defaults(command=verify)


def domains(options: argparse.Namespace) -> int:
    """Show the domains that there are."""
    from rich.console import Console
    from rich.table import Table

    from ..actors.domains import domain_named, domain_names

    found = {name: domain_named(name).about for name in domain_names()}
    if options.json:
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


def verify(options: argparse.Namespace) -> int:
    """Judge one answer; 0 whether it is right or wrong, since either is a verdict."""
    from ..actors.domains import needs_store
    from ..configs.load import load_settings
    from ..runtime.telemetry import LogSettings, configure_logging

    domain = options.domain
    by_store = needs_store(domain)  # before anything is read or started
    asked = read_task(Path(options.task), domain)
    given = sys.stdin.read() if options.answer == "-" else options.answer
    if by_store and not options.space:
        raise BadInput(
            f"verify {domain}: --space says which tags of the store the attempt left its blobs under"
        )
    settings = load_settings(options.preset)
    configure_logging(LogSettings(level="error", format="console"))
    verdict = asyncio.run(_judged(settings, asked, given, options.space))
    if options.json:
        print(verdict.model_dump_json(exclude={"episode_id"}))
        return 0
    print(f"{'right' if verdict.correct else 'wrong'}: {printable(verdict.explanation)}")
    print(f"score {verdict.score:.3f}, confidence {verdict.confidence:.3f}")
    for credit in verdict.breakdown:
        print(f"  {printable(credit.name)}\t{credit.score:.3f}")
    return 0


def read_task(file: Path, domain: str) -> Task:
    """A task from a JSON file. Only what the judge needs must be in it. Raises BadInput."""
    from pydantic import ValidationError

    from ..messages.tasks import Task

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
    from ..actors.verifier import Verifier
    from ..messages.episodes import JudgeSolution, Solution
    from ..runtime.system import ActorSystem

    solution = Solution(
        episode_id=EPISODE, task_id=task.id, answer=answer, turns=(), stop_reason="answered", space=space
    )
    async with _retriever(settings, task) as retriever, ActorSystem.open("local") as system:
        weak = settings.student.sandbox.allow_weak
        verifier = await system.spawn(Verifier, settings.verifier, weak, retriever, (), name="verifier")
        return await verifier.ask(JudgeSolution(task=task, solution=solution), timeout_s=ASK_TIMEOUT_S)


@asynccontextmanager
async def _retriever(settings: Settings, task: Task) -> AsyncIterator[Ref | None]:
    """Retriever over the store, for tasks that are about it."""
    from ..actors.domains import needs_store

    if not needs_store(task.domain):
        yield None
        return
    from ..data import DataPlane  # slow to import, and seldom needed here

    async with DataPlane.open(settings.data) as plane:
        yield plane.retriever
