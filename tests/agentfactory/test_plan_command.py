"""`agentfactory plan`."""

import json
from pathlib import Path

import pytest

from agentfactory.cli import main

PLAN = {
    "roll_back": True,
    "steps": [
        {"id": "n", "tool": "python", "input": "print(6*7)"},
        {"id": "keep", "tool": "write_file", "input": {"path": "n.txt", "content": "$n"}},
    ],
}


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / ".agentfactory" / "workspace" / "files"


def plan(text: str, *options: str) -> int:
    Path("plan.json").write_text(text)
    return main(["plan", "plan.json", "--set", "student.sandbox.allow_weak=true", *options])


def test_a_plan_is_carried_out_in_the_workspace(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert plan(json.dumps(PLAN), "--json") == 0
    outcome = json.loads(capsys.readouterr().out)
    assert (outcome["ok"], [step["status"] for step in outcome["steps"]]) == (True, ["done", "done"])
    assert (workspace / "n.txt").read_text() == "42"


def test_a_plan_that_fails_says_so_and_leaves_no_files(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    failing = {
        **PLAN,
        "steps": [*PLAN["steps"], {"id": "bad", "tool": "python", "input": "1/0", "after": ["keep"]}],
    }
    assert plan(json.dumps(failing)) == 1
    printed = capsys.readouterr().out
    assert "bad (python) failed: " in printed
    assert "put back as they were: n.txt" in printed
    assert not (workspace / "n.txt").exists()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "the plan is not valid JSON"),
        ('[{"id": "a", "tool": "weather"}]', "step a: there is no tool weather"),
        ('[{"id": "a", "tool": "plan"}]', "step a: there is no tool plan"),
        ('[{"id": "a", "tool": "python", "input": "$b"}]', "step a: there is no step b"),
    ],
)
def test_a_plan_that_is_wrong_is_bad_input(
    workspace: Path, capsys: pytest.CaptureFixture[str], text: str, reason: str
) -> None:
    assert plan(text) == 2
    assert capsys.readouterr().err.startswith(f"agentfactory: {reason}")


def test_a_file_that_is_not_there_is_bad_input(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "nowhere.json"]) == 2
    assert "nowhere.json: No such file" in capsys.readouterr().err
