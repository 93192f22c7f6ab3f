"""The command line where the terminal, Python, the working directory or the limits are not the usual ones."""

import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from agentfactory.cli.process_setup import FEWEST_FILES
from agentfactory.configs.load import load_settings
from agentfactory.factory import parse_task

ROOT = Path(__file__).parents[2]
LIMIT_S = 200
ASKED = "café → 日本 😀"


def call(
    *arguments: str, cwd: Path, before: Callable[[], None] | None = None, **variables: str
) -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    environment.pop("RAY_ADDRESS", None)
    return subprocess.run(
        [sys.executable, "-m", "agentfactory", *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        timeout=LIMIT_S,
        preexec_fn=before,
        check=False,
    )


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
@pytest.mark.parametrize(
    "command", [["--help"], ["tools"], ["domains"], ["blueprints"], ["evolve", "→😀é"], ["tool", "→é"]]
)
def test_a_terminal_that_cannot_show_everything_is_no_error(
    command: list[str], encoding: str, tmp_path: Path
) -> None:
    variables = {"PYTHONIOENCODING": encoding, "LC_ALL": "C", "PYTHONUTF8": "0"}
    done = call(*command, cwd=tmp_path, **variables)
    assert b"Traceback" not in done.stderr
    assert done.returncode in {0, 2}


def test_json_stays_json_whatever_the_terminal_can_show(tmp_path: Path) -> None:
    whole, narrow = (
        call("tools", "--json", cwd=tmp_path, PYTHONIOENCODING=encoding) for encoding in ("utf-8", "ascii")
    )
    assert not whole.stdout.isascii()
    assert json.loads(narrow.stdout) == json.loads(whole.stdout)


def test_a_task_in_another_encoding_than_the_terminals_is_read(tmp_path: Path) -> None:
    done = call("solve", ASKED, "--json", cwd=tmp_path, LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    assert b"Traceback" not in done.stderr
    assert done.returncode in {0, 1}


def test_without_docstrings_tools_are_described_all_the_same(tmp_path: Path) -> None:
    usual, bare = (call("tools", cwd=tmp_path, PYTHONOPTIMIZE=level) for level in ("0", "2"))
    assert bare.returncode == 0, bare.stderr
    assert bare.stdout == usual.stdout


def test_a_working_directory_that_is_gone_is_one_sentence(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    done = call("domains", cwd=gone, before=lambda: shutil.rmtree(gone))
    assert done.stderr == b"agentfactory: the working directory is gone; change to one that is there\n"
    assert done.returncode == 2


@pytest.mark.parametrize("columns", ["0", "-1", "many", "", "²", "9" * 12])
def test_a_terminal_without_a_width_is_written_to(columns: str, tmp_path: Path) -> None:
    assert b"math" in call("domains", cwd=tmp_path, COLUMNS=columns, LINES=columns).stdout
    assert b"python" in call("doctor", cwd=tmp_path, COLUMNS=columns).stdout


def test_no_room_for_temporary_files_is_one_sentence(tmp_path: Path) -> None:
    def nothing() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))

    done = call("doctor", cwd=tmp_path, before=nothing, PYTHONDONTWRITEBYTECODE="1")
    assert done.returncode == 2
    assert done.stderr.startswith(b"agentfactory: No usable temporary directory found in ")


@pytest.mark.parametrize("text", ["half \ud83d of one", "\udcff\udce9", "\udfff"])
def test_half_a_character_in_a_task_is_replaced(text: str) -> None:
    parse_task(text, load_settings("laptop")).description.encode()


def test_too_few_descriptors_are_named_as_such(tmp_path: Path) -> None:
    def few() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))

    done = call("doctor", cwd=tmp_path, before=few)
    assert done.returncode == 2
    assert done.stderr.startswith(b"agentfactory: only 64 files may be open at once here, and ")
    assert b"ulimit -n" in done.stderr
    assert b"allow_weak" not in done.stdout + done.stderr


def test_the_soft_limit_is_raised_where_it_may_be(tmp_path: Path) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    assert hard == resource.RLIM_INFINITY or hard >= FEWEST_FILES

    def few() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))

    done = call("tool", "python", "6 * 7", cwd=tmp_path, before=few)
    assert (done.stdout, done.returncode) == (b"42\n", 0)
