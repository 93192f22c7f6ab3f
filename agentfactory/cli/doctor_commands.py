"""What `agentfactory doctor` does."""

from rich.console import Console
from rich.markup import escape

from ..cluster.diagnostics import MachineCheck, check_machine

_COLOURS = {"ok": "green", "without": "yellow", "missing": "red"}


def doctor(*, as_json: bool) -> int:
    """Look at the machine and tell; 0, or 1 where something needed is missing."""
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
    colour = _COLOURS[check.verdict]
    advice = f": {check.advice}" if check.advice else ""
    return f"[{colour}]{check.verdict:8}[/{colour}]{escape(f'{check.name:22}{check.found}{advice}')}"
