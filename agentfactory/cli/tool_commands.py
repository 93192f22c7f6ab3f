"""Work of `agentfactory tools`, `tool`, `plan` and `mcp`, once their arguments are read."""

import asyncio
import difflib
import json
import sys
import time
from collections.abc import AsyncIterator, Iterable, Set
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

from pydantic import ValidationError
from rich.console import Console

from .. import __version__
from ..actors.student.tools import toolkit
from ..configs.errors import BadInput
from ..configs.load import format_validation_error
from ..configs.printable import printable
from ..configs.roles import StudentSettings
from ..configs.settings import Settings
from ..configs.tools import known_tools
from ..messages.pipelines import Plan, PlanOutcome
from ..messages.turns import ToolCall, ToolResult
from ..runtime.ref import Ref
from ..runtime.telemetry import LogSettings, configure_logging
from ..runtime.tools.base import failed
from ..runtime.tools.builtin.plan import NAME, PlanTool, show_outcome
from ..runtime.tools.builtin.plan import NAME as PLAN
from ..runtime.tools.mcp.server import serve_stdio
from ..runtime.tools.parameters import write_schema
from ..runtime.tools.plans.parser import BadPlan, needs_of, read_plan
from ..runtime.tools.registry import definition_of
from ..runtime.tools.tool_listing import ToolInfo, added_tools, limits_of, list_tools
from ..runtime.tools.tool_set import ToolSet
from ..terminal.tables import show_rows

COLUMNS: Final = ("tool", "on", "takes", "what it does")
_ERROR: Final = "Error: "


def show_tools(settings: StudentSettings, *, form: str | None, as_json: bool) -> int:
    """A table at a terminal, columns parted by tabs elsewhere; or JSON in the form that is asked for.

    MCP servers are asked for theirs; why one has none is said on stderr.
    """
    configure_logging(LogSettings(level="error", format="console"))
    added, problems = asyncio.run(added_tools(settings))
    listed = (*list_tools(settings), *added)
    _complain(problems)
    if form or as_json:
        print(json.dumps([_written(each, form) for each in listed], indent=2, ensure_ascii=False))
        return 0
    rows = [_row(each) for each in listed]
    show_rows(Console(), COLUMNS, rows, ["" if row[1] == "yes" else "dim" for row in rows])
    return 0


def _complain(problems: Iterable[str]) -> None:
    for problem in problems:
        print(f"agentfactory: {printable(problem)}", file=sys.stderr)


def _row(each: ToolInfo) -> tuple[str, ...]:
    return each.name, "yes" if each.on else "-", write_schema(each.parameters), each.description


def _written(each: ToolInfo, form: str | None) -> dict[str, object]:
    if form == "openai":
        function = {"name": each.name, "description": each.description, "parameters": each.parameters}
        return {"type": "function", "function": function}
    if form == "mcp":
        return {"name": each.name, "description": each.description, "inputSchema": each.parameters}
    return each._asdict()


def run_tool(name: str, arguments: str, settings: Settings, *, as_json: bool) -> int:
    """Run one tool; the exit code is 1 where it failed."""
    configure_logging(LogSettings(level="error", format="console"))
    result, seconds = asyncio.run(_call(name, arguments, settings))
    if not as_json:
        print(printable(result.output, lines=True) if sys.stdout.isatty() else result.output)
        return 0 if result.ok else 1
    printed, error = _parted(name, result)
    answer = {
        "ok": result.ok,
        "result": result.output if result.ok else None,
        "error": error,
        "stdout": printed,
        "limits": limits_of(name, settings.student),
        "seconds": round(seconds, 6),
    }
    print(json.dumps(answer, ensure_ascii=False))
    return 0 if result.ok else 1


async def _call(name: str, arguments: str, settings: Settings) -> tuple[ToolResult, float]:
    plan = _plan(arguments) if name == PLAN else None
    async with opened_box(*needed_tools(_of_plan(plan) | {name}, settings)) as box:
        if box.find(name) is None:
            close = difflib.get_close_matches(name, (*known_tools(), *box.names), n=1)
            hint = f"did you mean {close[0]!r}?" if close else "`agentfactory tools` lists them"
            raise BadInput(f"there is no tool {name!r}; {hint}")
        began = time.perf_counter()
        try:
            if plan is not None:
                check_plan(plan, box, settings)
            result = await box.call(ToolCall(tool=name, input=arguments))
        except BadPlan as error:
            result = failed(str(error))
        return result, time.perf_counter() - began


def _plan(text: str) -> Plan | None:
    """The plan in a text; None where it cannot be read, which its tool will say."""
    try:
        return read_plan(text)
    except BadPlan:
        return None


def _of_plan(plan: Plan | None) -> frozenset[str]:
    return frozenset(step.tool for step in plan.steps) if plan else frozenset()


def check_plan(plan: Plan, box: ToolSet, settings: Settings) -> None:
    """Raise BadPlan for a plan that cannot be carried out, naming all tools that there are."""
    names = dict.fromkeys((*servable(settings.student), *box.names))
    needs_of(plan, [name for name in names if name != PLAN], settings.student.toolbox.plan)


def needed_tools(wanted: Set[str], settings: Settings) -> tuple[Settings, tuple[str, ...]]:
    """Settings and names to open for some tools: these alone; for names not ours, servers and skills, too."""
    known = {*known_tools()}
    if not wanted <= known:
        return settings, tuple(sorted({*(wanted & known), "promote_skill"}))
    alone = settings.student.toolbox.model_copy(update={"mcp": ()})
    student = settings.student.model_copy(update={"toolbox": alone})
    return settings.model_copy(update={"student": student}), tuple(sorted(wanted))


def _parted(name: str, result: ToolResult) -> tuple[str, str | None]:
    """Printed text, and the error."""
    prints = name in known_tools() and definition_of(name).prints
    if result.ok:
        return result.output if prints else "", None
    before, found, error = f"\n{result.output}".rpartition(f"\n{_ERROR}")
    if not found:
        return (result.output if prints else ""), result.output
    return before.removeprefix("\n"), error


def serve_mcp(settings: Settings, names: tuple[str, ...] | None) -> int:
    """Serve tools until the client is gone: those named, or all that these settings allow."""
    configure_logging(LogSettings(level="error", format="console"))
    asyncio.run(_serve(settings, names or servable(settings.student)))
    return 0


async def _serve(settings: Settings, names: tuple[str, ...]) -> None:
    async with opened_box(settings, names) as box:
        await serve_stdio(box, __version__)


def servable(settings: StudentSettings) -> tuple[str, ...]:
    """The tools that work with these settings."""
    return tuple(name for name in known_tools() if definition_of(name).usable(settings))


@asynccontextmanager
async def opened_box(settings: Settings, names: tuple[str, ...]) -> AsyncIterator[ToolSet]:
    """A box with these tools and those of MCP servers. Raises BadInput for names that there are not."""
    student = settings.student.model_dump() | {"tools": names}
    if "retrieve" not in names:
        student["retrieve"] = {}
    try:
        changed = StudentSettings.model_validate(student)  # `model_copy` would check nothing
    except ValidationError as error:
        raise BadInput(format_validation_error(error, where="tools", model=StudentSettings)) from error
    async with AsyncExitStack() as stack:
        kit = toolkit(changed, await _searcher(stack, settings) if "retrieve" in names else None)
        stack.push_async_callback(kit.aclose)
        await kit.start()
        _complain(kit.problems)
        yield await stack.enter_async_context(kit.box())


async def _searcher(stack: AsyncExitStack, settings: Settings) -> Ref | None:
    """Searcher for retrieve, on the data plane; None where there is nothing to search."""
    if not settings.student.retrieve.tags:
        return None
    from ..data import DataPlane  # slow to import, and seldom needed here

    plane = await stack.enter_async_context(DataPlane.open(settings.data))
    return await plane.searcher()


MAX_SHOWN = 100_000
"""Characters of an outcome at a terminal."""


def run_plan(file: str, settings: Settings, *, as_json: bool) -> int:
    """Carry a plan out in the workspace; the exit code is 1 where it did not succeed."""
    configure_logging(LogSettings(level="error", format="console"))
    plan = read_plan(_content(file))
    outcome = asyncio.run(_run(plan, settings))
    print(outcome.model_dump_json() if as_json else show_outcome(outcome, MAX_SHOWN))
    return 0 if outcome.ok else 1


def _content(file: str) -> str:
    if file == "-":
        return sys.stdin.read()
    try:
        return Path(file).read_text(encoding="utf-8")
    except OSError as error:
        raise BadInput(f"{file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise BadInput(f"{file}: it is not a text in UTF-8") from error


async def _run(plan: Plan, settings: Settings) -> PlanOutcome:
    """Only the tools that the plan names are opened; for names of nobody's, whatever may bring them."""
    wanted = {step.tool for step in plan.steps} - {NAME}
    async with opened_box(*needed_tools({NAME, *wanted}, settings)) as box:
        check_plan(plan, box, settings)
        tool = box.find(NAME)
        if not isinstance(tool, PlanTool):
            raise TypeError(f"the tool {NAME} is {tool!r}")
        return await tool.executor.run(plan)
