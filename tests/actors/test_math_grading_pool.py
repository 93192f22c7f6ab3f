"""The grader processes: what they find, and how they fail."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from agentfactory.actors.domains.base import JudgeDeps
from agentfactory.actors.domains.grading import Grade, GraderDied, GraderFailure, GraderTimeout
from agentfactory.actors.domains.math.fast_path import grade_fast
from agentfactory.actors.domains.math.judge import MathJudge
from agentfactory.configs.roles import VerifierSettings

LIMIT_S = 180.0

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def pool() -> AsyncIterator[MathJudge]:
    pool = MathJudge(JudgeDeps(VerifierSettings(graders=2, timeout_s=20.0)))
    async with asyncio.timeout(LIMIT_S):
        await pool.start()
    yield pool
    async with asyncio.timeout(LIMIT_S):
        await pool.aclose()


@pytest.mark.parametrize(
    ("reference", "answer", "method"),
    [
        ("\\frac{1}{2}", "2^{-1}", "exact"), ("\\sqrt{2}", "2**0.5", "symbolic"),
        ("\\sqrt{2}", "1.41421356", "numeric"), ("2\\pi", "6.283185307", "numeric"),
        ("x^2+2x+1", "(x+1)^2", "symbolic"), ("\\frac{x+1}{2}", "0.5x+0.5", "symbolic"),
        ("sin(x)^2+cos(x)^2", "1", "symbolic"), ("\\frac{\\sqrt{3}}{2}", "sqrt(3)/2", "symbolic"),
        ("\\{1,2,3\\}", "{3,2,1}", "symbolic"), ("1,2", "2,1", "symbolic"),
        ("(-\\infty,3]", "(-oo, 3]", "symbolic"), ("x \\le 3", "x<=3", "symbolic"),
        ("x=3", "3", "exact"), ("5!", "120", "exact"), ("2^{10}", "1024", "exact"),
        ("e^{i\\pi}", "-1", "exact"), ("50\\%", "0.5", "exact"), ("\\infty", "oo", "symbolic"),
        ("log(8)/log(2)", "3", "symbolic"), ("3\\times10^5", "300000", "exact"),
    ],
)  # fmt: skip
async def test_the_same_mathematics_is_right(
    pool: MathJudge, reference: str, answer: str, method: str
) -> None:
    async with asyncio.timeout(LIMIT_S):
        grade = await pool.grade(reference, answer)
    assert grade.correct, grade
    assert grade.score == 1.0
    assert grade.method == method


@pytest.mark.parametrize(
    ("reference", "answer"),
    [
        ("10", "10th"), ("5", "5 cm"), ("5\\text{ cm}", "5"), ("\\sqrt{2}", "1.414"), ("[0,1)", "[0,1]"),
        ("(1,2)", "(2,1)"), ("x^2+2x+1", "(x+1)^2+1"), ("5x", "5y"), ("2x", "x2"), ("x", "sqrt(x^2)"),
        ("10^{-7}", "2*10^{-7}"), ("30^\\circ", "30"), ("x_1", "x_2"), ("1/0", "0"), ("6", "2 3"),
        ("x", "9^(9^(9^9))"), ("9^{9^{9^9}}", "\\sqrt{2}"), ("1", "(" * 400), ("1", "{" * 400),
        ("1", "__import__('os').system('id')"), ("1", "().__class__"), ("1", "exec(1)"), ("1", "1;1"),
        ("1", ")(*&^%$"), ("1", "\\" * 50), ("1", "x" * 30_000), ("1", "\x00"), ("1", "\ud800"),
    ],
)  # fmt: skip
async def test_anything_else_is_wrong(pool: MathJudge, reference: str, answer: str) -> None:
    async with asyncio.timeout(LIMIT_S):
        grade = await pool.grade(reference, answer)
    assert not grade.correct, grade
    assert grade.score == 0.0
    assert pool._graders._server.starts == 1


async def test_plain_numbers_need_no_process() -> None:
    pool = MathJudge(JudgeDeps(VerifierSettings()))
    assert (await pool.grade("1/2", "0.5")).correct
    assert pool._graders._server.starts == 0


async def test_a_grader_past_its_deadline_is_a_failure_and_not_a_zero(
    pool: MathJudge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool._graders, "_timeout_s", 0.001)
    async with asyncio.timeout(LIMIT_S):
        with pytest.raises(GraderTimeout, match=r"longer than 0\.001 s"):
            await pool.grade("x^2+2x+1", "(x+1)^2")
        monkeypatch.undo()
        assert (await pool.grade("x^2+2x+1", "(x+1)^2")).correct
    assert pool._graders._server.starts == 1  # only the fork was killed: nothing is imported again
    assert issubclass(GraderTimeout, GraderFailure)


async def test_a_grader_that_dies_once_is_tried_again() -> None:
    pool = MathJudge(JudgeDeps(VerifierSettings()))
    async with asyncio.timeout(LIMIT_S):
        await pool.start()
        kill_server(pool)
        assert (await pool.grade("2^{10}", "1024+0")).correct
        await pool.aclose()
    assert pool._graders._server.starts == 2


async def test_a_grader_without_memory_dies_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    eats = (
        "import agentfactory.actors.domains.math.symbolic_grading as a\n"
        "a.parse_math = lambda text: [0] * 10**9\n"
    )
    replace_bootstrap(monkeypatch, eats)
    pool = MathJudge(JudgeDeps(VerifierSettings(memory_mb=128)))
    async with asyncio.timeout(LIMIT_S):
        with pytest.raises(GraderDied, match=r"ended twice \(memory\)"):
            await pool.grade("x", "x+0")
        await pool.aclose()


async def test_a_grader_is_behind_the_same_walls(monkeypatch: pytest.MonkeyPatch) -> None:
    tries = (
        "import agentfactory.actors.domains.math.symbolic_grading as a, os, socket\n"
        "def attempt(text):\n"
        "    refused = []\n"
        "    for do in (lambda: socket.socket(), lambda: os.fork(), lambda: open('/tmp/x', 'w'),\n"
        "               lambda: os.unlink('/tmp/x'), lambda: os.kill(1, 0)):\n"
        "        try: do()\n"
        "        except PermissionError: refused.append(1)\n"
        "    open('/etc/hostname').close()\n"
        "    raise ValueError(f'{len(refused)} refused')\n"
        "a.parse_math = attempt\n"
    )
    replace_bootstrap(monkeypatch, tries)
    pool = MathJudge(JudgeDeps(VerifierSettings()))
    async with asyncio.timeout(LIMIT_S):
        with pytest.raises(GraderDied, match="ValueError: 5 refused"):
            await pool.grade("x", "x+0")
        await pool.aclose()


async def test_a_pool_that_cannot_start_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    replace_bootstrap(monkeypatch, "raise RuntimeError('no luck')\n")
    pool = MathJudge(JudgeDeps(VerifierSettings()))
    async with asyncio.timeout(LIMIT_S):
        with pytest.raises(GraderDied, match="RuntimeError: no luck"):
            await pool.grade("x", "x+0")
        await pool.aclose()


def replace_bootstrap(monkeypatch: pytest.MonkeyPatch, extra: str) -> None:
    """Have the server run `extra` before it serves, with nothing to warm up on."""
    bare = "import agentfactory.actors.domains.math.grader as b; b._WARM_UP = ()\n"
    lines = "import sys; sys.path += {path!r}\n" + (extra + bare).replace("{", "{{").replace("}", "}}")
    monkeypatch.setattr(
        "agentfactory.runtime.sandbox.fork_server_client._BOOTSTRAP",
        lines + "from {module} import main; main()",
    )


def kill_server(pool: MathJudge) -> None:
    connection = pool._graders._server._connection
    assert connection is not None
    launcher = connection._process.pid
    children = Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()
    os.kill(int(children[0]) if children else launcher, signal.SIGKILL)


async def test_a_long_answer_is_never_read_in_the_judges_own_loop(
    pool: MathJudge, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_here: list[int] = []

    def seen(reference: str, answer: str, rel_tolerance: float) -> Grade | None:
        read_here.append(len(answer))
        return grade_fast(reference, answer, rel_tolerance)

    monkeypatch.setattr("agentfactory.actors.domains.math.judge.grade_fast", seen)
    assert (await pool.grade("12", "12")).correct
    assert (await pool.grade("12", f"12{' ' * 3000}dollars")).explanation
    assert read_here == [2]
