"""Pools of grader processes, one design for every domain that needs them.

Consumes jobs, which are JSON texts; produces one line of JSON for each, or raises `GraderTimeout` or
`GraderDied`: a failure is never a zero. Waits for a free grader, then for its answer; unblocked by a
limit of its own that counts both waits, whatever becomes of the processes.

Jobs are done in forks of one warm process that holds the heavy imports, behind the same walls as the
python tool (`runtime.sandbox`): killed at the deadline, limited in memory. Jobs that wait for a grader
share a fork, since a fork with its page faults costs as much as several grades. A fork that is killed
or dies takes only the job that it was at: those done before it count, those after it go to another
fork, and it itself is tried again alone, with the whole time limit to itself.

Scheduling is one synchronous decision (`_next_batches`), taken after every change: when jobs have come,
and when a batch has ended. Invariant: whenever a job is queued while a grader is idle, a decision is
scheduled; a batch ends within its limit, so the queue never stands still.
"""

import asyncio
import json
from collections import deque
from typing import Final, TypeVar

from pydantic import TypeAdapter, ValidationError

from ...configs.roles import VerifierSettings
from ...runtime.sandbox.errors import SandboxError
from ...runtime.sandbox.fork_server_client import GRACE_S, START_TIMEOUT_S, ForkServerClient, Outcome
from .grading import GraderDied, GraderTimeout, shorten

MAX_BATCH: Final = 16
"""Jobs of one fork."""
BATCH_LIMIT_S: Final = 2.0
"""A fork with several jobs is killed after this long, or the job's own limit if that is shorter."""
_ATTEMPTS: Final = 2
_OUTPUT_BYTES: Final = 65536
_CLOSED: Final = "the pool is closed"
T = TypeVar("T")


def parse_grader_line(form: TypeAdapter[T], line: str, what: str) -> T:
    """Parse a grader's line. Raises GraderDied where it is half a line, or of another form."""
    try:
        return form.validate_json(line, strict=True)
    except ValidationError as error:
        raise GraderDied(f"the grader said {shorten(line)!r} on {what}") from error


class _GradingJob:
    """One job, and the future that whoever asked waits for."""

    def __init__(self, text: str, what: str) -> None:
        self.text = text
        self.what = what
        self.answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.alone = False
        """A fork with this job has ended before its time: it gets one of its own."""
        self.deaths = 0

    def succeed(self, line: str) -> None:
        """Answer whoever waits, if somebody still does."""
        if not self.answer.done():
            self.answer.set_result(line)

    def fail(self, error: Exception) -> None:
        """Tell whoever waits why there is no answer, if somebody still does."""
        if not self.answer.done():
            self.answer.set_exception(error)


class GraderPool:
    """Killable graders of one kind.

    `module` names a module whose `main()` calls `actors.domains.grader_process.serve_grader`. Use it
    from one event loop.
    """

    def __init__(self, module: str, settings: VerifierSettings, allow_weak: bool = False) -> None:
        self._timeout_s = settings.timeout_s
        self._graders = settings.graders
        self._queue: deque[_GradingJob] = deque()
        self._running: dict[asyncio.Task[None], list[_GradingJob]] = {}
        self._closed = False
        self._server = ForkServerClient(
            module,
            {
                "modules": [],
                "memory_mb": settings.memory_mb,
                "reads": True,
                "stderr": True,
                "allow_weak": allow_weak,
            },
            _OUTPUT_BYTES,
            settings.graders,
        )

    def __repr__(self) -> str:
        return f"<GraderPool {len(self._queue)} queued, {len(self._running)} running, {self._server!r}>"

    async def start(self) -> None:
        """Start the warm process (seconds). Raises SandboxError if it cannot be confined here."""
        await self._server.start()

    async def work(self, job: str, what: str) -> str:
        """The grader's line for this job; `what` names it in errors. Raises GraderTimeout, GraderDied."""
        if self._closed:
            raise GraderDied(f"no grader for {what}: {_CLOSED}")
        queued, limit_s = _GradingJob(job, what), self._wait_limit_s()
        self._queue.append(queued)
        # In the loop's next turn, so that jobs that come together share a fork.
        asyncio.get_running_loop().call_soon(self._start_batches)
        try:
            async with asyncio.timeout(limit_s):
                return await queued.answer
        except TimeoutError as error:
            raise GraderTimeout(f"no answer on {what} within {limit_s:g} s, queue included") from error

    async def aclose(self) -> None:
        """Kill all graders; whoever still waits gets GraderDied."""
        self._closed = True
        while self._queue:
            job = self._queue.popleft()
            job.fail(GraderDied(f"no grader for {job.what}: {_CLOSED}"))
        try:
            await self._server.aclose()
        finally:
            running = list(self._running)
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    def _wait_limit_s(self) -> float:
        """Longest that a job which comes now may wait: the server's start, the jobs before it, its own.

        Each job takes at most one shared attempt and `_ATTEMPTS` of its own.
        """
        ahead = len(self._queue) + sum(map(len, self._running.values()))
        rounds = 1 + ahead // self._graders
        return START_TIMEOUT_S + rounds * (1 + _ATTEMPTS) * (self._timeout_s + GRACE_S)

    def _start_batches(self) -> None:
        """Start what the scheduling decided."""
        for batch in self._next_batches():
            task = asyncio.create_task(self._do(batch))
            self._running[task] = batch
            task.add_done_callback(self._end_batch)

    def _end_batch(self, task: asyncio.Task[None]) -> None:
        """A grader is idle again: account for it and decide anew, in one step."""
        batch = self._running.pop(task)
        error = None if task.cancelled() else task.exception()
        if task.cancelled() or error is not None:
            for job in batch:
                died = GraderDied(f"the pool was stopped at {job.what}: {error or _CLOSED}")
                died.__cause__ = error
                job.fail(died)
        self._start_batches()

    def _next_batches(self) -> list[list[_GradingJob]]:
        """Take from the queue what idle graders do next: a job that must go alone, or each one's share."""
        while self._queue and self._queue[0].answer.done():  # nobody waits for it any more
            self._queue.popleft()
        batches: list[list[_GradingJob]] = []
        share = min(MAX_BATCH, -(-len(self._queue) // self._graders))
        while self._queue and len(self._running) + len(batches) < self._graders:
            if batch := self._next_batch(share):
                batches.append(batch)
        return batches

    def _next_batch(self, share: int) -> list[_GradingJob]:
        """The queue's first `share` jobs that somebody waits for, or its first that must go alone."""
        batch: list[_GradingJob] = []
        while self._queue and len(batch) < share:
            if self._queue[0].alone and batch:
                break
            job = self._queue.popleft()
            if not job.answer.done():
                batch.append(job)
                if job.alone:
                    break
        return batch

    async def _do(self, batch: list[_GradingJob]) -> None:
        """Have a fork do the batch; put back what it has not come to."""
        outcome = await self._call(batch)
        if outcome is None:
            return
        *lines, rest = outcome.output.split("\n")
        for job, line in zip(batch, lines, strict=False):
            job.succeed(line)
        unanswered = batch[len(lines) :]
        if unanswered and len(batch) == 1:
            self._count_failure(batch[0], outcome, rest)
        elif unanswered:
            unanswered[0].alone = True
            self._put_back(unanswered)

    async def _call(self, batch: list[_GradingJob]) -> Outcome | None:
        """Call a fork; None once the batch has been told that there is none."""
        limit_s = self._timeout_s if len(batch) == 1 else min(self._timeout_s, BATCH_LIMIT_S)
        # The server has limits of its own: this one holds whatever becomes of it.
        last_resort_s = START_TIMEOUT_S + limit_s + 2 * GRACE_S
        try:
            async with asyncio.timeout(last_resort_s):
                return await self._server.call(json.dumps([job.text for job in batch]), limit_s)
        except TimeoutError:
            for job in batch:
                job.fail(GraderTimeout(f"no grader came back with {job.what} within {last_resort_s:g} s"))
        except SandboxError as error:
            for job in batch:
                job.fail(GraderDied(f"no grader for {job.what}: {error}"))
        return None

    def _count_failure(self, job: _GradingJob, outcome: Outcome, said: str) -> None:
        """A job had a fork to itself, and got no answer."""
        if outcome.ending == "timeout":
            job.fail(GraderTimeout(f"grading {job.what} took longer than {self._timeout_s:g} s"))
            return
        job.deaths += 1
        if job.deaths < _ATTEMPTS:
            job.alone = True
            self._put_back([job])
        else:
            job.fail(GraderDied(f"the grader ended twice ({outcome.ending}) on {job.what}: {said}"))

    def _put_back(self, jobs: list[_GradingJob]) -> None:
        """Queue them again, first; where the pool is closed, tell whoever waits."""
        if self._closed:
            for job in jobs:
                job.fail(GraderDied(f"the pool was stopped at {job.what}: {_CLOSED}"))
        else:
            self._queue.extendleft(reversed(jobs))
