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
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import NamedTuple

import anyio
import structlog
from anyio.abc import TaskGroup

from actors.coordinator.admission import capacity
from actors.coordinator.episodes import STORE_TIMEOUT_S, EpisodeRunner, GroupRunner
from actors.coordinator.evaluator import Evaluation, Evaluator
from actors.coordinator.journal import FILE, Journal, read_journal
from actors.coordinator.lessons import teacher_group
from actors.coordinator.publisher import PolicyPublisher
from actors.coordinator.signal import Signal
from actors.coordinator.state import RunState
from actors.coordinator.tasks import TaskStock
from configs.errors import AgentFactoryError
from configs.settings import Settings
from messages.adapters import AdapterRef, LoadAdapter, Policy
from messages.base import Done
from messages.learning import StepReport, TrainStep
from messages.runs import (
    DescribeRun,
    DrainRun,
    GroupDropped,
    GroupLeased,
    JournalEntry,
    RoundFinished,
    RunFailed,
    RunFinished,
    RunProgress,
    RunResumed,
    RunStarted,
    StartRun,
    StepFinished,
)
from messages.tasks import RewardTasks
from messages.trajectories import Group, StoreTrajectories
from runtime.actor import Actor
from runtime.ref import PoolRef, Ref
from runtime.retry import ask_again
from runtime.topics import Topics
from training.adapter_files import read_adapter
from training.rewards import shuffle_rewards

log = structlog.get_logger("coordinator")


class Crew(NamedTuple):
    """Everyone that the Coordinator works with."""

    engines: PoolRef
    teacher: Ref
    students: PoolRef
    verifier: Ref
    sink: Ref
    trainer: Ref
    topics: Topics


class Coordinator(Actor):
    """Runs a run."""

    concurrency = 64

    def __init__(self, settings: Settings, run_dir: Path, crew: Crew) -> None:
        self._settings = settings
        self._loop = settings.loop
        self._run_dir = run_dir
        self._crew = crew
        self._state = RunState(settings.curriculum)
        self._publisher = PolicyPublisher(crew.engines, crew.students, crew.teacher, crew.topics)
        self._episodes = EpisodeRunner(settings.loop, crew.students, self._publisher, crew.topics)
        self._groups = GroupRunner(
            settings.loop,
            settings.rewards,
            settings.curriculum.frontier,
            self._episodes,
            crew.verifier,
            crew.sink,
        )
        self._evaluator = Evaluator(
            settings.evaluation, settings.rewards, self._episodes, crew.verifier, crew.sink
        )
        self._stock = TaskStock(
            crew.teacher, self._publisher, self._state.curriculum, max(1, settings.loop.batch_groups // 2)
        )
        self._contents: dict[str, Group] = {}
        """Trajectories of the ready groups."""
        self._running: set[str] = set()
        self._changed = Signal()
        self._begin = anyio.Event()
        self._ended = anyio.Event()
        self._end: RunFinished | RunFailed | None = None
        self._draining = False
        self._rollout_since = 0.0
        self._rollout_s = 0.0
        self._tokens_seen: tuple[float, int] = (0.0, 0)
        self._tokens_per_s = 0.0
        self._journal: Journal

    async def start(self) -> None:
        """Take up what the journal says, if there is one."""
        path = self._run_dir / FILE
        known = path.exists() and path.stat().st_size > 0
        if known:
            for entry in read_journal(path):
                self._state.apply(entry)
        self._journal = Journal(path)
        if known:
            self._begin.set()  # restarted after a crash, or resumed: nobody needs to say so again

    async def aclose(self) -> None:
        """Close the journal."""
        if hasattr(self, "_journal"):
            self._journal.close()

    async def begin(self, message: StartRun) -> Done:
        """Begin, or go on; a run that has ended says so again."""
        self._begin.set()
        if self._end is not None:
            await self._crew.topics.publish(self._end)
        return Done()

    async def drain(self, message: DrainRun) -> Done:
        """Lease nothing new; answer once what ran is finished and saved."""
        self._draining = True
        self._changed.notify()
        with anyio.move_on_after(self._loop.drain_timeout_s):
            await self._ended.wait()
        return Done()

    async def describe(self, message: DescribeRun) -> RunProgress:
        """How the run stands."""
        return self._progress()

    # The run

    async def run(self) -> None:
        """The whole run, from start or resume to its end."""
        await self._begin.wait()
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(self._report_progress)
                await self._whole_run(group)
                group.cancel_scope.cancel()
        except* AgentFactoryError as errors:
            await self._fail(_first(errors))
        finally:
            self._ended.set()

    async def _whole_run(self, group: TaskGroup) -> None:
        state = self._state
        if state.finished is not None:
            self._end = state.finished
            await self._crew.topics.publish(self._end)
            return
        if not state.run_id:
            digest = self._settings.sha256()
            run_id = uuid.uuid4().hex[:12]
            started = RunStarted(
                run_id=run_id, seed=self._settings.seed, at=time.time(), settings_sha256=digest
            )
            await self._record(started)
        else:
            await self._record(RunResumed(at=time.time()))
            await self._restore()
        structlog.contextvars.bind_contextvars(run_id=state.run_id)
        async with anyio.create_task_group() as rollouts:
            rollouts.start_soon(self._admit, rollouts)
            reason = await self._learn()
            rollouts.cancel_scope.cancel()
        await self._finish(reason)

    async def _restore(self) -> None:
        """Bring adapters, ready groups and unfinished leases back to where the journal ends."""
        state = self._state
        unevaluated = [state.steps[version].adapter for version in self._missing_rounds() if version]
        for adapter in (*unevaluated, *state.adapters.values()):  # the newest of each policy last
            if adapter.version:
                await self._publisher.publish(read_adapter(self._run_dir, adapter))
        for group_id, (lease, _) in self._state.ready.items():
            self._contents[group_id] = await self._groups.find(group_id, lease.episode_ids)

    # Rollouts

    async def _admit(self, group: TaskGroup) -> None:
        """Give out work while there is room. Unfinished leases of an earlier sitting come first."""
        for lease in list(self._state.open.values()):
            group.start_soon(self._run_group, lease)
            self._running.add(lease.group_id)
        while not self._draining:
            if self._capacity() == 0:
                await self._changed.wait()
                continue
            proposal = await self._stock.next()
            group_id = f"g{self._state.leased:06d}"
            lease = GroupLeased(
                group_id=group_id,
                proposal=proposal,
                episode_ids=tuple(f"{group_id}-{i}" for i in range(self._loop.group_size)),
                version=self._state.version,
                at=time.time(),
            )
            await self._record(lease)
            self._running.add(group_id)
            group.start_soon(self._run_group, lease)

    def _capacity(self) -> int:
        state = self._state
        return capacity(self._loop, state.version, len(state.ready), len(self._running), state.sampled)

    async def _run_group(self, lease: GroupLeased) -> None:
        self._rollout_since = self._rollout_since or time.monotonic()
        finished, group = await self._groups.run(lease, self._publisher.current("student"))
        self._running.discard(lease.group_id)
        if finished.fate == "accepted":
            self._contents[lease.group_id] = group
        await self._record(finished)
        if not self._running:
            self._rollout_s += time.monotonic() - self._rollout_since
            self._rollout_since = 0.0
        self._changed.notify()

    # Learning

    async def _learn(self) -> str:
        """Evaluate and train, version after version; returns why it ended."""
        async with anyio.create_task_group() as evaluations:
            for version in self._missing_rounds():
                evaluations.start_soon(self._evaluate, AdapterRef(policy="student", version=version))
            while self._state.version < self._loop.rounds:
                batch = await self._next_batch()
                if not batch:
                    return "drained" if self._draining else "frontier_exhausted"
                adapter = await self._train_student(batch)
                await self._evaluated(adapter.version - 1)
                if self._due(adapter.version):
                    evaluations.start_soon(self._evaluate, adapter)
                await self._train_teacher()
                await self._publisher.retire("student", self._versions_in_use())
        return "rounds"

    async def _next_batch(self) -> list[str]:
        """Ids of the groups to train on; none when there is nothing (more) to train on."""
        while True:
            if self._draining and not self._running:
                return []
            await self._drop_stale()
            ready = list(self._state.ready)
            if len(ready) >= self._loop.batch_groups:
                return ready[: self._loop.batch_groups]
            if not self._running and self._state.sampled >= self._loop.max_groups_per_step:
                return ready
            await self._changed.wait()

    async def _drop_stale(self) -> None:
        version = self._state.version
        for group_id, (_, finished) in list(self._state.ready.items()):
            if finished.oldest_version < version - self._loop.max_staleness:
                self._contents.pop(group_id, None)
                dropped = GroupDropped(
                    group_id=group_id,
                    oldest_version=finished.oldest_version,
                    version=version,
                    at=time.time(),
                )
                await self._record(dropped)

    async def _train_student(self, batch: list[str]) -> AdapterRef:
        state = self._state
        groups = tuple(self._contents[group_id] for group_id in batch)
        gaps = [state.version - state.ready[group_id][1].oldest_version for group_id in batch]
        rollout_s = self._take_rollout_s()
        if self._settings.rewards.shuffle:
            groups = shuffle_rewards(groups, Random(f"{self._settings.seed}:{state.version}"))
        report = await self._step("student", groups)
        await self._record(_step_finished(report, tuple(batch), rollout_s, sum(gaps) / len(gaps)))
        for group_id in batch:
            self._contents.pop(group_id, None)
        self._changed.notify()
        return report.adapter

    async def _train_teacher(self) -> None:
        """One step on what the Student has tried since the last one."""
        outcomes = tuple(self._state.outcomes)
        if not self._settings.teacher.train or len(outcomes) < 2:
            return
        rejected, self._stock.rejected = self._stock.rejected[-len(outcomes) :], []
        rewards = await ask_again(
            self._crew.teacher, RewardTasks(outcomes=outcomes), timeout_s=STORE_TIMEOUT_S
        )
        version = self._publisher.current("teacher").version
        group = teacher_group(version, outcomes, rewards.totals, rejected)
        message = StoreTrajectories(trajectories=group.trajectories)
        await ask_again(self._crew.sink, message, timeout_s=STORE_TIMEOUT_S)
        report = await self._step("teacher", (group,))
        learned = tuple(outcome.proposal.task.id for outcome in outcomes)
        await self._record(_step_finished(report, learned, 0.0, 0.0))
        await self._publisher.retire("teacher", (version, version + 1))

    async def _step(self, policy: Policy, groups: tuple[Group, ...]) -> StepReport:
        """Train, then bring the new version into use."""
        version = self._publisher.current(policy).version
        request = TrainStep(policy=policy, version=version, groups=groups)
        report = await ask_again(self._crew.trainer, request, timeout_s=self._loop.step_timeout_s)
        await self._publisher.publish(
            LoadAdapter(adapter=report.adapter, config_json=report.config_json, weights=report.weights)
        )
        return report

    # Evaluation

    async def _evaluate(self, adapter: AdapterRef) -> None:
        evaluation = await self._evaluator.evaluate(adapter)
        await self._record(self._round(evaluation))
        self._changed.notify()

    async def _evaluated(self, version: int) -> None:
        """Wait for an evaluation that is under way: at most one lags behind."""
        while self._due(version) and version not in self._state.rounds:
            await self._changed.wait()

    def _missing_rounds(self) -> list[int]:
        """Versions that should have been evaluated by now and have not."""
        state = self._state
        return [v for v in range(state.version + 1) if self._due(v) and v not in state.rounds]

    def _due(self, version: int) -> bool:
        return version % self._settings.evaluation.every == 0 or version == self._loop.rounds

    def _round(self, evaluation: Evaluation) -> RoundFinished:
        step = self._state.steps.get(evaluation.version)
        return RoundFinished(
            version=evaluation.version,
            pass_at_1=evaluation.pass_at_1,
            n=evaluation.n,
            ci95=evaluation.ci95,
            mean_reward=evaluation.mean_reward,
            tool_use=evaluation.tool_use,
            train_s=step.train_s if step else 0.0,
            rollout_s=step.rollout_s if step else 0.0,
            tokens=self._state.tokens,
            difficulty=self._state.curriculum.difficulty,
            staleness=step.staleness if step else 0.0,
            eval_s=evaluation.duration_s,
            failed=evaluation.failed,
            at=time.time(),
        )

    def _versions_in_use(self) -> Mapping[int, None]:
        version = self._state.version
        return dict.fromkeys((version, version - 1))

    # Keeping track

    async def _record(self, entry: JournalEntry) -> None:
        """Journal, take into account, tell everyone: in this order."""
        self._journal.append(entry)
        self._state.apply(entry)
        await self._crew.topics.publish(entry)

    async def _finish(self, reason: str) -> None:
        state, now = self._state, time.time()
        finished = RunFinished.model_validate(
            {
                "reason": reason,
                "episodes": state.episodes,
                "failed": state.failed,
                "dropped_stale": state.dropped_stale,
                "tokens": state.tokens,
                "wall_s": state.wall_s(now),
                "at": now,
            }
        )
        self._end = finished
        if reason == "drained":  # the run is not over: the journal stays open for `resume`
            await self._crew.topics.publish(finished)
        else:
            await self._record(finished)

    async def _fail(self, error: BaseException) -> None:
        log.error("run failed", error=type(error).__name__, reason=str(error))
        self._end = RunFailed(error=type(error).__name__, reason=str(error), at=time.time())
        await self._crew.topics.publish(self._end)

    async def _report_progress(self) -> None:
        while True:
            await self._crew.topics.publish(self._progress())
            await anyio.sleep(self._loop.progress_interval_s)

    def _take_rollout_s(self) -> float:
        """Time with rollouts under way since this was last asked."""
        now = time.monotonic()
        if self._rollout_since:
            self._rollout_s += now - self._rollout_since
            self._rollout_since = now
        taken, self._rollout_s = self._rollout_s, 0.0
        return taken

    def _progress(self) -> RunProgress:
        state, now = self._state, time.time()
        then, tokens = self._tokens_seen
        if now - then >= 1.0:
            self._tokens_per_s = (state.tokens - tokens) / (now - then) if then else 0.0
            self._tokens_seen = (now, state.tokens)
        return RunProgress(
            version=state.version,
            rounds=self._loop.rounds,
            running=len(self._running),
            accepted=len(state.ready),
            batch=self._loop.batch_groups,
            evaluating=self._evaluator.running,
            episodes=state.episodes,
            failed=state.failed,
            dropped_stale=state.dropped_stale,
            filtered=state.filtered,
            tokens=state.tokens,
            tokens_per_s=self._tokens_per_s,
            mean_reward=state.last_rewards.total,
            success=state.last_success,
            difficulty=state.curriculum.difficulty,
            elapsed_s=state.wall_s(now) if state.run_id else 0.0,
        )


def _step_finished(
    report: StepReport, consumed: tuple[str, ...], rollout_s: float, staleness: float
) -> StepFinished:
    return StepFinished(
        policy=report.adapter.policy,
        adapter=report.adapter,
        group_ids=consumed,
        loss=report.loss,
        kl_to_base=report.kl_to_base,
        clip_fraction=report.clip_fraction,
        entropy=report.entropy,
        grad_norm=report.grad_norm,
        tokens=report.tokens,
        train_s=report.train_s,
        rollout_s=rollout_s,
        staleness=staleness,
        at=time.time(),
    )


def _first(errors: BaseExceptionGroup[AgentFactoryError]) -> BaseException:
    first: BaseException = errors
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    return first
