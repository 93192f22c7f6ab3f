"""Figures by domain: in the page, in the terminal, and in the result."""

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from agentfactory.actors.coordinator.journal import FILE, read_journal
from agentfactory.actors.coordinator.run_state import RunState
from agentfactory.configs.load import load_settings
from agentfactory.messages.runs import RoundFinished, RunResult
from agentfactory.report import write_report
from agentfactory.report.formats import percent
from agentfactory.run import run_result
from agentfactory.terminal.rounds_table import round_line, rounds_table
from agentfactory.terminal.run_summary import result_lines
from tests.agentfactory.fake_run import write_fake_run

DOMAINS = ("math", "logic", "data")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_fake_run(tmp_path_factory.mktemp("runs") / "run", rounds=2, domains=DOMAINS)


@pytest.fixture(scope="module")
def state(run: Path) -> RunState:
    state = RunState(load_settings("laptop").curriculum)
    for entry in read_journal(run / FILE):
        state.apply(entry)
    return state


@pytest.fixture(scope="module")
def result(run: Path, state: RunState) -> RunResult:
    return run_result(run, state)


def shown(rounds: list[RoundFinished]) -> str:
    stream = io.StringIO()
    Console(file=stream, width=160).print(rounds_table(rounds, limit=9, width=160))
    return stream.getvalue()


def test_the_result_has_each_version_by_domain(result: RunResult) -> None:
    for one in result.rounds:
        assert [score.domain for score in one.domains] == list(DOMAINS)
        assert sum(score.n for score in one.domains) == one.n
        right = sum(score.pass_at_1 * score.n for score in one.domains)
        assert right == pytest.approx(one.pass_at_1 * one.n)


def test_the_page_has_a_row_for_each_domain_with_both_versions(run: Path, result: RunResult) -> None:
    page = write_report(run).html.read_text()
    first, last = result.rounds[0], result.rounds[-1]
    section = page[page.index(">By domain<") : page.index(">The held-out tasks")]
    for before, after in zip(first.domains, last.domains, strict=True):
        row = re.search(rf"<tr><td>{before.domain}</td>.*?</tr>", section, re.DOTALL)
        assert row is not None
        assert percent(before.pass_at_1) in row[0]
        assert percent(after.pass_at_1) in row[0]


def test_the_learning_curve_names_every_domain(run: Path) -> None:
    page = write_report(run).html.read_text()
    curve = page[page.index('aria-label="Held-out pass@1"') :]
    curve = curve[: curve.index("</svg>")]
    assert all(f">{domain}</text>" in curve for domain in DOMAINS)


def test_the_end_summary_says_what_each_domain_gained(result: RunResult) -> None:
    lines = [line.plain for line in result_lines(result)]
    for before, after in zip(result.rounds[0].domains, result.rounds[-1].domains, strict=True):
        line = next(line for line in lines if line.strip().startswith(before.domain))
        assert percent(before.pass_at_1) in line.split("→")[0]
        assert percent(after.pass_at_1) in line.split("→")[1]


def test_the_live_table_and_the_log_have_a_figure_for_each_domain(state: RunState) -> None:
    table = shown([state.rounds[version] for version in sorted(state.rounds)])
    for score in state.rounds[2].domains:
        assert score.domain in table.splitlines()[0]
        assert percent(score.pass_at_1) in table
        assert f"{score.domain} {percent(score.pass_at_1)}" in round_line(state.rounds[2])


def test_a_run_of_one_domain_shows_no_figures_by_domain(tmp_path: Path) -> None:
    folder = write_fake_run(tmp_path / "run", rounds=1)
    rounds = [entry for entry in read_journal(folder / FILE) if isinstance(entry, RoundFinished)]
    assert ">By domain<" not in write_report(folder).html.read_text()
    assert "math" not in shown(rounds)
    assert "math" not in round_line(rounds[0])


def test_a_round_of_an_older_journal_has_no_domains_and_is_still_shown(state: RunState) -> None:
    older = RoundFinished.model_validate_json(
        state.rounds[0].model_copy(update={"domains": ()}).model_dump_json(exclude={"domains"})
    )
    assert "–" in shown([older, state.rounds[1]])
