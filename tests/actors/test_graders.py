"""The pool of graders: jobs share a fork, and one that hangs or dies takes no other with it."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from typing import NoReturn

import pytest
import pytest_asyncio
from pydantic import JsonValue

from agentfactory.actors.domains.grader_pool import MAX_BATCH, GraderPool
from agentfactory.actors.domains.grader_process import GradeFunction, serve_grader
from agentfactory.actors.domains.grading import GraderDied, GraderTimeout
from agentfactory.configs.roles import VerifierSettings

LIMIT_S = 180.0

pytestmark = pytest.mark.asyncio(loop_scope="module")


def prepare() -> GradeFunction:
    """Graders that do as they are told; this module is their server."""

    def work(job: str) -> JsonValue:
        if job == "hang":
            while True:
                pass
        if job == "die":
            os._exit(1)
        if job == "eat":
            raise MemoryError
        if job == "raise":
            raise KeyError("no such\nthing")
        return [job, os.getpid()]

    return work


def main() -> NoReturn:
    serve_grader(prepare)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def pool() -> AsyncIterator[GraderPool]:
    made = GraderPool(__name__, VerifierSettings(graders=1, timeout_s=3.0))
    async with asyncio.timeout(LIMIT_S):
        await made.start()
    yield made
    async with asyncio.timeout(LIMIT_S):
        await made.aclose()


async def done(pool: GraderPool, *jobs: str) -> list[str | Exception]:
    async with asyncio.timeout(LIMIT_S):
        said = await asyncio.gather(*(pool.work(job, job) for job in jobs), return_exceptions=True)
    return [each if isinstance(each, Exception) else json.loads(each)[0] for each in said]  # type: ignore[arg-type]


async def test_jobs_that_wait_share_a_fork(pool: GraderPool) -> None:
    jobs = [f"job {n}" for n in range(3 * MAX_BATCH)]
    async with asyncio.timeout(LIMIT_S):
        said = await asyncio.gather(*(pool.work(job, job) for job in jobs))
    answers = [json.loads(line) for line in said]
    assert [job for job, _ in answers] == jobs
    assert len({process for _, process in answers}) == 3


@pytest.mark.parametrize(
    ("bad", "error", "why"),
    [
        ("hang", GraderTimeout, "grading hang took longer than 3 s"),
        ("die", GraderDied, r"ended twice \(crashed\) on die"),
        ("eat", GraderDied, r"ended twice \(memory\) on eat"),
        ("raise", GraderDied, r"ended twice \(error\) on raise: KeyError: 'no such\\nthing'"),
    ],
)
async def test_a_job_that_ends_its_fork_takes_no_other_with_it(
    pool: GraderPool, bad: str, error: type[Exception], why: str
) -> None:
    first, second, failed, last = await done(pool, "a", "b", bad, "c")
    assert (first, second, last) == ("a", "b", "c")
    with pytest.raises(error, match=why):
        raise failed  # type: ignore[misc]


async def test_two_bad_jobs_in_one_batch_fail_each_for_itself(pool: GraderPool) -> None:
    said = await done(pool, "a", "die", "b", "raise", "c")
    assert [each for each in said if isinstance(each, str)] == ["a", "b", "c"]
    assert sum(isinstance(each, GraderDied) for each in said) == 2


async def test_a_job_that_nobody_waits_for_any_more_is_not_done(pool: GraderPool) -> None:
    busy = asyncio.create_task(pool.work("hang", "hang"))
    await asyncio.sleep(0)
    given_up = asyncio.create_task(pool.work("hang", "given up"))
    await asyncio.sleep(0)
    given_up.cancel()
    assert await done(pool, "after") == ["after"]
    with pytest.raises(GraderTimeout):
        await busy


async def test_who_waits_when_the_pool_closes_is_told() -> None:
    made = GraderPool(__name__, VerifierSettings(graders=1, timeout_s=30.0))
    async with asyncio.timeout(LIMIT_S):
        await made.start()
        waiting = [asyncio.create_task(made.work("hang", "hang")) for _ in range(3)]
        await asyncio.sleep(0)
        await made.aclose()
        said = await asyncio.gather(*waiting, return_exceptions=True)
        assert all(isinstance(each, GraderDied) for each in said)
        with pytest.raises(GraderDied, match="is closed"):
            await made.work("late", "late")
