"""The Verifier: one verdict or one failure for every solution, whatever the domain."""

import pytest

from agentfactory.actors.verifier import Verifier
from agentfactory.configs.errors import BadInput
from agentfactory.configs.roles import VerifierSettings
from agentfactory.messages.episodes import GroupVerdict, JudgeGroup, Solution
from agentfactory.messages.tasks import CodeSpec, CodeTestCase, Task


def task(domain: str = "math", **fields: object) -> Task:
    shape = {"id": "t", "domain": domain, "description": "d", "difficulty": 0.5}
    return Task.model_validate(shape | fields)


async def judged(asked: Task, *answers: str | None) -> GroupVerdict:
    verifier = Verifier(VerifierSettings(timeout_s=30.0), allow_weak=True, domains=())
    solutions = tuple(
        Solution(episode_id=f"e{n}", task_id="t", answer=answer, turns=(), stop_reason="answered")
        for n, answer in enumerate(answers)
    )
    try:
        return await verifier.judge_group(JudgeGroup(task=asked, solutions=solutions))
    finally:
        await verifier.aclose()


async def test_without_a_reference_the_majoritys_answer_is_it_and_no_verdict_is_surer_than_the_vote() -> None:
    found = await judged(task(), "1/2", "0.5", "3", None)
    assert (found.task.reference, found.task.reference_kind, found.majority_share) == ("1/2", "majority", 0.5)
    assert [verdict.correct for verdict in found.verdicts] == [True, True, False, False]
    assert [verdict.confidence for verdict in found.verdicts] == [0.5] * 4


async def test_a_task_with_a_goal_is_not_put_to_the_vote() -> None:
    goal = CodeSpec(function="f", checks=(CodeTestCase(call="f(2)", expected="4"),))
    wrong, right = "def f(x): return x", "def f(x): return 2 * x"
    found = await judged(task("code", goal=goal), wrong, wrong, right)
    assert found.task.reference is None
    assert [verdict.correct for verdict in found.verdicts] == [False, False, True]


async def test_what_has_no_judge_is_a_failure_of_every_solution_and_no_score() -> None:
    found = await judged(task("alchemy", reference="gold"), "gold", "lead")
    assert found.verdicts == ()
    assert [reason for _, reason in found.failed] == [
        "unknown domain 'alchemy'; known: math, logic, code, long, data"
    ] * 2
    found = await judged(task("data", reference="gold"), "gold")
    assert "the data plane must be up" in found.failed[0][1]


async def test_a_verifier_that_cannot_judge_what_it_will_be_asked_does_not_start() -> None:
    with pytest.raises(BadInput, match="unknown domain 'alchemy'"):
        await Verifier(VerifierSettings(), allow_weak=True, domains=("alchemy",)).start()
