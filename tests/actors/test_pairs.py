"""Every judge against answers that people agree on: right ones in many notations, wrong ones that look right.

`pairs/DOMAIN.jsonl` holds tasks, then answers: `{"task": …, "answer": …, "correct": …}`. For `data` and
`long` a pair also says what was left in the store, and what the tools answered on the way.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import pytest
import pytest_asyncio
from pydantic import JsonValue

from agentfactory.actors.domains import domain_named, domain_names
from agentfactory.actors.domains.base import Judge, JudgeDeps
from agentfactory.actors.namespaces import ROOT
from agentfactory.configs.roles import VerifierSettings
from agentfactory.messages.episodes import Solution, Verdict
from agentfactory.messages.tasks import Task
from agentfactory.messages.turns import ToolCall, ToolResult, Turn
from agentfactory.runtime.system import ActorSystem
from tests.actors.data_plane import Plane, access

PAIRS = Path(__file__).parent / "pairs"
LEAST = 200
LIMIT_S = 180.0
SETTINGS = VerifierSettings(graders=2, timeout_s=30.0)

on_the_modules_loop = pytest.mark.asyncio(loop_scope="module")


class Pair(NamedTuple):
    """One answer, and what is to be said of it."""

    task: Task
    solution: Solution
    correct: bool
    store: str
    """What the attempt left there: `[[tag, name, text], …]`."""


def read_pairs(domain: str, file: str | None = None) -> list[Pair]:
    tasks: dict[str, Task] = {}
    pairs: list[Pair] = []
    for line in (PAIRS / f"{file or domain}.jsonl").read_text(encoding="utf-8").splitlines():
        found: dict[str, JsonValue] = json.loads(line)
        if "name" in found:
            name = str(found.pop("name"))
            shape = {"id": name, "domain": domain, "difficulty": 0.5, "description": name}
            tasks[name] = Task.model_validate(shape | found)
        else:
            task = tasks[str(found["task"])]
            store = json.dumps(found.get("store", []))
            pairs.append(Pair(task, _solution(found, len(pairs)), found["correct"] is True, store))
    return pairs


def _solution(found: dict[str, JsonValue], number: int) -> Solution:
    said = found.get("observations", [])
    assert isinstance(said, list)
    return Solution(
        episode_id=f"e{number}",
        task_id=str(found["task"]),
        answer=str(found["answer"]),
        turns=tuple(_turn(str(each)) for each in said),
        stop_reason="answered",
        space=f"{ROOT}pairs.{number}." if "store" in found else "",
    )


def _turn(output: str) -> Turn:
    call, result = ToolCall(tool="python", input="…"), ToolResult(output=output, ok=True)
    return Turn(
        prompt_ids=(),
        completion_ids=(),
        logprobs=(),
        loss_mask=(),
        policy_version=0,
        call=call,
        result=result,
    )


@pytest_asyncio.fixture(
    loop_scope="module", scope="module", params=[n for n in domain_names() if n != "data"]
)
async def judge(request: pytest.FixtureRequest) -> AsyncIterator[tuple[str, Judge]]:
    made = domain_named(request.param).make_judge(JudgeDeps(SETTINGS))
    async with asyncio.timeout(LIMIT_S):
        await made.start()
    yield request.param, made
    async with asyncio.timeout(LIMIT_S):
        await made.aclose()


async def disagreements(made: Judge, pairs: list[Pair]) -> list[str]:
    async def one(pair: Pair) -> str:
        verdict = await made.judge(pair.task, pair.solution, pair.solution.answer or "")
        assert not verdict.correct or verdict.score == 1.0
        right = "right" if pair.correct else "wrong"
        return "" if verdict.correct is pair.correct else _complaint(pair, verdict, right)

    return [complaint for complaint in await asyncio.gather(*map(one, pairs)) if complaint]


def _complaint(pair: Pair, verdict: Verdict, right: str) -> str:
    return f"{pair.task.id}: {pair.solution.answer!r} is {right}; the judge says: {verdict.explanation}"


@on_the_modules_loop
async def test_it_judges_as_people_do(judge: tuple[str, Judge]) -> None:
    domain, made = judge
    pairs = read_pairs(domain)
    async with asyncio.timeout(LIMIT_S):
        wrong = await disagreements(made, pairs)
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("domain", domain_names())
def test_there_are_enough_pairs_of_both_kinds_and_none_twice(domain: str) -> None:
    pairs = read_pairs(domain)
    assert len(pairs) >= LEAST
    assert all(sum(pair.correct is correct for pair in pairs) >= LEAST // 4 for correct in (True, False))
    told = [(p.task.id, p.solution.answer, [t.results for t in p.solution.turns], p.store) for p in pairs]
    assert all(told.count(each) == 1 for each in told)


async def test_the_data_judge_judges_as_people_do() -> None:
    pairs, plane = read_pairs("data"), Plane()
    for pair in pairs:
        for tag, name, text in json.loads(pair.store):
            await plane.store.put(pair.solution.space + tag, name, text.encode())
    async with ActorSystem.open("local") as system:
        retriever = (await access(system, plane)).retriever
        made = domain_named("data").make_judge(JudgeDeps(SETTINGS, retriever=retriever))
        wrong = await disagreements(made, pairs)
    assert not wrong, "\n".join(wrong)
