"""How many answers the judge of mathematics grades a second, with the kill-switch in place.

The answers are those of `tests/actors/pairs/math.jsonl`: right ones in many notations and wrong ones that
look right. Two grader processes, as on a machine of two cores. What needs no algebra is graded in the
actor's process; what does is also measured alone, as is code by its hidden tests.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from agentfactory.actors.domains.base import JudgeDeps
from agentfactory.actors.domains.code.judge import CodeJudge
from agentfactory.actors.domains.math.fast_path import grade_fast
from agentfactory.actors.domains.math.judge import MathJudge
from agentfactory.configs.roles import VerifierSettings
from agentfactory.messages.episodes import Solution
from agentfactory.messages.tasks import Task
from agentfactory.training.tasks import code
from benchmarks.figures import Figures, median

PAIRS = Path(__file__).parent.parent / "tests" / "actors" / "pairs" / "math.jsonl"
ROUNDS = 5
SETTINGS = VerifierSettings(graders=2, timeout_s=30.0)

Pairs = Sequence[tuple[str, str]]


def read_pairs() -> list[tuple[str, str]]:
    """References and answers."""
    lines = [json.loads(line) for line in PAIRS.read_text(encoding="utf-8").splitlines()]
    references = {line["name"]: line["reference"] for line in lines if "name" in line}
    return [(references[line["task"]], line["answer"]) for line in lines if "task" in line]


async def rate(count: int, work: Callable[[], Awaitable[object]]) -> float:
    """Answers a second: the median of several rounds."""
    rates = []
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        await work()
        rates.append(count / (time.perf_counter() - begin))
    return median(rates)


async def math_rate(judge: MathJudge, pairs: Pairs) -> float:
    """All of them asked for at the same time, as the episodes of a run do."""
    return await rate(len(pairs), lambda: asyncio.gather(*(judge.grade(*pair) for pair in pairs)))


async def code_rate(figures: Figures) -> None:
    """Code answers of ten hidden tests each."""
    steps = code.CodeTask((("even", 0), ("square", 0)), "sum")
    task = Task(id="t", domain="code", description="", difficulty=0.1, goal=code.goal_of(steps))
    answer = code.solution(steps)
    solution = Solution(episode_id="e", task_id="t", answer=answer, turns=(), stop_reason="answered")
    judge = CodeJudge(JudgeDeps(SETTINGS, allow_weak=True))
    try:
        await judge.start()
        many = range(20)
        each = await rate(
            len(many), lambda: asyncio.gather(*(judge.judge(task, solution, answer) for _ in many))
        )
        figures.add("code_answers", each, "answers/s")
    finally:
        await judge.aclose()


async def judges(figures: Figures) -> None:
    """All figures of the judges."""
    pairs = read_pairs()
    algebra = [pair for pair in pairs if grade_fast(*pair, SETTINGS.rel_tolerance) is None]
    judge = MathJudge(JudgeDeps(SETTINGS, allow_weak=True))
    try:
        await judge.start()
        figures.add("math_answers", await math_rate(judge, pairs), "answers/s", ">=", 300)
        figures.add("math_answers_by_algebra", await math_rate(judge, algebra), "answers/s")
        figures.add("math_share_of_algebra", len(algebra) / len(pairs), "of all")
    finally:
        await judge.aclose()
    await code_rate(figures)
