"""The Coordinator's life with peers that answer at once: begin, drain, restart, resume, fail, end."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from agentfactory.actors.coordinator import actor as actor_module
from agentfactory.actors.coordinator.actor import Coordinator
from agentfactory.actors.coordinator.journal import FILE, Journal, read_journal
from agentfactory.actors.coordinator.peers import ActorRefs
from agentfactory.configs.load import load_settings
from agentfactory.configs.settings import Settings
from agentfactory.messages.adapters import AdapterLoaded, AdapterRef, FetchAdapter, LoadAdapter
from agentfactory.messages.base import Done, Event, Message
from agentfactory.messages.episodes import GroupVerdict, JudgeGroup, JudgeSolution, SolveTask
from agentfactory.messages.runs import (
    DescribeRun,
    DrainRun,
    GroupLeased,
    JournalEntry,
    RoundFinished,
    RunFailed,
    RunFinished,
    RunProgress,
    RunResumed,
    RunStarted,
    StartRun,
    StepFinished,
)
from agentfactory.messages.tasks import Proposal, Proposals, ProposeTasks
from agentfactory.messages.trajectories import (
    FindTrajectories,
    FoundTrajectories,
    StepReport,
    TrainStep,
    Trajectory,
)
from agentfactory.runtime.engines.base import AdapterStore, AdapterStoreFactory
from agentfactory.runtime.topics import Publish
from agentfactory.training.adapter_files import adapter_folder, with_location
from tests.actors.coordinator_parts import FAILS, TASK, lease, solution, turn, verdict
from tests.actors.peers import Peer
from tests.actors.test_rollouts import finished, step, trajectory

LIMIT_S = 60


def judge(message: Message) -> Message:
    if isinstance(message, JudgeSolution):
        return verdict(message.solution.episode_id)
    assert isinstance(message, JudgeGroup)
    verdicts = tuple(verdict(each.episode_id, n == 0) for n, each in enumerate(message.solutions))
    return GroupVerdict(task=message.task, majority_share=0.5, verdicts=verdicts)


def solve(message: Message) -> Message:
    assert isinstance(message, SolveTask)
    version = message.adapter.version if message.adapter else 0
    return solution(message.episode_id, turn(version=version, tokens=5))


def propose(message: Message) -> Message:
    assert isinstance(message, ProposeTasks)
    return Proposals(proposals=(Proposal(task=TASK),))


def load(message: Message) -> Message:
    """An engine's answer, which has taken what it was sent or has fetched it."""
    name = message.adapter.name if isinstance(message, LoadAdapter | FetchAdapter) else None
    return AdapterLoaded(names=(name or "",))


class Run:
    """A Coordinator of one step, with a group a batch, and all that it works with."""

    def __init__(
        self,
        folder: Path,
        open_adapter_store: AdapterStoreFactory | None = None,
        student: Peer | None = None,
        **changes: object,
    ) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.settings: Settings = load_settings(
            "laptop",
            {
                "loop.rounds": 1,
                "loop.batch_groups": 1,
                "loop.group_size": 2,
                "curriculum.domains": ["math"],
                "curriculum.frontier": 0.5,
                "evaluation.tasks": 2,
                "teacher.train": False,
                **{key.replace("__", "."): value for key, value in changes.items()},  # type: ignore[dict-item]
            },
        )
        self.engine, self.hub, self.student = Peer(load), Peer(), student or Peer(solve)
        self.trainer = Peer(self._train)
        self.sweeps: list[int] = []
        """How many entries the journal had at each sweep."""
        self.found: tuple[Trajectory, ...] = ()
        """What the sink has of a group."""
        self._open_adapter_store = open_adapter_store
        crew = ActorRefs(
            self.engine.pool(), Peer(propose).ref(), self.student.pool(), Peer(judge).ref(),
            Peer(self._keep).ref(), self.trainer.ref(), self.hub.topics(), open_adapter_store,
        )  # fmt: skip
        self.coordinator = Coordinator(self.settings, folder, crew)

    def _keep(self, message: Message) -> Message:
        if isinstance(message, FindTrajectories):
            return FoundTrajectories(trajectories=self.found if "g-0" in message.episode_ids else ())
        return Done()

    def _train(self, message: Message) -> StepReport:
        assert isinstance(message, TrainStep)
        adapter = AdapterRef(policy=message.policy, version=message.version + 1)
        save(self.folder, adapter)
        if self._open_adapter_store is not None:
            files = LoadAdapter(adapter=adapter, config_json=b"{}", weights=b"w")
            return StepReport(adapter=with_location(files, message.tag).adapter, loss=0.0, train_s=0.0)
        return StepReport(adapter=adapter, config_json=b"{}", weights=b"w", loss=0.0, train_s=0.0)

    async def start(self) -> None:
        await self.coordinator.start()
        self.coordinator._namespaces.collect_garbage = self._sweep  # type: ignore[method-assign]

    async def _sweep(self) -> None:
        self.sweeps.append(len(self.journal()))

    def journal(self) -> list[JournalEntry]:
        return list(read_journal(self.folder / FILE))

    def told(self) -> list[Event]:
        """What was published, but for the progress."""
        events = [message.event for message in self.hub.heard if isinstance(message, Publish)]
        return [event for event in events if not isinstance(event, RunProgress)]

    async def to_its_end(self) -> Event:
        """Start it and let it run; the last that it tells."""
        await self.start()
        await self.coordinator.begin(StartRun())
        with anyio.fail_after(LIMIT_S):
            await self.coordinator.run()
        await self.coordinator.aclose()
        return self.told()[-1]


def save(folder: Path, adapter: AdapterRef) -> None:
    files = adapter_folder(folder, adapter.policy, adapter.version)
    files.mkdir(parents=True, exist_ok=True)
    (files / "adapter_config.json").write_bytes(b"{}")
    (files / "adapter_model.safetensors").write_bytes(b"w")


def kinds(entries: list[JournalEntry]) -> list[type]:
    return [type(entry) for entry in entries]


async def test_a_run_begins_when_it_is_told_to_and_its_journal_tells_it_from_start_to_end(
    tmp_path: Path,
) -> None:
    run = Run(tmp_path / "run")
    await run.start()
    with anyio.fail_after(LIMIT_S):
        async with anyio.create_task_group() as group:
            group.start_soon(run.coordinator.run)
            await anyio.wait_all_tasks_blocked()
            assert (run.hub.heard, run.journal()) == ([], [])
            progress = await run.coordinator.describe(DescribeRun())
            assert (progress.version, progress.elapsed_s) == (0, 0.0), "it has not begun"
            assert await run.coordinator.begin(StartRun()) == Done()
    first, *_, last = run.journal()
    assert isinstance(first, RunStarted)
    assert (first.seed, first.settings_sha256) == (run.settings.seed, run.settings.sha256())
    assert isinstance(last, RunFinished)
    assert (last.reason, last.failed, last.dropped_stale) == ("rounds", 0, 0)
    assert last.episodes == 2 * sum(isinstance(entry, GroupLeased) for entry in run.journal())
    assert last.tokens == 5 * last.episodes
    assert run.sweeps == [1, len(run.journal()) - 1], "before the first lease, and before the end is told"
    assert run.told()[0] == first
    assert run.told()[-1] == last
    assert any(isinstance(message, Publish) and isinstance(message.event, RunProgress)
               for message in run.hub.heard)  # fmt: skip
    assert await run.coordinator.begin(StartRun()) == Done()
    assert run.told()[-2:] == [last, last], "whoever starts it again hears of the end again"
    await run.coordinator.aclose()
    with pytest.raises(ValueError, match="closed"):
        run.coordinator._journal.append(last)


async def test_a_run_that_was_ended_in_the_middle_goes_on_by_itself_under_its_id(tmp_path: Path) -> None:
    run = Run(tmp_path / "run", student=Peer(FAILS), loop__episode_attempts=1)
    failed = await run.to_its_end()
    assert isinstance(failed, RunFailed), "no held-out episode could be judged"
    (started,) = [entry for entry in run.journal() if isinstance(entry, RunStarted)]
    again = Run(tmp_path / "run")
    await again.start()
    with anyio.fail_after(LIMIT_S):
        await again.coordinator.run()
    await again.coordinator.aclose()
    assert isinstance(again.told()[0], RunResumed)
    assert isinstance(again.told()[-1], RunFinished)
    assert again.coordinator._run_id == started.run_id
    assert kinds(again.journal()).count(RunStarted) == 1


async def test_an_empty_journal_is_that_of_a_run_which_has_not_begun(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    (run.folder / FILE).touch()
    await run.start()
    with anyio.move_on_after(LIMIT_S):
        async with anyio.create_task_group() as group:
            group.start_soon(run.coordinator.run)
            await anyio.wait_all_tasks_blocked()
            assert run.hub.heard == []
            group.cancel_scope.cancel()
    await run.coordinator.aclose()


async def test_a_finished_run_tells_of_its_end_again_and_does_nothing(tmp_path: Path) -> None:
    first = Run(tmp_path / "run")
    end = await first.to_its_end()
    again = Run(tmp_path / "run")
    assert await again.to_its_end() == end
    assert again.told() == [end]
    assert (again.student.heard, again.engine.heard, again.sweeps) == ([], [], [])
    await again.coordinator.begin(StartRun())
    assert again.told() == [end, end]
    assert again.journal() == first.journal()


async def test_a_finished_run_that_is_given_more_rounds_goes_on_with_its_last_versions(
    tmp_path: Path,
) -> None:
    await Run(tmp_path / "run").to_its_end()
    more = Run(tmp_path / "run", loop__rounds=2)
    end = await more.to_its_end()
    assert isinstance(end, RunFinished)
    assert [each.adapter.version for each in more.journal() if isinstance(each, StepFinished)] == [1, 2]
    loads = [each.adapter.name for each in more.engine.heard if isinstance(each, LoadAdapter)]
    assert loads == ["student-v1", "student-v2"]


async def test_versions_that_were_not_evaluated_come_back_before_the_newest_of_each_policy(
    tmp_path: Path,
) -> None:
    run = Run(tmp_path / "run", loop__rounds=3, evaluation__every=1)
    journal = Journal(run.folder / FILE)
    journal.append(RunStarted(run_id="r", seed=0, at=0.0, settings_sha256=""))
    for number, policy in ((1, "student"), (2, "student"), (3, "student"), (1, "teacher")):
        journal.append(step(number, policy))
        save(run.folder, step(number, policy).adapter)
    journal.close()
    await run.to_its_end()
    loads = [each.adapter.name for each in run.engine.heard if isinstance(each, LoadAdapter)]
    assert loads == ["student-v1", "student-v2", "student-v3", "student-v3", "teacher-v1"]
    rounds = [each for each in run.journal() if isinstance(each, RoundFinished)]
    assert sorted(each.version for each in rounds) == [0, 1, 2, 3]


async def test_groups_that_were_ready_when_a_run_ended_are_trained_on_when_it_goes_on(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    journal = Journal(run.folder / FILE)
    for entry in (RunStarted(run_id="r", seed=0, at=0.0, settings_sha256=""), lease("g"), finished("g", 0)):
        journal.append(entry)
    journal.close()
    run.found = tuple(trajectory(f"g-{n}", float(n)) for n in range(4))
    await run.to_its_end()
    (asked,) = [message for message in run.trainer.heard if isinstance(message, TrainStep)]
    assert [group.group_id for group in asked.groups] == ["g"]
    assert asked.groups[0].trajectories == run.found


async def test_whoever_drains_a_run_is_answered_once_it_has_ended_and_it_can_be_resumed(
    tmp_path: Path,
) -> None:
    run = Run(tmp_path / "run")
    await run.start()
    with anyio.fail_after(LIMIT_S):
        async with anyio.create_task_group() as group:
            group.start_soon(_drained, run)
            await anyio.wait_all_tasks_blocked()
            await run.coordinator.begin(StartRun())
            group.start_soon(run.coordinator.run)
    await run.coordinator.aclose()
    assert isinstance(run.told()[-1], RunFinished)
    assert RunFinished not in kinds(run.journal()), "the run is not over"
    assert GroupLeased not in kinds(run.journal())
    assert run.trainer.heard == []
    end = await Run(tmp_path / "run").to_its_end()
    assert isinstance(end, RunFinished)
    assert end.reason == "rounds"


async def _drained(run: Run) -> None:
    assert await run.coordinator.drain(DrainRun()) == Done()
    end = run.told()[-1]
    assert isinstance(end, RunFinished)
    assert end.reason == "drained"


async def test_a_run_that_waits_for_groups_hears_that_it_is_drained(tmp_path: Path) -> None:

    run = Run(tmp_path / "run", loop__drain_timeout_s=LIMIT_S)
    await run.start()
    await run.coordinator.begin(StartRun())
    waiting = run.coordinator._rollouts
    waiting.admit = _admit_nothing  # type: ignore[method-assign,assignment]
    with anyio.fail_after(LIMIT_S):
        async with anyio.create_task_group() as group:
            group.start_soon(run.coordinator.run)
            await anyio.wait_all_tasks_blocked()
            await run.coordinator.drain(DrainRun())
    await run.coordinator.aclose()
    end = run.told()[-1]
    assert isinstance(end, RunFinished)
    assert end.reason == "drained"


async def _admit_nothing(group: object) -> None:
    await anyio.sleep_forever()


async def test_a_drain_is_answered_although_the_run_does_not_end(tmp_path: Path) -> None:
    run = Run(tmp_path / "run", loop__drain_timeout_s=0.01)
    await run.start()
    with anyio.fail_after(LIMIT_S):
        assert await run.coordinator.drain(DrainRun()) == Done()
    await run.coordinator.aclose()


async def test_a_run_that_cannot_go_on_says_why_in_its_journal_and_to_whoever_starts_it_again(
    tmp_path: Path,
) -> None:
    run = Run(tmp_path / "run")
    run.trainer._answers = [FAILS]
    end = await run.to_its_end()
    assert isinstance(end, RunFailed)
    assert (end.error, end.reason, end.exit_code) == ("AgentFactoryError", str(FAILS), FAILS.exit_code)
    assert run.journal()[-1] == end
    with anyio.fail_after(LIMIT_S):
        assert await run.coordinator.drain(DrainRun()) == Done(), "it has ended"
    await run.coordinator.begin(StartRun())
    assert run.told()[-2:] == [end, end]


async def test_versions_of_a_run_with_a_shelf_lie_under_its_own_tag_and_the_shelf_is_closed(
    tmp_path: Path,
) -> None:
    shelves: list[_Shelf] = []

    @asynccontextmanager
    async def open_adapter_store() -> AsyncIterator[AdapterStore]:
        shelves.append(_Shelf())
        yield shelves[-1]
        shelves[-1].calls.append("closed")

    run = Run(tmp_path / "run", open_adapter_store)
    await run.to_its_end()
    (started,) = [entry for entry in run.journal() if isinstance(entry, RunStarted)]
    tag = f"adapters/run-{started.run_id}"
    assert [each.adapter.tag for each in run.engine.heard if isinstance(each, FetchAdapter)] == [tag]
    (shelf,) = shelves
    assert shelf.calls == [f"clear {tag}", "closed"]


class _Shelf:
    def __init__(self) -> None:
        self.calls: list[str] = []

    async def put(self, adapter: LoadAdapter) -> None:
        self.calls.append(f"put {adapter.adapter.name}")

    async def fetch(self, adapter: AdapterRef) -> LoadAdapter:
        raise AssertionError("the engines fetch")

    async def remove(self, adapter: AdapterRef) -> None:
        self.calls.append(f"remove {adapter.name}")

    async def clear(self, tag: str) -> None:
        self.calls.append(f"clear {tag}")


async def test_the_rate_of_tokens_is_that_of_the_last_second_or_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0

    class Time:
        time = staticmethod(lambda: now)

    run = Run(tmp_path / "run")
    await run.start()
    monkeypatch.setattr(actor_module, "time", Time)
    rates: list[float] = []
    for at, tokens in ((1000.0, 100), (1000.5, 200), (1001.0, 300), (1001.5, 900), (1003.0, 700)):
        now, run.coordinator._state.tokens = at, tokens
        rates.append((await run.coordinator.describe(DescribeRun())).tokens_per_s)
    assert rates == [0.0, 0.0, 200.0, 200.0, 200.0]
    await run.coordinator.aclose()


async def test_a_coordinator_that_never_started_can_be_closed(tmp_path: Path) -> None:
    await Run(tmp_path / "run").coordinator.aclose()
