"""pass@1 on the held-out tasks: fixed by the settings, and sampled the same way each version."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import structlog

from ...configs.data import DataSettings
from ...configs.errors import AgentFactoryError
from ...configs.rewards import RewardWeights
from ...configs.roles import EvaluationSettings
from ...messages.adapters import AdapterRef
from ...messages.episodes import JudgeSolution, Solution, SolveTask, Verdict
from ...messages.runs import DomainScore
from ...messages.tasks import Task
from ...messages.trajectories import StoreTrajectories, Trajectory
from ...runtime.errors import ActorDown
from ...runtime.ref import Ref, ask_with_retry
from ...runtime.tasks import task_group
from ...training.reward_terms import JudgedEpisode
from ...training.rewards import episode_rewards
from ...training.statistics import wilson_interval
from ..domains import domain_named
from ..domains.base import CheckedTask
from .episodes import STORE_TIMEOUT_S, EpisodeRunner, trajectory

log = structlog.get_logger("coordinator")
JUDGE_TIMEOUT_S = 120.0


class NothingJudged(AgentFactoryError):
    """An evaluation without a single verdict says nothing about the policy."""


class Evaluation(NamedTuple):
    """One version's result."""

    version: int
    correct: int
    n: int
    failed: int
    mean_reward: float
    tool_use: float
    domains: tuple[DomainScore, ...]
    duration_s: float

    @property
    def pass_at_1(self) -> float:
        """Share of correct answers among those judged."""
        return self.correct / self.n if self.n else 0.0

    @property
    def ci95(self) -> tuple[float, float]:
        """Wilson score interval."""
        return wilson_interval(self.correct, self.n)


class Evaluator:
    """Runs the held-out tasks with one version, pinned."""

    def __init__(
        self,
        tasks: Sequence[Task],
        settings: EvaluationSettings,
        weights: RewardWeights,
        episodes: EpisodeRunner,
        verifier: Ref,
        sink: Ref,
    ) -> None:
        self._settings = settings
        self._weights = weights
        self._episodes = episodes
        self._verifier = verifier
        self._sink = sink
        self._tasks = tasks
        self.running = 0
        """Episodes under way."""

    async def evaluate(self, adapter: AdapterRef) -> Evaluation:
        """pass@1 of one version; its trajectories are stored as `eval-v<version>`."""
        began = time.monotonic()
        done: list[Trajectory] = []
        async with task_group() as group:
            for number, task in enumerate(self._tasks):
                group.start_soon(self._one, adapter, number, task, done)
        if done:
            message = StoreTrajectories.of(done)
            await ask_with_retry(self._sink, message, timeout_s=STORE_TIMEOUT_S)
        n = len(done)
        if n == 0:
            raise NothingJudged(f"none of the {len(self._tasks)} held-out episodes ended with a verdict")
        names = dict.fromkeys(task.domain for task in self._tasks)
        of_domain = {name: [t for t in done if t.task.domain == name] for name in names}
        return Evaluation(
            version=adapter.version,
            correct=_count_correct(done),
            n=n,
            failed=len(self._tasks) - n,
            mean_reward=sum(t.rewards.total for t in done) / n,
            tool_use=_with_a_call(done) / n,
            domains=tuple(_score(name, part) for name, part in of_domain.items() if part),
            duration_s=time.monotonic() - began,
        )

    async def _one(self, adapter: AdapterRef, number: int, task: Task, done: list[Trajectory]) -> None:
        request = SolveTask(
            episode_id=f"eval-v{adapter.version}-{number}",
            task=task,
            adapter=adapter,
            pinned=True,
            temperature=self._settings.temperature,
            seed=self._settings.seed * 100_003 + number * 64,
        )
        self.running += 1
        try:
            solution = await self._episodes.solve(request)
            verdict = await self._judge(task, solution) if solution is not None else None
            await self._episodes.spaces.clear([solution.space] if solution is not None else [])
        finally:
            self.running -= 1
        if solution is None or verdict is None:
            return
        # Held-out tasks have no siblings, and nothing is new about them.
        episode = JudgedEpisode.of(task.model_copy(update={"novelty": 0.0}), solution, verdict)
        rewards = episode_rewards(episode, self._weights)
        done.append(trajectory(f"eval-v{adapter.version}", task, solution, verdict, rewards))

    async def _judge(self, task: Task, solution: Solution) -> Verdict | None:
        """The verdict, or None where grading failed: a failure is not a wrong answer."""
        try:
            judge = JudgeSolution(task=task, solution=solution)
            return await ask_with_retry(self._verifier, judge, timeout_s=JUDGE_TIMEOUT_S)
        except ActorDown:
            raise
        except AgentFactoryError as error:
            log.warning("grading failed", episode_id=solution.episode_id, reason=str(error))
            return None


def _score(domain: str, done: Sequence[Trajectory]) -> DomainScore:
    correct, n = _count_correct(done), len(done)
    return DomainScore(
        domain=domain,
        pass_at_1=correct / n,
        n=n,
        ci95=wilson_interval(correct, n),
        tool_use=_with_a_call(done) / n,
    )


def _count_correct(done: Sequence[Trajectory]) -> int:
    return sum(bool(t.verdict and t.verdict.correct) for t in done)


def _with_a_call(done: Sequence[Trajectory]) -> int:
    return sum(any(turn.calls for turn in t.turns) for t in done)


def held_out_tasks(settings: EvaluationSettings, domains: Sequence[str], data: DataSettings) -> list[Task]:
    """`settings.tasks` tasks, spread evenly over the domains. Raises BadInput for an unknown domain."""
    tasks: list[Task] = []
    names = list(dict.fromkeys(domains))
    for place, name in enumerate(names):
        count = settings.tasks // len(names) + (place < settings.tasks % len(names))
        side = domain_named(name).task_generator(Path(data.locate_library()), logic=settings.logic)
        prefix = "held-out" if name == "math" else f"held-out-{name}"
        found = side.held_out(count, settings.seed)
        tasks += [_held_out_task(f"{prefix}-{number}", name, task) for number, task in enumerate(found)]
    return tasks


def _held_out_task(task_id: str, domain: str, checked: CheckedTask) -> Task:
    return Task(
        id=task_id,
        domain=domain,
        description=checked.description,
        difficulty=checked.difficulty,
        reference=checked.reference,
        reference_kind=checked.reference_kind,
        goal=checked.goal,
    )
