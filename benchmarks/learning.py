"""Does the Student learn? The laptop preset as a person runs it, on three seeds, and a control.

    python -m benchmarks.learning [--seeds 1 2 3]

Each seed is one `agentfactory evolve laptop --json`, Ray's start included. The held-out tasks are
the same for all and are never trained on (`training.tasks.arithmetic.is_held_out` splits by hash);
this is checked in the stored trajectories. The control deals the rewards of each batch out at
random: what it still gains was not learned from them.
"""

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from actors.sink.segments import read_trajectories
from benchmarks.figures import Figures
from messages.runs import RunResult
from training.tasks import arithmetic

LIMIT_S = 900


class Outcome(NamedTuple):
    """What one run came to."""

    before: float
    after: float
    lowest_held_out: int
    worst_drop: float
    wall_s: float
    leaked: int


def run(seed: int, *changes: str) -> Outcome:
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / "run"
        command = [sys.executable, "-m", "agentfactory", "evolve", "laptop", "--json"]
        command += ["--seed", str(seed), "--run-dir", str(folder)]
        command += [part for change in changes for part in ("--set", change)]
        began = time.monotonic()
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
        wall_s = time.monotonic() - began
        if done.returncode:
            raise SystemExit(f"seed {seed}: exit code {done.returncode}\n{done.stderr[-2000:]}")
        result = RunResult.model_validate(json.loads(done.stdout))
        curve = [round_.pass_at_1 for round_ in result.rounds]
        print(f"seed {seed} {' '.join(changes)}: {' '.join(f'{p:.2f}' for p in curve)}", flush=True)
        return Outcome(
            before=curve[0],
            after=curve[-1],
            lowest_held_out=min(round_.n for round_ in result.rounds),
            worst_drop=max((a - b for a, b in itertools.pairwise(curve)), default=0.0),
            wall_s=wall_s,
            leaked=count_leaks(folder),
        )


def count_leaks(folder: Path) -> int:
    """Training episodes whose task belongs to the held-out split."""
    leaks = 0
    for trajectory in read_trajectories(folder / "trajectories"):
        if trajectory.policy == "student" and not trajectory.group_id.startswith("eval-"):
            expression = arithmetic.find_expression(trajectory.task.description)
            leaks += expression is not None and arithmetic.is_held_out(expression)
    return leaks


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    seeds = parser.parse_args().seeds
    figures = Figures()
    for seed in seeds:
        outcome = run(seed)
        figures.add(f"learning_seed{seed}_before", outcome.before, "pass@1", "<=", 0.35)
        figures.add(f"learning_seed{seed}_after", outcome.after, "pass@1", ">=", 0.90)
        figures.add(f"learning_seed{seed}_worst_drop", outcome.worst_drop, "pass@1", "<=", 0.10)
        figures.add(f"learning_seed{seed}_held_out", outcome.lowest_held_out, "tasks", ">=", 200)
        figures.add(f"learning_seed{seed}_leaked", outcome.leaked, "episodes", "<=", 0)
        figures.add(f"learning_seed{seed}_wall", outcome.wall_s, "s", "<=", 120)
    control = run(seeds[0], "rewards.shuffle=true")
    figures.add("learning_shuffled_gain", control.after - control.before, "pass@1", "<=", 0.10)
    return figures.exit_code()


if __name__ == "__main__":
    raise SystemExit(main())
