"""The report's page: every table scrolls inside, and no label lies on a line that it does not name."""

import itertools
import re
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from agentfactory.configs.roles import CurriculumSettings
from agentfactory.report import write_report
from agentfactory.report.history import RunHistory, read_history
from agentfactory.report.round_charts import learning_curve
from tests.agentfactory.fake_run import write_fake_run

DOMAINS = ("math", "logic", "a_domain_with_a_name_that_is_very_long")


@pytest.mark.parametrize(("rounds", "domains"), [(0, ("math",)), (1, ("math",)), (5, DOMAINS)])
def test_every_table_stands_in_a_box_that_scrolls(
    tmp_path: Path, rounds: int, domains: tuple[str, ...]
) -> None:
    page = write_report(write_fake_run(tmp_path / "run", rounds=rounds, domains=domains)).html.read_text()
    tables = len(re.findall(r"<table", page))
    boxed = len(re.findall(r'<div class="(?:wide|scroll)[^"]*">\s*<table', page))
    assert tables == boxed > 0
    assert ".scroll, .wide { overflow-x: auto; }" in page


@pytest.mark.parametrize("domains", [("math",), DOMAINS])
def test_the_shares_of_the_last_version_stand_apart_beside_the_ends_of_their_lines(
    tmp_path: Path, domains: tuple[str, ...]
) -> None:
    history = _history(tmp_path, domains)
    axes = Figure(figsize=(5.6, 3.3)).subplots()
    learning_curve(history, axes)
    last = history.evaluated[-1].version
    ends = [text for text in axes.texts if text.xy[0] == last]  # type: ignore[attr-defined]
    assert len(ends) == len(domains) + (len(domains) > 1) or len(ends) == 1
    heights = sorted(text.xy[1] for text in ends)  # type: ignore[attr-defined]
    assert all(above - below > 0.07 for below, above in itertools.pairwise(heights))


def test_the_share_of_the_first_version_lies_clear_of_all_lines_near_it(tmp_path: Path) -> None:
    history = _history(tmp_path, DOMAINS)
    axes = Figure(figsize=(5.6, 3.3)).subplots()
    learning_curve(history, axes)
    (first,) = [text for text in axes.texts if text.get_ha() == "left" and text.get_va() in ("bottom", "top")]
    y = first.xy[1]  # type: ignore[attr-defined]
    near = [one for one in history.evaluated if one.version <= 1]
    shares = [share for one in near for share in (*one.ci95, *(score.pass_at_1 for score in one.domains))]
    assert y >= max(shares) if first.get_va() == "bottom" else y <= min(shares)


def test_what_was_asked_and_what_was_proposed_are_columns_of_their_own(tmp_path: Path) -> None:
    page = write_report(write_fake_run(tmp_path / "run", rounds=2)).html.read_text()
    assert '<th class="n">difficulty asked</th><th class="n">proposed</th>' in page
    assert "From the first to the last quarter of the groups the sum went from" in page


def _history(folder: Path, domains: tuple[str, ...]) -> RunHistory:
    return read_history(write_fake_run(folder / "run", rounds=4, domains=domains), CurriculumSettings())
