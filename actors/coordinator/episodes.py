"""Runners of episodes and groups: to their end, whatever dies meanwhile.

Invariants:
  - an episode's id is fixed by its lease; a failed attempt is recorded and the episode is given out
    again; only a verdict makes a reward;
  - no two attempts share a storage namespace, whatever died in between. What could not be deleted when
    an attempt had ended goes with the next garbage collection.
"""

import time
from collections.abc import Iterable, Sequence

import structlog

from ...configs.errors import AgentFactoryError
from ...configs.rewards import RewardWeights
from ...configs.roles import LoopSettings
from ...messages.adapters import AdapterRef
from ...messages.episodes import (
    EpisodeFailed,
    GroupVerdict,
    JudgeGroup,
    Rewards,
    RewardTerm,
    Solution,
    SolveTask,
    Verdict,
)
from ...messages.runs import Fate, GroupFinished, GroupLeased
from ...messages.tasks import Task
from ...messages.trajectories import FindTrajectories, Group, StoreTrajectories, Trajectory
from ...runtime.ref import Ref, ask_with_retry
from ...runtime.tasks import task_group
from ...runtime.topics import Topics
from ...training.reward_terms import JudgedEpisode
from ...training.rewards import episode_rewards, in_frontier
from ..domains import needs_store
from ..namespaces import DataAccess, clear, new_namespace, sweep
from .publisher import PolicyPublisher
from .run_state import RunState

log = structlog.get_logger("coordinator")


class NamespaceManager:
    """Allocates one storage namespace per attempt at a task that acts on the data plane; others have none."""

    def __init__(self, data: DataAccess | None, state: RunState) -> None:
        self._data = data
        self._state = state

    def new(self, task: Task, episode_id: str) -> str:
        """A space for one attempt; empty for a task that needs none."""
        return new_namespace(self._state.run_id, episode_id) if needs_store(task.domain) else ""

    async def clear(self, spaces: Iterable[str]) -> None:
        """Destroy what these attempts have stored. A failure is logged: it changes no verdict."""
        used = [space for space in spaces if space]
        if self._data is None or not used:
            return
        try:
            await clear(self._data, used)
        except AgentFactoryError as error:
            log.warning("an episode's blobs stay for now", spaces=used, reason=str(error))

    async def collect_garbage(self) -> None:
        """Destroy what earlier attempts of this run left, and what dead runs left long ago."""
        if self._data is None:
            return
        try:
            await sweep(self._data, self._state.run_id)
        except AgentFactoryError as error:
            log.warning("leftovers of episodes stay for now", reason=str(error))


STORE_TIMEOUT_S = 60.0
JUDGE_TIMEOUT_S = 120.0


class EpisodeRunner:
    """Gives episodes to Students, again where an attempt fails."""

    def __init__(
        self,
        settings: LoopSettings,
        students: Ref,
        publisher: PolicyPublisher,
        topics: Topics,
        spaces: NamespaceManager,
    ) -> None:
        self.spaces = spaces
        """Where the solutions' spaces are to be cleared once they are judged."""
        self._settings = settings
        self._students = students
        self._publisher = publisher
        self._topics = topics

    async def solve(self, request: SolveTask) -> Solution | None:
        """The solution, or None when every attempt failed."""
        attempts = self._settings.episode_attempts
        for attempt in range(1, attempts + 1):
            if not request.pinned:
                newest = self._publisher.current("student")
                request = request.model_copy(update={"adapter": newest})
            space = self.spaces.new(request.task, request.episode_id)
            request = request.model_copy(update={"space": space})
            try:
                return await self._students.ask(request, timeout_s=self._settings.episode_timeout_s)
            except AgentFactoryError as error:
                failed = EpisodeFailed(
                    episode_id=request.episode_id,
                    attempt=attempt,
                    error=type(error).__name__,
                    reason=str(error),
                    will_retry=attempt < attempts,
                )
                log.warning("episode failed", **failed.model_dump())
                await self._topics.publish(failed)
                await self.spaces.clear([space])
                await self._publisher.reload()
        return None


class GroupRunner:
    """Runs the k episodes of one leased task: solve, judge, reward, store."""

    def __init__(
        self,
        settings: LoopSettings,
        weights: RewardWeights,
        frontier: float,
        episodes: EpisodeRunner,
        verifier: Ref,
        sink: Ref,
    ) -> None:
        self._settings = settings
        self._weights = weights
        self._frontier = frontier
        self._episodes = episodes
        self._verifier = verifier
        self._sink = sink

    async def resume(self, lease: GroupLeased, newest: AdapterRef) -> tuple[GroupFinished, Group]:
        """Finish a lease of an earlier sitting, which may have got as far as storing the group."""
        stored = await self.find(lease.group_id, lease.episode_ids)
        if len(stored.trajectories) == len(lease.episode_ids):
            return self._finished(lease, stored), stored
        return await self.run(lease, newest)

    async def run(self, lease: GroupLeased, newest: AdapterRef) -> tuple[GroupFinished, Group]:
        """All of it; returns once the trajectories are durable."""
        solutions = await self._solve_all(lease, newest)
        judged = await self._judge(lease.proposal.task, solutions)
        group = Group(group_id=lease.group_id, trajectories=self._trajectories(lease, solutions, judged))
        if group.trajectories:
            message = StoreTrajectories.of(group.trajectories)
            await ask_with_retry(self._sink, message, timeout_s=STORE_TIMEOUT_S)
        return self._finished(lease, group), group

    async def find(self, group_id: str, episode_ids: Sequence[str]) -> Group:
        """What the sink has of a group."""
        message = FindTrajectories(episode_ids=tuple(episode_ids))
        found = await ask_with_retry(self._sink, message, timeout_s=STORE_TIMEOUT_S)
        return Group(group_id=group_id, trajectories=found.trajectories)

    async def _solve_all(self, lease: GroupLeased, newest: AdapterRef) -> list[Solution]:
        solutions: list[Solution] = []

        async def one(episode_id: str) -> None:
            task = lease.proposal.task
            request = SolveTask(episode_id=episode_id, task=task, adapter=newest)
            solution = await self._episodes.solve(request)
            if solution is not None:
                solutions.append(solution)

        async with task_group() as group:
            for episode_id in lease.episode_ids:
                group.start_soon(one, episode_id)
        return solutions

    async def _judge(self, task: Task, solutions: list[Solution]) -> GroupVerdict:
        message = JudgeGroup(task=task, solutions=tuple(solutions))
        try:
            verdict = await ask_with_retry(self._verifier, message, timeout_s=JUDGE_TIMEOUT_S)
        finally:
            await self._episodes.spaces.clear(solution.space for solution in solutions)
        for episode_id, reason in verdict.failed:
            log.warning("grading failed", episode_id=episode_id, reason=reason)
        return verdict

    def _trajectories(
        self, lease: GroupLeased, solutions: list[Solution], judged: GroupVerdict
    ) -> tuple[Trajectory, ...]:
        verdicts = {verdict.episode_id: verdict for verdict in judged.verdicts}
        return tuple(
            self._trajectory(lease, solution, verdicts[solution.episode_id], judged)
            for solution in solutions
            if solution.episode_id in verdicts
        )

    def _trajectory(
        self, lease: GroupLeased, solution: Solution, verdict: Verdict, judged: GroupVerdict
    ) -> Trajectory:
        episode = JudgedEpisode.of(judged.task, solution, verdict, judged.majority_share)
        rewards = episode_rewards(episode, self._weights)
        return trajectory(lease.group_id, judged.task, solution, verdict, rewards, judged.majority_share)

    def _finished(self, lease: GroupLeased, group: Group) -> GroupFinished:
        trajectories = group.trajectories
        judged = len(trajectories)
        fate: Fate = "failed"
        if judged >= max(2, self._settings.group_size // 2):
            inside = in_frontier(trajectories[0].majority_share, self._frontier)
            fate = "accepted" if inside else "filtered"
        return GroupFinished(
            group_id=lease.group_id,
            fate=fate,
            episodes=judged,
            failed=len(lease.episode_ids) - judged,
            success=_mean([float(bool(t.verdict and t.verdict.correct)) for t in trajectories]),
            majority_share=trajectories[0].majority_share if trajectories else 0.0,
            difficulty=lease.proposal.task.difficulty,
            tool_calls=_mean([sum(len(turn.calls) for turn in t.turns) for t in trajectories]),
            rewards=mean_rewards([t.rewards for t in trajectories]),
            oldest_version=min((t.oldest_version for t in trajectories), default=0),
            tokens=sum(len(turn.completion_ids) for t in trajectories for turn in t.turns),
            at=time.time(),
        )


def trajectory(
    group_id: str,
    task: Task,
    solution: Solution,
    verdict: Verdict,
    rewards: Rewards,
    majority_share: float = 0.0,
) -> Trajectory:
    """The record of an episode that ended with a verdict."""
    return Trajectory(
        episode_id=solution.episode_id,
        group_id=group_id,
        task=task,
        turns=solution.turns,
        answer=solution.answer,
        stop_reason=solution.stop_reason,
        verdict=verdict,
        rewards=rewards,
        majority_share=majority_share,
        confidence=solution.confidence,
        finished_at=time.time(),
    )


def mean_rewards(rewards: Sequence[Rewards]) -> Rewards:
    """The mean of each part."""
    return Rewards(
        uncertainty=_mean([reward.uncertainty for reward in rewards]),
        tool_use=_mean([reward.tool_use for reward in rewards]),
        novelty=_mean([reward.novelty for reward in rewards]),
        correctness=_mean([reward.correctness for reward in rewards]),
        terms=tuple(
            RewardTerm(name=terms[0].name, value=_mean([term.value for term in terms]))
            for terms in zip(*(reward.terms for reward in rewards), strict=True)
        ),
        total=_mean([reward.total for reward in rewards]),
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
