"""Serial executors over one bounded thread pool, for calls of the store.

Invariants:
  - jobs of one executor run one after another, in the order of submission; so do their ends, on the loop;
  - consecutive pipelined jobs (puts) all begin before the first is waited for, so that one flush of the disk
    serves them; other jobs wait for their end;
  - jobs are batched: all that has queued goes to the pool in one hop, and comes back in one;
  - all requests for one blob go through one executor, so a read sees the write that came before it on the
    wire; reads of blobs without a pending write use other executors, and never wait for a disk's sync.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Generic, TypeVar

import structlog

log = structlog.get_logger("bridge")

ResultT = TypeVar("ResultT")
OutcomeT = TypeVar("OutcomeT")
Key = tuple[str, str]
"""Tag and name."""
READ_EXECUTORS = 2


class StoreJob(Generic[ResultT]):
    """A call for a thread, and the callbacks for its result on the loop."""

    __slots__ = ("_error", "_result", "done", "failed", "work")

    def __init__(
        self,
        work: Callable[[], ResultT],
        done: Callable[[ResultT], None],
        failed: Callable[[Exception], None],
    ) -> None:
        self.work = work
        self.done = done
        self.failed = failed
        self._result: ResultT | None = None
        self._error: Exception | None = None

    def run(self) -> None:
        """In a thread."""
        try:
            self._result = self.work()
        except Exception as error:  # told to `failed`
            self._error = error

    def finish(self) -> None:
        """On the loop."""
        if self._error is not None:
            self.failed(self._error)
        else:
            self.done(self._result)  # type: ignore[arg-type]  # run() has set it


class PipelinedJob(StoreJob[ResultT]):
    """A job in two steps, begin and wait: the jobs after it begin before it has ended."""

    __slots__ = ("_begin", "_wait")

    def __init__(
        self,
        begin: Callable[[], Callable[[], ResultT]],
        done: Callable[[ResultT], None],
        failed: Callable[[Exception], None],
    ) -> None:
        super().__init__(self._end, done, failed)
        self._begin = begin
        self._wait: Callable[[], ResultT] | None = None

    def begin(self) -> None:
        """In a thread. `run` comes after it."""
        try:
            self._wait = self._begin()
        except Exception as error:
            self._error = error

    def _end(self) -> ResultT:
        if self._error is not None:
            raise self._error
        assert self._wait is not None
        return self._wait()


class SerialExecutor:
    """Runs its jobs one after another."""

    def __init__(self, executors: "SerialExecutors") -> None:
        self._executors = executors
        self._waiting: list[StoreJob] = []  # type: ignore[type-arg]  # of any result
        self._busy = False

    def submit(self, job: StoreJob[ResultT]) -> None:
        """Run it after those before it."""
        self._waiting.append(job)
        if not self._busy:
            self._busy = True
            self._executors.start_soon(self)

    def start(self) -> None:
        """Hand all that waits to the pool."""
        jobs, self._waiting = self._waiting, []
        self._executors.pool.submit(self._run, jobs)

    def _run(self, jobs: list[StoreJob]) -> None:  # type: ignore[type-arg]
        begun: list[PipelinedJob] = []  # type: ignore[type-arg]
        for job in jobs:
            if isinstance(job, PipelinedJob):
                job.begin()
                begun.append(job)
            else:
                _end(begun)
                job.run()
        _end(begun)
        self._executors.loop.call_soon_threadsafe(self._finish, jobs)

    def _finish(self, jobs: list[StoreJob]) -> None:  # type: ignore[type-arg]
        self._busy = bool(self._waiting)
        if self._busy:
            self.start()
            self._executors.begun()
        for job in jobs:
            try:
                job.finish()
            except Exception:  # the others' answers must not be lost with this one
                log.exception("the end of a job failed")
        self._executors.ended()  # after what the jobs' ends have begun


def _end(begun: list[PipelinedJob]) -> None:  # type: ignore[type-arg]
    for job in begun:
        job.run()
    begun.clear()


class SerialExecutors:
    """All serial executors of a server, and their thread pool."""

    def __init__(self, loop: asyncio.AbstractEventLoop, threads: int, write_executors: int) -> None:
        self.loop = loop
        self.pool = ThreadPoolExecutor(threads, thread_name_prefix="store")
        self._write = [SerialExecutor(self) for _ in range(write_executors)]
        self._read = [SerialExecutor(self) for _ in range(READ_EXECUTORS)]
        self._pending: dict[Key, int] = {}
        self._starting: list[SerialExecutor] = []
        self._busy = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def new_executor(self) -> SerialExecutor:
        """A new executor with a queue of its own."""
        return SerialExecutor(self)

    def read(self, key: Key, job: StoreJob[ResultT]) -> None:
        """Run a job that does not change this blob."""
        if key in self._pending:
            self._write[hash(key) % len(self._write)].submit(job)
        else:
            self._read[hash(key) % READ_EXECUTORS].submit(job)

    def write(self, key: Key, job: StoreJob[ResultT]) -> None:
        """Run a job that changes this blob."""
        self._pending[key] = self._pending.get(key, 0) + 1
        job.done = partial(self._written, key, job.done)
        job.failed = partial(self._written, key, job.failed)
        self._write[hash(key) % len(self._write)].submit(job)

    def _written(self, key: Key, then: Callable[[OutcomeT], None], outcome: OutcomeT) -> None:
        self._pending[key] -= 1
        if not self._pending[key]:
            del self._pending[key]
        then(outcome)

    def start_soon(self, executor: SerialExecutor) -> None:
        """Start an executor after this turn of the loop, so that the turn's requests go together."""
        self.begun()
        if not self._starting:
            self.loop.call_soon(self._start)
        self._starting.append(executor)

    def _start(self) -> None:
        starting, self._starting = self._starting, []
        for executor in starting:
            executor.start()

    def begun(self) -> None:
        """Count an executor's jobs as running."""
        self._busy += 1
        self._idle.clear()

    def ended(self) -> None:
        """Count an executor's jobs as done."""
        self._busy -= 1
        if not self._busy:
            self._idle.set()

    async def aclose(self, timeout_s: float) -> bool:
        """Let all jobs end; whether they did in time. What the store never answers is left to itself."""
        try:
            await asyncio.wait_for(self._idle.wait(), timeout_s)
        except TimeoutError:
            log.error("the store does not answer", executors=self._busy)
            self.pool.shutdown(wait=False, cancel_futures=True)
            return False
        self.pool.shutdown(wait=True)  # its threads have nothing to do
        return True
