"""Where tasks come from, and what the Teacher learns from them."""

from collections.abc import Sequence

import pytest

from agentfactory.actors.coordinator.curriculum import (
    MAX_EMPTY_ANSWERS,
    MAX_REJECTED,
    Curriculum,
    NoTasks,
    TaskPrefetcher,
)
from agentfactory.actors.coordinator.training_loop import teacher_group
from agentfactory.configs.roles import CurriculumSettings
from agentfactory.messages.adapters import AdapterRef, LoadAdapter
from agentfactory.messages.tasks import Proposal, Proposals, ProposeTasks, TaskOutcome
from agentfactory.messages.turns import Turn
from agentfactory.runtime.engines.base import EngineError
from tests.actors.coordinator_parts import TASK, Parts, turn
from tests.actors.peers import Peer


def stock_of(teacher: Peer, batch: int = 2) -> tuple[TaskPrefetcher, Parts]:
    parts = Parts(Peer(), Peer(), Peer())
    settings = CurriculumSettings(domains=("math", "logic"), start_difficulty=0.4)
    return TaskPrefetcher(teacher.ref("teacher"), parts.publisher, Curriculum(settings), batch), parts


def proposals(*ids: str, rejected: Sequence[Turn] = ()) -> Proposals:
    tasks = [TASK.model_copy(update={"id": name}) for name in ids]
    return Proposals(proposals=tuple(Proposal(task=task) for task in tasks), rejected=tuple(rejected))


async def test_tasks_are_asked_for_by_the_batch_at_the_curriculums_difficulty() -> None:
    teacher = Peer(proposals("a", "b"), proposals("c"))
    prefetcher, _ = stock_of(teacher)
    assert [(await prefetcher.next()).task.id for _ in range(3)] == ["a", "b", "c"]
    asked = [message for message in teacher.heard if isinstance(message, ProposeTasks)]
    assert [(each.count, each.domain, each.difficulty) for each in asked] == [
        (2, "math", 0.4),
        (2, "logic", 0.4),
    ]
    assert asked[0].adapter == AdapterRef(policy="teacher", version=0)


async def test_a_teacher_that_only_repeats_itself_is_given_up() -> None:
    teacher = Peer(*[proposals()] * (MAX_EMPTY_ANSWERS - 1), proposals("a"), proposals())
    prefetcher, _ = stock_of(teacher)
    assert (await prefetcher.next()).task.id == "a", "one task begins the count anew"
    with pytest.raises(NoTasks, match=f"nothing new in {MAX_EMPTY_ANSWERS} batches"):
        await prefetcher.next()
    assert len(teacher.heard) == 2 * MAX_EMPTY_ANSWERS


async def test_a_teachers_engine_that_lost_its_adapters_gets_them_again() -> None:
    teacher = Peer(EngineError("unknown adapter"), proposals("a"))
    prefetcher, parts = stock_of(teacher)
    of_teacher = AdapterRef(policy="teacher", version=1)
    await parts.publisher.publish(LoadAdapter(adapter=of_teacher, config_json=b"", weights=b""))
    assert (await prefetcher.next()).task.id == "a"
    assert len(parts.engine.heard) == 2


async def test_turns_that_came_to_nothing_are_kept_the_newest_of_them() -> None:
    turns = [turn(text=f"{n}") for n in range(MAX_REJECTED + 1)]
    prefetcher, _ = stock_of(Peer(proposals("a", rejected=turns[:2]), proposals("b", rejected=turns[2:])))
    for _ in range(2):
        await prefetcher.next()
    assert prefetcher.rejected == turns[1:]


def test_the_teacher_learns_from_its_own_turns_and_nothing_is_earned_by_those_that_came_to_nothing() -> None:
    tasks = [TASK.model_copy(update={"id": name}) for name in "abc"]
    wrote = [Proposal(task=tasks[0], turn=turn("first")), Proposal(task=tasks[1]),
             Proposal(task=tasks[2], turn=turn("third"))]  # fmt: skip
    outcomes = [TaskOutcome(proposal=each, majority_share=0.5, tool_calls=0.0) for each in wrote]
    group = teacher_group(2, outcomes, [0.1, 0.2, 0.3], [turn("rejected"), turn("")])
    assert {each.policy for each in group.trajectories} == {"teacher"}
    assert [(each.episode_id, each.task.description, each.turns[0].text, each.rewards.total)
            for each in group.trajectories] == [
        ("teach-a", TASK.description, "first", 0.1),
        ("teach-c", TASK.description, "third", 0.3),
        ("teach-rejected-2-0", "rejected", "rejected", 0.0),
        ("teach-rejected-2-1", "(empty)", "", 0.0),
    ]  # fmt: skip
