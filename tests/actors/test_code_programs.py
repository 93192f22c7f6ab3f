"""Programs as benchmarks of code have them: what is right is judged right, whatever module it uses."""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import pytest
import pytest_asyncio

from agentfactory.actors.domains.base import JudgeDeps
from agentfactory.actors.domains.code.domain import read_assert
from agentfactory.actors.domains.code.judge import CodeJudge
from agentfactory.configs.roles import SandboxSettings, TrialSettings, VerifierSettings
from agentfactory.messages.episodes import Solution, Verdict
from agentfactory.messages.tasks import CodeSpec, CodeTestCase, IoTestCase, Task

LIMIT_S = 120.0
pytestmark = pytest.mark.asyncio(loop_scope="module")


class Program(NamedTuple):
    """A function and its asserts."""

    name: str
    code: str
    asserts: list[str]

    @property
    def goal(self) -> CodeSpec:
        checks = [read_assert(text) for text in self.asserts]
        assert all(checks), self.asserts
        return CodeSpec(checks=tuple(check for check in checks if check))


def _read(text: str) -> list[Program]:
    programs = []
    for name, body in re.findall(r"^#: ([^\n]+)\n(.*?)(?=^#: |\Z)", text, re.MULTILINE | re.DOTALL):
        lines = body.splitlines()
        asserts = [line.removeprefix("assert ") for line in lines if line.startswith("assert ")]
        programs.append(Program(name, "\n".join(ln for ln in lines if not ln.startswith("assert ")), asserts))
    return programs


PROGRAMS = _read((Path(__file__).parent / "programs.txt").read_text(encoding="utf-8"))
STDIN_PROGRAMS = _read((Path(__file__).parent / "stdin_programs.txt").read_text(encoding="utf-8"))
"""Each adds the numbers of its second line."""
MANY = range(30_000)
SUMS = CodeSpec(
    runs=(
        IoTestCase(stdin="3\n1 2 3\n", stdout="6\n"),
        IoTestCase(stdin=f"{len(MANY)}\n{' '.join(map(str, MANY))}\n", stdout=f"{sum(MANY)}\n"),
    )
)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def judge() -> AsyncIterator[CodeJudge]:
    made = CodeJudge(JudgeDeps(VerifierSettings(trials=TrialSettings(timeout_s=20.0))))
    async with asyncio.timeout(LIMIT_S):
        await made.start()
        yield made
        await made.aclose()


async def judged(judge: CodeJudge, code: str, goal: CodeSpec) -> Verdict:
    task = Task(id="t", domain="code", description="Do it.", difficulty=0.1, goal=goal)
    answer = f"```python\n{code}\n```"
    solution = Solution(episode_id="e", task_id="t", answer=answer, turns=(), stop_reason="answered")
    async with asyncio.timeout(LIMIT_S):
        return await judge.judge(task, solution, answer)


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
async def test_a_right_function_passes_its_tests(judge: CodeJudge, program: Program) -> None:
    verdict = await judged(judge, program.code, program.goal)
    assert verdict.correct, verdict.explanation


async def test_the_programs_use_every_module_that_may_be_imported() -> None:
    text = "\n".join(program.code for program in PROGRAMS)
    used = {
        name.split(".")[0].strip()
        for line in re.findall(r"^\s*(?:import|from) (.+)", text, re.MULTILINE)
        for name in re.sub(r" (import .*|as \w+)", "", line).split(",")
    }
    assert not {*TrialSettings().modules, *SandboxSettings().modules} - used
    assert len(PROGRAMS) >= 60


@pytest.mark.parametrize("program", STDIN_PROGRAMS, ids=lambda program: program.name)
async def test_a_right_program_prints_what_it_should(judge: CodeJudge, program: Program) -> None:
    verdict = await judged(judge, program.code, SUMS)
    assert verdict.correct, verdict.explanation


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("input(); print(7)", "it printed '7"),
        ("print(6)\nraise KeyError(1)", "KeyError: 1"),
        ("print(6)\nimport sys\nsys.exit(1)", "SystemExit: 1"),
        ("print(6)\nexit('no')", "SystemExit: no"),
        ("import os\nprint(6, flush=True)\nos._exit(3)", "it ended without a result"),
        ("import sys\nprint(6, file=sys.stderr)", "it printed ''"),
        ("print('[true, 6]')", "it printed '[true, 6]"),
        ("import socket\nprint(6)", "socket cannot be imported here"),
        ("for n in range(3): input()", "EOFError"),
        ("open('/etc/passwd').read()", "PermissionError"),
    ],
)
async def test_a_program_that_is_wrong_is_told_why(judge: CodeJudge, code: str, why: str) -> None:
    verdict = await judged(judge, code, CodeSpec(runs=SUMS.runs[:1]))
    assert (verdict.correct, verdict.score) == (False, 0.0)
    assert why in verdict.explanation


LIES = "'__eq__': lambda s, o: True, '__hash__': None, '__iter__': lambda s: iter([1, 2])"


@pytest.mark.parametrize("container", ["dict", "list", "tuple", "set", "bytearray"])
async def test_a_container_stands_for_what_is_in_it(judge: CodeJudge, container: str) -> None:
    lies = f"{{{LIES}, 'items': lambda s: [(1, 2)], '__len__': lambda s: 2}}"
    for expected in ("{1: 2}", "[1, 2]", "(1, 2)", "{1, 2}", "b'\\x01\\x02'"):
        goal = CodeSpec(checks=(CodeTestCase(call="f()", expected=expected),))
        code = f"def f(): return type('Lies', ({container},), {lies})()"
        assert not (await judged(judge, code, goal)).correct
