"""Does the Student learn? The laptop preset as a person runs it, on three seeds, and a control.

    python -m benchmarks.learning [--seeds 1 2 3]

Each seed is one `agentfactory evolve laptop --json`, Ray's start and a data plane's included. The
held-out tasks are the same for all and are never trained on (each domain splits by a hash of what its
tasks are about); this is checked in the stored trajectories. The control deals the rewards of each
batch out at random: what it still gains was not learned from them.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from agentfactory.actors.domains import domain_named
from agentfactory.actors.sink.segments import read_trajectories
from agentfactory.configs.data import LIBRARY
from agentfactory.messages.runs import RunResult
from agentfactory.messages.tasks import Task
from benchmarks.figures import Figures

LIMIT_S = 900
CHANGES: tuple[str, ...] = ()
"""Of the preset, for every run."""


class Outcome(NamedTuple):
    """What one run came to."""

    before: dict[str, float]
    """pass@1 of version 0, by domain."""
    after: dict[str, float]
    lowest_held_out: int
    below_best: dict[str, float]
    """How far the last version is below the best one, by domain."""
    wall_s: float
    leaked: int

    def gain(self, domain: str) -> float:
        return self.after[domain] - self.before[domain]


def run(seed: int, *changes: str) -> Outcome:
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / "run"
        command = [sys.executable, "-m", "agentfactory", "evolve", "laptop", "--json"]
        command += ["--seed", str(seed), "--run-dir", str(folder)]
        command += [part for change in (*CHANGES, *changes) for part in ("--set", change)]
        began = time.monotonic()
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
        wall_s = time.monotonic() - began
        if done.returncode:
            raise SystemExit(f"seed {seed}: exit code {done.returncode}\n{done.stderr[-2000:]}")
        result = RunResult.model_validate(json.loads(done.stdout))
        curves = curves_of(result)
        for domain, curve in curves.items():
            shown = " ".join(f"{share:.2f}" for share in curve)
            print(f"seed {seed} {' '.join(changes)} {domain}: {shown}", flush=True)
        return Outcome(
            before={domain: curve[0] for domain, curve in curves.items()},
            after={domain: curve[-1] for domain, curve in curves.items()},
            lowest_held_out=min(round_.n for round_ in result.rounds),
            below_best={domain: max(curve) - curve[-1] for domain, curve in curves.items()},
            wall_s=wall_s,
            leaked=count_leaks(folder),
        )


def curves_of(result: RunResult) -> dict[str, list[float]]:
    """pass@1 of each version, by domain."""
    curves: dict[str, list[float]] = {}
    for round_ in result.rounds:
        for score in round_.domains:
            curves.setdefault(score.domain, []).append(score.pass_at_1)
    return curves


def count_leaks(folder: Path) -> int:
    """Training episodes whose task belongs to the held-out split."""
    return sum(
        is_held_out(trajectory.task)
        for trajectory in read_trajectories(folder / "trajectories")
        if trajectory.policy == "student" and not trajectory.group_id.startswith("eval-")
    )


def is_held_out(task: Task) -> bool:
    """As the domain itself says."""
    checked = (
        domain_named(task.domain).task_generator(LIBRARY).check(f"Task: {task.description}", task.difficulty)
    )
    return checked is not None and checked.held_out


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    seeds = parser.parse_args().seeds
    figures = Figures()
    for seed in seeds:
        outcome = run(seed)
        for domain in outcome.before:
            name = f"learning_seed{seed}_{domain}"
            figures.add(f"{name}_before", outcome.before[domain], "pass@1", "<=", 0.45)
            figures.add(f"{name}_gain", outcome.gain(domain), "pass@1", ">=", 0.30)
            figures.add(f"{name}_below_best", outcome.below_best[domain], "pass@1", "<=", 0.05)
        figures.add(f"learning_seed{seed}_held_out", outcome.lowest_held_out, "tasks", ">=", 200)
        figures.add(f"learning_seed{seed}_leaked", outcome.leaked, "episodes", "<=", 0)
        figures.add(f"learning_seed{seed}_wall", outcome.wall_s, "s", "<=", 240)
    control = run(seeds[0], "rewards.shuffle=true")
    for domain in control.before:
        figures.add(f"learning_shuffled_{domain}_gain", control.gain(domain), "pass@1", "<=", 0.10)
    return figures.exit_code()


if __name__ == "__main__":
    raise SystemExit(main())
