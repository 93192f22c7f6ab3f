"""Pipelines from Python.

async with DataPlane.open() as data:
    result = await run_pipeline("ingest_retrieve", data, {"src": "folder::docs", "dst": "docs"})
    print(result.complete, result.total_reward)
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from actors.pipelines.performing import by_actions
from actors.pipelines.plan import Plan
from actors.pipelines.run import PipelineRun
from actors.pipelines.state import StateFile, read_state
from agentfactory.data import DataPlane, data_folder
from configs.data import DataSettings
from configs.errors import BadInput
from configs.pipelines import PipelineSpec, find_pipeline, load_pipeline
from messages.data import Param
from messages.pipelines import PipelineBegun, PipelineResult, StepChanged, StepOutput


class Prepared:
    """A pipeline that was read and checked, and what an earlier run of it has left.

    Raises, when it is made, SettingsError, BadPipeline and BadInput: before anything runs.
    """

    def __init__(
        self,
        name_or_file: str,
        variables: Mapping[str, Param] | None = None,
        *,
        state: Path,
        resume: bool = False,
    ) -> None:
        spec = load_pipeline(find_pipeline(name_or_file))
        given, earlier = dict(variables or {}), dict[str, StepOutput]()
        self.state = state if state.suffix else state / f"{spec.pipeline_id}.jsonl"
        if resume:
            before = read_state(self.state)
            if before.begun.pipeline_id != spec.pipeline_id:
                raise BadInput(f"{self.state}: is of another pipeline, {before.begun.pipeline_id!r}")
            given, earlier = {**dict(before.begun.variables), **given}, before.steps
        self.plan = Plan.of(spec, given)
        self.kept = self.plan.kept(earlier)

    @property
    def spec(self) -> PipelineSpec:
        """As the file has it."""
        return self.plan.spec

    async def run(
        self, data: DataPlane, watch: Callable[[StepChanged], None] = lambda _: None
    ) -> PipelineResult:
        """Run it on a data plane that is up. Raises CannotWrite for a state file that cannot be written."""
        begun = PipelineBegun(pipeline_id=self.spec.pipeline_id, variables=tuple(self.plan.variables.items()))
        state = StateFile(self.state, begun, self.kept.values())
        try:
            perform = by_actions(data.environment)
            return await PipelineRun(self.plan, perform, state=state, kept=self.kept, watch=watch).run()
        finally:
            state.close()


async def run_pipeline(
    name_or_file: str,
    data: DataPlane,
    variables: Mapping[str, Param] | None = None,
    *,
    resume: bool = False,
    watch: Callable[[StepChanged], None] = lambda _: None,
) -> PipelineResult:
    """Run a pipeline of a file, or one that ships with the project.

    A step that fails is part of the result. `resume` goes on with the last run, at what it did not do.
    Raises BadInput for a pipeline that cannot run, with nothing done.
    """
    prepared = Prepared(name_or_file, variables, state=states_folder(data.settings), resume=resume)
    return await prepared.run(data, watch)


def states_folder(settings: DataSettings) -> Path:
    """Where the state files of pipelines lie."""
    return data_folder(settings) / "pipelines"
