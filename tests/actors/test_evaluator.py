"""What pass@1 is made of."""

from pathlib import Path

import pytest

from agentfactory.actors.coordinator.evaluator import Evaluator, NothingJudged, held_out_tasks
from agentfactory.actors.domains import domain_named
from agentfactory.configs.data import LIBRARY, DataSettings
from agentfactory.configs.errors import AgentFactoryError
from agentfactory.configs.rewards import RewardWeights
from agentfactory.configs.roles import EvaluationSettings
from agentfactory.messages.base import Done, Message
from agentfactory.messages.episodes import SolveTask, Verdict
from agentfactory.messages.trajectories import StoreTrajectories, Trajectory
from agentfactory.runtime.errors import ActorDown
from tests.actors.coordinator_parts import FAILS, NEWEST, TASK, Parts, solution, turn, verdict
from tests.actors.peers import Peer

HELD_OUT = [
    TASK.model_copy(update={"id": f"h{n}", "domain": name})
    for n, name in enumerate(["math", "math", "logic"])
]


def held_out_by(student: Peer, verifier: Peer, sink: Peer, parts: Parts | None = None) -> Evaluator:
    parts = parts or Parts(student, verifier, sink, attempts=1)
    settings = EvaluationSettings(seed=7, temperature=0.5)
    weights = RewardWeights(uncertainty=0.0, tool_use=0.0, novelty=0.5, correctness=0.5)
    return Evaluator(HELD_OUT, settings, weights, parts.episodes, verifier.ref(), sink.ref())


def judge(message: Message) -> Verdict:
    """The first task is right, the second wrong, and the third one's grader dies."""
    number = int(message.task.id[-1])  # type: ignore[attr-defined]
    if number == 2:
        raise AgentFactoryError("the grader died")
    return verdict(message.solution.episode_id, number == 0)  # type: ignore[attr-defined]


async def test_an_evaluation_counts_what_was_judged_and_keeps_failures_apart() -> None:
    student = Peer(lambda message: solution(message.episode_id, turn(calls=int(message.episode_id[-1]))))  # type: ignore[attr-defined]
    sink = Peer(Done())
    evaluator = held_out_by(student, Peer(judge), sink)
    result = await evaluator.evaluate(NEWEST)
    assert (result.version, result.correct, result.n, result.failed) == (3, 1, 2, 1)
    assert (result.pass_at_1, result.tool_use, result.mean_reward) == (0.5, 0.5, 0.25)
    assert [(each.domain, each.n, each.pass_at_1, each.tool_use) for each in result.domains] == [
        ("math", 2, 0.5, 0.5)
    ]
    assert result.ci95 == pytest.approx((0.0945, 0.9055), abs=1e-4)
    assert evaluator.running == 0
    asked = sorted(
        (message for message in student.heard if isinstance(message, SolveTask)),
        key=lambda each: each.episode_id,
    )
    assert [(each.episode_id, each.adapter, each.pinned, each.temperature) for each in asked] == [
        (f"eval-v3-{n}", NEWEST, True, 0.5) for n in range(3)
    ]
    assert len({each.seed for each in asked}) == 3
    (stored,) = [message for message in sink.heard if isinstance(message, StoreTrajectories)]
    read = [Trajectory.model_validate_json(line) for line in stored.lines]
    assert {(each.group_id, each.rewards.novelty) for each in read} == {("eval-v3", 0.0)}


async def test_an_evaluation_without_a_verdict_is_an_error() -> None:
    sink = Peer(Done())
    evaluator = held_out_by(Peer(FAILS), Peer(judge), sink)
    with pytest.raises(NothingJudged, match="none of the 3 held-out episodes"):
        await evaluator.evaluate(NEWEST)
    assert (evaluator.running, sink.heard) == (0, [])


async def test_an_evaluation_whose_judge_is_gone_ends() -> None:
    evaluator = held_out_by(
        Peer(lambda message: solution(message.episode_id)),  # type: ignore[attr-defined]
        Peer(ActorDown("judge", "gone", permanent=True)),
        Peer(Done()),
    )
    with pytest.raises(ActorDown):
        await evaluator.evaluate(NEWEST)


async def test_what_an_evaluation_has_stored_is_cleared_also_where_its_grader_died() -> None:
    student = Peer(lambda message: solution(message.episode_id, space=f"of {message.episode_id}"))  # type: ignore[attr-defined]
    parts = Parts(student, Peer(judge), Peer(Done()), attempts=1)
    await held_out_by(student, Peer(judge), Peer(Done()), parts).evaluate(NEWEST)
    assert sorted(parts.cleared) == [f"of eval-v3-{n}" for n in range(3)]


def test_held_out_tasks_are_spread_evenly_over_the_domains_and_always_the_same() -> None:
    settings = EvaluationSettings(tasks=5, seed=3)
    tasks = held_out_tasks(settings, ["math", "logic", "math"], DataSettings())
    assert [(task.domain, task.id) for task in tasks] == [
        ("math", "held-out-0"), ("math", "held-out-1"), ("math", "held-out-2"),
        ("logic", "held-out-logic-0"), ("logic", "held-out-logic-1"),
    ]  # fmt: skip
    made = [
        *domain_named("math").task_generator(Path(LIBRARY)).held_out(3, 3),
        *domain_named("logic").task_generator(Path(LIBRARY), logic=settings.logic).held_out(2, 3),
    ]
    for task, checked in zip(tasks, made, strict=True):
        assert (task.description, task.difficulty) == (checked.description, checked.difficulty)
        assert (task.reference, task.reference_kind, task.goal) == (
            checked.reference, checked.reference_kind, checked.goal,
        )  # fmt: skip
    assert held_out_tasks(settings, ["math", "logic"], DataSettings()) == tasks
