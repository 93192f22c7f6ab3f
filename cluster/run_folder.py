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
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

from ..actors.coordinator.journal import read_journal
from ..configs.errors import BadInput, CannotWrite
from ..configs.files import write_atomically
from ..configs.load import read_stored
from ..configs.settings import Settings
from ..messages.adapters import AdapterRef, Policy
from ..messages.runs import StepFinished
from ..training.adapter_files import WEIGHTS_FILE, adapter_folder

SETTINGS = "settings.json"
JOURNAL = "journal.jsonl"
MADE: Final = ("trajectories", "adapters", "checkpoints")
MIN_FREE_MB: Final = 64
MAX_SHOWN: Final = 200
PACKAGE_CACHE: Final = "working_dir_files"
"""Where Ray unpacks what comes with a job (`--working-dir`)."""


class NewRun(NamedTuple):
    """A run's folder that was just made."""

    folder: Path
    topmost: Path | None
    """The outermost folder that was made for it; None where it was there already."""
    before: frozenset[str]
    """Names of what was in it before."""

    def discard_unless_begun(self) -> None:
        """Remove what was made, if the run never wrote to its journal. Call it once nothing runs in it."""
        if _holds_something(self.folder / JOURNAL):
            return
        for path in self.folder.iterdir():
            if path.name not in self.before:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        empty = self.folder
        with suppress(OSError):  # somebody else has put something there
            while self.topmost is not None:
                empty.rmdir()
                if empty == self.topmost:
                    return
                empty = empty.parent


def create_run_folder(settings: Settings, run_dir: Path | None = None) -> NewRun:
    """Make a new run's folder with its settings in it. Raises BadInput, with nothing left behind."""
    chosen = run_dir or _fresh_name(Path(settings.runs_dir), settings.name)
    try:
        folder = chosen.expanduser().resolve()
        _refuse_unsuitable(folder)
        topmost = next((path for path in (*reversed(folder.parents), folder) if not path.exists()), None)
        before = frozenset() if topmost else frozenset(path.name for path in folder.iterdir())
    except (OSError, ValueError, RuntimeError) as error:  # too long; a NUL character; no such user for ~
        raise _unusable(chosen, error) from error
    new = NewRun(folder, topmost, before)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _check_space(folder)
        write_atomically(folder / SETTINGS, settings.model_dump_json(indent=2).encode())
    except (OSError, CannotWrite) as error:
        if folder.is_dir():
            new.discard_unless_begun()
        raise _unusable(chosen, error) from error
    return new


def open_run_folder(run_dir: Path) -> tuple[Path, Settings]:
    """An existing run's folder and its settings. Raises BadInput."""
    try:
        folder = run_dir.expanduser().resolve()
        there = folder.is_dir()
    except (OSError, ValueError, RuntimeError) as error:
        raise _unusable(run_dir, error) from error
    if not there:
        raise BadInput(f"{folder}: there is no such run folder")
    if not (folder / SETTINGS).is_file():
        raise BadInput(f"{folder} is not a run's folder: it has no {SETTINGS}")
    return folder, read_stored(folder / SETTINGS)


def check_resumable(folder: Path) -> None:
    """Refuse a run whose journal is gone while what it made is there. Raises BadInput."""
    if _holds_something(folder / JOURNAL):
        return
    made = next((name for name in MADE if any(map(_holds_something, (folder / name).rglob("*")))), None)
    if made is not None:
        raise BadInput(
            f"{folder}: the run's {JOURNAL} is missing, although there are {made}: put it back, or start a "
            "new run in another folder"
        )


def newest_versions(run_dir: Path, limit: int) -> tuple[AdapterRef, ...]:
    """Of each policy, the newest versions that the run's journal knows and its folder has, oldest first."""
    found: dict[Policy, dict[int, AdapterRef]] = {"student": {}, "teacher": {}}
    for entry in read_journal(run_dir / JOURNAL):
        if isinstance(entry, StepFinished):
            found[entry.policy][entry.adapter.version] = entry.adapter
    return tuple(
        versions[version]
        for policy, versions in found.items()
        for version in sorted(v for v in versions if _lies_there(run_dir, policy, v))[-limit:]
    )


def store_settings(folder: Path, settings: Settings) -> None:
    """Replace what a run goes on with. Raises CannotWrite."""
    write_atomically(folder / SETTINGS, settings.model_dump_json(indent=2).encode())


@contextmanager
def lock_run_folder(folder: Path) -> Iterator[None]:
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


def _refuse_unsuitable(folder: Path) -> None:
    if (folder / JOURNAL).exists() or (folder / SETTINGS).exists():
        raise BadInput(
            f"{folder} already holds a run; continue it with `agentfactory resume {folder}`, or choose "
            "another folder"
        )
    if PACKAGE_CACHE in folder.parts:
        raise BadInput(
            f"{folder} lies in Ray's package cache, which goes with Ray's session: give a job an absolute "
            "folder that stays, with --run-dir or --set runs_dir=…"
        )


def _unusable(folder: Path, error: Exception) -> BadInput:
    shown = str(folder) if len(str(folder)) <= MAX_SHOWN else f"{str(folder)[:MAX_SHOWN]}…"
    reason = getattr(error, "strerror", None) or str(error)
    return BadInput(f"{shown}: cannot be used as a run folder ({reason})")


def _holds_something(file: Path) -> bool:
    return file.is_file() and file.stat().st_size > 0


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


def _lies_there(run_dir: Path, policy: Policy, version: int) -> bool:
    return (adapter_folder(run_dir, policy, version) / WEIGHTS_FILE).is_file()
