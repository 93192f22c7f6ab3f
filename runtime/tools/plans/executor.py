"""The executor of plans.

Consumes a Plan; produces a PlanOutcome; waits for the steps that a step needs, for one of the places of
`max_parallel`, and for the tool; unblocked by the time limits of each step and of the plan.

Invariants: a plan that is wrong is refused before anything runs. Every step has one outcome. A step begins
only when all steps that it needs have succeeded, or had failed and were told to go on. A plan that may be
rolled back and did not succeed leaves the workspace's files as it found them, even if a tool raises.
"""

import errno
import json
import time
from collections.abc import Mapping
from typing import Final, NamedTuple, Self

import anyio
import anyio.to_thread
from pydantic import JsonValue

from ....configs.tools import PlanSettings
from ....messages.pipelines import Plan, PlanOutcome, PlanStep, StepOutcome, StepStatus
from ....messages.turns import ToolCall, ToolResult
from ...sandbox.errors import AccessRefused
from ...sandbox.workspace import Workspace
from ...task_graph import run_graph
from ..parameters import as_first_argument
from ..tool_set import ToolSet
from .parser import BadPlan, needs_of
from .template_refs import MissingPart, substituted

_MB: Final = 2**20
MAX_SNAPSHOT_FILES: Final = 10_000


class Snapshot(NamedTuple):
    """Contents by path, and the folders. Empty folders, links and modes are not kept."""

    files: dict[str, bytes]
    folders: frozenset[str]

    @classmethod
    def take(cls, workspace: Workspace, max_bytes: int) -> Self:
        """Read all files. Raises AccessRefused where they are too many or too large, or OSError. Blocking."""
        files: dict[str, bytes] = {}
        folders: set[str] = set()
        room = max_bytes
        entries = workspace.list(recursive=True, limit=MAX_SNAPSHOT_FILES + 1)
        if len(entries) > MAX_SNAPSHOT_FILES:
            raise AccessRefused(
                f"the workspace has more than {MAX_SNAPSHOT_FILES} files: too many to roll back"
            )
        for entry in entries:
            if entry.is_folder:
                folders.add(entry.path)
                continue
            room -= entry.size
            if room < 0:
                raise AccessRefused(f"the workspace has more than {max_bytes} bytes: too much to roll back")
            files[entry.path] = workspace.read_bytes(entry.path)
        return cls(files, frozenset(folders))

    def put_back(self, workspace: Workspace) -> tuple[str, ...]:
        """Make all files as they were; the paths that were not. Raises AccessRefused or OSError. Blocking."""
        changed: list[str] = []
        entries = workspace.list(recursive=True, limit=10 * MAX_SNAPSHOT_FILES)
        there = {entry.path for entry in entries if not entry.is_folder}
        for path in sorted(there - self.files.keys()):
            workspace.remove(path)
            changed.append(path)
        new_folders = {entry.path for entry in entries if entry.is_folder} - self.folders
        for path in sorted(new_folders, reverse=True):  # the innermost first
            try:
                workspace.remove(path)
            except OSError as error:
                if error.errno != errno.ENOTEMPTY:  # it holds links, which are left alone
                    raise
        for path, content in self.files.items():
            if path not in there or workspace.read_bytes(path) != content:
                workspace.write_bytes(path, content)
                changed.append(path)
        return tuple(sorted(changed))


class PlanExecutor:
    """Carries plans out with the tools of one box.

    A worked example::

        executor = PlanExecutor(toolbox, settings, Workspace(folder))
        outcome = await executor.run(read_plan(text))
    """

    def __init__(self, toolbox: ToolSet, settings: PlanSettings, workspace: Workspace | None = None) -> None:
        """`workspace`: the files that the tools work on; without it no plan can be rolled back."""
        self._toolbox = toolbox
        self._settings = settings
        self._workspace = workspace

    def __repr__(self) -> str:
        return f"<PlanExecutor {self._toolbox!r}>"

    async def run(self, plan: Plan) -> PlanOutcome:
        """Carry it out. Raises BadPlan before anything has run, and what tools raise."""
        needs = needs_of(plan, self._toolbox.names, self._settings)
        snapshot = await self._snapshot() if plan.roll_back else None
        began = time.monotonic()
        running = _Running(plan, needs, self._toolbox, self._settings)
        try:
            await running.all_steps()
        except BaseException:
            await self._put_back(snapshot)
            raise
        steps = running.outcomes()
        ok = all(map(_went_well, plan.steps, steps))
        put_back = () if ok else await self._put_back(snapshot)
        return PlanOutcome(
            name=plan.name, ok=ok, steps=steps, put_back=put_back, duration_s=time.monotonic() - began
        )

    async def _snapshot(self) -> Snapshot:
        if self._workspace is None:
            raise BadPlan("the plan is to be rolled back if it fails, but its tools have no workspace")
        try:
            return await anyio.to_thread.run_sync(
                Snapshot.take, self._workspace, self._settings.max_kept_mb * _MB
            )
        except (AccessRefused, OSError) as error:
            raise BadPlan(f"nothing was run: {error}") from error

    async def _put_back(self, snapshot: Snapshot | None) -> tuple[str, ...]:
        put_back: tuple[str, ...] = ()
        if snapshot is not None and self._workspace is not None:
            with anyio.CancelScope(shield=True):
                put_back = await anyio.to_thread.run_sync(snapshot.put_back, self._workspace)
        return put_back


class _Running:
    """One plan under way."""

    def __init__(
        self, plan: Plan, needs: Mapping[str, frozenset[str]], toolbox: ToolSet, settings: PlanSettings
    ) -> None:
        self._plan = plan
        self._needs = needs
        self._toolbox = toolbox
        self._settings = settings
        self._places = anyio.CapacityLimiter(settings.max_parallel)
        self._steps = {step.id: step for step in plan.steps}
        self._outcomes: dict[str, StepOutcome] = {}
        self._answers: dict[str, str] = {}
        """Of the steps that others may build upon."""
        self._stopped_by = ""

    def outcomes(self) -> tuple[StepOutcome, ...]:
        """One for each step; those that the plan's time limit cut off have failed."""
        return tuple(self._outcomes[step.id] for step in self._plan.steps)

    async def all_steps(self) -> None:
        """Each step once all that it needs have ended."""
        limit_s = self._plan.timeout_s or self._settings.timeout_s
        with anyio.move_on_after(limit_s):
            await run_graph(self._needs, self._visit)
        for step in self._plan.steps:
            if step.id not in self._outcomes:
                self._end(step, "not_run", f"the plan had taken {limit_s:g} s")

    async def _visit(self, name: str) -> bool:
        """Call the step's tool, or say why not. What runs when a plan stops comes to its end."""
        step = self._steps[name]
        async with self._places:
            verdict = self._decide(step)
            if verdict is not None:
                self._end(step, *verdict)
            else:
                await self._call(step)
        return True

    def _decide(self, step: PlanStep) -> tuple[StepStatus, str] | None:
        """Why the step does not begin; None if it does."""
        lost = next((needed for needed in sorted(self._needs[step.id]) if needed not in self._answers), None)
        if self._stopped_by:
            return "not_run", f"the plan stopped when step {self._stopped_by} failed"
        return ("skipped", f"step {lost} did not succeed") if lost else None

    async def _call(self, step: PlanStep) -> None:
        try:
            text = self._as_text(step, substituted(step.input, self._answers))
        except MissingPart as error:
            self._fail(step, ToolResult(output=f"Error: {error}", ok=False, failure="error"), "")
            return
        limit_s = step.timeout_s or self._settings.step_timeout_s
        began = time.monotonic()
        result = ToolResult(output=f"Error: no answer within {limit_s:g} s", ok=False, failure="timeout")
        with anyio.move_on_after(limit_s):
            result = await self._toolbox.call(ToolCall(tool=step.tool, input=text))
        result = result.model_copy(update={"duration_s": time.monotonic() - began})
        if result.ok:
            self._answers[step.id] = result.output
            self._end(step, "done", result.output, text, result)
        else:
            self._fail(step, result, text)

    def _as_text(self, step: PlanStep, value: JsonValue) -> str:
        """The input as its tool reads it. What another step answered is a text, though it be an object."""
        if not isinstance(value, str):
            return json.dumps(value, ensure_ascii=False)
        tool = self._toolbox.find(step.tool)
        if tool is None or value == step.input or not value.lstrip().startswith("{"):
            return value
        return as_first_argument(value, tool.parameters)

    def _fail(self, step: PlanStep, result: ToolResult, text: str) -> None:
        if step.on_error == "go_on":
            self._answers[step.id] = result.output
        elif step.on_error == "stop" and not self._stopped_by:
            self._stopped_by = step.id
        self._end(step, "failed", result.output, text, result)

    def _end(
        self,
        step: PlanStep,
        status: StepStatus,
        output: str,
        text: str = "",
        result: ToolResult | None = None,
    ) -> None:
        self._outcomes[step.id] = StepOutcome(
            id=step.id,
            tool=step.tool,
            status=status,
            input=text,
            output=output,
            failure=result.failure if result else "",
            duration_s=result.duration_s if result else 0.0,
        )


def _went_well(step: PlanStep, outcome: StepOutcome) -> bool:
    return outcome.status == "done" or (outcome.status == "failed" and step.on_error == "go_on")
