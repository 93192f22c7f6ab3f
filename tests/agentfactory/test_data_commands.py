"""The data plane's commands show names that others wrote as text."""

from pathlib import Path

import anyio
import pytest

from agentfactory import data_commands
from configs.data import DataSettings
from tests.cluster.test_data_plane import running, settings

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
