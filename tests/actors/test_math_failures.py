"""What a candidate wrote can be wrong; it is never a failure of the grader's.

Answers drawn at random get a grade, numbers that would not fit in memory are refused by arithmetic, and a
grader that an answer ends all the same ends for that answer alone. A reference that does it is a failure.
"""

import asyncio
import json
import random
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import NoReturn

import pytest
import pytest_asyncio
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter
from sympy.core.cache import clear_cache

from agentfactory.actors.domains.base import JudgeDeps
from agentfactory.actors.domains.grader_pool import parse_grader_line
from agentfactory.actors.domains.grading import Grade, GraderDied, GraderTimeout
from agentfactory.actors.domains.math.fast_path import grade_fast
from agentfactory.actors.domains.math.grader import grade_job, step_holds
from agentfactory.actors.domains.math.judge import MathJudge
from agentfactory.configs.roles import VerifierSettings
from agentfactory.messages.tasks import Task
from tests.actors.test_math_grading_pool import replace_bootstrap
from tests.actors.test_steps import solution_of

LIMIT_S = 120.0
DEADLINE_S = 5.0

on_the_modules_loop = pytest.mark.asyncio(loop_scope="module")

REFERENCES = (
    "11", "x^2+1", "[0,1)", "5 cm", "1,2", "y=2x+1", "C", "1010_2", r"\frac{1}{2}",
    r"-2 \le x \le 7", r"28\%",
    "(2,3)", r"\begin{pmatrix}1\\2\end{pmatrix}", "7:32", r"\emptyset", "x<1 or x>3", "Evelyn",
)  # fmt: skip
LEAVES = st.sampled_from(
    [
        "x",
        "y",
        "i",
        "e",
        "M",
        "1",
        "2",
        "10",
        "0",
        "0.5",
        "99",
        r"\pi",
        r"\infty",
        r"\emptyset",
        "5 cm",
        "C)",
        "½",
    ]
)
COMMANDS = (
    r"\frac{{{0}}}{{{1}}}", r"\sqrt{{{0}}}", r"\sqrt[{0}]{{{1}}}", r"\log_{{{0}}} {1}",
    r"\binom{{{0}}}{{{1}}}",
    r"\sum_{{k={0}}}^{{{1}}} k", r"\prod_{{k={0}}}^{{{1}}} k", r"\int_{0}^{1} x dx", r"\lim_{{x\to {0}}} {1}",
    r"{0} \mod {1}", r"\gcd({0},{1})", r"\boxed{{{0}}} and \boxed{{{1}}}",
    r"\begin{{pmatrix}}{0}\\{1}\end{{pmatrix}}",
    "{0}^{{{1}}}", "{0}_{{{1}}}", "{0}!", "{0}!!", "{0}'", r"{0} \le {1}", "{0} < {1}",
    "{0} = {1}", "{0}:{1}",
    r"\{{{0}, {1}\}}", "({0}, {1})", "[{0}, {1})", r"{0} \cup {1}", "{0} and {1}", "{0} or {1}",
    r"{0} \in {1}",
    r"\text{{{0}}}", r"{0}\%", "${0}$", r"\overline{{{0}}}", "|{0}|", r"{0}^\circ", r"\sin {0}", r"\tan({0})",
    r"{0} \pm {1}", r"\lfloor {0} \rfloor", "the answer is {0}", "{0}+{1}", "{0}{1}", "-{0}", r"\Gamma({0})",
)  # fmt: skip


def combined(parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.tuples(st.sampled_from(COMMANDS), parts, parts).map(lambda drawn: drawn[0].format(*drawn[1:]))


ANSWERS = st.recursive(LEAVES, combined, max_leaves=5)
NOISE = st.one_of(
    st.text(max_size=60),
    st.binary(max_size=60).map(lambda data: data.decode("latin-1")),
    st.text(alphabet="\\{}[]()^_$%!'=<>,;:.|&0123456789xyzie ", max_size=60),
)
QUIET = settings(max_examples=200, deadline=None)


class TakesTooLong(BaseException):
    """What a grader process is killed for; sympy lets it pass."""


@contextmanager
def killed_late() -> Iterator[None]:
    """Give up at a deadline, as a grader is killed at its own: an answer may take as long as it likes."""

    def give_up(number: int, frame: object) -> NoReturn:
        raise TakesTooLong

    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, DEADLINE_S)
    try:
        yield
    except TakesTooLong:
        clear_cache()  # its parts may be half made
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def grade(reference: str, answer: str) -> tuple[bool, str]:
    """What a grader process says of it, in this one."""
    correct, _, explanation, *_ = grade_job(json.dumps(["grade", reference, answer, 1e-6]))  # type: ignore[misc]
    return bool(correct), str(explanation)


def test_an_answer_that_never_ends_is_given_up() -> None:
    with killed_late():
        while True:
            pass


@QUIET
@given(st.sampled_from(REFERENCES), st.one_of(ANSWERS, NOISE))
def test_whatever_a_candidate_writes_gets_a_grade(reference: str, answer: str) -> None:
    with killed_late():
        assert grade(reference, answer)[0] in (True, False)
    grade_fast(reference, answer, 1e-6)


@QUIET
@given(st.one_of(ANSWERS, NOISE), st.one_of(ANSWERS, NOISE), st.booleans())
def test_whatever_steps_a_candidate_writes_hold_or_do_not(before: str, after: str, equations: bool) -> None:
    with killed_late():
        assert step_holds(before, after, equations) in (True, False)


@pytest.mark.parametrize("reference", ["11", r"\sqrt{2}", "x^2+1", "[0,1)", "1,2"])
@pytest.mark.parametrize(
    "answer",
    [
        "2004!", "9999999!", "(10^9)!", "10!!!!", "((5!)!)!", "9^{9^{9^9}}", "9^(9^(9^9))", "2^{2^{100}}",
        "e^{e^{e^{e^{e^e}}}}", "10^{10^{10}}", "10^{-10^{10}}", r"\sqrt{2^{2^{90}}}", r"\sum_{k=1}^{10^9} k",
        r"\sum_{k=1}^{1000000000} \frac{1}{k}", r"\prod_{k=1}^{10^8} k", r"\binom{10^9}{10^8}",
        "(x+y+1)^{999}",
        r"\binom{1000000}{500000}", r"\Gamma(10^9)", r"\sinh(10^9)", "1e999", "1e-999999",
        "9" * 5000, "1+" * 240 + "1",
        "(" * 300 + "1" + ")" * 300, r"\frac{1}{" * 100 + "2" + "}" * 100,
        r"\sqrt{" * 100 + "2" + "}" * 100, "i<1",
        r"5 \mod 0", "-" * 400 + "1", "x" * 20_001, "x^" * 200 + "2", r"\left(" * 200, "7" * 400 + "!",
    ],
)  # fmt: skip
def test_what_is_too_large_to_work_out_is_wrong(reference: str, answer: str) -> None:
    assert not grade(reference, answer[:20_000])[0]


@pytest.mark.parametrize(
    ("reference", "answer"),
    [("11", "x = 5+5+1 = 11"), ("3840", "10!!"), ("2004!", "2004!"), ("100!",
    "100*99!"), ("2^{100}", "4^{50}"),
     (r"\binom{50}{25}", "50!/(25!)^2"), (r"\sum_{k=1}^{100} k", "5050"), ("(x+1)^{50}", "(1+x)^{50}")],
)  # fmt: skip
def test_what_is_large_and_right_is_right(reference: str, answer: str) -> None:
    assert grade(reference, answer)[0]


SLOW = (
    "import agentfactory.actors.domains.math.symbolic_grading as a\n"
    "read = a.parse_math\n"
    "def slow(text):\n"
    "    while 'z' in text: pass\n"
    "    return read(text)\n"
    "a.parse_math = slow\n"
)
GREEDY = SLOW.replace("while 'z' in text: pass", "text += 'x' * (10**10 * ('z' in text))")


@pytest_asyncio.fixture(loop_scope="module")
async def broken(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[MathJudge]:
    """A judge whose graders do not survive a z."""
    replace_bootstrap(monkeypatch, request.param)
    settings = VerifierSettings.model_validate({"graders": 1, "timeout_s": 3.0, "step_credit": 0.5})
    made = MathJudge(JudgeDeps(settings))
    async with asyncio.timeout(LIMIT_S):
        await made.start()
        yield made
        await made.aclose()


@on_the_modules_loop
@pytest.mark.parametrize("broken", [SLOW, GREEDY], indirect=True, ids=["slow", "greedy"])
async def test_an_answer_that_ends_its_grader_is_wrong_where_the_reference_is_not_to_blame(
    broken: MathJudge,
) -> None:
    found = await broken.grade("x+1", "z+1")
    assert not found.correct
    assert "too much time or memory" in found.explanation
    assert found.confidence < 1
    assert (await broken.grade("x+1", "1+x")).correct


@on_the_modules_loop
@pytest.mark.parametrize("broken", [SLOW], indirect=True, ids=["slow"])
async def test_a_reference_that_ends_its_grader_is_a_failure(broken: MathJudge) -> None:
    with pytest.raises(GraderTimeout):
        await broken.grade("z+1", "x+1")


@on_the_modules_loop
@pytest.mark.parametrize("broken", [SLOW], indirect=True, ids=["slow"])
async def test_steps_that_end_their_grader_earn_nothing(broken: MathJudge) -> None:
    task = Task.model_validate(
        {"id": "t", "domain": "math", "difficulty": 0.5, "description": "Compute 2z+1.", "reference": "7"}
    )
    verdict = await broken.judge(task, solution_of("2z+1 = z+z+1", "8"), "8")
    assert (verdict.correct, verdict.score) == (False, 0.0)


def saying(line: str) -> str:
    """Graders that say this, whatever they were asked."""
    return (
        "import json, types, agentfactory.actors.domains.grader_process as p\n"
        f"p.json = types.SimpleNamespace(loads=json.loads, dumps=lambda x, **_: {line!r})\n"
    )


@on_the_modules_loop
@pytest.mark.parametrize("broken", [saying("[true"), saying("[true, false]")], indirect=True)
async def test_a_grader_that_speaks_garbage_is_a_failure_of_ours(broken: MathJudge) -> None:
    task = Task.model_validate(
        {"id": "t", "domain": "math", "difficulty": 0.5, "description": "Compute 2+3.", "reference": "5"}
    )
    with pytest.raises(GraderDied, match=r"said '\[true.* on '1\+x' against 'x\+1'"):
        await broken.grade("x+1", "1+x")
    with pytest.raises(GraderDied, match=r"said '\[true.* on the steps of task t"):
        await broken.judge(task, solution_of("2+3 = 6", "6"), "6")


@pytest.mark.parametrize(
    "line",
    ["", "[true", '[true, 1.0, "', "7", "null", "{}", "[]", "[" * 5000, '"true"', "[1, 1, 1, 1, 1]",
     '["yes", 1.0, "", "exact", 1.0]', '[true, NaN, "", "exact", 1.0]', '[true, 2.0, "", "exact", 1.0]',
     '[true, 1.0, "", "by heart", 1.0]', '[true, 1.0, "", "exact", 1.0, 1.0]'],
)  # fmt: skip
def test_a_line_that_is_no_grade_is_a_graders_death(line: str) -> None:
    with pytest.raises(GraderDied, match=r"the grader said .* on the answer"):
        parse_grader_line(TypeAdapter(Grade), line, "the answer")


def test_a_line_that_is_a_grade_is_read() -> None:
    line = json.dumps(list(Grade(True, 1.0, "the same", "exact", 0.9)))
    assert parse_grader_line(TypeAdapter(Grade), line, "it") == Grade(True, 1.0, "the same", "exact", 0.9)


@on_the_modules_loop
@pytest.mark.parametrize("broken", ["a = 0\n"], indirect=True, ids=["sound"])
async def test_a_pool_that_is_closed_is_a_failure(broken: MathJudge) -> None:
    await broken.aclose()
    with pytest.raises(GraderDied):
        await broken.grade("x+1", "z+1")


def test_random_long_texts_are_read_in_linear_time() -> None:
    """No pattern of the fast path backtracks: each of these texts would take minutes if one did."""
    rng = random.Random(7)
    pieces = [
        "$",
        "\\(",
        "{",
        "}",
        " and ",
        " or ",
        " is ",
        "1,000",
        "answer ",
        "\\boxed{",
        "'",
        "_",
        "x",
        " ",
        "~",
        "\\!",
        "\n",
        "\uff11",
        "0.",
    ]
    for piece in pieces:
        for other in rng.sample(pieces, 4):
            for text in ((piece + other) * 5000, piece * 9000 + other):
                found = grade_fast("x+1", text, 1e-6)
                assert found is None or not found.correct
