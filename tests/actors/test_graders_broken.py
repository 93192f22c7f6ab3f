"""Nobody who waits for a grader waits for ever, wherever the other side breaks."""

import asyncio
import os
import signal
from collections.abc import Callable
from typing import Final, NoReturn

import psutil
import pytest

from agentfactory.actors.domains import grader_pool as graders
from agentfactory.actors.domains.base import JudgeDeps
from agentfactory.actors.domains.code.judge import CodeJudge
from agentfactory.actors.domains.grader_pool import GraderPool
from agentfactory.actors.domains.grading import GraderDied, GraderFailure, GraderTimeout
from agentfactory.actors.domains.logic.judge import LogicJudge
from agentfactory.configs.roles import VerifierSettings
from agentfactory.messages.episodes import Solution
from agentfactory.messages.tasks import Task
from agentfactory.runtime.sandbox import fork_server_client
from agentfactory.runtime.sandbox.fork_server_client import Outcome
from tests.actors import broken_servers, test_graders

JOBS = 3


@pytest.fixture(autouse=True)
def short_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fork_server_client, "GRACE_S", 0.3)


def pool_with(
    server: Callable[[], NoReturn], monkeypatch: pytest.MonkeyPatch, timeout_s: float
) -> GraderPool:
    """A pool whose server is this function."""
    bootstrap = (
        f"import sys; sys.path += {{path!r}}; from {{module}} import {server.__name__} as main; main()"
    )
    monkeypatch.setattr(fork_server_client, "_BOOTSTRAP", bootstrap)
    return GraderPool(server.__module__, VerifierSettings(graders=2, timeout_s=timeout_s))


def process_of(pool: GraderPool) -> psutil.Process:
    """The server, below what launched it."""
    connection = pool._server._connection
    assert connection is not None
    launcher = psutil.Process(connection._process.pid)
    return next(iter(launcher.children()), launcher)


@pytest.mark.parametrize("server", broken_servers.WITHOUT_ANSWER, ids=lambda server: server.__name__)
async def test_everyone_is_told_where_the_server_breaks_at(
    server: Callable[[], NoReturn], monkeypatch: pytest.MonkeyPatch
) -> None:
    start_limit_s = 1.0 if server in (broken_servers.say_nothing, broken_servers.greet_by_half) else 30.0
    monkeypatch.setattr(fork_server_client, "START_TIMEOUT_S", start_limit_s)
    pool = pool_with(server, monkeypatch, timeout_s=0.3)
    waiting = [pool.work(f"{number}", f"job {number}") for number in range(JOBS)]
    said = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(each, GraderFailure) for each in said), said
    assert {f"job {number}" in str(each) for number, each in enumerate(said)} == {True}
    assert "0 queued, 0 running" in repr(pool)
    await pool.aclose()


async def test_an_answer_counts_although_its_server_died_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = pool_with(broken_servers.die_after_the_answer, monkeypatch, timeout_s=30.0)
    for _ in range(3):
        assert await pool.work("job", "job") == '["done"]'
    assert pool._server.starts == 3
    await pool.aclose()


@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGSTOP])
async def test_a_server_that_is_gone_between_two_jobs_is_replaced(blow: signal.Signals) -> None:
    pool = GraderPool(test_graders.__name__, VerifierSettings(timeout_s=5.0))
    assert "before" in await pool.work("before", "before")
    os.kill(process_of(pool).pid, blow)
    assert "after" in await pool.work("after", "after")
    assert pool._server.starts == 2
    await pool.aclose()


@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGSTOP])
async def test_a_server_that_is_gone_under_a_job_takes_nothing_that_waits_behind_it(
    blow: signal.Signals,
) -> None:
    pool = GraderPool(test_graders.__name__, VerifierSettings(timeout_s=5.0))
    await pool.start()
    hanging = asyncio.create_task(pool.work("hang", "hang"))
    while not process_of(pool).children():  # noqa: ASYNC110 - a fork tells nobody that it is there
        await asyncio.sleep(0.01)
    behind = [asyncio.create_task(pool.work(f"{number}", f"{number}")) for number in range(3)]
    os.kill(process_of(pool).pid, blow)
    assert all(f'["{number}"' in said for number, said in enumerate(await asyncio.gather(*behind)))
    with pytest.raises(GraderFailure):
        await hanging
    await pool.aclose()


async def test_jobs_that_follow_one_another_without_a_pause_are_all_done() -> None:
    """A grader that has just ended its batch counts as idle at once."""
    pool = GraderPool(test_graders.__name__, VerifierSettings(graders=1, timeout_s=30.0))
    for number in range(20):
        assert f"job {number}" in await pool.work(f"job {number}", "job")
    await pool.aclose()


async def test_jobs_that_are_asked_for_from_an_answer_are_done_beside_those_that_wait() -> None:
    pool = GraderPool(test_graders.__name__, VerifierSettings(graders=2, timeout_s=30.0))

    async def ask_twice(name: str) -> None:
        assert name in await pool.work(name, name)
        assert f"{name} again" in await pool.work(f"{name} again", name)

    await asyncio.gather(*(ask_twice(f"{number}") for number in range(40)))
    assert "0 queued, 0 running" in repr(pool)
    await pool.aclose()


TASKS: Final = (
    (
        LogicJudge,
        {"domain": "logic", "reference": "A & B"},
        "B & A",
        "dumps = lambda x, **_: '[true, 1.0'",
    ),
    (
        LogicJudge,
        {"domain": "logic", "reference": "A & B"},
        "B & A",
        "dumps = lambda x, **_: '[true, 7, \"\", []]'",
    ),
    (
        CodeJudge,
        {
            "domain": "code",
            "goal": {"kind": "code", "function": "f", "checks": [{"call": "f()", "expected": "1"}]},
        },
        "def f(): return 1",
        "lint_issues = lambda *_: 7",
    ),
)


@pytest.mark.parametrize(("judge", "asked", "answer", "broken"), TASKS)
async def test_a_grader_whose_line_is_broken_is_a_failure_of_ours(
    judge: type[LogicJudge | CodeJudge],
    asked: dict[str, object],
    answer: str,
    broken: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    breaks = (
        "import json, types, agentfactory.actors.domains.grader_process as g\n"
        "import agentfactory.actors.domains.code.code_runner as t\n"
        f"t.{broken}\n"
        if judge is CodeJudge
        else "import json, types, agentfactory.actors.domains.grader_process as g\n"
        f"g.json = types.SimpleNamespace(loads=json.loads)\ng.json.{broken}\n"
    )
    bootstrap = f"import sys; sys.path += {{path!r}}\n{breaks}from {{module}} import main; main()"
    monkeypatch.setattr(fork_server_client, "_BOOTSTRAP", bootstrap)
    task = Task.model_validate({"id": "t", "description": "?", "difficulty": 0.5} | asked)
    solution = Solution(episode_id="e", task_id="t", answer=answer, turns=(), stop_reason="answered")
    made = judge(JudgeDeps(VerifierSettings(graders=1)))
    with pytest.raises(GraderDied, match="the grader said"):
        await made.judge(task, solution, answer)
    await made.aclose()


async def never(text: str, timeout_s: float) -> Outcome:
    await asyncio.Event().wait()
    raise AssertionError


async def test_a_call_that_ignores_its_own_limit_is_given_up_and_the_next_one_is_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(graders, "START_TIMEOUT_S", 0.05)
    monkeypatch.setattr(graders, "GRACE_S", 0.05)
    pool = GraderPool(test_graders.__name__, VerifierSettings(timeout_s=0.1))
    with monkeypatch.context() as patch:
        patch.setattr(pool._server, "call", never)
        with pytest.raises(GraderTimeout, match=r"no grader came back with job within 0\.25 s"):
            await pool.work("job", "job")
    monkeypatch.setattr(graders, "START_TIMEOUT_S", 30.0)
    pool._timeout_s = 30.0
    assert "next" in await pool.work("next", "next")
    await pool.aclose()


async def test_a_wait_has_a_limit_of_its_own_that_counts_the_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = GraderPool(test_graders.__name__, VerifierSettings(graders=2, timeout_s=1.0))
    alone_s = pool._wait_limit_s()
    monkeypatch.setattr(pool, "_start_batches", lambda: None)
    waiting = [asyncio.create_task(pool.work("job", "job")) for _ in range(6)]
    await asyncio.sleep(0)
    job_s = 3 * (1.0 + graders.GRACE_S)
    assert pool._wait_limit_s() == pytest.approx(alone_s + 3 * job_s)
    monkeypatch.setattr(pool, "_wait_limit_s", lambda: 0.1)
    with pytest.raises(GraderTimeout, match=r"no answer on late within 0\.1 s, queue included"):
        await pool.work("late", "late")
    await pool.aclose()
    said = await asyncio.gather(*waiting, return_exceptions=True)
    assert [str(each) for each in said] == ["no grader for job: the pool is closed"] * 6


async def test_an_error_that_is_no_sandbox_error_reaches_who_asked_and_stops_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def fail(text: str, timeout_s: float) -> Outcome:
        raise OSError(24, "Too many open files")

    pool = GraderPool(test_graders.__name__, VerifierSettings(timeout_s=30.0))
    with monkeypatch.context() as patch:
        patch.setattr(pool._server, "call", fail)
        said = await asyncio.gather(*(pool.work("job", "job") for _ in range(3)), return_exceptions=True)
        assert all(isinstance(each, GraderDied) for each in said), said
        assert all("Too many open files" in str(each) for each in said)
    assert "next" in await pool.work("next", "next")
    await pool.aclose()
