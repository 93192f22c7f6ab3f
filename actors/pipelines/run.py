"""Executor of a pipeline's graph of steps.

Consumes a plan; produces an outcome for each of its steps, in the state file and at last as a
PipelineResult; waits for the steps; unblocked by their time limits.

Invariants: a step begins once all that it depends on is done, and at once then, as far as `max_concurrent`
allows; a step that has ended is in the state file before another one begins because of it.
"""

import time
from collections.abc import Callable, Mapping

import anyio

from ...configs.errors import AgentFactoryError
from ...messages.pipelines import PipelineResult, StepChanged, StepOutput, StepState
from ...runtime.task_graph import run_graph
from .outputs import failure_in
from .plan import MissingOutput, Outputs, PipelinePlan, PlannedStep, StepRequest
from .state import StateFile
from .step_runners import StepExecution, StepRunner

StepObserver = Callable[[StepChanged], None]


class PipelineRun:
    """One run of a plan.

    A worked example::

        plan = PipelinePlan.of(load_pipeline(path), {"src": "folder::docs"})
        result = await PipelineRun(plan, by_actions(open_environment)).run()
        result.complete
    """

    def __init__(
        self,
        plan: PipelinePlan,
        perform: StepRunner,
        *,
        state: StateFile | None = None,
        kept: Mapping[str, StepOutput] | None = None,
        watch: StepObserver = lambda _: None,
    ) -> None:
        """`kept` are the outcomes of an earlier run that this one goes on with."""
        self._plan = plan
        self._perform = perform
        self._state = state
        self._kept = kept or {}
        self._watch = watch
        self._slots = anyio.CapacityLimiter(plan.spec.max_concurrent)
        self._ended: dict[str, StepOutput] = {}
        self._outputs: dict[str, Outputs] = {}

    async def run(self) -> PipelineResult:
        """Run all of it, to the end or to the first failure, as the pipeline says.

        A step that fails is an outcome; what is raised is a broken invariant, or CannotWrite.
        """
        began = time.monotonic()
        await run_graph({name: step.needs for name, step in self._plan.steps.items()}, self._visit)
        for name in self._plan.steps:
            if name not in self._ended:
                self._end(StepOutput(step=name, state="cancelled", reason="another step failed"))
        steps = tuple(self._ended[name] for name in self._plan.steps)
        return PipelineResult(
            pipeline_id=self._plan.spec.pipeline_id, steps=steps, seconds=time.monotonic() - began
        )

    async def _visit(self, name: str) -> bool:
        """Run one step, or skip it; False where its failure ends the run."""
        step = self._plan.steps[name]
        failed = next((needed for needed in step.needs if not self._ended[needed].done), None)
        if failed is not None:
            self._end(StepOutput(step=name, state="skipped", reason=f"it needs {failed!r}"))
            return True
        async with self._slots:
            self._end(await self._outcome(step))
        return self._ended[name].done or self._plan.spec.on_failure != "stop"

    def _end(self, output: StepOutput) -> None:
        self._ended[output.step] = output
        if output.done:
            self._outputs[output.step] = self._plan.outputs(output)
        if self._state is not None and output.state != "kept":
            self._state.append(output)
        self._tell(output.step, output.state, output.reason, output.attempts, output.seconds)

    async def _outcome(self, step: PlannedStep) -> StepOutput:
        name = step.spec.id
        if name in self._kept:
            return self._kept[name].model_copy(update={"state": "kept"})
        try:
            request = self._plan.request(step, self._outputs)
        except MissingOutput as error:
            return StepOutput(step=name, state="failed", reason=str(error))
        return await self._done(step, request)

    async def _done(self, step: PlannedStep, request: StepRequest) -> StepOutput:
        """Try until it works, or the attempts are spent."""
        name, began, pause_s = step.spec.id, time.monotonic(), self._plan.spec.retry_pause_s
        self._tell(name, "running", "", 1, 0.0)
        for attempt in range(1, step.retries + 2):
            taken, reason = await self._attempt(step, request)
            seconds = time.monotonic() - began
            if not reason or attempt > step.retries:
                break
            self._tell(name, "retrying", reason, attempt + 1, seconds)
            await anyio.sleep(pause_s * 2.0 ** (attempt - 1))
        return StepOutput(
            step=name,
            state="failed" if reason else "done",
            instruction=request.instruction,
            action=request.action if taken is None else taken.action,
            result=taken.result if taken is not None else None,
            reason=reason,
            attempts=attempt,
            seconds=seconds,
        )

    async def _attempt(self, step: PlannedStep, request: StepRequest) -> tuple[StepExecution | None, str]:
        """Run one attempt: its execution if there was one, and the failure if it failed."""
        with anyio.move_on_after(step.timeout_s):
            try:
                taken = await self._perform(step, request)
            except AgentFactoryError as error:
                return None, f"{type(error).__name__}: {error}"
            return taken, failure_in(taken.result)
        return None, f"it took longer than {step.timeout_s:g} s"

    def _tell(self, step: str, state: StepState, reason: str, attempt: int, seconds: float) -> None:
        self._watch(
            StepChanged(
                pipeline_id=self._plan.spec.pipeline_id,
                step=step,
                state=state,
                reason=reason,
                attempt=attempt,
                seconds=seconds,
            )
        )
