"""From batches to versions: what the Trainer is given, and what the journal keeps of it."""

from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from agentfactory.actors.coordinator.curriculum import TaskPrefetcher
from agentfactory.actors.coordinator.evaluator import Evaluation, Evaluator
from agentfactory.actors.coordinator.journal import Journal
from agentfactory.actors.coordinator.peers import ActorRefs
from agentfactory.actors.coordinator.rollouts import Rollouts
from agentfactory.actors.coordinator.run_state import JournaledState
from agentfactory.actors.coordinator.training_loop import TrainingLoop
from agentfactory.configs.load import load_settings
from agentfactory.configs.rewards import RewardWeights
from agentfactory.configs.roles import EvaluationSettings
from agentfactory.messages.adapters import AdapterRef, LoadAdapter, UnloadAdapter
from agentfactory.messages.base import Done, Message
from agentfactory.messages.episodes import Rewards
from agentfactory.messages.runs import GroupFinished, RoundFinished, StepFinished, TasksRewarded
from agentfactory.messages.tasks import Proposal, RewardTasks, TaskRewards
from agentfactory.messages.trajectories import Group, StepReport, StoreTrajectories, TrainStep, Trajectory
from tests.actors.coordinator_parts import TASK, Parts, lease, turn
from tests.actors.peers import Peer

GROUPS = 6
REPORT = {
    "config_json": b"{}", "weights": b"w", "loss": 0.5, "kl_to_base": 0.25, "clip_fraction": 0.125,
    "entropy": 2.0, "grad_norm": 3.0, "tokens": 40, "train_s": 5.0,
}  # fmt: skip


def train(message: Message) -> StepReport:
    assert isinstance(message, TrainStep)
    adapter = AdapterRef(policy=message.policy, version=message.version + 1)
    return StepReport.model_validate({"adapter": adapter} | REPORT)


class School(Parts):
    """All that learns, at a run's beginning, with accepted groups of four that began at version 0."""

    def __init__(self, journal: Journal, **changes: object) -> None:
        self.trainer, self.teacher, self.sink = Peer(train), Peer(TaskRewards(totals=())), Peer(Done())
        super().__init__(Peer(), Peer(), self.sink)
        settings = load_settings("laptop", {key.replace("__", "."): value for key, value in changes.items()})  # type: ignore[misc]
        self.record = JournaledState(journal, self.state, self.hub.topics())
        self.prefetcher = TaskPrefetcher(self.teacher.ref(), self.publisher, self.state.curriculum, 1)
        self.rollouts = Rollouts(settings.loop, self.record, self.groups, self.prefetcher, self.publisher)
        crew = ActorRefs(
            self.engine.pool(), self.teacher.ref(), Peer().pool(), Peer().ref(), self.sink.ref(),
            self.trainer.ref(), self.hub.topics(),
        )  # fmt: skip
        evaluator = Evaluator(
            [TASK], EvaluationSettings(), RewardWeights(), self.episodes, Peer().ref(), Peer().ref()
        )
        self.learning = TrainingLoop(
            settings, self.record, crew, self.publisher, self.rollouts, self.prefetcher, evaluator
        )

    async def accept(self, count: int = GROUPS) -> list[str]:
        """Groups with rewards that are all different."""
        names = [f"g{number}" for number in range(count)]
        for number, name in enumerate(names):
            task = TASK.model_copy(update={"id": f"t{number}"})
            leased = lease(name).model_copy(update={"proposal": Proposal(task=task, turn=turn(name))})
            await self.record.add(leased)
            await self.record.add(
                GroupFinished(
                    group_id=name, fate="accepted", episodes=4, rewards=Rewards(), majority_share=0.5, at=0.0
                )
            )
            self.rollouts._contents[name] = Group(
                group_id=name,
                trajectories=tuple(
                    Trajectory(episode_id=f"{name}-{n}", group_id=name, task=task, turns=(turn(),),
                               rewards=Rewards(total=4.0 * number + n))
                    for n in range(4)
                ),
            )  # fmt: skip
        return names

    async def train_student(self, batch: list[str]) -> TrainStep:
        async with anyio.create_task_group() as evaluations:
            await self.learning._train_student(batch, evaluations)
        asked = self.trainer.heard[-1]
        assert isinstance(asked, TrainStep)
        return asked


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    made = Journal(tmp_path / "journal.jsonl")
    yield made
    made.close()


def totals(groups: tuple[Group, ...]) -> list[float]:
    return [trajectory.rewards.total for group in groups for trajectory in group.trajectories]


def round_zero() -> RoundFinished:
    return RoundFinished(
        version=0, pass_at_1=0.0, n=1, ci95=(0.0, 1.0), mean_reward=0.0, tool_use=0.0, train_s=0.0,
        rollout_s=0.0, tokens=0, asked_difficulty=0.0, at=0.0,
    )  # fmt: skip


async def test_the_trainer_gets_the_batch_and_the_journal_what_it_reports(journal: Journal) -> None:
    school = School(journal, evaluation__every=100)
    batch = await school.accept()
    await school.record.add(round_zero())
    asked = await school.train_student(batch[:4])
    assert (asked.policy, asked.version, asked.tag) == ("student", 0, "")
    assert [group.group_id for group in asked.groups] == batch[:4]
    assert totals(asked.groups) == [float(n) for n in range(16)]
    (step,) = school.published(StepFinished)
    assert step.group_ids == tuple(batch[:4])
    assert step.adapter == AdapterRef(policy="student", version=1)
    assert {name: getattr(step, name) for name in REPORT if hasattr(step, name)} == {
        name: value for name, value in REPORT.items() if name not in ("config_json", "weights")
    }
    assert school.publisher.current("student").version == 1
    assert [m.weights for m in school.engine.heard if isinstance(m, LoadAdapter)] == [b"w"]
    with pytest.raises(KeyError):
        school.rollouts.contents(batch[:1])
    assert len(school.rollouts.contents(batch[4:])) == 2
    following = await school.train_student(batch[4:])
    assert following.version == 1
    assert school.published(StepFinished)[1].staleness == 1.0, "the groups began at version 0"


async def test_the_version_before_the_last_stays_loaded_and_older_ones_are_retired(journal: Journal) -> None:
    school = School(journal, evaluation__every=100)
    batch = await school.accept()
    await school.record.add(round_zero())
    for group in batch[:4]:
        await school.train_student([group])
    unloaded = [message.name for message in school.engine.heard if isinstance(message, UnloadAdapter)]
    assert unloaded == ["student-v1", "student-v2"]


async def test_the_control_trains_on_rewards_that_were_dealt_out_at_random(journal: Journal) -> None:
    school = School(journal, evaluation__every=100, rewards__shuffle=True)
    batch = await school.accept()
    await school.record.add(round_zero())
    asked = await school.train_student(batch)
    assert totals(asked.groups) != [float(n) for n in range(24)]
    assert sorted(totals(asked.groups)) == [float(n) for n in range(24)]


@pytest.mark.parametrize(("version", "missing"), [(0, [0]), (2, [0, 2]), (3, [0, 2]), (5, [0, 2, 4, 5])])
async def test_versions_are_evaluated_every_so_many_steps_and_the_last_one_always(
    journal: Journal, version: int, missing: list[int]
) -> None:
    school = School(journal, evaluation__every=2, loop__rounds=5)
    school.state.adapters["student"] = AdapterRef(policy="student", version=version)
    assert school.learning.missing_rounds() == missing
    await school.record.add(round_zero())
    assert school.learning.missing_rounds() == missing[1:]


async def test_a_round_tells_of_the_step_that_made_its_version(journal: Journal) -> None:
    school = School(journal, evaluation__every=100)
    batch = await school.accept(2)
    await school.record.add(round_zero())
    await school.train_student(batch)
    found = Evaluation(
        version=1, correct=3, n=4, failed=2, mean_reward=0.5, tool_use=0.25, domains=(), duration_s=7.0
    )
    told = school.learning._round(found)
    assert (told.version, told.pass_at_1, told.n, told.failed) == (1, 0.75, 4, 2)
    assert (told.mean_reward, told.tool_use, told.eval_s, told.train_s) == (0.5, 0.25, 7.0, 5.0)
    assert told.ci95 == found.ci95
    assert school.learning._round(found._replace(version=0)).train_s == 0.0, "no step made version 0"


async def test_the_teacher_learns_from_what_the_student_tried(journal: Journal) -> None:
    school = School(journal, teacher__train=True)
    await school.accept(2)
    school.teacher._answers = [TaskRewards(totals=(0.25, 0.75))]
    school.prefetcher.rejected = [turn("no task")]
    await school.learning._train_teacher()
    (asked,) = [message for message in school.teacher.heard if isinstance(message, RewardTasks)]
    assert [outcome.proposal.task.id for outcome in asked.outcomes] == ["t0", "t1"]
    (rewarded,) = school.published(TasksRewarded)
    assert (rewarded.version, rewarded.task_ids, rewarded.rewards) == (0, ("t0", "t1"), (0.25, 0.75))
    (step,) = [message for message in school.trainer.heard if isinstance(message, TrainStep)]
    assert (step.policy, totals(step.groups)) == ("teacher", [0.25, 0.75, 0.0])
    (stored,) = [message for message in school.sink.heard if isinstance(message, StoreTrajectories)]
    assert stored == StoreTrajectories.of(step.groups[0].trajectories)
    assert school.publisher.current("teacher").version == 1
    assert [each.group_ids for each in school.published(StepFinished)] == [("t0", "t1")]
    assert (school.prefetcher.rejected, school.state.outcomes) == ([], [])


@pytest.mark.parametrize(("trains", "groups"), [(False, 2), (True, 1)])
async def test_a_teacher_that_is_not_to_learn_or_has_too_little_to_learn_from_is_left_alone(
    journal: Journal, trains: bool, groups: int
) -> None:
    school = School(journal, teacher__train=trains)
    await school.accept(groups)
    await school.learning._train_teacher()
    assert (school.teacher.heard, school.trainer.heard) == ([], [])


async def test_a_batch_is_full_or_what_there_is_once_enough_was_sampled(journal: Journal) -> None:
    school = School(journal, loop__batch_groups=3, loop__max_groups_per_step=6, loop__max_staleness=9)
    names = await school.accept()
    assert await school.learning._next_batch() == names[:3]
    for name in names[2:]:
        del school.state.ready[name]
    assert await school.learning._next_batch() == names[:2], "six were sampled, and no more will be"
    school.rollouts.draining = True
    assert await school.learning._next_batch() == []


async def test_no_group_that_began_too_long_ago_gets_into_a_batch(journal: Journal) -> None:
    school = School(journal, loop__batch_groups=3, loop__max_groups_per_step=6, loop__max_staleness=0)
    names = await school.accept()
    school.state.adapters["student"] = AdapterRef(policy="student", version=1)
    for name in names[3:]:
        leased, ended = school.state.ready[name]
        school.state.ready[name] = (leased, ended.model_copy(update={"oldest_version": 1}))
    assert await school.learning._next_batch() == names[3:]


async def test_older_versions_of_the_teacher_are_retired(journal: Journal) -> None:
    school = School(journal, teacher__train=True)
    school.teacher._answers = [TaskRewards(totals=(0.25, 0.75))]
    for _ in range(3):
        await school.accept(2)
        await school.learning._train_teacher()
    unloaded = [message.name for message in school.engine.heard if isinstance(message, UnloadAdapter)]
    assert unloaded == ["teacher-v1"]
