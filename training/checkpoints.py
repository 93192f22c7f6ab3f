"""A policy's versions on disk.

    <run>/adapters/<policy>/v0001/       adapter_config.json, adapter_model.safetensors: kept for ever
    <run>/checkpoints/<policy>/v0001/    record.json, optimizer.safetensors: the last few are kept

Invariants: a folder appears under its name complete and durable, or not at all; a version counts as
finished when its record is there and agrees, by digest, with the adapter and the optimizer's state;
finished versions newer than the one being saved belong to an abandoned line and are discarded first.
Version 0 is the base model and has no files.
"""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from ..messages.adapters import AdapterRef, Policy
from ..messages.base import Message
from ..messages.trajectories import StepReport
from .adapter_files import CONFIG_FILE, WEIGHTS_FILE, adapter_folder, sha256_hex, version_name
from .errors import CheckpointNotWritten

RECORD_FILE = "record.json"
OPTIMIZER_FILE = "optimizer.safetensors"


class Checkpoint(NamedTuple):
    """One finished step: all that is needed to answer for it, and to go on from it."""

    report: StepReport
    group_ids: tuple[str, ...]
    """The groups that the step consumed, in order."""
    updates: int
    """Optimizer updates made so far, over all versions."""
    optimizer: bytes
    """The optimizer's tensors, as safetensors."""


class _Record(Message):
    """The content of `record.json`."""

    report: StepReport
    """Without its payload, which lies in the adapter's own files."""
    group_ids: tuple[str, ...]
    updates: int
    optimizer_sha256: str


class CheckpointStore:
    """Saves and finds the versions of one policy in a run's folder; `keep` checkpoints remain."""

    def __init__(self, run: Path, policy: Policy, keep: int) -> None:
        self._run = run
        self._policy = policy
        self._checkpoints = run / "checkpoints" / policy
        self._keep = keep

    def adapter_folder(self, version: int) -> Path:
        """Where the PEFT folder of a version lies, or will lie."""
        return adapter_folder(self._run, self._policy, version)

    def save(self, checkpoint: Checkpoint) -> None:
        """Make a version durable, in place of what its folders held. Raises CheckpointNotWritten."""
        report = checkpoint.report
        version = report.adapter.version
        record = _Record(
            report=report.model_copy(update={"config_json": b"", "weights": b""}),
            group_ids=checkpoint.group_ids,
            updates=checkpoint.updates,
            optimizer_sha256=sha256_hex(checkpoint.optimizer),
        )
        adapter = {CONFIG_FILE: report.config_json, WEIGHTS_FILE: report.weights}
        state = {RECORD_FILE: record.model_dump_json(indent=1).encode(), OPTIMIZER_FILE: checkpoint.optimizer}
        staged: list[Path] = []
        try:
            for parent, files in ((self.adapter_folder(version).parent, adapter), (self._checkpoints, state)):
                staged.append(parent / f".{version_name(version)}.part")
                _write_folder(staged[-1], files)
            # Everything is on disk by now: what can still fail are a few renames.
            self._discard_from(version)
            for folder in staged:
                _publish(folder, folder.parent / version_name(version))
        except OSError as error:
            for folder in staged:
                shutil.rmtree(folder, ignore_errors=True)
            raise CheckpointNotWritten(
                f"version {version} could not be saved under {self._checkpoints.parent.parent}: {error}. "
                "Free some space or make the folder writable, then resume the run: it goes on from the "
                f"checkpoint of version {version - 1}"
            ) from error
        self._prune()

    def load(self, version: int) -> Checkpoint | None:
        """A finished version; None if it is not there, or torn."""
        folder, adapter = self._checkpoints / version_name(version), self.adapter_folder(version)
        try:
            record = _Record.model_validate_json((folder / RECORD_FILE).read_bytes())
            optimizer = (folder / OPTIMIZER_FILE).read_bytes()
            config_json = (adapter / CONFIG_FILE).read_bytes()
            weights = (adapter / WEIGHTS_FILE).read_bytes()
        except (FileNotFoundError, NotADirectoryError, ValidationError):
            return None
        expected: AdapterRef = record.report.adapter
        if sha256_hex(weights) != expected.sha256 or sha256_hex(optimizer) != record.optimizer_sha256:
            return None
        here = expected.model_copy(update={"folder": str(adapter)})  # the run's folder may have moved
        report = record.report.model_copy(
            update={"adapter": here, "config_json": config_json, "weights": weights}
        )
        return Checkpoint(report, record.group_ids, record.updates, optimizer)

    def versions(self) -> list[int]:
        """Versions that have a checkpoint folder, torn ones included, oldest first."""
        if not self._checkpoints.is_dir():
            return []
        names = (path.name for path in self._checkpoints.iterdir())
        return sorted(int(name[1:]) for name in names if name[:1] == "v" and name[1:].isdecimal())

    def _discard_from(self, version: int) -> None:
        for found in reversed(self.versions()):
            if found >= version:
                shutil.rmtree(self._checkpoints / version_name(found))

    def _prune(self) -> None:
        for found in self.versions()[: -self._keep]:
            shutil.rmtree(self._checkpoints / version_name(found), ignore_errors=True)


def _write_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """A new folder with these files, durable before this returns."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, content in files.items():
        with (folder / name).open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    _sync_folder(folder)


def _publish(staged: Path, target: Path) -> None:
    """Give a complete folder its name. An older folder of that name goes first."""
    if target.exists():
        shutil.rmtree(target)
    staged.rename(target)
    _sync_folder(target.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
