"""Tables: a row is one line, and nothing in it rules the terminal."""

import asyncio
import io
from pathlib import Path

import pytest
from rich.console import Console

from agentfactory.cli import main
from agentfactory.cli.data_commands import _line
from agentfactory.configs.printable import printable
from agentfactory.configs.sandbox import SafetyRuleSettings
from agentfactory.configs.tools import FileToolSettings
from agentfactory.messages.data import BlobInfo
from agentfactory.runtime.sandbox.command_policy import CommandPolicy
from agentfactory.runtime.sandbox.workspace import Workspace
from agentfactory.runtime.tools.builtin.files import FileTools
from agentfactory.terminal.tables import show_rows

ROWS = [
    ["a\nb", "first line\n\n  second\tline"],
    ["c\x1b[31m\x9b2J", "[bold]as it is[/]"],
    ["d\u202e", "e\r"],
]


@pytest.mark.parametrize("terminal", [True, False])
def test_a_row_is_one_line_whatever_stands_in_it(terminal: bool) -> None:
    out = io.StringIO()
    show_rows(Console(file=out, force_terminal=terminal, color_system=None, width=200), ("k", "v"), ROWS)
    header, *rows = out.getvalue().splitlines()
    assert [" ".join(row.split()) for row in rows] == [
        "a b first line second line",
        "c\\x1b[31m\\x9b2J [bold]as it is[/]",
        "d\\u202e e",
    ]
    assert "\x1b" not in "".join(rows)
    assert terminal or [line.count("\t") for line in (header, *rows)] == [1, 1, 1, 1]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain text", "plain text"),
        ("naïve 日本 😀 e\u0301 नि\u200dक", "naïve 日本 😀 e\u0301 नि\u200dक"),
        ("a\nb\tc\x00", "a\\nb\\tc\\x00"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("\x85\u2028\u2066\ufeff\udc80", "\\x85\\u2028\\u2066\\ufeff\\udc80"),
        ("back\\slash", "back\\slash"),
    ],
)
def test_control_characters_are_escaped_and_writing_is_left_alone(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_line_ends_and_tabs_may_stay() -> None:
    assert printable("a\n\tb\x1bc\r\n", lines=True) == "a\n\tb\\x1bc\\r\n"


NAME = "a\nb\x1b[2J.md"


def test_a_blobs_name_is_escaped_where_it_is_listed() -> None:
    blob = BlobInfo(tag="docs", name=NAME, size=1, sha256="0" * 64, version="1", stored_at=0.0)
    assert _line(blob).endswith("  docs  a\\nb\\x1b[2J.md")


def test_a_files_name_is_escaped_where_it_is_listed(tmp_path: Path) -> None:
    (tmp_path / NAME).write_text("x")
    (tmp_path / "plain.md").write_text("x")
    tools = FileTools(FileToolSettings(), Workspace(tmp_path), CommandPolicy(SafetyRuleSettings()))
    listed = asyncio.run(tools.list_files.call("{}")).output
    assert listed.splitlines() == ["a\\nb\\x1b[2J.md 1", "plain.md 1"]


@pytest.mark.parametrize(
    "arguments", [["tool", NAME, "1"], ["show", NAME], [NAME], ["tools", "--preset", NAME]]
)
def test_what_was_typed_is_escaped_where_an_error_says_it(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code = main(arguments)
    except SystemExit as ended:
        code = int(ended.code or 0)
    said = capsys.readouterr().err
    assert code == 2
    assert "\x1b" not in said
    assert "[2J.md" in said
