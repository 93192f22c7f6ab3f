"""A realistic run made up for the report's tests, written through the real Journal and SegmentWriter."""

import math
import random
from pathlib import Path
from typing import NamedTuple

from agentfactory.actors.coordinator.journal import FILE, Journal, read_journal
from agentfactory.actors.sink.segments import SegmentWriter, read_trajectories
from agentfactory.configs.load import load_settings
from agentfactory.messages.adapters import AdapterRef
from agentfactory.messages.episodes import Rewards, Verdict
from agentfactory.messages.runs import (
    DomainScore,
    GroupDropped,
    GroupFinished,
    GroupLeased,
    RoundFinished,
    RunFinished,
    RunStarted,
    StepFinished,
)
from agentfactory.messages.tasks import Proposal, Task
from agentfactory.messages.trajectories import Trajectory
from agentfactory.messages.turns import ToolCall, ToolResult, Turn
from agentfactory.training.statistics import wilson_interval
from agentfactory.training.tasks import arithmetic

BEGAN_AT = 1_790_000_000.0
GROUPS_PER_STEP = 26


class Skill(NamedTuple):
    """What the made-up Student can do at one version."""

    easy: float
    hard: float
    tool_use: float

    def at(self, difficulty: float) -> float:
        return self.easy + (self.hard - self.easy) * difficulty


def skill(version: int) -> Skill:
    learned = 1.0 - math.exp(-version / 2.6)
    return Skill(0.52 + 0.46 * learned, 0.02 + 0.84 * learned, 0.31 + 0.69 * learned)


def write_fake_run(
    folder: Path,
    rounds: int = 12,
    seed: int = 0,
    finished: bool = True,
    domains: tuple[str, ...] = ("math",),
) -> Path:
    """A run's folder with settings, journal and trajectories; held-out tasks take turns in `domains`."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = load_settings("laptop", {"loop.rounds": rounds})
    (folder / "settings.json").write_text(settings.model_dump_json(indent=2))
    run = _FakeRun(folder, random.Random(seed), domains)
    run.journal.append(RunStarted(run_id="5eed0f4c7f1e", seed=7, at=run.now, settings_sha256="0" * 64))
    run.evaluate(0)
    for version in range(1, rounds + 1):
        run.step(version)
        run.evaluate(version)
    if finished:
        run.end()
    run.close()
    return folder


class _FakeRun:
    def __init__(self, folder: Path, rng: random.Random, domains: tuple[str, ...]) -> None:
        self.rng = rng
        self.domains = domains
        self.now = BEGAN_AT
        self.groups = self.tokens = self.episodes = self.failed = self.dropped = 0
        self.difficulty = 0.3
        self.journal = Journal(folder / FILE)
        self.writer = SegmentWriter(folder / "trajectories", 1 << 20)
        self.last: StepFinished | None = None

    def step(self, version: int) -> None:
        accepted = [self.group(version - 1) for _ in range(GROUPS_PER_STEP)]
        ids = tuple(name for name in accepted if name)
        if version % 4 == 0 and len(ids) > 2:
            self.dropped += 1
            self.journal.append(
                GroupDropped(group_id=ids[0], oldest_version=version - 3, version=version - 1, at=self.now)
            )
            ids = ids[1:]
        self.now += 0.6
        self.last = _step(version, ids, self.now, self.rng)
        self.journal.append(self.last)

    def group(self, version: int) -> str:
        rng, name = self.rng, f"g{self.groups:06d}"
        self.groups += 1
        difficulty = min(1.0, max(0.0, self.difficulty + rng.gauss(0, 0.12)))
        expression = arithmetic.sample_expression(rng, difficulty)
        task = _task(f"t{self.groups}", f"Compute {expression}.", expression)
        ids = tuple(f"{name}-{i}" for i in range(8))
        lease = GroupLeased(
            group_id=name, proposal=Proposal(task=task), episode_ids=ids, version=version, at=self.now
        )
        self.journal.append(lease)
        self.now += 0.04
        finished = self.outcome(name, version, difficulty)
        self.journal.append(finished)
        self.tokens += finished.tokens
        self.episodes += finished.episodes
        self.failed += finished.failed
        if self.groups % 20 == 0:
            self.difficulty = min(1.0, self.difficulty + 0.05 * (version > 1))
        return name if finished.fate == "accepted" else ""

    def outcome(self, name: str, version: int, difficulty: float) -> GroupFinished:
        rng, able = self.rng, skill(version)
        failed = 1 if rng.random() < 0.03 else 0
        k = 8 - failed
        right = sum(rng.random() < able.at(difficulty) for _ in range(k))
        share = max(right, rng.choice((1, 1, 2, 3)) if right < k else 0) / 8
        novelty = max(0.05, 0.6 - self.groups / 900 + rng.gauss(0, 0.05))
        return GroupFinished(
            group_id=name,
            fate="accepted" if abs(share - 0.5) <= 0.25 else "filtered",
            episodes=k,
            failed=failed,
            success=right / k,
            majority_share=share,
            difficulty=difficulty,
            tool_calls=able.tool_use * rng.uniform(0.95, 1.3),
            rewards=_rewards(1 - 2 * abs(share - 0.5), able.tool_use * right / k, novelty, right / k),
            oldest_version=max(0, version - rng.randint(0, 1)),
            tokens=900,
            at=self.now,
        )

    def evaluate(self, version: int, count: int = 300) -> None:
        able, trajectories = skill(version), []
        for number, task in enumerate(arithmetic.held_out_tasks(count, 2026)):
            domain = self.domains[number % len(self.domains)]
            held_out = _task(f"held-out-{number}", task.text, task.expression, domain)
            correct = random.Random(f"{number}:{version // 3}").random() < able.at(task.difficulty)
            uses_tool = self.rng.random() < able.tool_use
            name = f"eval-v{version}-{number}"
            trajectories.append(
                _episode(name, version, held_out, task.expression, correct, uses_tool, self.now)
            )
        self.writer.commit([t.model_dump_json().encode() + b"\n" for t in trajectories])
        right = sum(bool(t.verdict and t.verdict.correct) for t in trajectories)
        used = sum(any(turn.calls for turn in t.turns) for t in trajectories)
        self.now += 0.9
        self.journal.append(
            RoundFinished(
                version=version,
                pass_at_1=right / count,
                n=count,
                ci95=wilson_interval(right, count),
                mean_reward=sum(t.rewards.total for t in trajectories) / count,
                tool_use=used / count,
                train_s=self.last.train_s if self.last else 0.0,
                rollout_s=self.last.rollout_s if self.last else 0.0,
                tokens=self.tokens,
                asked_difficulty=self.difficulty,
                staleness=self.last.staleness if self.last else 0.0,
                eval_s=self.rng.uniform(0.7, 1.1),
                domains=tuple(_score(name, trajectories) for name in self.domains),
                at=self.now,
            )
        )

    def end(self) -> None:
        self.journal.append(
            RunFinished(
                reason="rounds",
                episodes=self.episodes,
                failed=self.failed,
                dropped_stale=self.dropped,
                tokens=self.tokens,
                wall_s=self.now - BEGAN_AT,
                at=self.now,
            )
        )

    def close(self) -> None:
        self.journal.close()
        self.writer.close()


def _rewards(uncertainty: float, tool_use: float, novelty: float, correctness: float) -> Rewards:
    return Rewards(
        uncertainty=uncertainty,
        tool_use=tool_use,
        novelty=novelty,
        correctness=correctness,
        total=0.3 * uncertainty + 0.3 * tool_use + 0.2 * novelty + 0.2 * correctness,
    )


def _step(version: int, ids: tuple[str, ...], at: float, rng: random.Random) -> StepFinished:
    return StepFinished(
        policy="student",
        adapter=AdapterRef(policy="student", version=version, sha256="ab" * 32),
        group_ids=ids,
        loss=rng.gauss(0.0, 0.02),
        kl_to_base=0.02 * version,
        clip_fraction=rng.uniform(0.01, 0.06),
        entropy=0.8 * math.exp(-version / 6) + 0.05,
        grad_norm=rng.uniform(0.2, 0.9),
        tokens=23_000,
        train_s=rng.uniform(0.5, 0.8),
        rollout_s=rng.uniform(0.9, 1.4),
        staleness=rng.uniform(0.2, 0.9) if version > 1 else 0.0,
        at=at,
    )


def _score(domain: str, trajectories: list[Trajectory]) -> DomainScore:
    of_domain = [t for t in trajectories if t.task.domain == domain]
    right = sum(bool(t.verdict and t.verdict.correct) for t in of_domain)
    used = sum(any(turn.calls for turn in t.turns) for t in of_domain)
    n = len(of_domain)
    return DomainScore(
        domain=domain, pass_at_1=right / n, n=n, ci95=wilson_interval(right, n), tool_use=used / n
    )


def _task(name: str, text: str, expression: str, domain: str = "math") -> Task:
    return Task(
        id=name,
        domain=domain,
        description=text,
        difficulty=arithmetic.estimate_difficulty(expression),
        reference=str(arithmetic.evaluate(expression)),
        reference_kind="computed",
    )


def _episode(
    name: str, version: int, task: Task, expression: str, correct: bool, uses_tool: bool, at: float
) -> Trajectory:
    value = task.reference if correct else str(len(expression) * 37 + version)
    said = str(value)
    turns: tuple[Turn, ...]
    if uses_tool:
        code = f"print({expression})" if correct else f"print({expression[:-1]}"
        result = ToolResult(output=said, ok=True) if correct else _syntax_error()
        first = _turn(f"Thought: Use python.\nAction: python\nInput: {code}", version)
        first = first.model_copy(
            update={"calls": (ToolCall(tool="python", input=code),), "results": (result,)}
        )
        turns = (first, _turn(f"Thought: The tool says so.\nAnswer: {said}", version))
    else:
        turns = (_turn(f"Thought: {expression} is about {said}.\nAnswer: {said}", version),)
    score = 1.0 if correct else 0.0
    verdict = Verdict(
        episode_id=name,
        correct=correct,
        score=score,
        explanation="equal" if correct else f"expected {task.reference}, found {said}",
    )
    rewards = Rewards(tool_use=score * uses_tool, correctness=score, total=score * (0.2 + 0.3 * uses_tool))
    return Trajectory(
        episode_id=name,
        group_id=f"eval-v{version}",
        task=task,
        turns=turns,
        answer=said,
        verdict=verdict,
        rewards=rewards,
        confidence=0.9,
        finished_at=at,
    )


def _syntax_error() -> ToolResult:
    return ToolResult(output="SyntaxError: '(' was never closed", ok=False, failure="error")


def _turn(text: str, version: int) -> Turn:
    ids = tuple(ord(c) % 97 for c in text)
    return Turn(
        prompt_ids=(1, 2, 3),
        completion_ids=ids,
        logprobs=(-0.1,) * len(ids),
        loss_mask=(0, 0, 0) + (1,) * len(ids),
        policy_version=version,
        text=text,
        generate_s=0.02,
    )


def test_a_fake_run_can_be_read_by_the_real_readers(tmp_path: Path) -> None:
    folder = write_fake_run(tmp_path / "run", rounds=1)
    entries = list(read_journal(folder / FILE))
    assert isinstance(entries[0], RunStarted)
    assert isinstance(entries[-1], RunFinished)
    assert sum(1 for _ in read_trajectories(folder / "trajectories")) == 600
