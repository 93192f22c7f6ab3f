"""The command line: what it answers to good and to bad input."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from agentfactory.actors.coordinator.journal import FILE, read_journal
from agentfactory.actors.sink.segments import read_trajectories
from agentfactory.messages.runs import GroupFinished, GroupLeased, RunResult

pytestmark = pytest.mark.slow

LIMIT_S = 480
TINY = {
    "loop.batch_groups": 4,
    "loop.group_size": 4,
    "loop.max_groups_per_step": 16,
    "curriculum.frontier": 0.5,
    "evaluation.tasks": 8,
    "teacher.train": "false",
    "loop.max_concurrent_groups": 8,
    "student.max_tokens_per_turn": 48,
    "runtime.dashboard": "false",
}
TINY_SETTINGS = [part for key, value in TINY.items() for part in ("--set", f"{key}={value}")]


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "agentfactory", *arguments]


def call(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    environment.pop("RAY_ADDRESS", None)
    return subprocess.run(
        command(*arguments),
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        cwd=cwd,
        env=environment,
        check=False,
    )


def refused(*arguments: str, cwd: Path | None = None) -> str:
    """The one sentence with which the input is refused."""
    done = call(*arguments, cwd=cwd)
    assert done.returncode == 2, done
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("agentfactory: ")]
    return line


@pytest.fixture(scope="module")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RunResult]:
    """A whole run in one process, two rounds long."""
    folder = tmp_path_factory.mktemp("cli") / "run"
    arguments = ["evolve", "laptop", "--rounds", "2", "--seed", "3", "--transport", "local", "--json"]
    done = call(*arguments, "--run-dir", str(folder), *TINY_SETTINGS)
    assert done.returncode == 0, done.stderr
    return folder, RunResult.model_validate_json(done.stdout)


def test_help_answers_without_loading_torch_ray_or_transformers() -> None:
    script = (
        "import sys, agentfactory.cli as cli\n"
        "try: cli.main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'ray', 'transformers', 'vllm', 'matplotlib', 'faiss', 'sentence_transformers'}\n"
        "heavy |= {'sympy', 'z3', 'mcp'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert "evolve" in done.stdout


def test_importing_the_package_loads_neither_torch_nor_ray() -> None:
    script = "import agentfactory, sys; print({'torch', 'ray', 'transformers', 'vllm'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_the_version_is_printed() -> None:
    assert call("--version").stdout.startswith("agentfactory ")


def test_a_run_prints_one_json_object_and_nothing_else(tiny_run: tuple[Path, RunResult]) -> None:
    folder, result = tiny_run
    assert result.run_dir == str(folder)
    assert [round_.version for round_ in result.rounds] == [0, 1, 2]
    assert {round_.n for round_ in result.rounds} == {8}
    assert result.episodes == 2 * 4 * 4
    assert result.failed == 0
    assert result.tokens > 0
    assert json.loads((folder / "run.json").read_text()) == json.loads(result.model_dump_json())


def test_a_run_leaves_adapters_trajectories_and_pictures(tiny_run: tuple[Path, RunResult]) -> None:
    folder, _ = tiny_run
    assert (
        json.loads((folder / "adapters/student/v0002/adapter_config.json").read_text())["peft_type"] == "LORA"
    )
    assert (folder / "adapters/student/v0002/adapter_model.safetensors").stat().st_size > 0
    assert (folder / "report.html").stat().st_size > 10_000
    assert (folder / "report.png").read_bytes().startswith(b"\x89PNG")
    trained = [t for t in read_trajectories(folder / "trajectories") if t.group_id.startswith("g")]
    assert len({t.episode_id for t in trained}) == 32


def test_a_run_can_be_reported_again(tiny_run: tuple[Path, RunResult]) -> None:
    folder, _ = tiny_run
    (folder / "report.png").unlink()
    done = call("report", str(folder))
    assert done.returncode == 0, done.stderr
    assert (folder / "report.png").is_file()


def test_a_finished_run_that_is_resumed_says_the_same_again_and_starts_nothing(
    tiny_run: tuple[Path, RunResult],
) -> None:
    folder, result = tiny_run
    before = (folder / FILE).read_bytes()
    done = call("resume", str(folder), "--json")
    assert done.returncode == 0, done.stderr
    assert RunResult.model_validate_json(done.stdout).rounds == result.rounds
    assert "starting" not in done.stderr
    assert f"The run is finished; more rounds: agentfactory resume {folder} --rounds 4" in done.stderr
    assert (folder / FILE).read_bytes() == before


def test_a_finished_run_is_extended(tiny_run: tuple[Path, RunResult], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(tiny_run[0], folder)
    assert "--rounds 1: the run has had 2 already" in refused("resume", str(folder), "--rounds", "1")
    done = call("resume", str(folder), "--rounds", "3", "--json")
    assert done.returncode == 0, done.stderr
    result = RunResult.model_validate_json(done.stdout)
    assert [round_.version for round_ in result.rounds] == [0, 1, 2, 3]
    assert "The run is finished" in call("resume", str(folder)).stdout, "the folder keeps the new number"


def test_a_run_whose_journal_is_gone_is_not_started_over(
    tiny_run: tuple[Path, RunResult], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(tiny_run[0], folder)
    (folder / FILE).unlink()
    before = sorted(folder.rglob("*"))
    assert f"{FILE} is missing, although there are trajectories" in refused("resume", str(folder))
    assert sorted(folder.rglob("*")) == before


def test_a_journal_with_an_entry_from_nowhere_is_named_with_its_line(
    tiny_run: tuple[Path, RunResult], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(tiny_run[0], folder)
    lines = (folder / FILE).read_bytes().splitlines(keepends=True)
    finished = next(line for line in lines if b'"group_finished"' in line)
    (folder / FILE).write_bytes(lines[0] + finished)
    assert "journal.jsonl: line 2: nothing was leased under" in refused("resume", str(folder))


@pytest.mark.parametrize("trained", [False, True])
def test_a_task_is_solved_by_the_base_model_or_by_a_runs_newest_version(
    tiny_run: tuple[Path, RunResult], trained: bool
) -> None:
    which = ["--run", str(tiny_run[0])] if trained else []
    done = call("solve", "What is 12*(7+5)?", "--json", *which)
    assert done.returncode in {0, 1}, done.stderr
    solution = json.loads(done.stdout)
    assert {turn["policy_version"] for turn in solution["turns"]} == {2 if trained else 0}
    assert done.returncode == (0 if solution["answer"] is not None else 1)
    again = json.loads(call("solve", "What is 12*(7+5)?", "--json", *which).stdout)
    sampled = [turn["completion_ids"] for turn in solution["turns"]]
    assert [turn["completion_ids"] for turn in again["turns"]] == sampled, "greedily, so always the same"


def test_an_older_version_of_a_run_is_asked(tiny_run: tuple[Path, RunResult]) -> None:
    arguments = ("solve", "What is 12*(7+5)?", "--run", str(tiny_run[0]), "--json", "--temperature", "0.5")
    for version in ("0", "1"):
        solution = json.loads(call(*arguments, "--version", version).stdout)
        assert {turn["policy_version"] for turn in solution["turns"]} == {int(version)}
    assert "the run has no version 7: it has 0 (the base model) to 2" in refused(*arguments, "--version", "7")


def test_a_run_folder_is_not_used_twice(tiny_run: tuple[Path, RunResult]) -> None:
    sentence = refused("evolve", "--run-dir", str(tiny_run[0]))
    assert "already holds a run" in sentence
    assert "agentfactory resume" in sentence


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["evolve", "lapdog"], ["unknown preset 'lapdog'", "laptop"]),
        (["evolve", "nothing.yaml"], ["nothing.yaml", "no such settings file"]),
        (["evolve", "--set", "loop.round=3"], ["--set loop.round: unknown key", "did you mean 'rounds'"]),
        (["evolve", "--set", "loop.rounds=-3"], ["loop.rounds", "greater than or equal to 0", "-3"]),
        (["evolve", "--set", "loop.rounds"], ["KEY=VALUE"]),
        (["evolve", "--rounds", "many"], ["whole number", "many"]),
        (["evolve", "--set", "model.source=./no/model"], ["model.source", "no model folder"]),
        (["evolve", "--run-dir", "/dev/null/run"], ["/dev/null/run", "cannot be used as a run folder"]),
        (["resume", "nowhere"], ["nowhere", "no such run folder"]),
        (["report", "."], ["not a run's folder"]),
        (["solve", "  "], ["the task is empty"]),
        (["solve", "x", "--version", "3"], ["version 3 of which run?"]),
        (["solve", "x", "--temperature", "-1"], ["--temperature", "from 0 to 100", "'-1'"]),
        (["solve", "x", "--preset", "3070ti"], ["model.device: cuda needs a GPU"]),
        (["evolve", "3070ti"], ["model.device: cuda needs a GPU"]),
        (["evolve", "--set", "curriculum.domains=[maths]"], ["curriculum.domains: unknown domain 'maths'"]),
        (["evolve", "--set", "student.toolbox.rules=no.yaml"], ["student.toolbox.rules", "no.yaml"]),
        (["evolve", "--set", "data.library=nowhere"], ["data.library", "nowhere"]),
        (["evolve", "--set", "rewards.terms=[{kind: correctnes}]"], ["did you mean 'correctness'?"]),
        (["evolve", "--set", "loop.rounds=true"], ["loop.rounds: expected a number, found True"]),
        (["evolve", "--set", "loop=[1"], ["--set loop=[1", "not valid YAML"]),
        (["evolve", "--run-dir", "x" * 300], ["cannot be used as a run folder", "name too long"]),
        (["evolve", "--run-dir", "working_dir_files/run"], ["Ray's package cache", "--run-dir"]),
        (["resume", "x" * 300], ["cannot be used as a run folder", "name too long"]),
        (["dance"], ["dance"]),
    ],
)
def test_bad_input_gets_one_clear_sentence(arguments: list[str], words: list[str], tmp_path: Path) -> None:
    sentence = refused(*arguments, cwd=tmp_path)
    for word in words:
        assert word in sentence
    assert list(tmp_path.iterdir()) == []


def test_a_settings_file_that_is_wrong_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("loop:\n  rounds: [1\n")
    assert "mine.yaml: line" in refused("evolve", "mine.yaml", cwd=tmp_path)


def test_a_damaged_journal_is_named_with_its_line(tiny_run: tuple[Path, RunResult], tmp_path: Path) -> None:
    copy = tmp_path / "run"
    copy.mkdir()
    (copy / "settings.json").write_bytes((tiny_run[0] / "settings.json").read_bytes())
    lines = (tiny_run[0] / FILE).read_bytes().splitlines(keepends=True)
    (copy / FILE).write_bytes(b"".join([*lines[:3], b"rubbish\n", *lines[3:]]))
    sentence = refused("resume", str(copy))
    assert "journal.jsonl: line 4" in sentence


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, 72 MB large."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=72m", "none", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("needs the right to mount a small file system")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_disk_that_fills_up_ends_the_run_with_one_sentence_and_resume_goes_on(small_disk: Path) -> None:
    folder, filler = small_disk / "run", small_disk / "filler"
    running = start_run(folder, "--rounds", "12")
    try:
        wait_for_round(running, 1)
        with suppress(OSError), filler.open("wb", buffering=0) as stream:
            while stream.write(bytes(1 << 16)):
                pass
        out, err = running.communicate(timeout=LIMIT_S)
    finally:
        running.kill()
    assert running.returncode == 2, (out, err)
    assert "Traceback" not in err
    assert "No space left on device" in err
    assert f"agentfactory resume {folder}" in err
    filler.unlink()
    again = call("resume", str(folder), "--json")
    assert again.returncode == 0, again.stderr
    assert len(RunResult.model_validate_json(again.stdout).rounds) == 13


def start_run(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    options = ["--transport", "local", "--run-dir", str(folder), *TINY_SETTINGS, *arguments]
    return subprocess.Popen(
        command("evolve", "laptop", *options), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def wait_for_round(running: subprocess.Popen[str], version: int) -> None:
    """Read the run's output (a line a round) until this version has been evaluated."""
    assert running.stdout is not None
    for line in running.stdout:
        if "pass@1" in line and f"version {version}" in line:
            return
    raise AssertionError(f"the run ended before that: {running.communicate(timeout=LIMIT_S)[1]}")


def test_a_terminated_run_says_at_once_how_to_go_on(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    running = start_run(folder, "--rounds", "50", "--set", "runtime.log_level=warning")
    try:
        wait_for_round(running, 0)
        running.terminate()
        assert running.stdout is not None
        saved = next(line for line in running.stdout if line.startswith("Saved. "))
        assert running.poll() is None, "before anything is drained: whoever terminates may not wait for long"
        _, err = running.communicate(timeout=LIMIT_S)
    finally:
        running.kill()
    assert saved == f"Saved. Go on with: agentfactory resume {folder}\n"
    assert running.returncode == 143, err
    assert '"level": "info"' not in (folder / "logs" / "driver.log").read_text(), "it asked for warnings"


def test_ctrl_c_drains_saves_and_says_how_to_resume(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    running = start_run(folder, "--rounds", "50")
    try:
        wait_for_round(running, 1)
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=LIMIT_S)
    finally:
        running.kill()
    assert running.returncode == 130, err
    assert f"agentfactory resume {folder}" in out
    entries = list(read_journal(folder / FILE))
    leased = {entry.group_id for entry in entries if isinstance(entry, GroupLeased)}
    assert leased == {entry.group_id for entry in entries if isinstance(entry, GroupFinished)}
    assert (folder / "run.json").is_file()
    assert '"event": "run started"' in (folder / "logs" / "driver.log").read_text()
