"""Mathematics in many forms: right answers however they are written, and wrong ones that look like them.

The pairs are in `pairs/math_forms.jsonl`: currency, words of units, lists with `and`, chains of equalities,
equations, inequalities, ratios, repeating decimals, choices, boxes, sentences, bases, primes and the case of
letters. Of the wrong ones, some list several candidates, or hide the number in a sentence that denies it.
"""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from agentfactory.actors.domains.base import JudgeDeps
from agentfactory.actors.domains.grading import majority
from agentfactory.actors.domains.math.fast_path import grade_fast
from agentfactory.actors.domains.math.judge import MathJudge
from agentfactory.configs.roles import VerifierSettings
from tests.actors.test_pairs import disagreements, read_pairs

LIMIT_S = 120.0
FILE = "math_forms"

on_the_modules_loop = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def judge() -> AsyncIterator[MathJudge]:
    made = MathJudge(JudgeDeps(VerifierSettings(graders=2, timeout_s=30.0)))
    async with asyncio.timeout(LIMIT_S):
        await made.start()
    yield made
    async with asyncio.timeout(LIMIT_S):
        await made.aclose()


@on_the_modules_loop
async def test_no_form_of_a_right_answer_is_wrong_and_no_wrong_one_right(judge: MathJudge) -> None:
    async with asyncio.timeout(LIMIT_S):
        found = await disagreements(judge, read_pairs("math", FILE))
    assert not found, "\n".join(found)


def test_there_are_more_wrong_answers_than_right_ones_and_none_twice() -> None:
    pairs = read_pairs("math", FILE)
    told = [(pair.task.id, pair.solution.answer) for pair in pairs]
    assert len(set(told)) == len(told)
    assert sum(pair.correct for pair in pairs) >= 200
    assert sum(not pair.correct for pair in pairs) >= 400


@pytest.mark.parametrize(
    ("reference", "answer"),
    [
        ("408", "409"),
        ("x = 3", "x = 4"),
        ("$18", "81"),
        ("C", "D)"),
        ("1/2", r"\frac{1}{3}"),
        ("5 cm", "6 cm"),
    ],
)
def test_a_wrong_number_is_wrong_without_a_grader_process(reference: str, answer: str) -> None:
    grade = grade_fast(reference, answer, 1e-6)
    assert grade is not None
    assert not grade.correct


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        (["M", "m", "m"], ("m", 2 / 3)),
        (["5 Mb", "5 MB", "5 MB"], ("5 MB", 2 / 3)),
        ([r"\frac{m}{M}", r"\frac{M}{m}", r"\frac{M}{m}"], (r"\frac{M}{m}", 2 / 3)),
        (["ABC", "abc", "abc"], ("abc", 2 / 3)),
        (["4 08", "408", "408"], ("408", 2 / 3)),
        (["Evelyn", "evelyn", "Eve"], ("Evelyn", 2 / 3)),
        (["x + 1", "x+1", "x"], ("x + 1", 2 / 3)),
        ([r"\Delta", r"\delta", r"\delta"], (r"\delta", 2 / 3)),
    ],
)
def test_the_majority_keeps_letters_of_different_case_apart(
    answers: list[str], expected: tuple[str, float]
) -> None:
    assert majority(answers) == expected
