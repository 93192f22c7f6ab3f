"""What the data plane writes to a terminal: names that others wrote as text, and no logs on stdout."""

import os
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

from agentfactory.cli import data_commands
from agentfactory.configs.data import DataSettings
from tests.cluster.test_data_plane import running, settings

LIMIT_S = 120
NAME = "a\n\x1b[31mb.md"


async def test_names_with_control_characters_are_shown_escaped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / NAME).write_text("x\n\x1b]0;y\a")
    chosen = settings(tmp_path)
    async with running(chosen):
        await anyio.to_thread.run_sync(show, chosen, tmp_path)
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert shown.count(r"a\n\x1b[31mb.md") == 3


def show(chosen: DataSettings, folder: Path) -> None:
    data_commands.ingest(chosen, [f"folder::{folder / 'docs'}"], tag="t", form="text", as_json=False)
    data_commands.query(chosen, "*", "*", as_json=False)
    data_commands.list_blobs(chosen, "*", "*", hidden=False, as_json=False)
    data_commands.search(chosen, "t", "x", k=1, as_json=False)
    data_commands.query(chosen, "no\x1b[5m", "*", as_json=False)
    data_commands.prune(chosen, "no\x1b[5m", (), as_json=False)


def test_a_program_that_set_up_no_logging_keeps_its_stdout(tmp_path: Path) -> None:
    script = """
import asyncio, sys
from agentfactory.data import DataPlane
from agentfactory.configs.data import DataSettings
async def main():
    async with DataPlane.open(DataSettings.model_validate_json(sys.argv[1])) as plane:
        async with DataPlane.join(plane.settings) as joined:
            print(await joined.query())
asyncio.run(main())
"""
    done = subprocess.run(
        [sys.executable, "-c", script, settings(tmp_path).model_dump_json()],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "()\n"), done.stderr
    assert "a bridge answers" in done.stderr
