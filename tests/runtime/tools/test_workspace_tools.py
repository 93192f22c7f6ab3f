"""The tools that work in a workspace: files, shell, tests, tables, sessions. For real, and under attack."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest
import pytest_asyncio

from agentfactory.configs.roles import StudentSettings
from agentfactory.messages.turns import ToolCall, ToolResult
from agentfactory.runtime.tools.base import ToolError
from agentfactory.runtime.tools.builtin.shell import split_command
from agentfactory.runtime.tools.builtin.test_runner import Counts, choose_framework, count
from agentfactory.runtime.tools.tool_provider import ToolProvider
from agentfactory.runtime.tools.tool_set import ToolSet

LIMIT_S = 180
ON = ["list_files", "read_file", "write_file", "shell", "test_runner", "data_view", "pyexe"]
pytestmark = pytest.mark.asyncio(loop_scope="module")


def settings(folder: Path, tools: list[str], **toolbox: object) -> StudentSettings:
    box = {"workspace": str(folder), "sandbox": {"allow_weak": True}, **toolbox}
    return StudentSettings.model_validate({"tools": tools, "toolbox": box, "sandbox": {"allow_weak": True}})


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def kit(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ToolProvider]:
    kit = ToolProvider(
        settings(
            tmp_path_factory.mktemp("kit") / "workspace",
            ON,
            files={"max_chars": 400, "max_file_kb": 4, "max_listed": 3},
            shell={"timeout_s": 5.0},
            test_runner={"timeout_s": 20.0},
        )
    )
    async with asyncio.timeout(LIMIT_S):
        await kit.start()
    yield kit
    await kit.aclose()


@pytest_asyncio.fixture(loop_scope="module")
async def box(kit: ToolProvider, request: pytest.FixtureRequest) -> AsyncIterator[ToolSet]:
    async with kit.box(request.node.name) as box:
        yield box


async def call(box: ToolSet, name: str, *text: str, **arguments: object) -> ToolResult:
    return await box.call(ToolCall(tool=name, input=text[0] if text else json.dumps(arguments)))


async def write(box: ToolSet, path: str, content: str) -> None:
    assert (await call(box, "write_file", path=path, content=content)).ok


def folder_of(kit: ToolProvider) -> Path:
    """The folder of the one episode that is under way."""
    (folder,) = (kit._host.root / "episodes").iterdir()
    return folder


async def test_what_is_written_can_be_listed_and_read(box: ToolSet) -> None:
    assert (await call(box, "list_files", "")).output == "(nothing)"
    wrote = await call(box, "write_file", path="notes/a.txt", content="one\ntwo\nthrée")
    assert wrote.output == "wrote 14 bytes to notes/a.txt"
    assert (await call(box, "list_files", "")).output == "notes/"
    assert (await call(box, "list_files", recursive=True)).output == "notes/\nnotes/a.txt 14"
    assert (await call(box, "read_file", "notes/a.txt")).output == "one\ntwo\nthrée"
    assert (await call(box, "read_file", path="notes/a.txt", first_line=2, lines=1)).output == "two\n"


async def test_files_are_limited_in_what_they_show_and_hold(box: ToolSet) -> None:
    await write(box, "long.txt", "x" * 1000)
    assert len((await call(box, "read_file", "long.txt")).output) == 400
    assert "at most 4 KB are written" in (await call(box, "write_file", path="b", content="x" * 5000)).output
    for name in "abcd":
        await write(box, f"many/{name}", "")
    listed = (await call(box, "list_files", "many")).output
    assert listed == "many/a 0\nmany/b 0\nmany/c 0\nand more than these 3"


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd", "../../../../etc/passwd", "a/../../b", "..", "link", "link/passwd", "link-to-file",
        "~/.ssh/id_rsa", "", ".", "\x00", "a\x00b", ".ssh/id_rsa", "/proc/self/environ", "\udc80",
        "pipe", "notes.sqlite/../x",
    ],
)  # fmt: skip
async def test_paths_that_lead_out_or_are_no_files_are_neither_read_nor_written(
    kit: ToolProvider, box: ToolSet, path: str
) -> None:
    folder = folder_of(kit)
    (folder / "link").symlink_to("/etc")
    (folder / "link-to-file").symlink_to("/etc/passwd")
    os.mkfifo(folder / "pipe")
    for name, more in (("read_file", {}), ("write_file", {"content": "evil"})):
        text = json.dumps({"path": path, **more})
        result = await box.call(ToolCall(tool=name, input=text))
        assert not result.ok, (name, path)
        assert result.output.startswith("Error: "), result.output
    assert "evil" not in Path("/etc/passwd").read_text()


async def test_a_missing_file_and_bytes_that_are_no_text_are_said(kit: ToolProvider, box: ToolSet) -> None:
    assert (await call(box, "read_file", "gone.txt")).output == "Error: gone.txt: No such file or directory"
    (folder_of(kit) / "binary").write_bytes(b"\xff\xfe")
    assert "is no text" in (await call(box, "read_file", "binary")).output


async def test_the_shell_runs_a_program_of_the_list_in_the_workspace(box: ToolSet) -> None:
    await write(box, "notes.txt", "one\ntwo\n")
    assert (await call(box, "shell", "grep -n two notes.txt")).output == "2:two"
    assert (await call(box, "shell", "echo 'a | b' \"c;d\" $HOME *")).output == "a | b c;d $HOME *"
    missing = await call(box, "shell", "cat gone")
    assert (missing.ok, missing.failure) == (False, "error")
    assert missing.output == "cat: gone: No such file or directory\nError: exit code 1"
    assert (await call(box, "shell", "true")).output == "(no output)"


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("ls | wc", "'|' is a shell's"),
        ("ls; rm -rf /", "';' is a shell's"),
        ("ls && ls", "'&' is a shell's"),
        ("cat < /etc/passwd", "'<' is a shell's"),
        ("echo a > b", "'>' is a shell's"),
        ("echo $(id)", "'(' is a shell's"),
        ("echo `id`", "'`' is a shell's"),
        ("ls\nid", "'\\n' is a shell's"),
        ("bash -c id", "bash is not among the programs"),
        ("/bin/ls", "/bin/ls is not among the programs"),
        ("./ls", "./ls is not among the programs"),
        ("gerp a b", "did you mean grep?"),
        ("PATH=. ls", "PATH=. is not among the programs"),
        ("python -c 1", "python is not among the programs"),
        ("sort --compress-program=sh notes.txt", "sort --compress-program is not allowed"),
        ("sort --comp=sh notes.txt", "sort --compress-program is not allowed"),
        ("cat /etc/shadow", "is refused"),
        ("rm -rf /", "is refused"),
        ("cat ~/.ssh/id_rsa", "is refused"),
        ("echo 'open", "cannot be read"),
        ("", "found nothing"),
        ("''", "is not among the programs"),
    ],
)
async def test_the_shell_refuses_with_a_reason(box: ToolSet, command: str, said: str) -> None:
    result = await call(box, "shell", command)
    assert not result.ok
    assert said in result.output


async def test_python_leaves_nothing_in_the_workspace(box: ToolSet) -> None:
    await write(box, "test_one.py", "def test_one():\n    assert True\n")
    assert (await call(box, "test_runner", path="test_one.py")).ok
    assert ".clio" not in (await call(box, "shell", "ls -a")).output


async def test_a_program_that_does_not_end_is_stopped(box: ToolSet) -> None:
    result = await call(box, "shell", "tail -f /dev/null")
    assert result.failure == "timeout"
    assert result.output == "Error: it was stopped: it took longer than 5 s"


async def test_quoted_operators_are_plain_text() -> None:
    assert split_command(r"""grep 'a|b' "c;d" e\;f""") == ["grep", "a|b", "c;d", "e;f"]
    for command in ("", "  ", "'", "a 'b"):
        with pytest.raises(ToolError):
            split_command(command)


PYTEST = """
import pytest

def test_right():
    assert 1 + 1 == 2

def test_wrong():
    assert 1 + 1 == 3

@pytest.mark.skip
def test_later():
    assert False
"""
UNITTEST = """
import unittest

class Sums(unittest.TestCase):
    def test_right(self):
        self.assertEqual(1 + 1, 2)

    def test_wrong(self):
        self.assertEqual(1 + 1, 3)

    def test_broken(self):
        raise OSError("no")
"""
ASSERTS = """
from solution import double

assert double(2) == 4
assert double(2) == 5, "not five"
assert double(None) == 0
"""


async def test_each_framework_is_run_and_counted(box: ToolSet) -> None:
    await write(box, "solution.py", "def double(x):\n    return 2 * x\n")
    for path, source, counts in (
        ("test_a.py", PYTEST, "pytest: 1 passed, 1 failed, 0 errors, 1 skipped"),
        ("test_b.py", UNITTEST, "unittest: 1 passed, 1 failed, 1 errors"),
        ("test_c.py", ASSERTS, "asserts: 1 passed, 1 failed, 1 errors"),
    ):
        await write(box, path, source)
        result = await call(box, "test_runner", path)
        assert (result.ok, result.failure) == (False, "error")
        assert result.output.splitlines()[0] == counts, result.output
    assert "FAILED line 5: not five" in result.output


async def test_tests_that_pass_are_ok(box: ToolSet) -> None:
    await write(box, "test_ok.py", "def test_ok():\n    assert True\n")
    for framework in ("pytest", "asserts"):
        result = await call(box, "test_runner", path="test_ok.py", framework=framework)
        assert (result.ok, result.output) == (True, f"{framework}: 1 passed, 0 failed, 0 errors")


async def test_a_file_of_tests_that_is_broken_or_missing_is_said(box: ToolSet) -> None:
    await write(box, "test_broken.py", "def test_a(:\n")
    broken = await call(box, "test_runner", "test_broken.py")
    assert (broken.ok, "SyntaxError" in broken.output) == (False, True)
    assert "No such file" in (await call(box, "test_runner", "test_gone.py")).output
    assert not (await call(box, "test_runner", "-h")).ok


async def test_tests_run_behind_the_walls(box: ToolSet) -> None:
    await write(box, "test_net.py", "import socket\nsocket.create_connection(('127.0.0.1', 1), 1)\n")
    result = await call(box, "test_runner", "test_net.py")
    assert not result.ok


async def test_frameworks_are_told_apart() -> None:
    assert choose_framework(PYTEST) == "pytest"
    assert choose_framework(UNITTEST) == "unittest"
    assert choose_framework(ASSERTS) == "asserts"


async def test_counts_are_read_from_what_frameworks_print() -> None:
    assert count("pytest", "1 passed, 2 warnings in 0.1s") == Counts(passed=1)
    assert count("pytest", "3 failed, 1 passed, 2 skipped, 1 error in 2s") == Counts(
        passed=1, failed=3, errors=1, skipped=2
    )
    assert count("unittest", "Ran 4 tests in 0.1s\n\nFAILED (failures=1, errors=2)") == Counts(
        passed=1, failed=1, errors=2
    )
    assert count("unittest", "Ran 2 tests in 0.1s\n\nOK") == Counts(passed=2)
    assert count("pytest", "Segmentation fault") is None


async def test_tables_of_every_kind_are_shown(kit: ToolProvider, box: ToolSet) -> None:
    table = pa.table({"town": ["Oslo", "Rome", None], "height": [23, 21, 5]})
    folder = folder_of(kit)
    pyarrow.parquet.write_table(table, folder / "t.parquet")
    pyarrow.feather.write_feather(table, folder / "t.arrow")
    with pa.ipc.new_stream(folder / "s.arrow", table.schema) as stream:
        stream.write_table(table)
    await write(box, "t.csv", "town;height\nOslo;23\nRome;21\n;5\n")
    await write(
        box, "t.jsonl", '{"town": "Oslo", "height": 23}\n{"town": "Rome", "height": 21}\n{"height": 5}\n'
    )
    await write(
        box, "t.json", '[{"town": "Oslo", "height": 23}, {"town": "Rome", "height": 21}, {"height": 5}]'
    )
    expected = "3 rows, 2 columns\ntown: string (1 missing), height: int64\nOslo | 23\nRome | 21"
    for name in ("t.parquet", "t.arrow", "s.arrow", "t.csv", "t.jsonl", "t.json"):
        result = await call(box, "data_view", path=name, rows=2)
        assert (result.output, result.ok) == (expected, True), name
    size, types, *_ = expected.splitlines()
    for operation, lines in (
        ("shape", (size,)),
        ("columns", (size, types)),
        ("head", (size, types, "Oslo | 23")),
        ("tail", (size, types, " | 5")),
    ):
        result = await call(box, "data_view", path="t.csv", operation=operation, n_rows=1)
        assert result.output == "\n".join(lines), operation


async def test_a_command_that_is_too_long_to_split_is_refused(box: ToolSet) -> None:
    result = await call(box, "shell", command="echo " + "“" * 40_000)
    assert result.output == "Error: the command has 40005 characters, at most 32768 are read"


async def test_files_are_listed_by_the_name_path(box: ToolSet) -> None:
    await write(box, "docs/a.txt", "a")
    assert (await call(box, "list_files", path=".")).output == "docs/"
    assert (await call(box, "list_files", path="docs")).output == "docs/a.txt 1"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("t.parquet", "garbage", "this is no parquet that can be read"),
        ("t.csv", "", "it is empty"),
        ("t.csv", "a,b\n1\n", "row 2 has 1 fields, the first has 2"),
        ("t.json", "[" * 2000, "this is no json that can be read"),
        ("t.json", "[1, 2]", "expected objects"),
        ("t.txt", "a,b", "is no table by its name"),
    ],
)
async def test_what_is_no_table_is_said(box: ToolSet, name: str, content: str, said: str) -> None:
    await write(box, name, content)
    result = await call(box, "data_view", name)
    assert (result.ok, said in result.output) == (False, True), result.output


async def test_a_session_remembers_and_works_on_the_same_files(box: ToolSet) -> None:
    assert (await call(box, "pyexe", "x = 20\nopen('made.txt', 'w').write('by python')")).ok
    assert (await call(box, "pyexe", "x + 1")).output == "21"
    assert (await call(box, "read_file", "made.txt")).output == "by python"
    failed = await call(box, "pyexe", "1/0")
    assert "ZeroDivisionError" in failed.output
    assert (await call(box, "pyexe", "x")).output == "20"


async def test_episodes_see_neither_files_nor_names_of_one_another(kit: ToolProvider) -> None:
    async with kit.box("one/1") as one, kit.box("one/1") as other:
        await write(one, "secret.txt", "mine")
        await call(one, "pyexe", "secret = 1")
        assert (await call(other, "list_files", "")).output == "(nothing)"
        assert "NameError" in (await call(other, "pyexe", "secret")).output
    assert list((kit._host.root / "episodes").iterdir()) == []


async def test_files_without_an_episode_stay(kit: ToolProvider) -> None:
    async with kit.box() as box:
        await write(box, "kept.txt", "kept")
    async with kit.box() as box:
        assert (await call(box, "read_file", "kept.txt")).output == "kept"
