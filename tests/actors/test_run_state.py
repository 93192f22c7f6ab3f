"""What a resumed run goes on from: each entry of the journal changes what it must, and nothing else."""

import pytest

from agentfactory.actors.coordinator.run_state import RunState
from agentfactory.configs.roles import CurriculumSettings
from agentfactory.messages.adapters import AdapterRef
from agentfactory.messages.episodes import Rewards
from agentfactory.messages.runs import (
    GroupFinished,
    GroupLeased,
    JournalEntry,
    RoundFinished,
    RunFailed,
    RunFinished,
    RunResumed,
    StepFinished,
)
from agentfactory.messages.tasks import TaskOutcome
from tests.actors.test_journal import finished, leased, started, state_after, stepped

SCORES = {
    "success": 1.0,
    "majority_share": 0.75,
    "tool_calls": 2.5,
    "rewards": Rewards(correctness=0.5, total=0.5),
}


def scored(name: str, fate: str = "accepted") -> GroupFinished:
    return finished(name, fate).model_copy(update=SCORES)


def round_of(version: int) -> RoundFinished:
    return RoundFinished(
        version=version, pass_at_1=0.5, n=10, ci95=(0.2, 0.8), mean_reward=0.5, tool_use=0.1,
        train_s=1.0, rollout_s=2.0, tokens=70, difficulty=0.3, at=120.0,
    )  # fmt: skip


def outcome_of(lease: GroupLeased) -> TaskOutcome:
    return TaskOutcome(proposal=lease.proposal, majority_share=0.75, tool_calls=2.5)


def taught(*task_ids: str) -> StepFinished:
    adapter = AdapterRef(policy="teacher", version=1)
    return stepped(*task_ids).model_copy(update={"policy": "teacher", "adapter": adapter})


def test_a_run_that_has_not_begun_stands_at_nothing() -> None:
    state = state_after()
    assert (state.run_id, state.version, state.last_rewards, state.last_success) == ("", 0, Rewards(), 0.0)
    assert (state.sampled, state.leased, state.episodes, state.failed) == (0, 0, 0, 0)
    assert (state.filtered, state.dropped_stale, state.tokens, state.finished) == (0, 0, 0, None)
    assert not any((state.open, state.ready, state.outcomes, state.rounds, state.steps))
    assert state.wall_s(now=3.0) == 3.0


def test_groups_are_counted_as_they_are_leased_and_finished() -> None:
    state = state_after(
        started(), leased("a"), leased("b"), leased("c"), scored("a"), scored("b", "filtered")
    )
    assert (state.run_id, state.leased, state.sampled) == ("r", 3, 2)
    assert (state.episodes, state.failed, state.filtered, state.tokens) == (16, 2, 1, 140)
    assert (state.last_rewards.total, state.last_success) == (0.5, 1.0)


def test_the_student_s_step_begins_a_new_count_of_groups() -> None:
    state = state_after(started(), leased("a"), scored("a"), stepped("a"))
    assert state.sampled == 0
    assert state.steps == {1: stepped("a")}
    assert state_after(started(), leased("a"), scored("a"), taught()).sampled == 1


def test_the_teacher_learns_once_from_what_became_of_its_tasks() -> None:
    entries: list[JournalEntry] = [started(), leased("a"), leased("b"), leased("c")]
    entries += [scored("a"), scored("b", "filtered"), scored("c", "failed")]
    assert state_after(*entries).outcomes == [outcome_of(leased("a")), outcome_of(leased("b"))]
    after = state_after(*entries, taught("t-a"))
    assert after.outcomes == [outcome_of(leased("b"))]
    assert (after.adapters["teacher"].version, after.version) == (1, 0)


@pytest.mark.parametrize(("fate", "difficulty"), [("accepted", 0.35), ("filtered", 0.35), ("failed", 0.3)])
def test_only_groups_that_were_judged_move_the_difficulty(fate: str, difficulty: float) -> None:
    state = RunState(CurriculumSettings(window=1))
    for entry in (started(), leased("a"), scored("a", fate)):
        state.apply(entry)
    assert state.curriculum.difficulty == difficulty


def test_rounds_and_the_end_are_remembered() -> None:
    end = RunFinished(
        reason="rounds", episodes=8, failed=0, dropped_stale=0, tokens=70, wall_s=30.0, at=130.0
    )
    state = state_after(started(), round_of(0), round_of(1), end)
    assert state.rounds == {0: round_of(0), 1: round_of(1)}
    assert state.finished == end


def test_a_failure_leaves_the_run_where_it_was() -> None:
    failure = RunFailed(error="AskTimeout", reason="too late", exit_code=1, at=120.0)
    state = state_after(started(), leased("a"), failure, RunResumed(at=1000.0))
    assert set(state.open) == {"a"}
    assert state.finished is None
    assert state.wall_s(now=1005.0) == pytest.approx(20.0 + 5.0)
