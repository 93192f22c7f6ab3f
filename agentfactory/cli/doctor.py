"""`agentfactory doctor`: the state of this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .arguments import AddParser

if TYPE_CHECKING:
    from ..cluster.diagnostics import MachineCheck

_COLOURS = {"ok": "green", "without": "yellow", "missing": "red"}


def add_doctor_command(add_parser: AddParser) -> None:
    """Add it to the parser. Nothing heavy is imported until it runs."""
    parser = add_parser("doctor", help="say what this machine has, and which isolation holds on it")
    parser.add_argument("--json", action="store_true", help="print one JSON object to stdout")
    parser.set_defaults(command=lambda options: doctor(as_json=options.json))


def doctor(*, as_json: bool) -> int:
    """Look at the machine and tell; 0, or 1 where something needed is missing."""
    from rich.console import Console

    from ..cluster.diagnostics import check_machine

    checkup = check_machine()
    if as_json:
        print(checkup.model_dump_json())
        return int(not checkup.ok)
    console = Console(soft_wrap=True, highlight=False)
    for check in checkup.checks:
        console.print(_line(check))
    missing = [check.name for check in checkup.checks if check.verdict == "missing"]
    verdict = "all that is needed is there" if checkup.ok else f"missing: {', '.join(missing)}"
    console.print(verdict)
    return int(not checkup.ok)


def _line(check: MachineCheck) -> str:
    from rich.markup import escape

    colour = _COLOURS[check.verdict]
    advice = f": {check.advice}" if check.advice else ""
    return f"[{colour}]{check.verdict:8}[/{colour}]{escape(f'{check.name:22}{check.found}{advice}')}"
