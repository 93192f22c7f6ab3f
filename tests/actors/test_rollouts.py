"""Rollouts: what is given out again, counted, dropped, and kept until it is trained on."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from agentfactory.actors.coordinator import rollouts as rollouts_module
from agentfactory.actors.coordinator.curriculum import TaskPrefetcher
from agentfactory.actors.coordinator.episodes import mean_rewards
from agentfactory.actors.coordinator.journal import Journal
from agentfactory.actors.coordinator.rollouts import Rollouts
from agentfactory.actors.coordinator.run_state import JournaledState
from agentfactory.configs.roles import LoopSettings
from agentfactory.messages.adapters import AdapterRef, LoadAdapter
from agentfactory.messages.base import Done, Message
from agentfactory.messages.episodes import (
    EpisodeFailed,
    GroupVerdict,
    Rewards,
    RewardTerm,
    Solution,
    SolveTask,
)
from agentfactory.messages.runs import (
    EpisodeSample,
    GroupDropped,
    GroupFinished,
    GroupLeased,
    RunStarted,
    StepFinished,
)
from agentfactory.messages.tasks import Proposal, Proposals
from agentfactory.messages.trajectories import (
    FindTrajectories,
    FoundTrajectories,
    Group,
    StoreTrajectories,
    Trajectory,
)
from agentfactory.runtime.errors import ActorDown
from tests.actors.coordinator_parts import FAILS, NEWEST, TASK, Parts, lease, solution, turn, verdict
from tests.actors.peers import Peer


async def test_an_episode_that_fails_is_given_out_again_with_the_newest_version() -> None:
    student = Peer(FAILS, solution("e"))
    parts = Parts(student, Peer(), Peer())
    await parts.publisher.publish(LoadAdapter(adapter=NEWEST, config_json=b"", weights=b""))
    data = TASK.model_copy(update={"domain": "data"})
    assert await parts.episodes.solve(SolveTask(episode_id="e", task=data)) == solution("e")
    first, second = [asked for asked in student.heard if isinstance(asked, SolveTask)]
    assert first.adapter == second.adapter == NEWEST
    assert first.space
    assert second.space
    assert first.space != second.space
    assert parts.cleared == [first.space]
    (failed,) = parts.published(EpisodeFailed)
    assert failed == EpisodeFailed(
        episode_id="e", attempt=1, error="AgentFactoryError", reason=str(FAILS), will_retry=True
    )
    assert len(parts.engine.heard) == 2, "the engine may have been restarted without its adapters"


async def test_a_pinned_episode_keeps_its_version_and_is_given_up_after_its_attempts() -> None:
    student, old = Peer(FAILS), AdapterRef(policy="student", version=1)
    parts = Parts(student, Peer(), Peer(), attempts=2)
    await parts.publisher.publish(LoadAdapter(adapter=NEWEST, config_json=b"", weights=b""))
    assert await parts.episodes.solve(SolveTask(episode_id="e", task=TASK, adapter=old, pinned=True)) is None
    assert [asked.adapter for asked in student.heard if isinstance(asked, SolveTask)] == [old, old]
    assert [event.will_retry for event in parts.published(EpisodeFailed)] == [True, False]


def solve(message: Message) -> Solution:
    """The third episode of a group fails; of the others each is a little longer than the one before."""
    assert isinstance(message, SolveTask)
    number = int(message.episode_id[-1])
    if number == 2:
        raise FAILS
    turns = [turn(version=5 - number, calls=number, tokens=10)] * (number + 1)
    return solution(message.episode_id, *turns, space=f"space {number}")


def judged(correct: Sequence[bool], share: float) -> GroupVerdict:
    ids = [f"g-{n}" for n in (0, 1, 3)][: len(correct)]
    verdicts = tuple(verdict(name, right) for name, right in zip(ids, correct, strict=True))
    return GroupVerdict(task=TASK, majority_share=share, verdicts=verdicts, failed=(("g-3", "died"),))


@pytest.mark.parametrize(
    ("correct", "share", "fate"),
    [((True, False), 0.5, "accepted"), ((True, True), 1.0, "filtered"), ((True,), 0.5, "failed"),
     ((), 0.5, "failed")],
)  # fmt: skip
async def test_a_group_is_told_of_by_the_figures_of_its_judged_episodes(
    correct: Sequence[bool], share: float, fate: str
) -> None:
    sink = Peer(Done())
    parts = Parts(Peer(solve), Peer(judged(correct, share)), sink, attempts=1)
    finished, group = await parts.groups.run(lease(), NEWEST)
    n = len(correct)
    assert (finished.fate, finished.episodes, finished.failed) == (fate, n, 4 - n)
    assert finished.success == (sum(correct) / n if n else 0.0)
    assert finished.majority_share == (share if n else 0.0)
    assert finished.difficulty == TASK.difficulty
    assert finished.tool_calls == (0.0, 0.0, 1.0)[n]
    assert finished.tokens == (0, 10, 30)[n]
    assert finished.oldest_version == (0, 5, 4)[n]
    assert finished.rewards == mean_rewards([each.rewards for each in group.trajectories])
    stored = [message for message in sink.heard if isinstance(message, StoreTrajectories)]
    assert stored == ([StoreTrajectories.of(group.trajectories)] if n else []), (
        "nothing is stored of a group without a verdict"
    )
    assert sorted(parts.cleared) == ["space 0", "space 1", "space 3"]


async def test_spaces_are_cleared_although_the_judge_is_gone() -> None:
    parts = Parts(Peer(solve), Peer(ActorDown("judge", "gone", permanent=True)), Peer(Done()), attempts=1)
    with pytest.raises(ActorDown):
        await parts.groups._judge(TASK, [solution("g-0", space="its space")])
    assert parts.cleared == ["its space"]


def trajectory(episode_id: str, total: float = 0.0, **changes: object) -> Trajectory:
    made = Trajectory(
        episode_id=episode_id, group_id="g", task=TASK, turns=(turn(),), verdict=verdict(episode_id),
        rewards=Rewards(total=total), majority_share=0.5,
    )  # fmt: skip
    return made.model_copy(update=changes)


@pytest.mark.parametrize(("stored", "solved"), [(4, 0), (3, 4)])
async def test_a_lease_that_is_taken_up_is_solved_again_unless_all_of_it_was_stored(
    stored: int, solved: int
) -> None:
    found = FoundTrajectories(trajectories=tuple(trajectory(f"g-{n}") for n in range(stored)))
    student = Peer(solve)
    sink = Peer(lambda message: found if isinstance(message, FindTrajectories) else Done())
    parts = Parts(student, Peer(judged((True, False), 0.5)), sink, attempts=1)
    finished, group = await parts.groups.resume(lease(), NEWEST)
    assert len(student.heard) == solved
    assert finished.episodes == len(group.trajectories) == (2 if solved else 4)


def test_the_mean_of_rewards_is_taken_part_by_part() -> None:
    first = Rewards(uncertainty=1.0, tool_use=0.5, novelty=0.2, correctness=1.0, total=0.8,
                    terms=(RewardTerm(name="brevity", value=1.0),))  # fmt: skip
    second = Rewards(total=0.2, terms=(RewardTerm(name="brevity", value=0.5),))
    assert mean_rewards([first, second]) == Rewards(
        uncertainty=0.5, tool_use=0.25, novelty=0.1, correctness=0.5, total=0.5,
        terms=(RewardTerm(name="brevity", value=0.75),),
    )  # fmt: skip
    assert mean_rewards([]) == Rewards()


def finished(group_id: str, oldest_version: int) -> GroupFinished:
    return GroupFinished(
        group_id=group_id,
        fate="accepted",
        episodes=4,
        rewards=Rewards(),
        oldest_version=oldest_version,
        at=0.0,
    )


def step(version: int, policy: str = "student") -> StepFinished:
    return StepFinished.model_validate(
        {"policy": policy, "adapter": {"policy": policy, "version": version}, "group_ids": (), "loss": 0.0,
         "clip_fraction": 0.0, "entropy": 0.0, "grad_norm": 0.0, "tokens": 1, "train_s": 0.0, "at": 0.0}
    )  # fmt: skip


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    made = Journal(tmp_path / "journal.jsonl")
    yield made
    made.close()


class AtVersion(Parts):
    """Rollouts of a run at its third version, with ready groups that begin at versions 0 to 3."""

    def __init__(self, journal: Journal, max_staleness: int) -> None:
        sink = Peer(FoundTrajectories(trajectories=()))
        super().__init__(Peer(), Peer(), sink)
        self.state.apply(RunStarted(run_id="r", seed=0, at=0.0, settings_sha256=""))
        for version in range(4):
            self.state.apply(lease(f"g{version}"))
            self.state.apply(finished(f"g{version}", version))
        self.state.apply(step(3))
        self.record = JournaledState(journal, self.state, self.hub.topics())
        loop = LoopSettings(max_staleness=max_staleness)
        prefetcher = TaskPrefetcher(Peer().ref(), self.publisher, self.state.curriculum, 1)
        self.rollouts = Rollouts(loop, self.record, self.groups, prefetcher, self.publisher)


@pytest.mark.parametrize(
    ("max_staleness", "kept"), [(0, ["g3"]), (1, ["g2", "g3"]), (5, ["g0", "g1", "g2", "g3"])]
)
async def test_groups_that_began_too_many_versions_ago_are_dropped(
    journal: Journal, max_staleness: int, kept: list[str]
) -> None:
    parts = AtVersion(journal, max_staleness)
    await parts.rollouts.restore()
    await parts.rollouts.drop_stale()
    assert list(parts.state.ready) == kept
    assert [group.group_id for group in parts.rollouts.contents(kept)] == kept
    dropped = parts.published(GroupDropped)
    assert [(event.group_id, event.oldest_version, event.version) for event in dropped] == [
        (f"g{n}", n, 3) for n in range(4 - len(kept))
    ]
    with pytest.raises(KeyError):
        parts.rollouts.contents(["g0"] if len(kept) < 4 else ["g4"])
    parts.rollouts.forget(kept)
    with pytest.raises(KeyError):
        parts.rollouts.contents(kept[:1])


async def test_seconds_with_rollouts_under_way_are_counted_once(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0

    class Time:
        monotonic = staticmethod(lambda: now)

    monkeypatch.setattr(rollouts_module, "time", Time)
    parts = AtVersion(journal, 5)
    let_go = [anyio.Event(), anyio.Event()]

    async def run(lease: GroupLeased, adapter: AdapterRef) -> tuple[GroupFinished, Group]:
        parts.state.apply(lease)
        await let_go[int(lease.group_id)].wait()
        return finished(lease.group_id, 3), Group(group_id=lease.group_id, trajectories=())

    assert parts.rollouts.pop_busy_seconds() == 0.0
    async with anyio.create_task_group() as group:
        parts.rollouts._begin(group, lease("0"), run)
        now = 101.0
        parts.rollouts._begin(group, lease("1"), run)
        now = 103.0
        assert parts.rollouts.pop_busy_seconds() == 3.0
        assert parts.rollouts.running == {"0", "1"}
        now = 104.0
        let_go[0].set()
        await parts.record.changed.wait()
        let_go[1].set()
    now = 110.0
    assert parts.rollouts.running == set()
    assert parts.rollouts.pop_busy_seconds() == 1.0, "nothing ran in the last six seconds"
    assert parts.rollouts.pop_busy_seconds() == 0.0
    assert [each.group_id for each in parts.rollouts.contents(["0", "1"])] == ["0", "1"]


class Runs:
    """Groups that end at once, outside the frontier, with one judged episode."""

    def __init__(self) -> None:
        self.began: list[tuple[str, GroupLeased]] = []

    async def resume(self, lease: GroupLeased, newest: AdapterRef) -> tuple[GroupFinished, Group]:
        return self._end("taken up", lease)

    async def run(self, lease: GroupLeased, newest: AdapterRef) -> tuple[GroupFinished, Group]:
        return self._end("run", lease)

    def _end(self, how: str, lease: GroupLeased) -> tuple[GroupFinished, Group]:
        self.began.append((how, lease))
        ended = finished(lease.group_id, 3).model_copy(update={"fate": "filtered"})
        return ended, Group(group_id=lease.group_id, trajectories=(trajectory(lease.episode_ids[0]),))


async def test_what_is_open_is_taken_up_first_and_no_more_is_given_out_than_there_is_room_for(
    journal: Journal,
) -> None:
    parts, runs = AtVersion(journal, 5), Runs()
    parts.state.ready.clear()
    parts.state.apply(lease("open"))
    teacher = Peer(Proposals(proposals=(Proposal(task=TASK),)))
    prefetcher = TaskPrefetcher(teacher.ref(), parts.publisher, parts.state.curriculum, 1)
    loop = LoopSettings(batch_groups=1, group_size=2, max_staleness=0, max_groups_per_step=3)
    rollouts = Rollouts(loop, parts.record, runs, prefetcher, parts.publisher)  # type: ignore[arg-type]
    async with anyio.create_task_group() as group:
        group.start_soon(rollouts.admit, group)
        with anyio.fail_after(60):
            while parts.state.sampled < 3 or rollouts.running:
                await parts.record.changed.wait()
            while len(parts.published(EpisodeSample)) < 3:
                await anyio.lowlevel.checkpoint()
            await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()
    assert [(how, begun.group_id) for how, begun in runs.began] == [
        ("taken up", "open"), ("run", "g000005"), ("run", "g000006"),
    ]  # fmt: skip
    assert runs.began[1][1].episode_ids == ("g000005-0", "g000005-1")
    assert {begun.version for _, begun in runs.began[1:]} == {3}
    assert [each.episode_id for each in parts.published(EpisodeSample)] == [
        begun.episode_ids[0] for _, begun in runs.began
    ]
