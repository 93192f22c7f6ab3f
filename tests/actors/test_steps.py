"""Steps of a calculation: which count, which follow, and what they earn."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from agentfactory.actors.domains.base import JudgeDeps
from agentfactory.actors.domains.math.grader import step_holds
from agentfactory.actors.domains.math.judge import DerivationStep, MathJudge, extract_steps
from agentfactory.actors.verifier import Verifier
from agentfactory.configs.roles import VerifierSettings
from agentfactory.messages.episodes import JudgeGroup, Solution, Verdict
from agentfactory.messages.tasks import Task
from agentfactory.messages.turns import Turn

LIMIT_S = 180.0
TASK = Task(id="t", domain="math", description="Compute 12+34*5.", difficulty=0.1, reference="182")
ON_THE_MODULES_LOOP = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def judge() -> AsyncIterator[MathJudge]:
    made = MathJudge(JudgeDeps(VerifierSettings(step_credit=0.5, timeout_s=30.0)))
    async with asyncio.timeout(LIMIT_S):
        await made.start()
    yield made
    async with asyncio.timeout(LIMIT_S):
        await made.aclose()


async def judged(judge: MathJudge, reasoning: str, answer: str) -> Verdict:
    async with asyncio.timeout(LIMIT_S):
        return await judge.judge(TASK, solution_of(reasoning, answer), answer)


def solution_of(reasoning: str, answer: str) -> Solution:
    nothing = {"prompt_ids": (), "completion_ids": (), "logprobs": (), "loss_mask": (), "policy_version": 0}
    turns = (Turn.model_validate(nothing | {"text": reasoning}),)
    return Solution(episode_id=answer, task_id="t", answer=answer, turns=turns, stop_reason="answered")


def test_a_chain_of_equalities_is_cut_into_steps() -> None:
    steps = extract_steps("Compute 12+34*5.", "Thought: 12+34*5 = 12+170 = 182.\nAnswer: 182")
    assert steps == [DerivationStep("12+34*5", "12+170", False), DerivationStep("12+170", "182", False)]


def test_a_chain_may_go_on_from_what_was_reached() -> None:
    assert len(extract_steps("Find 2*3+4.", "2*3+4 = 6+4\n6+4 = 10")) == 2


def test_what_does_not_begin_in_the_task_is_no_step() -> None:
    assert extract_steps("Compute 12+34*5.", "1 = 1\n2+2 = 4\n7 = 7 = 7") == []
    assert extract_steps("Compute 12+34*5.", "12+34*5 = 12+34*5") == []


def test_equations_are_steps_from_line_to_line() -> None:
    steps = extract_steps("Solve 2x+3 = 7 for x.", "2x+3 = 7\n2x = 4\nso x = 2")
    assert steps == [DerivationStep("2x+3 = 7", "2x = 4", True), DerivationStep("2x = 4", "x = 2", True)]


@pytest.mark.parametrize(
    ("step", "holds"),
    [
        (("12+34*5", "12+170", False), True),
        (("12+34*5", "46*5", False), False),
        (("1/3", "0.333", False), False),
        (("2x+3 = 7", "2x = 4", True), True),
        (("2x+3 = 7", "2x = 10", True), False),
        (("x^2 = 4", "x = 2", True), False),
        (("x^2-4 = 0", "(x-2)(x+2) = 0", True), True),
        (("x+1 = y", "y = x+1", True), True),
        (("x+1 = 2", "y = 1", True), False),
        (("1+1", "((", False), False),
    ],
)
def test_a_step_follows_or_does_not(step: tuple[str, str, bool], holds: bool) -> None:
    assert step_holds(*step) is holds


@ON_THE_MODULES_LOOP
async def test_a_wrong_answer_earns_what_leads_up_to_its_first_slip(judge: MathJudge) -> None:
    verdict = await judged(judge, "12+34*5 = 12+170 = 192 = 191", "191")
    assert not verdict.correct
    assert verdict.score == pytest.approx(0.5 / 3)
    assert [(c.name, c.score) for c in verdict.breakdown[1:]] == [
        ("step 1", 1.0),
        ("step 2", 0.0),
        ("step 3", 0.0),
    ]


@ON_THE_MODULES_LOOP
async def test_idle_steps_earn_nothing(judge: MathJudge) -> None:
    assert (await judged(judge, "1 = 1\n2 = 2\n5+5 = 10", "183")).score == 0.0


@ON_THE_MODULES_LOOP
async def test_a_right_answer_is_right_whatever_its_steps(judge: MathJudge) -> None:
    verdict = await judged(judge, "12+34*5 = 46*5 = 182", "182")
    assert (verdict.correct, verdict.score) == (True, 1.0)


@ON_THE_MODULES_LOOP
async def test_steps_are_not_read_unless_the_settings_say_so() -> None:
    made = MathJudge(JudgeDeps(VerifierSettings()))
    verdict = await judged(made, "12+34*5 = 12+170 = 192", "192")
    assert (verdict.score, [c.name for c in verdict.breakdown]) == (0.0, ["exact"])


async def test_the_steps_of_a_group_are_judged_by_the_grader_that_judged_its_answers() -> None:
    """The judge asks again, for the steps, in the same turn of the loop in which its first answer came."""
    task = TASK.model_copy(update={"description": "Expand (x+1)(x-1)+2.", "reference": "x^2+1"})
    steps = "(x+1)(x-1)+2 = x^2-1+2 = x^2+1"
    answers = ("x^2+2", "x*x+1", "x+1")
    group = JudgeGroup(task=task, solutions=tuple(solution_of(steps, answer) for answer in answers))
    verifier = Verifier(VerifierSettings(step_credit=0.5, timeout_s=30.0, graders=1))
    async with asyncio.timeout(LIMIT_S):
        verdict = await verifier.judge_group(group)
        await verifier.aclose()
    assert not verdict.failed
    assert [(each.correct, each.score) for each in verdict.verdicts] == [
        (False, 0.5), (True, 1.0), (False, 0.5)
    ]  # fmt: skip
