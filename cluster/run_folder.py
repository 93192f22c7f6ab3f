"""A run's folder: made whole or not at all, and held by one process at a time.

settings.json                 what the run was started with
journal.jsonl                 what happened, entry by entry
trajectories/                 every episode
adapters/student/v0003/       each version in the standard PEFT format
checkpoints/                  optimizer states, for resuming
run.json, report.html/.png    written at the end
logs/                         one file an actor
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from configs.errors import BadInput, CannotWrite
from configs.files import write_atomically
from configs.load import read_stored
from configs.settings import Settings

SETTINGS = "settings.json"
JOURNAL = "journal.jsonl"
MIN_FREE_MB = 64


def create_run_folder(settings: Settings, run_dir: Path | None = None) -> Path:
    """Make a new run's folder with its settings in it. Raises BadInput, with nothing left behind."""
    chosen = run_dir or _fresh_name(Path(settings.runs_dir), settings.name)
    folder = chosen.expanduser().resolve()
    if (folder / JOURNAL).exists() or (folder / SETTINGS).exists():
        raise BadInput(
            f"{folder} already holds a run; continue it with `agentfactory resume {folder}`, or choose "
            "another folder"
        )
    existed = folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _check_space(folder)
        write_atomically(folder / SETTINGS, settings.model_dump_json(indent=2).encode())
    except (OSError, CannotWrite) as error:
        if not existed and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
        reason = getattr(error, "strerror", None) or str(error)
        raise BadInput(f"{folder}: cannot be used as a run folder ({reason})") from error
    return folder


def open_run_folder(run_dir: Path) -> tuple[Path, Settings]:
    """An existing run's folder and its settings. Raises BadInput."""
    folder = run_dir.expanduser().resolve()
    if not folder.is_dir():
        raise BadInput(f"{folder}: there is no such run folder")
    if not (folder / SETTINGS).is_file():
        raise BadInput(f"{folder} is not a run's folder: it has no {SETTINGS}")
    return folder, read_stored(folder / SETTINGS)


@contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Keep other processes from running the same run. Raises BadInput when one does."""
    path = folder / ".lock"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise BadInput(f"{folder}: cannot be written ({error.strerror})") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise BadInput(f"{folder}: this run is under way in another process") from error
        yield
    finally:
        os.close(descriptor)


def _fresh_name(runs: Path, name: str) -> Path:
    stamp = time.strftime("%Y%m%d-%H%M%S")
    candidate, number = runs / f"{name}-{stamp}", 2
    while candidate.exists():
        candidate, number = runs / f"{name}-{stamp}-{number}", number + 1
    return candidate


def _check_space(folder: Path) -> None:
    stats = os.statvfs(folder)
    free_mb = stats.f_bavail * stats.f_frsize >> 20
    if free_mb < MIN_FREE_MB:
        raise OSError(28, f"only {free_mb} MB free, {MIN_FREE_MB} MB needed")
