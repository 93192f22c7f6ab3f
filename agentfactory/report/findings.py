"""All that a report is made of, read from a run's folder in whatever state it is."""

from pathlib import Path
from typing import Final, NamedTuple

from ..cluster.run_folder import SETTINGS
from ..configs.errors import BadInput, SettingsError
from ..configs.load import read_stored
from ..configs.settings import Settings
from .formats import plural
from .held_out import HeldOut, compare_held_out
from .history import RunHistory, read_history

TRAJECTORIES: Final = "trajectories"


class Findings(NamedTuple):
    """All that a report is made of."""

    run_dir: Path
    settings: Settings
    history: RunHistory
    held_out: HeldOut | None
    """None where no version has been evaluated."""
    notes: tuple[str, ...]
    """What is missing, and why."""


def gather(run_dir: Path) -> Findings:
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
    return Findings(run_dir, settings, history, held_out, tuple(notes))


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
