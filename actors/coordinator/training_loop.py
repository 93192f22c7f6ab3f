"""The training loop: from batches to versions, and from versions to rounds.

Consumes accepted groups; produces training steps, new versions in use, and evaluations; waits for
batches, for the Trainer and for at most one evaluation behind; unblocked by each entry of the record,
and by the deadline of each step.

The Teacher is trained on its own turns, rewarded by how the Student fared. Engines that share a GPU with
the Trainer sleep while it works.
"""

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from random import Random
from typing import Literal

import anyio
from anyio.abc import TaskGroup

from ...configs.settings import Settings
from ...messages.adapters import AdapterRef, FetchAdapter, LoadAdapter, Policy
from ...messages.base import Done, Request
from ...messages.episodes import Rewards
from ...messages.generation import SleepEngine, WakeEngine
from ...messages.runs import RoundFinished, StepFinished, TasksRewarded
from ...messages.tasks import RewardTasks, Task, TaskOutcome
from ...messages.trajectories import Group, StepReport, StoreTrajectories, TrainStep, Trajectory
from ...messages.turns import Turn
from ...runtime.ref import PoolRef, Ref, ask_with_retry
from ...runtime.tasks import task_group
from ...training.rewards import shuffle_rewards
from .curriculum import TaskPrefetcher
from .evaluator import Evaluation, Evaluator
from .peers import ActorRefs
from .publisher import PolicyPublisher
from .rollouts import Rollouts
from .run_state import JournaledState

QUICK_TIMEOUT_S = 60.0
EndReason = Literal["rounds", "drained", "frontier_exhausted"]


class TrainingLoop:
    """Trains and evaluates, version after version."""

    def __init__(
        self,
        settings: Settings,
        record: JournaledState,
        refs: ActorRefs,
        publisher: PolicyPublisher,
        rollouts: Rollouts,
        prefetcher: TaskPrefetcher,
        evaluator: Evaluator,
    ) -> None:
        self._settings = settings
        self._loop = settings.loop
        self._record = record
        self._refs = refs
        self._publisher = publisher
        self._rollouts = rollouts
        self._prefetcher = prefetcher
        self._evaluator = evaluator

    async def run(self) -> EndReason:
        """Until all versions are made, or nothing is left to train on; returns why it ended."""
        state = self._record.state
        async with task_group() as evaluations:
            for version in self.missing_rounds():
                evaluations.start_soon(self._evaluate, AdapterRef(policy="student", version=version))
            while state.version < self._loop.rounds:
                batch = await self._next_batch()
                if not batch:
                    return "drained" if self._rollouts.draining else "frontier_exhausted"
                await self._train_student(batch, evaluations)
                await self._train_teacher()
        return "rounds"

    def missing_rounds(self) -> list[int]:
        """Versions that should have been evaluated by now and have not."""
        state = self._record.state
        return [v for v in range(state.version + 1) if self._due(v) and v not in state.rounds]

    async def _next_batch(self) -> list[str]:
        """Ids of the groups to train on; none when there is nothing (more) to train on."""
        state, rollouts = self._record.state, self._rollouts
        while True:
            if rollouts.draining and not rollouts.running:
                return []
            await rollouts.drop_stale()
            ready = list(state.ready)
            if len(ready) >= self._loop.batch_groups:
                return ready[: self._loop.batch_groups]
            if not rollouts.running and state.sampled >= self._loop.max_groups_per_step:
                return ready
            await self._record.changed.wait()

    async def _train_student(self, batch: list[str], evaluations: TaskGroup) -> None:
        state = self._record.state
        groups = self._rollouts.contents(batch)
        gaps = [state.version - state.ready[group_id][1].oldest_version for group_id in batch]
        rollout_s = self._rollouts.pop_busy_seconds()
        if self._settings.rewards.shuffle:
            groups = shuffle_rewards(groups, Random(f"{self._settings.seed}:{state.version}"))
        report = await self._step("student", groups)
        await self._record.add(_finished(report, tuple(batch), rollout_s, sum(gaps) / len(gaps)))
        self._rollouts.forget(batch)
        await self._evaluated(state.version - 1)
        if self._due(state.version):
            evaluations.start_soon(self._evaluate, report.adapter)
        await self._publisher.retire("student", (state.version, state.version - 1))

    async def _train_teacher(self) -> None:
        """One step on what the Student has tried since the last one."""
        outcomes = tuple(self._record.state.outcomes)
        if not self._settings.teacher.train or len(outcomes) < 2:
            return
        rejected, self._prefetcher.rejected = self._prefetcher.rejected[-len(outcomes) :], []
        request = RewardTasks(outcomes=outcomes)
        rewards = await ask_with_retry(self._refs.teacher, request, timeout_s=QUICK_TIMEOUT_S)
        version = self._publisher.current("teacher").version
        learned = tuple(outcome.proposal.task.id for outcome in outcomes)
        await self._record.add(
            TasksRewarded(version=version, task_ids=learned, rewards=rewards.totals, at=time.time())
        )
        group = teacher_group(version, outcomes, rewards.totals, rejected)
        message = StoreTrajectories.of(group.trajectories)
        await ask_with_retry(self._refs.sink, message, timeout_s=QUICK_TIMEOUT_S)
        report = await self._step("teacher", (group,))
        await self._record.add(_finished(report, learned, 0.0, 0.0))
        await self._publisher.retire("teacher", (version, version + 1))

    async def _step(self, policy: Policy, groups: tuple[Group, ...]) -> StepReport:
        """Train, then bring the new version into use."""
        version = self._publisher.current(policy).version
        request = TrainStep(policy=policy, version=version, groups=groups, tag=self._publisher.tag)
        async with self._gpu_for_the_trainer():
            report = await ask_with_retry(self._refs.trainer, request, timeout_s=self._loop.step_timeout_s)
        adapter = report.adapter
        await self._publisher.publish(
            FetchAdapter(adapter=adapter)
            if adapter.tag
            else LoadAdapter(adapter=adapter, config_json=report.config_json, weights=report.weights)
        )
        return report

    @asynccontextmanager
    async def _gpu_for_the_trainer(self) -> AsyncIterator[None]:
        """Where engines sleep for it, what they are asked for comes first."""
        if not self._settings.engine.sleeps_while_training:
            yield
            return
        for version in self.missing_rounds():
            await self._evaluated(version)
        async with engines_asleep(self._refs.engines):
            yield

    async def _evaluate(self, adapter: AdapterRef) -> None:
        await self._record.add(self._round(await self._evaluator.evaluate(adapter)))

    async def _evaluated(self, version: int) -> None:
        """Wait for an evaluation that is under way: at most one lags behind."""
        while self._due(version) and version not in self._record.state.rounds:
            await self._record.changed.wait()

    def _due(self, version: int) -> bool:
        return version % self._settings.evaluation.every == 0 or version == self._loop.rounds

    def _round(self, evaluation: Evaluation) -> RoundFinished:
        state = self._record.state
        step = state.steps.get(evaluation.version)
        return RoundFinished(
            version=evaluation.version,
            pass_at_1=evaluation.pass_at_1,
            n=evaluation.n,
            ci95=evaluation.ci95,
            mean_reward=evaluation.mean_reward,
            tool_use=evaluation.tool_use,
            train_s=step.train_s if step else 0.0,
            rollout_s=step.rollout_s if step else 0.0,
            tokens=state.tokens,
            asked_difficulty=state.curriculum.difficulty,
            proposed_difficulty=state.proposed.get(evaluation.version),
            staleness=step.staleness if step else 0.0,
            eval_s=evaluation.duration_s,
            failed=evaluation.failed,
            domains=evaluation.domains,
            at=time.time(),
        )


def _finished(
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


def teacher_group(
    version: int, outcomes: Sequence[TaskOutcome], totals: Sequence[float], rejected: Sequence[Turn]
) -> Group:
    """All proposals of a step as one group; those that came to nothing earn nothing (R_format = 0)."""
    group_id = f"teacher-v{version}"
    trajectories = [
        _teacher_trajectory(f"teach-{outcome.proposal.task.id}", group_id, outcome.proposal.task, turn, total)
        for outcome, total in zip(outcomes, totals, strict=True)
        if (turn := outcome.proposal.turn) is not None
    ]
    for number, turn in enumerate(rejected):
        task = Task(
            id=f"rejected-{version}-{number}",
            domain="none",
            description=turn.text or "(empty)",
            difficulty=0.0,
        )
        trajectories.append(_teacher_trajectory(f"teach-{task.id}", group_id, task, turn, 0.0))
    return Group(group_id=group_id, trajectories=tuple(trajectories))


def _teacher_trajectory(episode_id: str, group_id: str, task: Task, turn: Turn, total: float) -> Trajectory:
    return Trajectory(
        episode_id=episode_id,
        group_id=group_id,
        policy="teacher",
        task=task,
        turns=(turn,),
        rewards=Rewards(total=total),
        finished_at=time.time(),
    )


SLEEP_TIMEOUT_S = 300.0
"""The longest that an engine's last requests, or moving its weights, may take."""


@asynccontextmanager
async def engines_asleep(engines: PoolRef) -> AsyncIterator[None]:
    """All engines sleep inside the block, and are woken however it ends. A new one is born awake."""
    try:
        await _ask_all(engines, SleepEngine())
        yield
    finally:
        with anyio.CancelScope(shield=True), anyio.fail_after(SLEEP_TIMEOUT_S):
            await _ask_all(engines, WakeEngine())


async def _ask_all(engines: PoolRef, message: Request[Done]) -> None:
    async with task_group() as group:
        for engine in engines.members:
            group.start_soon(_ask, engine, message)


async def _ask(engine: Ref, message: Request[Done]) -> None:
    await ask_with_retry(engine, message, timeout_s=SLEEP_TIMEOUT_S)
