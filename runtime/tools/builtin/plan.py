"""The tool `plan`: several calls of the other tools at once, with one observation."""

from collections.abc import Callable
from typing import Final

from ....configs.tools import PlanSettings
from ....messages.chat import JsonObject
from ....messages.pipelines import PlanOutcome
from ....messages.turns import ToolResult
from ...sandbox.workspace import Workspace
from ..base import Tool, failed
from ..definition import EpisodeContext, EpisodeTool, PlainToolSpec, ToolHost
from ..plans.executor import PlanExecutor
from ..plans.parser import BadPlan, read_plan
from ..tool_set import ToolSet

NAME: Final = "plan"
_SHORTEST: Final = 40
"""Characters of each step's output that are shown, however many steps there are."""


class PlanTool:
    """Carries a plan out with the tools of a box. The observation says what became of each step."""

    name = NAME
    parameters: JsonObject | None = None
    description = (
        "carries out several calls of the tools. Input: JSON "
        '{"steps": [{"id": "a", "tool": "NAME", "input": …}, …]}; "$a" in an input stands for what step a '
        'answered, "$a.key" for a part of it; steps that do not need one another run at the same time; '
        '"roll_back": true puts files back if it fails.'
    )

    def __init__(self, toolbox: ToolSet, settings: PlanSettings, workspace: Workspace | None = None) -> None:
        """`toolbox`: without this tool itself, so that no plan can hold another."""
        self.executor = PlanExecutor(toolbox, settings, workspace)
        """What carries the plans out."""
        self._max_chars = settings.max_chars

    def __repr__(self) -> str:
        return f"<PlanTool {self.executor!r}>"

    async def start(self) -> None:
        """Nothing to do: the box starts its tools."""

    async def call(self, text: str) -> ToolResult:
        """Carry it out. A plan that is wrong is an observation; what tools raise is raised."""
        try:
            outcome = await self.executor.run(read_plan(text))
        except BadPlan as error:
            return failed(str(error))
        shown = show_outcome(outcome, self._max_chars)
        return ToolResult(output=shown, ok=outcome.ok, failure="" if outcome.ok else "error")

    async def aclose(self) -> None:
        """Nothing to let go of."""


def show_outcome(outcome: PlanOutcome, max_chars: int) -> str:
    """A line for each step, what the tools answered shortened to have room."""
    each = max(_SHORTEST, max_chars // len(outcome.steps) - _SHORTEST)
    lines = [
        f"{step.id} ({step.tool}) {step.status}: {_shortened(step.output, each)}" for step in outcome.steps
    ]
    if outcome.put_back:
        lines.append(f"put back as they were: {', '.join(outcome.put_back)}")
    return _shortened("\n".join(lines), max_chars)


def _shortened(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def _prepare(host: ToolHost) -> Callable[[EpisodeContext], Tool]:
    settings = host.settings.toolbox.plan
    return lambda episode: PlanTool(episode.callable_by_plans, settings, episode.workspace)


PLAN: Final = EpisodeTool(
    spec=lambda _: PlainToolSpec(NAME, PlanTool.description, PlanTool.parameters),
    prepare=_prepare,
    limits=lambda settings: (settings.toolbox.plan,),
    calls_others=True,
)
