"""Every command that the documents show works as shown.

A small preset stands in for `laptop` in them, since eight steps for each command would take an hour.
"""

import asyncio
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import yaml
from _pytest.mark import ParameterSet

from tests.agentfactory.test_cli import TINY, call
from tests.free_ports import free_port

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "benchmarks" / "README.md"]
ELSEWHERE = {
    "make evolve": "make",
    "make test": "make",
    "make bench": "make",
    "agentfactory evolve laptop --engine vllm": "tests/agentfactory/test_vllm_run.py",
    "ray get-auth-token --generate": "tests/cluster",
    "export RAY_AUTH_MODE=token": "tests/cluster",
    "ray start --head": "tests/cluster",
    "ray start --address HEAD:6379": "tests/cluster",
    "agentfactory mcp": "tests/agentfactory/test_tools_command.py",
    "agentfactory environment": "tests/cluster/test_environment_document.py",
    "agentfactory serve": "tests/cluster/test_serving_document.py",
    "agentfactory serve --adapter runs/first": "tests/cluster/test_serving_document.py",
    "ray job submit --working-dir . -- python -m agentfactory evolve laptop --run-dir ~/runs/first": (
        "tests/cluster"
    ),
}
"""Commands that another test runs, or that run the tests themselves."""
DATA_COMMANDS = {
    "up",
    "down",
    "status",
    "ingest",
    "query",
    "get",
    "list",
    "search",
    "prune",
    "destroy",
    "run",
    "demo",
    "pipeline",
}
LINK = re.compile(r"\]\((?!http|#)([^)#]+)\)")


def blocks(document: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", document.read_text(), re.MULTILINE | re.DOTALL)


def commands(document: Path) -> list[str]:
    lines = "".join(blocks(document, "sh")).splitlines()
    return [line.partition(" #")[0].strip() for line in lines if line.strip()]


def small_preset(folder: Path, name: str = "small.yaml", base: str = "laptop") -> None:
    values: dict[str, object] = {
        "extends": base,
        "loop": {"rounds": 1},
        "runtime": {"transport": "local"},
    }
    for key, value in TINY.items():
        section, _, field = key.partition(".")
        values.setdefault(section, {})[field] = yaml.safe_load(str(value))  # type: ignore[index]
    endpoint, cache = f"tcp://127.0.0.1:{free_port()}", {"port": free_port()}
    values["data"] = {"bridge": {"endpoints": [endpoint]}, "cache": {"hosts": [cache]}}
    (folder / name).write_text(yaml.safe_dump(values))
    for name in ("docs", "data"):
        shutil.copytree(ROOT / name, folder / name, dirs_exist_ok=True)


def as_small(line: str) -> list[str]:
    """The words of a command, with the small preset in place of `laptop`, said or not."""
    words = shlex.split(line.replace(" laptop-data", " small-data.yaml").replace(" laptop", " small.yaml"))
    return [*words, "--preset", "small.yaml"] if words[1] in DATA_COMMANDS else words


LONG = {"docs/settings.md", "docs/confidence.md", "docs/rewards.md", "docs/tour.md", "docs/data-domain.md"}
"""Whole runs of presets that other tests make, too; the tour's sessions have a test of their own."""


def document_of(path: Path) -> ParameterSet:
    name = str(path.relative_to(ROOT))
    return pytest.param(path, id=name, marks=[pytest.mark.long] if name in LONG else [])


@pytest.mark.slow
@pytest.mark.parametrize("document", [document_of(path) for path in DOCUMENTS])
def test_the_commands_of_a_document_run_in_its_order(document: Path, tmp_path: Path) -> None:
    small_preset(tmp_path)
    small_preset(tmp_path, "small-data.yaml", "laptop-data")
    for text in blocks(document, "yaml"):
        (tmp_path / "my.yaml").write_text(text.replace("extends: laptop", "extends: small.yaml"))
    for text in blocks(document, "json"):
        (tmp_path / "plan.json").write_text(text)
    for line in commands(document):
        if line in ELSEWHERE:
            continue
        program, *arguments = as_small(line)
        assert program == "agentfactory", f"no test runs {line!r}"
        done = call(*arguments, cwd=tmp_path)
        unsolved = arguments[0] == "solve" and done.returncode == 1  # so small a student may find no answer
        assert done.returncode == 0 or unsolved, (line, done.stderr)
        assert done.stdout.strip() or "--output" in line or " -o " in line, line


def run_python(document: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, returns: str) -> object:
    (text,) = blocks(document, "python")
    monkeypatch.chdir(folder)
    small_preset(folder)
    small = text.replace('"laptop"', '"small.yaml"').replace("rounds=5", "rounds=1")
    assert small != text
    body = textwrap.indent(small, "    ")
    names: dict[str, object] = {}
    exec(f"async def main():\n{body}    return {returns}\n", names)
    return asyncio.run(names["main"]())  # type: ignore[operator, no-any-return]


@pytest.mark.slow
def test_the_python_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result, solution = run_python(ROOT / "README.md", tmp_path, monkeypatch, "result, solution")  # type: ignore[misc]
    assert [r.version for r in result.rounds] == [0, 1]
    assert solution.turns


@pytest.mark.slow
def test_the_python_of_the_data_plane_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    document = ROOT / "docs" / "data-plane.md"
    report, guide, passages = run_python(document, tmp_path, monkeypatch, "report, guide, passages")  # type: ignore[misc]
    assert "setup_guide.md" in report.stored
    assert guide == (ROOT / "docs" / "setup_guide.md").read_bytes()
    assert [passage.tag for passage in passages] == ["docs"] * 3


@pytest.mark.slow
def test_the_python_of_the_agents_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    document = ROOT / "docs" / "agents.md"
    step, episodes = run_python(document, tmp_path, monkeypatch, "step, episodes")  # type: ignore[misc]
    assert step.result.observation.data.content == (ROOT / "docs" / "setup_guide.md").read_bytes()
    assert [episode.rewards.total for episode in episodes] == [0.10, 0.30]


@pytest.mark.slow
def test_the_example_runs(tmp_path: Path) -> None:
    small_preset(tmp_path)
    text = (ROOT / "examples" / "evolve.py").read_text()
    (tmp_path / "evolve.py").write_text(
        text.replace('"laptop"', '"small.yaml"').replace("rounds=2", "rounds=1")
    )
    done = subprocess.run(
        [sys.executable, "evolve.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    assert "version=1" in done.stdout


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
@pytest.mark.parametrize("line", [line for line, where in ELSEWHERE.items() if where == "make"])
def test_make_knows_the_targets_that_are_shown(line: str) -> None:
    assert any(line in document.read_text() for document in DOCUMENTS), f"no document shows {line!r}"
    subprocess.run([*line.split(), "--dry-run"], cwd=ROOT, check=True, capture_output=True)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_inside_the_project_lead_somewhere(document: Path) -> None:
    for target in LINK.findall(document.read_text()):
        assert (document.parent / target).exists(), target
