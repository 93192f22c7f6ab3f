"""The report of a whole run, and the parts that it is made of."""

import doctest
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from agentfactory.actors.coordinator.journal import FILE, read_journal
from agentfactory.actors.coordinator.run_state import RunState
from agentfactory.configs.load import load_settings
from agentfactory.report import chart_style, formats, held_out, history, round_charts, write_report
from agentfactory.report.examples import cut, shown
from agentfactory.report.held_out import calibrations
from agentfactory.report.history import Bins, GroupMeans
from agentfactory.report.report_data import ReportData, collect
from agentfactory.run import run_result
from tests.agentfactory.fake_run import write_fake_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_fake_run(tmp_path_factory.mktemp("runs") / "run", rounds=4)


@pytest.fixture(scope="module")
def findings(run: Path) -> ReportData:
    return collect(run)


@pytest.mark.parametrize("module", [chart_style, formats, held_out, history, round_charts])
def test_the_examples_in_the_docstrings_are_right(module: object) -> None:
    assert doctest.testmod(sys.modules[module.__name__]).failed == 0  # type: ignore[attr-defined]


def test_a_report_is_two_files_and_nothing_else(run: Path) -> None:
    before = {path.name for path in run.iterdir()}
    files = write_report(run)
    assert {path.name for path in run.iterdir()} == before | {"report.html", "report.png"}
    assert files.png.stat().st_size > 50_000
    assert "pass@1 26.0% → " in files.html.read_text()


def test_a_report_is_the_same_each_time_it_is_written(run: Path) -> None:
    first = write_report(run).html.read_text()
    assert write_report(run).html.read_text() == first


def test_the_history_counts_what_the_replayed_state_counts(run: Path, findings: ReportData) -> None:
    state = RunState(load_settings("laptop").curriculum)
    for entry in read_journal(run / FILE):
        state.apply(entry)
    told = findings.history
    assert told.episodes == state.episodes
    assert told.failed_episodes == state.failed
    assert told.tokens == state.tokens
    assert told.dropped_stale == state.dropped_stale
    assert told.fates["filtered"] == state.filtered
    assert told.curriculum.difficulty == state.curriculum.difficulty
    assert told.wall_s == state.finished.wall_s if state.finished else False


def test_the_result_lists_every_round_in_order(run: Path) -> None:
    state = RunState(load_settings("laptop").curriculum)
    for entry in read_journal(run / FILE):
        state.apply(entry)
    told = run_result(run, state)
    assert [one.version for one in told.rounds] == [0, 1, 2, 3, 4]
    assert told.rounds[0].pass_at_1 == 0.26
    assert state.finished is not None
    assert (told.episodes, told.wall_s) == (state.finished.episodes, state.finished.wall_s)


def test_the_result_of_an_unfinished_run_ends_where_its_journal_ends(run: Path) -> None:
    state = RunState(load_settings("laptop").curriculum)
    for entry in read_journal(run / FILE):
        if entry.kind != "run_finished":
            state.apply(entry)
    assert run_result(run, state).wall_s == pytest.approx(collect(run).history.wall_s, abs=1.0)


def test_both_evaluations_are_compared_task_by_task(findings: ReportData) -> None:
    found = findings.held_out
    assert found is not None
    assert sum(found.changes.values()) == 300
    assert sum(band.n for band in found.before.bands) == 300
    rounds = findings.history.evaluated
    assert sum(band.right for band in found.after.bands) == round(rounds[-1].pass_at_1 * 300)


def test_examples_show_the_same_task_on_both_sides(findings: ReportData) -> None:
    found = findings.held_out
    assert found is not None
    examples = found.examples
    assert [example.change for example in examples][:3] == ["learned"] * 3
    assert all(example.before.task.id == example.after.task.id for example in examples)
    one = shown(examples[0])
    assert (one.before.version, one.after.version) == (0, 4)
    assert (one.before.correct, one.after.correct) == (False, True)


def test_examples_carry_no_tokens_so_that_memory_stays_small(findings: ReportData) -> None:
    assert findings.held_out is not None
    for example in findings.held_out.examples:
        assert all(turn.prompt_ids == turn.completion_ids == () for turn in example.before.turns)


def test_bins_stay_few_however_many_groups_there_are() -> None:
    bins = Bins(limit=8)
    for number in range(10_000):
        bins.add(GroupMeans(groups=1, success=float(number % 2)))
    means = bins.means()
    assert len(means) <= 8
    assert sum(mean.groups for mean in means) == 10_000
    assert means[0].success == 0.5


def test_a_long_text_says_how_much_is_left_out() -> None:
    assert cut("x" * 20_000, limit=10) == "xxxxxxxxxx… (20.0k more characters)"


def test_matplotlib_is_imported_only_when_a_report_is_written() -> None:
    import subprocess

    code = (
        "import sys, agentfactory.report, agentfactory.terminal.live_view; "
        "sys.exit('matplotlib' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": ":".join(filter(None, sys.path))}, timeout=60
    )
    assert done.returncode == 0


def test_the_report_shows_how_far_the_confidence_of_each_version_can_be_trusted(
    run: Path, findings: ReportData
) -> None:
    found = dict(calibrations(findings.held_out))
    assert list(found) == [0, 4]
    for version, share in ((0, 0.26), (4, findings.history.evaluated[-1].pass_at_1)):
        (only,) = found[version].bins
        assert (only.low, only.high) == (0.9, 1.0)
        assert only.right == pytest.approx(share, abs=0.05)
        assert found[version].error == pytest.approx(abs(0.9 - only.right))
        assert found[version].scaled_error < found[version].error
    assert '<h2 class="section">Confidence</h2>' in write_report(run).html.read_text()


def test_a_run_that_was_stored_without_confidence_has_no_such_section(findings: ReportData) -> None:
    assert findings.held_out is not None
    before = replace(findings.held_out.before, judged=[])
    assert calibrations(replace(findings.held_out, before=before, after=before)) == []
