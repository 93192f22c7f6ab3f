"""The data of a report, read from a run's folder in whatever state it is, and the writing of its files.

Matplotlib and jinja2 are imported only when a report is written.
"""

from pathlib import Path
from typing import Final, NamedTuple

from ..cluster.run_folder import SETTINGS
from ..configs.errors import BadInput, SettingsError
from ..configs.files import write_atomically
from ..configs.load import read_stored
from ..configs.settings import Settings
from .formats import plural
from .held_out import HeldOut, compare_held_out
from .history import RunHistory, read_history

TRAJECTORIES: Final = "trajectories"


class ReportData(NamedTuple):
    """All that a report is made of."""

    run_dir: Path
    settings: Settings
    history: RunHistory
    held_out: HeldOut | None
    """None where no version has been evaluated."""
    notes: tuple[str, ...]
    """What is missing, and why."""


def collect(run_dir: Path) -> ReportData:
    """Read what there is. Raises BadInput for a folder that is not a run's."""
    if not run_dir.is_dir():
        raise BadInput(f"{run_dir}: there is no such folder")
    settings, notes = _settings(run_dir)
    history = read_history(run_dir, settings.curriculum)
    if history.damage:
        notes.append(f"Only a part of the journal could be read: {history.damage}.")
    rounds, held_out = history.evaluated, None
    if not rounds:
        notes.append("No version has been evaluated yet, so there is no pass@1 to show.")
    else:
        if len(rounds) == 1:
            only = rounds[0].version
            notes.append(f"Only version {only} has been evaluated: there is no before and after.")
        folder = run_dir / TRAJECTORIES
        held_out = compare_held_out(folder, rounds[0].version, rounds[-1].version)
        notes.extend(_missing(held_out))
    return ReportData(run_dir, settings, history, held_out, tuple(notes))


def _settings(run_dir: Path) -> tuple[Settings, list[str]]:
    path = run_dir / SETTINGS
    try:
        return read_stored(path), []
    except SettingsError as error:
        return Settings(name="unknown"), [f"The settings are not known, defaults stand in: {error}."]


def _missing(held_out: HeldOut) -> list[str]:
    notes = []
    if held_out.problem:
        notes.append(f"The held-out answers cannot be compared one by one: {held_out.problem}.")
    if held_out.unreadable:
        lines = plural(held_out.unreadable, "stored trajectory", "stored trajectories")
        notes.append(f"{lines} could not be read.")
    return notes


HTML: Final = "report.html"
PNG: Final = "report.png"


class ReportFiles(NamedTuple):
    """Files of a report."""

    html: Path
    png: Path


def write_report(run_dir: Path) -> ReportFiles:
    """Write `report.html` and `report.png` into a run's folder, whatever state the run is in.

    The journal and the trajectories are streamed: memory does not grow with the run. Raises BadInput
    for a folder that is not a run's, or that cannot be written.
    """
    from .chart_style import themed
    from .charts import draw_sheet, panels
    from .page import headline, render_page, subtitle

    findings = collect(run_dir)
    with themed():
        charts = panels(findings.history, findings.settings)
        sheet = draw_sheet(charts, headline(findings), subtitle(findings))
        page = render_page(findings, charts)
    files = ReportFiles(run_dir / HTML, run_dir / PNG)
    try:
        write_atomically(files.png, sheet)
        write_atomically(files.html, page.encode())
    except OSError as error:
        raise BadInput(f"{run_dir}: the report cannot be written ({error.strerror})") from error
    return files
