"""Every benchmark runs to its end, in a short form: with few rounds of little work.

What it measures then means nothing, so whether a target is met does not count.
"""

import importlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LIMIT_S = 600
SHORT = """
import asyncio, importlib, inspect, json, sys
from benchmarks.figures import Figures
name, constants = sys.argv[1], json.loads(sys.argv[2])
sys.argv[1:] = json.loads(sys.argv[3])
module = importlib.import_module(name)
for key, value in constants.items():
    before = getattr(module, key)
    setattr(module, key, {**before, **value} if isinstance(value, dict) else type(before)(value))
run = getattr(module, "main", None) or module.run
if inspect.iscoroutinefunction(run):
    figures = Figures()
    code = asyncio.run(run(figures) if inspect.signature(run).parameters else run())
else:
    code = run()
print("exit code", code or 0)
"""
FEW_GROUPS = {"loop.batch_groups": 4, "loop.max_groups_per_step": 4, "loop.max_concurrent_groups": 4}
CONSTANTS: dict[str, dict[str, object]] = {
    "agents": {"PEOPLE": 4, "COMMANDS": 16, "ROUNDS": 1},
    "data_plane.cache": {"ROUNDS": 1, "GETS": 20, "BLOBS": 128, "TRACE": 500},
    "data_plane.folders": {"ROUNDS": 1, "SMALL_FILES": 5, "LARGE_FILES": 1, "LARGE_BYTES": 1 << 20},
    "data_plane.search": {},
    "data_plane.wire": {"ROUNDS": 1, "ASKERS": 4, "LARGE_BYTES": 2 << 20, "LARGE_BLOBS": 1},
    "engines": {"REQUESTS": 8, "CONCURRENT": 4, "MAX_TOKENS": 8, "ROUNDS": 1, "SWAPS": 1},
    "learning": {"CHANGES": ["loop.rounds=1", "evaluation.tasks=30"]},
    "messages": {"ROUNDS": 1, "ASKERS": 4},
    "overlap": {"STEPS": 3, "SECONDS": 0.05},
    "pipelines": {"STEPS": 5, "ROUNDS": 1},
    "rollouts": {"REPEATS": 1, "GROUPS": 4, "CONCURRENT_GROUPS": 4, "CHANGES": FEW_GROUPS},
    "sink": {"SENDERS": 4, "REQUESTS": 1, "REPEATS": 1},
    "start": {"ROUNDS": 1},
    "tools": {"CALLS": 4, "PARALLEL_CALLS": 8, "COMMANDS": 2},
}
ARGUMENTS = {"learning": ["--seeds", "1"]}
ON_RAY = ("messages", "rollouts", "learning")
LONG = ("engines", "learning", "overlap", "tools", "messages")
"""Those that take minutes, if only because of what they start."""


def marks(name: str) -> list[pytest.MarkDecorator]:
    chosen = [pytest.mark.slow]
    chosen += [pytest.mark.ray] if name in ON_RAY else []
    return [*chosen, pytest.mark.long] if name in LONG else chosen


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """One that other users may enter, unlike pytest's: sandboxed programs are run by nobody."""
    with tempfile.TemporaryDirectory(prefix="af-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


def test_every_benchmark_has_a_short_form() -> None:
    folder = ROOT / "benchmarks"
    found = {path.stem for path in folder.glob("[!_]*.py")} - {"figures"}
    parts = {path.stem for path in (folder / "data_plane").glob("[!_]*.py")} - {"search_set", "store_server"}
    assert CONSTANTS.keys() == found | {f"data_plane.{name}" for name in parts}


@pytest.mark.parametrize("name", CONSTANTS)
def test_a_benchmark_finds_all_that_it_uses_of_the_project(name: str) -> None:
    module = importlib.import_module(f"benchmarks.{name}")
    assert [constant for constant in CONSTANTS[name] if not hasattr(module, constant)] == []


@pytest.mark.parametrize("name", [pytest.param(name, marks=marks(name)) for name in CONSTANTS])
def test_a_benchmark_runs_to_its_end(name: str, open_folder: Path) -> None:
    arguments = [f"benchmarks.{name}", json.dumps(CONSTANTS[name]), json.dumps(ARGUMENTS.get(name, []))]
    done = subprocess.run(
        [sys.executable, "-c", SHORT, *arguments],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(open_folder)},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    lines = done.stdout.splitlines()
    assert any(line.startswith("figure ") for line in lines), done.stdout
    assert lines[-1].startswith("exit code ")
