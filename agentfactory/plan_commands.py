"""What `agentfactory plan` does, once its arguments are read."""

import asyncio
import sys
from pathlib import Path

from .configs.errors import BadInput
from .configs.settings import Settings
from .messages.plans import Plan, PlanOutcome
from .runtime.telemetry import LogSettings, configure_logging
from .runtime.tools.plan_reading import read_plan
from .runtime.tools.plan_tool import NAME, PlanTool, show_outcome
from .tools_commands import check_plan, needed_tools, opened_box

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
