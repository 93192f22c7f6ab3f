"""Judge of the `code` domain: hidden tests, run in the sandbox.

Consumes a task with a goal, and an answer with code in it; produces a verdict, or raises what the sandbox
fails with: a failure is never a zero. Waits for a free place in the sandbox; unblocked by each trial's
deadline. Code that loops, crashes or eats memory has failed the test that it did so in, and no other.

Each test runs in a fresh process behind the walls of the python tool. It is given one call and gives back
the value as a literal, or is a program with its standard input; what is expected is compared here, where
the answer's code never gets to.
"""

import ast
import asyncio
import json
from collections.abc import Sequence
from typing import Final, NamedTuple

from pydantic import TypeAdapter

from ....messages.episodes import ScoreComponent, Solution, Verdict
from ....messages.tasks import CodeSpec, CodeTestCase, IoTestCase, Task
from ....runtime.sandbox.errors import SandboxError
from ....runtime.sandbox.fork_server_client import ForkServerClient, Outcome
from ..base import JudgeDeps
from ..grader_pool import parse_grader_line
from ..grading import GraderDied, NoReference, shorten
from .lint import find_code

MAX_CODE_CHARACTERS: Final = 50_000
OUTPUT_BYTES: Final = 1 << 20
_MODULE: Final = "agentfactory.actors.domains.code.code_runner"
_LINT_ISSUES: Final = TypeAdapter(list[str])
_ENDINGS: Final = {
    "timeout": "it took too long",
    "memory": "it ran out of memory",
    "output": "it printed too much",
}


class TestRun(NamedTuple):
    """Result of one test."""

    name: str
    passed: bool
    why: str


class CodeJudge:
    """Runs an answer's code against the task's hidden tests."""

    def __init__(self, parts: JudgeDeps) -> None:
        limits = parts.settings.trials
        self._timeout_s = limits.timeout_s
        self._server = ForkServerClient(
            _MODULE,
            {
                "modules": list(limits.modules),
                "memory_mb": limits.memory_mb,
                "reads": False,
                "stderr": False,
                "allow_weak": parts.allow_weak or limits.allow_weak,
            },
            OUTPUT_BYTES,
            limits.max_parallel,
        )

    def __repr__(self) -> str:
        return f"<CodeJudge {self._server!r}>"

    async def start(self) -> None:
        """Start the sandbox. Raises SandboxError if it cannot be confined here."""
        await self._server.start()

    async def judge(self, task: Task, solution: Solution, answer: str) -> Verdict:
        """Right if it is written as asked and passes every test; the score is the share that it passes.

        Code that is not written as asked scores nothing. Raises NoReference, GraderDied.
        """
        goal = task.goal
        if not isinstance(goal, CodeSpec) or not goal.checks + goal.runs:
            raise NoReference(f"task {task.id} has no hidden tests")
        code = find_code(answer, goal.function)[:MAX_CODE_CHARACTERS]
        wrong = await self._inspect(code, goal)
        if wrong:
            return _refused(solution, wrong)
        trials = [self._check(code, n, check) for n, check in enumerate(goal.checks, 1)]
        trials += [self._run(code, n, run) for n, run in enumerate(goal.runs, len(goal.checks) + 1)]
        return _verdict(solution, await asyncio.gather(*trials))

    async def aclose(self) -> None:
        """Kill all that runs."""
        await self._server.aclose()

    async def _inspect(self, code: str, goal: CodeSpec) -> list[str]:
        """Problems of the code as it is written; it is parsed where a crash does no harm."""
        job = ["inspect", code, goal.function, goal.parameters, list(goal.forbidden)]
        ok, text = _read_report(await self._try(job))
        return parse_grader_line(_LINT_ISSUES, text, "the inspection of an answer's code") if ok else [text]

    async def _check(self, code: str, number: int, check: CodeTestCase) -> TestRun:
        ok, text = _read_report(await self._try(["call", code, check.call]))
        name = f"test {number}"
        if not ok:
            return TestRun(name, False, text)
        given, expected = _read(text), ast.literal_eval(check.expected)
        passed = given is not _UNREADABLE and values_equal(expected, given, check.tolerance)
        return TestRun(name, passed, "" if passed else f"it returned {shorten(text)}")

    async def _run(self, code: str, number: int, run: IoTestCase) -> TestRun:
        outcome = await self._try(["run", code], run.stdin.encode("utf-8", "surrogatepass"))
        name = f"test {number}"
        if outcome.ending != "ok":
            return TestRun(name, False, _read_report(outcome)[1])
        passed = _lines(outcome.output) == _lines(run.stdout)
        return TestRun(name, passed, "" if passed else f"it printed {shorten(outcome.output)!r}")

    async def _try(self, job: Sequence[object], stdin: bytes | None = None) -> Outcome:
        """Run the job; its ending and its output."""
        try:
            outcome = await self._server.call(json.dumps(job), self._timeout_s, stdin)
            if outcome.ending == "crashed":  # by the code's own doing, or because the server was killed
                outcome = await self._server.call(json.dumps(job), self._timeout_s, stdin)
        except SandboxError as error:
            raise GraderDied(f"no sandbox to test code in: {error}") from error
        return outcome


def values_equal(expected: object, given: object, tolerance: float = 0.0) -> bool:
    """Equality as Python has it, with room for rounding where numbers meet; True is not 1.

    >>> same([0.5, "a"], [0.5000001, "a"], tolerance=1e-6), same(1, True)
    (True, False)
    """
    if isinstance(expected, bool) or isinstance(given, bool):
        return expected is given
    if isinstance(expected, int | float) and isinstance(given, int | float):
        if not tolerance:
            return expected == given  # exactly, where a difference would be rounded
        return expected == given or abs(expected - given) <= tolerance * max(1.0, abs(expected))
    if type(expected) is not type(given):
        return False
    if isinstance(expected, list | tuple) and isinstance(given, list | tuple):
        pairs = zip(expected, given, strict=False)
        return len(expected) == len(given) and all(values_equal(a, b, tolerance) for a, b in pairs)
    if isinstance(expected, dict) and isinstance(given, dict):
        if expected.keys() != given.keys():
            return False
        return all(values_equal(value, given[key], tolerance) for key, value in expected.items())
    return bool(expected == given)


class _Unreadable:
    """Stands for a value that is no literal."""


_UNREADABLE: Final = _Unreadable()


def _read(text: str) -> object:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return _UNREADABLE


def _read_report(outcome: Outcome) -> tuple[bool, str]:
    if outcome.ending not in ("ok", "error"):
        return False, _ENDINGS.get(outcome.ending, "it broke its process")
    try:
        ok, text = json.loads(outcome.output.rpartition("\n")[2])
    except (ValueError, TypeError, RecursionError):
        return False, "it ended without a result"
    return ok is True and outcome.ending == "ok", str(text)


def _lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.rstrip().splitlines()]


def _refused(solution: Solution, wrong: list[str]) -> Verdict:
    return Verdict(
        episode_id=solution.episode_id,
        correct=False,
        score=0.0,
        explanation="; ".join(wrong),
        breakdown=(ScoreComponent(name="written as asked", score=0.0),),
    )


def _verdict(solution: Solution, runs: list[TestRun]) -> Verdict:
    """All tests passed say so with n/(n + 1): there is always a test that was not made."""
    passed = sum(test.passed for test in runs)
    failed = [f"{test.name}: {test.why}" for test in runs if not test.passed]
    return Verdict(
        episode_id=solution.episode_id,
        correct=not failed,
        score=passed / len(runs),
        confidence=1.0 if failed else passed / (passed + 1),
        explanation=f"{passed} of {len(runs)} tests passed" + (f"; {failed[0]}" if failed else ""),
        breakdown=(
            ScoreComponent(name="written as asked", score=1.0),
            *(ScoreComponent(name=test.name, score=float(test.passed)) for test in runs),
        ),
    )
