"""Pipelines run: in what order, what becomes of failures, and what a second run keeps."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from agentfactory.actors.agents.command_parser import CommandParser
from agentfactory.actors.agents.rule_agents import RuleBasedAgent
from agentfactory.actors.environment import DataEnvironment
from agentfactory.actors.ingestor import Ingestor
from agentfactory.actors.pipelines.plan import PipelinePlan, PlannedStep, StepRequest
from agentfactory.actors.pipelines.run import PipelineRun
from agentfactory.actors.pipelines.state import StateFile, read_state
from agentfactory.actors.pipelines.step_runners import RoleBinding, RoleBindings, StepExecution, StepRunner
from agentfactory.actors.retriever import Retriever
from agentfactory.actors.sink.actor import TrajectorySink
from agentfactory.actors.sink.segments import read_trajectories
from agentfactory.bridge.errors import BridgeDown
from agentfactory.configs.agents.pipelines import PipelineSpec, find_pipeline, load_pipeline
from agentfactory.configs.errors import BadInput
from agentfactory.configs.roles import SinkSettings
from agentfactory.messages.data import Observation, Param, QueryResult, StepResult
from agentfactory.messages.pipelines import PipelineBegun, PipelineResult, StepChanged
from agentfactory.runtime.system import ActorSystem
from tests.actors.data_plane import Plane, settings

Steps = Mapping[str, Mapping[str, object]]


def pipeline(steps: Steps, **values: object) -> PipelineSpec:
    """One of queries, each by its name; `steps` says what else there is to say of each."""
    return PipelineSpec.model_validate(
        {
            "pipeline_id": "tried",
            "agents": {"anyone": {"type": "rule_based"}},
            "steps": [
                {"id": name, "agent": "anyone", "inputs": {"tag_pattern": name}, **more}
                for name, more in steps.items()
            ],
            "retry_pause_s": 0.0,
            **values,
        }
    )


class Hands:
    """Takes steps as it is told to: some wait until they are let go, some fail."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.held: dict[str, anyio.Event] = {}
        self.failures: dict[str, list[Exception | str]] = {}
        self.arrived = anyio.Event()
        self.awaited = 0

    def hold(self, *names: str) -> None:
        self.held |= {name: anyio.Event() for name in names}

    async def wait_for(self, count: int) -> None:
        self.awaited = count
        while len(self.begun) < count:
            self.arrived = anyio.Event()
            await self.arrived.wait()

    async def __call__(self, step: PlannedStep, request: StepRequest) -> StepExecution:
        name = step.spec.id
        self.begun.append(name)
        self.arrived.set()
        if name in self.held:
            await self.held[name].wait()
        failure = self.failures[name].pop(0) if self.failures.get(name) else None
        if isinstance(failure, Exception):
            raise failure
        if failure:
            return StepExecution(request.action, StepResult.refused("NoSuchBlob", failure, -0.5))
        return StepExecution(
            request.action, StepResult(observation=Observation(text=name, data=FOUND), reward=0.1)
        )


FOUND = QueryResult.model_validate({"matches": [{"tag": "docs", "blob_name": "a.md", "size": 1}]})


def states(result: PipelineResult) -> dict[str, str]:
    return {step.step: step.state for step in result.steps}


async def run(spec: PipelineSpec, hands: StepRunner, **given: Param) -> PipelineResult:
    return await PipelineRun(PipelinePlan.of(spec, given), hands).run()


async def test_steps_that_need_nothing_of_one_another_are_under_way_together() -> None:
    hands = Hands()
    names = [f"s{number}" for number in range(20)]
    hands.hold(*names)
    async with anyio.create_task_group() as group:
        group.start_soon(run, pipeline({name: {} for name in names}), hands)
        await hands.wait_for(20)
        for held in hands.held.values():
            held.set()
    assert sorted(hands.begun) == sorted(names)


async def test_no_more_are_under_way_than_the_pipeline_allows() -> None:
    hands = Hands()
    hands.hold("a", "b", "c")
    spec = pipeline({"a": {}, "b": {}, "c": {}}, max_concurrent=2)
    async with anyio.create_task_group() as group:
        group.start_soon(run, spec, hands)
        await hands.wait_for(2)
        await anyio.wait_all_tasks_blocked()
        assert len(hands.begun) == 2
        for held in hands.held.values():
            held.set()
    assert len(hands.begun) == 3


async def test_a_step_begins_as_soon_as_what_it_needs_is_done() -> None:
    hands = Hands()
    hands.hold("slow")
    spec = pipeline(
        {
            "slow": {},
            "quick": {},
            "after_quick": {"depends_on": ["quick"]},
            "user": {"inputs": {"tag_pattern": "${after_quick.tag}"}},
            "last": {"depends_on": ["slow", "user"]},
        }
    )
    async with anyio.create_task_group() as group:
        group.start_soon(run, spec, hands)
        await hands.wait_for(4)
        assert hands.begun == ["slow", "quick", "after_quick", "user"]
        hands.held["slow"].set()
    assert hands.begun[-1] == "last"


async def test_values_travel_from_step_to_step_as_what_they_are() -> None:
    seen: list[StepRequest] = []

    async def perform(step: PlannedStep, request: StepRequest) -> StepExecution:
        seen.append(request)
        return await Hands()(step, request)

    spec = pipeline(
        {
            "find": {"inputs": {"tag_pattern": "${pipeline.what}*"}},
            "forget": {
                "inputs": {
                    "tag": "${find.tag}",
                    "blob_names": ["b.md", "${find.blob_names}", "n${find.count}"],
                }
            },
            "fetch": {"inputs": {"tag": "$${x}${find.tag}", "blob_name": "a", "force": "${pipeline.force}"}},
        }
    )
    result = await run(spec, perform, what="do", force=True)
    assert result.complete
    params = {
        request.action.name: dict(request.action.params) for request in seen if request.action is not None
    }
    assert params == {
        "query": {"tag_pattern": "do*"},
        "prune": {"tag": "docs", "blob_names": ("b.md", "a.md", "n1")},
        "retrieve": {"tag": "${x}docs", "blob_name": "a", "force": True},
    }


async def test_a_step_that_fails_is_tried_again_as_often_as_it_says() -> None:
    hands = Hands()
    hands.failures = {"a": ["gone", BridgeDown("down")], "b": ["gone", "gone"]}
    changes: list[StepChanged] = []
    spec = pipeline({"a": {}, "b": {"retries": 1}}, retries=2, on_failure="go_on")
    result = await PipelineRun(PipelinePlan.of(spec), hands, watch=changes.append).run()
    assert states(result) == {"a": "done", "b": "failed"}
    assert [step.attempts for step in result.steps] == [3, 2]
    assert result.steps[1].reason == "NoSuchBlob: gone"
    told = [(change.state, change.attempt, change.reason) for change in changes if change.step == "a"]
    assert told == [
        ("running", 1, ""),
        ("retrying", 2, "NoSuchBlob: gone"),
        ("retrying", 3, "BridgeDown: down"),
        ("done", 3, ""),
    ]


async def test_a_step_that_takes_too_long_has_failed() -> None:
    hands = Hands()
    hands.hold("a")
    (step,) = (await run(pipeline({"a": {"timeout_s": 0.01}}), hands)).steps
    assert (step.state, step.reason) == ("failed", "it took longer than 0.01 s")


async def test_the_first_failure_ends_what_runs_and_nothing_else_begins() -> None:
    hands = Hands()
    hands.hold("slow")
    hands.failures = {"bad": ["gone"]}
    spec = pipeline({"slow": {}, "bad": {}, "after": {"depends_on": ["slow"]}})
    result = await run(spec, hands)
    assert states(result) == {"slow": "cancelled", "bad": "failed", "after": "cancelled"}
    assert not result.complete


async def test_carrying_on_leaves_out_only_what_needs_the_failure() -> None:
    hands = Hands()
    hands.failures = {"bad": ["gone"]}
    spec = pipeline(
        {
            "bad": {},
            "after": {"depends_on": ["bad"]},
            "later": {"depends_on": ["after", "good"]},
            "good": {},
            "fine": {"depends_on": ["good"]},
        },
        on_failure="go_on",
    )
    result = await run(spec, hands)
    assert states(result) == {
        "bad": "failed",
        "after": "skipped",
        "later": "skipped",
        "good": "done",
        "fine": "done",
    }
    assert result.steps[2].reason == "it needs 'after'"


async def test_a_bug_is_raised_and_is_no_outcome() -> None:
    hands = Hands()
    hands.failures = {"a": [ZeroDivisionError("ours")]}
    with pytest.raises(ZeroDivisionError):
        await run(pipeline({"a": {}, "b": {}}), hands)


async def recorded(
    path: Path, spec: PipelineSpec, hands: Hands, *, resume: bool = False, **given: Param
) -> PipelineResult:
    plan = PipelinePlan.of(spec, given)
    kept = plan.kept(read_state(path).steps) if resume else {}
    begun = PipelineBegun(pipeline_id=spec.pipeline_id, variables=tuple(plan.variables.items()))
    state = StateFile(path, begun, kept.values())
    try:
        return await PipelineRun(plan, hands, state=state, kept=kept).run()
    finally:
        state.close()


CHAIN: Steps = {
    "a": {"inputs": {"tag_pattern": "${pipeline.x}"}},
    "b": {"inputs": {"tag_pattern": "${a.tag}"}},
    "c": {"depends_on": ["b"]},
    "other": {},
}


async def test_a_run_goes_on_at_the_step_that_failed(tmp_path: Path) -> None:
    path, hands = tmp_path / "state" / "tried.jsonl", Hands()
    hands.failures = {"c": ["gone"]}
    first = await recorded(path, pipeline(CHAIN, on_failure="go_on"), hands, x="1")
    assert states(first)["c"] == "failed"
    hands.begun.clear()
    second = await recorded(path, pipeline(CHAIN), hands, resume=True, x="1")
    assert hands.begun == ["c"]
    assert states(second) == {"a": "kept", "b": "kept", "c": "done", "other": "kept"}
    assert second.total_reward == pytest.approx(0.4)
    hands.begun.clear()
    await recorded(path, pipeline(CHAIN), hands, resume=True, x="1")
    assert hands.begun == []


async def test_what_is_asked_for_otherwise_is_done_again_with_all_that_follows(tmp_path: Path) -> None:
    path, hands = tmp_path / "tried.jsonl", Hands()
    await recorded(path, pipeline(CHAIN), hands, x="1")
    hands.begun.clear()
    result = await recorded(path, pipeline(CHAIN), hands, resume=True, x="2")
    assert hands.begun == ["a", "b", "c"]
    assert states(result)["other"] == "kept"


async def test_a_run_that_was_killed_goes_on_and_a_torn_line_is_left_out(tmp_path: Path) -> None:
    path, hands = tmp_path / "tried.jsonl", Hands()
    hands.hold("c")
    with anyio.move_on_after(SOON_S) as scope:
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: recorded(path, pipeline(CHAIN), hands, x="1"))
            await hands.wait_for(4)
            scope.cancel()
    with path.open("ab") as stream:
        stream.write(b'{"step":"c","sta')
    hands.held.clear()
    hands.begun.clear()
    await recorded(path, pipeline(CHAIN), hands, resume=True, x="1")
    assert hands.begun == ["c"]


SOON_S = 180


def test_what_is_no_state_of_a_pipeline_is_said_to_be_none(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("hello\n")
    with pytest.raises(BadInput, match="no state of a pipeline"):
        read_state(tmp_path / "other")
    with pytest.raises(BadInput, match="no earlier run to go on with"):
        read_state(tmp_path / "none")


@asynccontextmanager
async def crew(folder: Path, *roles: str) -> AsyncIterator[tuple[RoleBindings, Path]]:
    """Agents by rules in these roles, over tiers in memory; and the folder of their records."""
    plane, made = Plane(), settings(folder)
    async with ActorSystem.open("local") as system:
        ingestor = await system.spawn(Ingestor, made, plane.open, name="ingestor")
        retriever = await system.spawn(Retriever, made, plane.open, name="retriever")
        records = folder / "records"
        sink = await system.spawn(TrajectorySink, SinkSettings(), records, name="sink")
        member = RoleBinding(
            name="helper",
            agent=RuleBasedAgent(CommandParser()),
            open_environment=lambda: DataEnvironment(ingestor, retriever, made.rewards, timeout_s=30),
            rewards=made.rewards,
        )
        yield RoleBindings(dict.fromkeys(roles, member), sink), records


async def test_the_shipped_pipeline_loads_looks_and_fetches(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "guide.md").write_text("# guide")
    spec = load_pipeline(find_pipeline("ingest_retrieve"))
    async with crew(tmp_path, "ingestor", "retriever") as (perform, records):
        result = await run(spec, perform, src=f"folder::{tmp_path}/docs", dst="mine")
        missing = await run(spec, perform, src="folder::nowhere")
        recorded = list(read_trajectories(records))
    assert [step.result.reward for step in result.steps if step.result] == [0.1, 0.1, 0.3]
    last = result.steps[-1].result
    assert last is not None
    assert last.observation.data is not None
    assert last.observation.data.kind == "retrieved"
    assert last.observation.data.content == b"# guide"
    assert states(missing) == {
        "ingest_docs": "failed",
        "query_results": "cancelled",
        "retrieve_data": "cancelled",
    }
    assert "nowhere" in missing.steps[0].reason
    assert [trajectory.rewards.total for trajectory in recorded] == [0.1, 0.1, 0.3, -0.5]


async def test_an_agent_decides_what_an_instruction_means(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("# a")
    told = {"inputs": {}, "instruction": "load file::${pipeline.file} as docs"}
    spec = pipeline(
        {
            "load": told,
            "fetch": {"inputs": {}, "instruction": "get ${load.blob_name} from ${load.tag}"},
            "odd": {"inputs": {}, "instruction": "destroy", "depends_on": ["fetch"]},
        }
    )
    async with crew(tmp_path, "anyone") as (perform, _):
        result = await run(spec, perform, file=f"{tmp_path}/a.md")
    assert states(result) == {"load": "done", "fetch": "done", "odd": "failed"}
    fetch, odd = result.steps[1:]
    assert fetch.instruction == "get a.md from docs"
    assert fetch.action is not None
    assert (fetch.action.name, dict(fetch.action.params)["blob_name"]) == ("retrieve", "a.md")
    assert (odd.action, odd.reason.partition(":")[0]) == (None, "NotUnderstood")


async def test_an_output_that_is_empty_fails_the_step_that_needs_it() -> None:
    async def nothing(step: PlannedStep, request: StepRequest) -> StepExecution:
        return StepExecution(
            request.action,
            StepResult(observation=Observation(text="0", data=QueryResult(matches=())), reward=0.1),
        )

    spec = pipeline({"find": {}, "use": {"inputs": {"tag_pattern": "${find.tag}"}}})
    result = await run(spec, nothing)
    assert states(result) == {"find": "done", "use": "failed"}
    assert result.steps[1].reason == "${find.tag} is empty: 'find' has found nothing of the kind"
