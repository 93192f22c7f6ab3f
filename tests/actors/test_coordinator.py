"""The loop's promises, with scripted models and a Trainer that trains nothing."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Literal

import pytest

from agentfactory.actors.coordinator.actor import Coordinator
from agentfactory.actors.coordinator.journal import FILE, read_journal
from agentfactory.actors.coordinator.peers import ActorRefs
from agentfactory.actors.sink.actor import TrajectorySink
from agentfactory.actors.sink.segments import read_trajectories
from agentfactory.actors.student.actor import Student
from agentfactory.actors.teacher.actor import Teacher
from agentfactory.actors.verifier import Verifier
from agentfactory.cluster.adapters import StoredAdapters
from agentfactory.configs.data import DataSettings
from agentfactory.configs.errors import AgentFactoryError
from agentfactory.configs.load import load_settings
from agentfactory.configs.models import ModelSettings
from agentfactory.configs.settings import Settings
from agentfactory.messages.adapters import AdapterRef, LoadAdapter
from agentfactory.messages.runs import (
    DescribeRun,
    DrainRun,
    GroupFinished,
    GroupLeased,
    RoundFinished,
    RunFailed,
    RunFinished,
    StartRun,
    StepFinished,
)
from agentfactory.messages.trajectories import StepReport, TrainStep
from agentfactory.runtime.actor import Actor
from agentfactory.runtime.engines.base import AdapterStore, AdapterStoreFactory
from agentfactory.runtime.errors import ActorDown
from agentfactory.runtime.ref import ActorRef, PoolRef
from agentfactory.runtime.system import ActorSystem
from agentfactory.training.adapter_files import adapter_folder, with_location
from tests.actors.data_plane import Plane, access
from tests.actors.scripted import Script, ScriptedInference, WhatWasSeen, model_folder, use_the_tool

ROUNDS, BATCH, K, HELD_OUT = 3, 3, 4, 5


class FakeTrainer(Actor):
    """Makes empty adapters, where it is given `engines` only while they sleep."""

    def __init__(
        self,
        run_dir: Path,
        fail_at: int = -1,
        open_adapter_store: AdapterStoreFactory | None = None,
        engines: PoolRef | None = None,
    ) -> None:
        self._run_dir = run_dir
        self._fail_at = fail_at
        self._open_adapter_store = open_adapter_store
        self._engines = engines

    async def train(self, message: TrainStep) -> StepReport:
        if message.version == self._fail_at:
            raise AgentFactoryError("the loss is not a number")
        if self._engines is not None:
            await self._check_that_all_sleep(self._engines)
        adapter = AdapterRef(policy=message.policy, version=message.version + 1)
        folder = adapter_folder(self._run_dir, adapter.policy, adapter.version)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "adapter_config.json").write_bytes(b"{}")
        (folder / "adapter_model.safetensors").write_bytes(b"")
        files = LoadAdapter(adapter=adapter, config_json=b"{}", weights=b"")
        if self._open_adapter_store is None:
            return StepReport(adapter=adapter, config_json=b"{}", weights=b"", loss=0.0, train_s=0.01)
        files = with_location(files, message.tag)
        async with self._open_adapter_store() as shelf:
            await shelf.put(files)
        return StepReport(adapter=files.adapter, loss=0.0, train_s=0.01)

    async def _check_that_all_sleep(self, engines: PoolRef) -> None:
        for engine in engines.members:
            if not (await engine.ask(WhatWasSeen(), timeout_s=120)).asleep:
                raise AgentFactoryError(f"{engine.name} is awake")


class Stage:
    """One sitting of a run."""

    def __init__(self, system: ActorSystem, coordinator: ActorRef, folder: Path) -> None:
        self.system = system
        self.coordinator = coordinator
        self.folder = folder

    async def until_the_end(self) -> RunFinished | RunFailed:
        subscription = await self.system.topics.subscribe(RunFinished, RunFailed)
        await self.coordinator.ask(StartRun(), timeout_s=120)
        async for event in subscription:
            if isinstance(event, RunFinished | RunFailed):
                return event
        raise AssertionError("unreachable")

    def journal(self, kind: type) -> list:  # type: ignore[type-arg]
        return [entry for entry in read_journal(self.folder / FILE) if isinstance(entry, kind)]

    def episodes(self) -> list[str]:
        """Ids of the stored training episodes."""
        stored = read_trajectories(self.folder / "trajectories")
        return [t.episode_id for t in stored if t.policy == "student" and t.episode_id.startswith("g")]


@pytest.fixture
def model(tmp_path: Path) -> ModelSettings:
    return model_folder(tmp_path / "model")


def settings(**changes: object) -> Settings:
    """A tiny run, in which no group can be dropped as stale.

    What is dropped is sampled again, so the count of episodes would hang on the machine's speed.
    """
    return load_settings(
        "laptop",
        {
            "loop.rounds": ROUNDS,
            "loop.batch_groups": BATCH,
            "loop.group_size": K,
            "loop.max_staleness": ROUNDS,
            "loop.max_groups_per_step": 12,
            "loop.episode_attempts": 4,
            "curriculum.frontier": 0.5,
            "curriculum.domains": ["math"],
            "evaluation.tasks": HELD_OUT,
            "teacher.train": False,
            "student.sandbox.allow_weak": True,
            **{key.replace("__", "."): value for key, value in changes.items()},  # type: ignore[dict-item]
        },
    )


@asynccontextmanager
async def stage(
    folder: Path,
    model: ModelSettings,
    chosen: Settings,
    script: Script = use_the_tool,
    fail_at: int = -1,
    seconds: float = 0.0,
    transport: Literal["local", "ray"] = "local",
    open_adapter_store: AdapterStoreFactory | None = None,
    plane: Plane | None = None,
    by_turns: bool = False,
) -> AsyncIterator[Stage]:
    folder.mkdir(exist_ok=True)
    async with ActorSystem.open(transport, backoff_s=0.01) as system:
        data = await access(system, plane) if plane else None
        engines = await system.spawn_pool(
            ScriptedInference,
            model,
            script,
            seconds,
            open_adapter_store,
            name="engine",
            copies=2 if by_turns else 1,
        )
        crew = ActorRefs(
            engines=engines,
            teacher=await system.spawn(
                Teacher, chosen.teacher, model, engines, folder / "archive", name="teacher"
            ),
            students=await system.spawn_pool(
                Student, chosen.student, model, engines, None, data, name="student", copies=2
            ),
            verifier=await system.spawn(
                Verifier, chosen.verifier, True, data.retriever if data else None, name="verifier"
            ),
            sink=await system.spawn(TrajectorySink, chosen.sink, folder / "trajectories", None, name="sink"),
            trainer=await system.spawn(
                FakeTrainer,
                folder,
                fail_at,
                open_adapter_store,
                engines if by_turns else None,
                name="trainer",
            ),
            topics=system.topics,
            open_adapter_store=open_adapter_store,
            data=data,
        )
        coordinator = await system.spawn(Coordinator, chosen, folder, crew, name="coordinator")
        yield Stage(system, coordinator, folder)


async def test_a_run_trains_as_many_steps_as_asked_and_evaluates_each(
    tmp_path: Path, model: ModelSettings
) -> None:
    async with stage(tmp_path / "run", model, settings()) as run:
        end = await run.until_the_end()
        progress = await run.coordinator.ask(DescribeRun(), timeout_s=120)
    assert isinstance(end, RunFinished)
    assert end.reason == "rounds"
    assert (progress.version, progress.rounds, progress.running, progress.evaluating) == (
        ROUNDS,
        ROUNDS,
        0,
        0,
    )
    assert (progress.episodes, progress.tokens, progress.success) == (end.episodes, end.tokens, 1.0)
    assert [step.adapter.version for step in run.journal(StepFinished)] == [1, 2, 3]
    assert [(r.version, r.pass_at_1, r.n) for r in run.journal(RoundFinished)] == [
        (version, 1.0, HELD_OUT) for version in range(ROUNDS + 1)
    ]
    assert end.episodes == ROUNDS * BATCH * K == len(set(run.episodes()))


async def test_every_group_is_trained_on_once(tmp_path: Path, model: ModelSettings) -> None:
    async with stage(tmp_path / "run", model, settings()) as run:
        await run.until_the_end()
    consumed = [group for step in run.journal(StepFinished) for group in step.group_ids]
    assert len(consumed) == len(set(consumed)) == ROUNDS * BATCH


async def test_at_staleness_zero_every_group_is_exactly_on_policy(
    tmp_path: Path, model: ModelSettings
) -> None:
    async with stage(tmp_path / "run", model, settings(loop__max_staleness=0)) as run:
        await run.until_the_end()
    trained_at = {g: s.adapter.version - 1 for s in run.journal(StepFinished) for g in s.group_ids}
    for trajectory in read_trajectories(run.folder / "trajectories"):
        if trajectory.group_id in trained_at:
            versions = {turn.policy_version for turn in trajectory.turns}
            assert versions == {trained_at[trajectory.group_id]}


SLEEPING = {"kind": "vllm", "sleep": True, "max_lora_rank": 16}


async def test_engines_that_share_their_gpu_sleep_while_the_trainer_works(
    tmp_path: Path, model: ModelSettings
) -> None:
    chosen = settings(loop__max_staleness=0, engine=SLEEPING, teacher__train=True)
    async with stage(tmp_path / "run", model, chosen, by_turns=True) as run:
        end = await run.until_the_end()
    assert isinstance(end, RunFinished), end
    students = [s.adapter for s in run.journal(StepFinished) if s.adapter.policy == "student"]
    assert [adapter.version for adapter in students] == [1, 2, 3]


async def test_engines_that_do_not_share_it_stay_awake(tmp_path: Path, model: ModelSettings) -> None:
    async with stage(tmp_path / "run", model, settings(), by_turns=True) as run:
        end = await run.until_the_end()
    assert isinstance(end, RunFailed)
    assert "is awake" in end.reason


VICTIMS = ("student-0", "verifier", "sink", "trainer", "engine-0", "teacher", "coordinator")


@pytest.mark.parametrize("victim", VICTIMS)
async def test_a_run_outlives_the_death_of_any_actor(
    tmp_path: Path, model: ModelSettings, victim: str
) -> None:
    await kill_two(tmp_path, model, (victim, victim), "local")


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize(
    "victims",
    [
        ("engine-0", "coordinator"),
        pytest.param(("student-0", "verifier"), marks=pytest.mark.long),
        pytest.param(("sink", "trainer"), marks=pytest.mark.long),
        pytest.param(("teacher", "coordinator"), marks=pytest.mark.long),
    ],
)
async def test_a_run_outlives_a_sigkill_of_any_process(
    tmp_path: Path, model: ModelSettings, victims: tuple[str, str], ray_cluster: None
) -> None:
    await kill_two(tmp_path, model, victims, "ray")


@pytest.mark.parametrize("victim", ["trainer", "engine-0", "coordinator"])
async def test_a_run_whose_adapters_lie_on_a_shelf_outlives_a_death_and_leaves_none_there(
    tmp_path: Path, model: ModelSettings, victim: str
) -> None:
    plane = Plane()

    @asynccontextmanager
    async def open_adapter_store() -> AsyncIterator[AdapterStore]:
        async with plane.open(DataSettings()) as tiers:
            yield StoredAdapters(tiers)

    await kill_two(tmp_path, model, (victim, victim), "local", open_adapter_store)
    assert plane.store.puts.count("student/v0003/adapter_model.safetensors") == 1
    assert plane.store.blobs == {}
    assert plane.open_now == 0


async def kill_two(
    tmp_path: Path,
    model: ModelSettings,
    victims: tuple[str, str],
    transport: Literal["local", "ray"],
    open_adapter_store: AdapterStoreFactory | None = None,
) -> None:
    """Kill one at the first lease and one at some later lease; the run must not show it."""
    chosen = settings()
    async with stage(
        tmp_path / "run",
        model,
        chosen,
        seconds=0.05,
        transport=transport,
        open_adapter_store=open_adapter_store,
    ) as run:
        leases = await run.system.topics.subscribe(GroupLeased)
        ending = asyncio.create_task(run.until_the_end())
        await leases.take()
        await run.system.kill(victims[0])
        await leases.take()
        with suppress(ActorDown):  # it may still be down from the first time
            await run.system.kill(victims[1])
        end = await ending
    assert isinstance(end, RunFinished), end
    assert end.episodes == ROUNDS * BATCH * K
    assert len(run.episodes()) == len(set(run.episodes())) == ROUNDS * BATCH * K


async def test_a_restarted_coordinator_goes_on_where_its_journal_ends(
    tmp_path: Path, model: ModelSettings
) -> None:
    async with stage(tmp_path / "run", model, settings(), seconds=0.02) as run:
        steps = await run.system.topics.subscribe(StepFinished)
        ending = asyncio.create_task(run.until_the_end())
        await steps.take()
        await run.system.kill("coordinator")
        end = await ending
    assert isinstance(end, RunFinished)
    assert end.episodes == ROUNDS * BATCH * K == len(set(run.episodes()))


async def test_a_resumed_run_does_what_was_left(tmp_path: Path, model: ModelSettings) -> None:
    async with stage(tmp_path / "run", model, settings(), seconds=0.02) as run:
        steps = await run.system.topics.subscribe(StepFinished)
        await run.coordinator.ask(StartRun(), timeout_s=120)
        await steps.take()
    async with stage(tmp_path / "run", model, settings()) as run:
        end = await run.until_the_end()
    assert isinstance(end, RunFinished)
    assert [step.adapter.version for step in run.journal(StepFinished)] == [1, 2, 3]
    assert sorted(r.version for r in run.journal(RoundFinished)) == [0, 1, 2, 3]
    assert end.episodes == ROUNDS * BATCH * K == len(set(run.episodes()))


async def test_a_drained_run_saves_what_ran_and_can_be_resumed(tmp_path: Path, model: ModelSettings) -> None:
    async with stage(tmp_path / "run", model, settings(), seconds=0.05) as run:
        leases = await run.system.topics.subscribe(GroupLeased)
        ends = await run.system.topics.subscribe(RunFinished)
        await run.coordinator.ask(StartRun(), timeout_s=120)
        await leases.take()
        await run.coordinator.ask(DrainRun(), timeout_s=120)
        (end,) = await ends.take()
        leased = {lease.group_id for lease in run.journal(GroupLeased)}
        finished = {group.group_id for group in run.journal(GroupFinished)}
    assert isinstance(end, RunFinished)
    assert end.reason == "drained"
    assert leased == finished
    async with stage(tmp_path / "run", model, settings()) as run:
        end = await run.until_the_end()
    assert isinstance(end, RunFinished)
    assert end.episodes == ROUNDS * BATCH * K


async def test_a_finished_run_that_is_resumed_just_ends(tmp_path: Path, model: ModelSettings) -> None:
    async with stage(tmp_path / "run", model, settings()) as run:
        first = await run.until_the_end()
    async with stage(tmp_path / "run", model, settings()) as run:
        assert await run.until_the_end() == first


async def test_a_trainer_that_cannot_go_on_ends_the_run_with_its_reason(
    tmp_path: Path, model: ModelSettings
) -> None:
    async with stage(tmp_path / "run", model, settings(), fail_at=1) as run:
        end = await run.until_the_end()
    assert isinstance(end, RunFailed)
    assert "the loss is not a number" in end.reason


async def test_without_a_frontier_the_run_ends_by_itself(tmp_path: Path, model: ModelSettings) -> None:
    """A Student that always agrees with itself leaves nothing inside |p̂ − 0.5| ≤ 0.25."""
    async with stage(tmp_path / "run", model, settings(curriculum__frontier=0.25)) as run:
        end = await run.until_the_end()
    assert isinstance(end, RunFinished)
    assert end.reason == "frontier_exhausted"
    assert {g.fate for g in run.journal(GroupFinished)} == {"filtered"}


async def test_an_episode_that_fails_for_good_is_counted_and_has_no_reward(
    tmp_path: Path, model: ModelSettings
) -> None:
    def script(prompt: str, adapter: str | None) -> str:
        if "Compute 13+1" in prompt:
            raise AgentFactoryError("the engine is out of memory")
        return use_the_tool(prompt, adapter)

    chosen = settings(loop__episode_attempts=1, loop__rounds=1)
    async with stage(tmp_path / "run", model, chosen, script) as run:
        failures = 0
        end = await run.until_the_end()
        failures = sum(group.failed for group in run.journal(GroupFinished))
    assert isinstance(end, RunFinished)
    assert end.failed == failures
    assert end.episodes == len(set(run.episodes()))
