"""`agentfactory pipeline`: what it prints, what it keeps, and what it says to bad input."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from agentfactory.actors.pipelines.plan import PipelinePlan
from agentfactory.actors.sink.segments import read_trajectories
from agentfactory.cli import main
from agentfactory.configs.agents.pipelines import find_pipeline, load_pipeline
from agentfactory.messages.pipelines import PipelineResult, StepChanged, StepState
from agentfactory.terminal.pipeline_view import PipelineView
from tests.agentfactory.test_cli import call
from tests.agentfactory.test_documents import small_preset

PIPELINE = """
pipeline_id: tried
agents: {helper: iowarp_agent, reader: {type: retriever}}
on_failure: go_on
steps:
  - {id: note, agent: helper, instruction: "load string:a.md::hello as docs"}
  - {id: load, agent: helper, inputs: {src: "${pipeline.src}", dst: docs}}
  - {id: fetch, agent: reader, inputs: {tag: "${load.tag}", blob_name: "${load.blob_name}"}}
"""


def test_a_run_that_failed_goes_on_with_another_variable(tmp_path: Path) -> None:
    small_preset(tmp_path)
    (tmp_path / "my.yaml").write_text(PIPELINE)
    (tmp_path / "b.md").write_text("# b")
    arguments = ["--preset", "small.yaml", "--json"]
    failed = call("pipeline", "my.yaml", "src=file::none.md", *arguments, cwd=tmp_path)
    assert failed.returncode == 1, failed.stderr
    (line,) = [line for line in failed.stderr.splitlines() if line.startswith("agentfactory: ")]
    assert "load: URIResolveError: " in line
    assert "`agentfactory pipeline my.yaml --resume` goes on from there" in line
    result = PipelineResult.model_validate_json(failed.stdout)
    assert [step.state for step in result.steps] == ["done", "failed", "skipped"]

    again = call("pipeline", "my.yaml", "src=file::b.md", "--resume", *arguments, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    result = PipelineResult.model_validate_json(again.stdout)
    assert [step.state for step in result.steps] == ["kept", "done", "done"]
    assert json.loads(again.stdout)["steps"][2]["result"]["observation"]["data"]["content"] == "IyBi"
    folders = sorted((tmp_path / ".agentfactory" / "trajectories").iterdir())
    rewards = [[t.rewards.total for t in read_trajectories(folder)] for folder in folders]
    assert sorted(map(sorted, rewards)) == [[-0.5, 0.1], [0.1, 0.3]]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["none.yaml"], ["none.yaml", "no such pipeline file", "ingest_retrieve"]),
        (["ingest_retrieve", "scr=x"], ["no variable 'scr'", "did you mean 'src'?"]),
        (["ingest_retrieve", "src"], ["src: expected KEY=VALUE"]),
        (["ingest_retrieve", "--resume"], ["no earlier run to go on with"]),
        (["typo.yaml", "src=x"], ["fetch: ${load.tga}: 'load' has no output 'tga'", "did you mean 'tag'?"]),
        (["stranger.yaml", "src=x"], ["no blueprint", "iowarp_agnet"]),
        (["ingest_retrieve", "--preset", "lapdog"], ["unknown preset 'lapdog'"]),
    ],
)
def test_bad_input_gets_one_sentence_and_nothing_runs(
    arguments: list[str],
    words: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "typo.yaml").write_text(PIPELINE.replace("load.tag", "load.tga"))
    (tmp_path / "stranger.yaml").write_text(PIPELINE.replace("iowarp_agent", "iowarp_agnet"))
    assert main(["pipeline", *arguments]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    (sentence,) = said.err.splitlines()
    for word in ["agentfactory: ", *words]:
        assert word in sentence
    assert not (tmp_path / ".agentfactory").exists()


def shown(terminal: bool, *changes: tuple[str, StepState, str]) -> str:
    plan = PipelinePlan.of(load_pipeline(find_pipeline("ingest_retrieve")))
    text = io.StringIO()
    console = Console(file=text, force_terminal=terminal, width=100, color_system=None)
    with PipelineView(plan, console) as view:
        for step, state, reason in changes:
            view.update(
                StepChanged(pipeline_id="p", step=step, state=state, reason=reason, attempt=1, seconds=1.5)
            )
        view.result(PipelineResult(pipeline_id="p", steps=(), seconds=2.0))
    return text.getvalue()


def test_away_from_a_terminal_each_change_is_a_line_without_colours() -> None:
    lines = shown(False, ("ingest_docs", "failed", "gone [for]\ngood")).splitlines()
    assert lines == [
        "ingest_docs    failed     1.50 s  gone [for] good",
        "p: 0 of 0 steps done, reward +0.00, 2.00 s",
    ]


def test_at_a_terminal_all_steps_are_in_the_table_from_the_beginning() -> None:
    text = shown(True, ("ingest_docs", "done", ""), ("query_results", "retrying", "[b]later"))
    rows = [line.split() for line in text.splitlines()]
    assert ["✓", "ingest_docs", "ingestor", "assimilate", "1.50", "s"] in rows
    assert any(row[:2] == ["↻", "query_results"] and "[b]later" in row for row in rows)
    assert ["retrieve_data", "retriever", "retrieve"] in rows
