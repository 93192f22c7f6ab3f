"""Pools of grader processes, one design for every domain that needs them.

Consumes jobs, which are JSON texts; produces one line of JSON for each, or raises `GraderTimeout` or
`GraderDied`: a failure is never a zero. Waits for a free grader, then for its answer; unblocked by the
job's deadline.

Jobs are done in forks of one warm process that holds the heavy imports, behind the same walls as the
python tool (`runtime.sandbox`): killed at the deadline, limited in memory. Jobs that wait for a grader
share a fork, since a fork with its page faults costs as much as several grades. A fork that is killed
or dies takes only the job that it was at: those done before it count, those after it go to another
fork, and it itself is tried again alone, with the whole time limit to itself.
"""

import asyncio
import json
from collections import deque
from typing import Final

from actors.domains.grading import GraderDied, GraderTimeout
from configs.roles import VerifierSettings
from runtime.sandbox.errors import SandboxError
from runtime.sandbox.forkserver import ForkServer, Outcome

MAX_BATCH: Final = 16
"""Jobs of one fork."""
BATCH_LIMIT_S: Final = 2.0
"""A fork with several jobs is killed after this long, or the job's own limit if that is shorter."""
_ATTEMPTS: Final = 2
_OUTPUT_BYTES: Final = 65536


class _Ticket:
    """One job, and who waits for it."""

    def __init__(self, job: str, what: str) -> None:
        self.job = job
        self.what = what
        self.answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.alone = False
        """A fork with this job has ended before its time: it gets one of its own."""
        self.deaths = 0

    def fail(self, error: Exception) -> None:
        """Tell who waits, if somebody still does."""
        if not self.answer.done():
            self.answer.set_exception(error)


class GraderPool:
    """Killable graders of one kind.

    `module` names a module whose `main()` calls `actors.domains.grader_process.serve_grades`. Use it
    from one event loop.
    """

    def __init__(self, module: str, settings: VerifierSettings, allow_weak: bool = False) -> None:
        self._timeout_s = settings.timeout_s
        self._lanes = settings.graders
        self._waiting: deque[_Ticket] = deque()
        self._running: set[asyncio.Task[None]] = set()
        self._server = ForkServer(
            module,
            {
                "modules": [],
                "memory_mb": settings.memory_mb,
                "output_bytes": _OUTPUT_BYTES,
                "reads": True,
                "allow_weak": allow_weak,
            },
            settings.graders,
        )

    def __repr__(self) -> str:
        return f"<GraderPool {len(self._waiting)} waiting, {self._server!r}>"

    async def start(self) -> None:
        """Start the warm process (seconds). Raises SandboxError if it cannot be confined here."""
        await self._server.start()

    async def work(self, job: str, what: str) -> str:
        """The grader's line for this job; `what` names it in errors. Raises GraderTimeout, GraderDied."""
        ticket = _Ticket(job, what)
        self._waiting.append(ticket)
        self._wake()
        return await ticket.answer

    async def aclose(self) -> None:
        """Kill all graders; whoever still waits gets GraderDied."""
        await self._server.aclose()
        await asyncio.gather(*self._running)

    def _wake(self) -> None:
        """Have as many lanes at work as there are graders, or jobs."""
        if len(self._running) < min(self._lanes, len(self._running) + len(self._waiting)):
            lane = asyncio.create_task(self._lane())
            self._running.add(lane)
            lane.add_done_callback(self._running.discard)

    async def _lane(self) -> None:
        """Do batches until nothing waits."""
        while batch := self._next_batch():
            try:
                await self._do(batch)
            except BaseException as error:
                for ticket in batch:
                    ticket.fail(GraderDied(f"the pool was stopped at {ticket.what}: {error!r}"))
                raise

    def _next_batch(self) -> list[_Ticket]:
        """A job that must go alone, or this lane's share of what waits."""
        share = min(MAX_BATCH, -(-len(self._waiting) // self._lanes))
        batch: list[_Ticket] = []
        while self._waiting and len(batch) < share:
            if self._waiting[0].alone and batch:
                break
            ticket = self._waiting.popleft()
            if not ticket.answer.done():  # nobody waits for it any more
                batch.append(ticket)
            if ticket.alone:
                break
        return batch if batch or not self._waiting else self._next_batch()

    async def _do(self, batch: list[_Ticket]) -> None:
        limit_s = self._timeout_s if len(batch) == 1 else min(self._timeout_s, BATCH_LIMIT_S)
        try:
            outcome = await self._server.call(json.dumps([ticket.job for ticket in batch]), limit_s)
        except SandboxError as error:
            for ticket in batch:
                ticket.fail(GraderDied(f"no grader for {ticket.what}: {error}"))
            return
        *lines, rest = outcome.output.split("\n")
        for ticket, line in zip(batch, lines, strict=False):
            if not ticket.answer.done():
                ticket.answer.set_result(line)
        unanswered = batch[len(lines) :]
        if unanswered and len(batch) == 1:
            self._judge_failure(batch[0], outcome, rest)
        elif unanswered:
            unanswered[0].alone = True
            self._waiting.extendleft(reversed(unanswered))
            self._wake()

    def _judge_failure(self, ticket: _Ticket, outcome: Outcome, said: str) -> None:
        """A job had a fork to itself, and got no answer."""
        if outcome.ending == "timeout":
            ticket.fail(GraderTimeout(f"grading {ticket.what} took longer than {self._timeout_s:g} s"))
            return
        ticket.deaths += 1
        if ticket.deaths < _ATTEMPTS:
            ticket.alone = True
            self._waiting.appendleft(ticket)
        else:
            ticket.fail(GraderDied(f"the grader ended twice ({outcome.ending}) on {ticket.what}: {said}"))
