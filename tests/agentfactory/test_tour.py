"""The sessions that docs/tour.md shows go as shown."""

import shlex
from pathlib import Path

import pytest

from tests.agentfactory.test_cli import call
from tests.agentfactory.test_documents import ROOT, blocks
from tests.agentfactory.test_run import SMALL, piped, small_preset

PROMPT = "agent> "
LEFT_OUT = "  …"


def sessions() -> list[list[str]]:
    return [block.splitlines() for block in blocks(ROOT / "docs" / "tour.md", "text")]


def parts(lines: list[str]) -> list[str]:
    """What is printed, cut where the document leaves lines out."""
    shown = [line for line in lines[1:] if not line.startswith(PROMPT)]
    return [part.strip("\n") for part in "\n".join(shown).split(f"\n{LEFT_OUT}")]


@pytest.mark.slow
def test_the_sessions_of_the_tour_go_as_shown(tmp_path: Path) -> None:
    small_preset(tmp_path)
    assert call("up", *SMALL, cwd=tmp_path).returncode == 0
    try:
        for lines in sessions():
            name = shlex.split(lines[0])[-1]
            said = tuple(line.removeprefix(PROMPT) for line in lines if line.startswith(PROMPT))
            printed = piped(tmp_path, name, lines=said).stdout
            at = 0
            for part in parts(lines):
                assert part in printed[at:], f"not printed:\n{part}\n\nbut:\n{printed[at:]}"
                at = printed.index(part, at) + len(part)
    finally:
        call("down", *SMALL, cwd=tmp_path)
    assert len(sessions()) == 2
