"""A run on Ray goes on after its driver was killed."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from agentfactory.actors.coordinator.journal import FILE, read_journal
from agentfactory.actors.sink.segments import read_trajectories
from agentfactory.messages.runs import RunResult, StepFinished
from tests.agentfactory.test_cli import TINY_SETTINGS, command

pytestmark = [pytest.mark.ray, pytest.mark.slow]
LIMIT_S = 300
ROOT = Path(__file__).parents[2]


def test_a_run_whose_driver_was_killed_goes_on_where_its_journal_ends(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    never_stale = ["--set", "loop.max_staleness=3"]  # what is dropped is sampled again, and counted
    options = ["--rounds", "3", "--run-dir", str(folder), *TINY_SETTINGS, *never_stale]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)])}
    environment.pop("RAY_ADDRESS", None)
    running = subprocess.Popen(
        command("evolve", "laptop", *options),
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert running.stdout is not None
        for line in running.stdout:
            if "version 1 " in line and "pass@1" in line:
                break
        running.send_signal(signal.SIGKILL)
        running.communicate(timeout=LIMIT_S)
    finally:
        running.kill()
    steps = [e.adapter.version for e in read_journal(folder / FILE) if isinstance(e, StepFinished)]
    assert 1 <= len(steps) < 3
    done = subprocess.run(
        command("resume", str(folder), "--json"),
        env=environment,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result = RunResult.model_validate_json(done.stdout)
    assert [round_.version for round_ in result.rounds] == [0, 1, 2, 3]
    assert result.episodes == 3 * 4 * 4
    stored = [t.episode_id for t in read_trajectories(folder / "trajectories") if t.group_id.startswith("g")]
    assert len(stored) == len(set(stored)) == 3 * 4 * 4
