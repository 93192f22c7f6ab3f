"""The Coordinator.

Consumes StartRun, DrainRun, DescribeRun; produces leases, training steps, evaluations, and the
run's events; waits for groups, for batches and for the Trainer; unblocked by the deadline of each
of its asks.

Invariants:
  - whatever decides the course of the run is in the journal before it is acted on, so a run resumes
    from its folder after any crash;
  - an episode's id is fixed when it is leased; a group is trained on at most once;
  - no group is trained on that is more than `max_staleness` versions old.
"""

import time
import uuid
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import anyio
import structlog

from ...configs.errors import AgentFactoryError, CannotWrite
from ...configs.settings import Settings
from ...messages.base import Done
from ...messages.runs import (
    DescribeRun,
    DrainRun,
    RunFailed,
    RunFinished,
    RunProgress,
    RunResumed,
    RunStarted,
    StartRun,
)
from ...runtime.actor import Actor
from ...runtime.tasks import task_group
from ...training.adapter_files import read_adapter
from .curriculum import TaskPrefetcher
from .episodes import EpisodeRunner, GroupRunner, NamespaceManager
from .evaluator import Evaluator, held_out_tasks
from .journal import FILE, Journal, read_journal
from .peers import ActorRefs
from .publisher import PolicyPublisher
from .rollouts import Rollouts
from .run_state import JournaledState, RunState
from .training_loop import EndReason, TrainingLoop

log = structlog.get_logger("coordinator")


class Coordinator(Actor):
    """Runs a run."""

    concurrency = 64

    def __init__(self, settings: Settings, run_dir: Path, refs: ActorRefs) -> None:
        self._settings = settings
        self._run_dir = run_dir
        self._refs = refs
        self._state = RunState(settings.curriculum)
        self._publisher = PolicyPublisher(refs.engines, refs.students, refs.teacher, refs.topics)
        self._begin = anyio.Event()
        self._ended = anyio.Event()
        self._end: RunFinished | RunFailed | None = None
        self._tokens_seen: tuple[float, int] = (0.0, 0)
        self._tokens_per_s = 0.0
        self._stack = AsyncExitStack()
        self._journal: Journal
        self._run_id: str

    async def start(self) -> None:
        """Take up what the journal says, if there is one."""
        path = self._run_dir / FILE
        known = path.exists() and path.stat().st_size > 0
        if known:
            for entry in read_journal(path):
                self._state.apply(entry)
        self._journal = Journal(path)
        self._run_id = self._state.run_id or uuid.uuid4().hex[:12]
        if self._refs.open_adapter_store is not None:
            store = await self._stack.enter_async_context(self._refs.open_adapter_store())
            self._publisher.use_adapter_store(store, f"adapters/{self._run_dir.name}-{self._run_id}")
        self._assemble()
        if known:
            self._begin.set()  # restarted after a crash, or resumed: nobody needs to say so again

    def _assemble(self) -> None:
        settings, refs, publisher = self._settings, self._refs, self._publisher
        self._record = JournaledState(self._journal, self._state, refs.topics)
        self._namespaces = NamespaceManager(refs.data, self._state)
        episodes = EpisodeRunner(settings.loop, refs.students, publisher, refs.topics, self._namespaces)
        groups = GroupRunner(
            settings.loop,
            settings.rewards,
            settings.curriculum.frontier,
            episodes,
            refs.verifier,
            refs.sink,
        )
        turns = max(2, len(settings.curriculum.domains))  # each domain has its part of every batch
        at_once = max(1, settings.loop.batch_groups // turns)
        prefetcher = TaskPrefetcher(refs.teacher, publisher, self._state.curriculum, at_once)
        self._rollouts = Rollouts(settings.loop, self._record, groups, prefetcher, publisher)
        tasks = held_out_tasks(settings.evaluation, settings.curriculum.domains, settings.data)
        self._evaluator = Evaluator(
            tasks, settings.evaluation, settings.rewards, episodes, refs.verifier, refs.sink
        )
        self._learning = TrainingLoop(
            settings, self._record, refs, publisher, self._rollouts, prefetcher, self._evaluator
        )

    async def aclose(self) -> None:
        """Close the journal, and the way to the adapters."""
        await self._stack.aclose()
        if hasattr(self, "_journal"):
            self._journal.close()

    async def begin(self, message: StartRun) -> Done:
        """Begin, or go on; a run that has ended says so again."""
        self._begin.set()
        if self._end is not None:
            await self._refs.topics.publish(self._end)
        return Done()

    async def drain(self, message: DrainRun) -> Done:
        """Lease nothing new; answer once what ran is finished and saved."""
        self._rollouts.draining = True
        self._record.changed.notify()
        with anyio.move_on_after(self._settings.loop.drain_timeout_s):
            await self._ended.wait()
        return Done()

    async def describe(self, message: DescribeRun) -> RunProgress:
        """How the run stands."""
        return self._progress()

    async def run(self) -> None:
        """The whole run, from start or resume to its end."""
        await self._begin.wait()
        try:
            async with task_group() as group:
                group.start_soon(self._report_progress)
                await self._whole_run()
                group.cancel_scope.cancel()
        except AgentFactoryError as error:
            await self._fail(error)
        finally:
            self._ended.set()

    async def _whole_run(self) -> None:
        state = self._state
        if state.finished is not None and state.is_over(self._settings.loop.rounds):
            self._end = state.finished
            await self._refs.topics.publish(self._end)
            return
        if state.run_id:
            await self._record.add(RunResumed(at=time.time()))
            await self._restore()
        else:
            await self._record.add(
                RunStarted(
                    run_id=self._run_id,
                    seed=self._settings.seed,
                    at=time.time(),
                    settings_sha256=self._settings.sha256(),
                )
            )
        structlog.contextvars.bind_contextvars(run_id=state.run_id)
        await self._namespaces.collect_garbage()
        async with task_group() as rollouts:
            rollouts.start_soon(self._rollouts.admit, rollouts)
            reason = await self._learning.run()
            rollouts.cancel_scope.cancel()
        await self._namespaces.collect_garbage()
        await self._finish(reason)

    async def _restore(self) -> None:
        """Bring adapters and ready groups back to where the journal ends."""
        state = self._state
        unevaluated = [state.steps[v].adapter for v in self._learning.missing_rounds() if v]
        for adapter in (*unevaluated, *state.adapters.values()):  # the newest of each policy last
            if adapter.version:
                await self._publisher.restore(read_adapter(self._run_dir, adapter))
        await self._rollouts.restore()

    async def _finish(self, reason: EndReason) -> None:
        state, now = self._state, time.time()
        finished = RunFinished(
            reason=reason,
            episodes=state.episodes,
            failed=state.failed,
            dropped_stale=state.dropped_stale,
            tokens=state.tokens,
            wall_s=state.wall_s(now),
            at=now,
        )
        await self._publisher.clear_adapter_store()
        self._end = finished
        if reason == "drained":  # the run is not over: the journal stays open for `resume`
            await self._refs.topics.publish(finished)
        else:
            await self._record.add(finished)

    async def _fail(self, error: AgentFactoryError) -> None:
        log.error("run failed", error=type(error).__name__, reason=str(error))
        self._end = RunFailed(
            error=type(error).__name__, reason=str(error), exit_code=error.exit_code, at=time.time()
        )
        with suppress(CannotWrite):  # the disk may be what failed
            self._journal.append(self._end)
        await self._refs.topics.publish(self._end)

    async def _report_progress(self) -> None:
        while True:
            await self._refs.topics.publish(self._progress())
            await anyio.sleep(self._settings.loop.progress_interval_s)

    def _progress(self) -> RunProgress:
        state, loop, now = self._state, self._settings.loop, time.time()
        then, tokens = self._tokens_seen
        if now - then >= 1.0:
            self._tokens_per_s = (state.tokens - tokens) / (now - then) if then else 0.0
            self._tokens_seen = (now, state.tokens)
        return RunProgress(
            version=state.version,
            rounds=loop.rounds,
            running=len(self._rollouts.running),
            accepted=len(state.ready),
            batch=loop.batch_groups,
            evaluating=self._evaluator.running,
            episodes=state.episodes,
            failed=state.failed,
            dropped_stale=state.dropped_stale,
            filtered=state.filtered,
            tokens=state.tokens,
            tokens_per_s=self._tokens_per_s,
            mean_reward=state.last_rewards.total,
            success=state.last_success,
            asked_difficulty=state.curriculum.difficulty,
            proposed_difficulty=state.proposed_lately,
            elapsed_s=state.wall_s(now) if state.run_id else 0.0,
        )
