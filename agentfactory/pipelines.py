"""Pipelines from Python.

async with DataPlane.open() as data:
    result = await run_pipeline("ingest_retrieve", data, {"src": "folder::docs", "dst": "docs"})
    print(result.complete, result.total_reward)
"""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from .actors.pipelines.plan import PipelinePlan
from .actors.pipelines.run import PipelineRun
from .actors.pipelines.state import StateFile, read_state
from .actors.pipelines.step_runners import RoleBinding, RoleBindings, StepRunner
from .cluster.agents.blueprint_registry import BlueprintRegistry
from .cluster.agents.loader import open_agent, policy_version
from .configs.agents.blueprints import Blueprint, BlueprintHeader
from .configs.agents.pipelines import BlueprintAgent, PipelineSpec, find_pipeline, load_pipeline
from .configs.agents.settings import RuleBasedAgentSettings
from .configs.data import DataSettings
from .configs.errors import BadInput
from .data import DataPlane, data_folder
from .messages.data import Param
from .messages.pipelines import PipelineBegun, PipelineResult, StepChanged, StepOutput
from .sessions import open_session_environments, open_sink, settings_for


class PipelineJob:
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
        registry: BlueprintRegistry | None = None,
    ) -> None:
        spec = load_pipeline(find_pipeline(name_or_file))
        given, earlier = dict(variables or {}), dict[str, StepOutput]()
        self.state = state if state.suffix else state / f"{spec.pipeline_id}.jsonl"
        if resume:
            before = read_state(self.state)
            if before.begun.pipeline_id != spec.pipeline_id:
                raise BadInput(f"{self.state}: is of another pipeline, {before.begun.pipeline_id!r}")
            given, earlier = {**dict(before.begun.variables), **given}, before.steps
        self._blueprints = _blueprints(spec, registry or BlueprintRegistry())
        agents = {name: blueprint.agent for name, blueprint in self._blueprints.items()}
        self.plan = PipelinePlan.of(spec, given, agents)
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
            async with self._crew(data) as crew:
                return await PipelineRun(self.plan, crew, state=state, kept=self.kept, watch=watch).run()
        finally:
            state.close()

    @asynccontextmanager
    async def _crew(self, data: DataPlane) -> AsyncIterator[StepRunner]:
        """The agents of those roles that have a step. Only who has to decide something gets a model."""
        async with AsyncExitStack() as stack:
            sink = await stack.enter_async_context(open_sink(data, self.spec.pipeline_id))
            members: dict[str, RoleBinding] = {}
            for role, blueprint in self._blueprints.items():
                decides = any(
                    step.spec.agent == role and not step.action for step in self.plan.steps.values()
                )
                agent = await stack.enter_async_context(
                    open_agent(blueprint if decides else _by_rules(blueprint))
                )
                members[role] = RoleBinding(
                    name=blueprint.name,
                    agent=agent,
                    open_environment=await stack.enter_async_context(
                        open_session_environments(blueprint, data)
                    ),
                    rewards=settings_for(blueprint, data.settings).rewards,
                    version=policy_version(blueprint) if decides else 0,
                )
            yield RoleBindings(members, sink)


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
    prepared = PipelineJob(name_or_file, variables, state=states_folder(data.settings), resume=resume)
    return await prepared.run(data, watch)


def states_folder(settings: DataSettings) -> Path:
    """Folder of the pipelines' state files."""
    return data_folder(settings) / "pipelines"


def _blueprints(spec: PipelineSpec, registry: BlueprintRegistry) -> dict[str, Blueprint]:
    """Those of the roles that have a step. Raises BadInput for a name that no blueprint has."""
    found: dict[str, Blueprint] = {}
    for role in dict.fromkeys(step.agent for step in spec.steps):
        agent = spec.agents[role]
        if isinstance(agent, BlueprintAgent):
            found[role] = registry.get(agent.name)
        else:
            found[role] = Blueprint(blueprint=BlueprintHeader(name=role), agent=agent)
    return found


def _by_rules(blueprint: Blueprint) -> Blueprint:
    return blueprint.model_copy(update={"agent": RuleBasedAgentSettings()})
