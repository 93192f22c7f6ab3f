"""Capacity of this machine for a data plane: limits that fit, and the costs of its processes."""

import shutil
import time
from pathlib import Path
from typing import Final, NamedTuple

import psutil

from ...configs.data import DataSettings

_MEMORY_SHARE: Final = 4
"""A cache may take one part in so many of the memory that is free."""
_DISK_SHARE: Final = 0.9
_LEAST_MB: Final = 16
_CGROUP: Final = Path("/sys/fs/cgroup")
_MB, _GB = 1 << 20, 1 << 30


class FittedSettings(NamedTuple):
    """Settings that fit, and what was made smaller, in sentences."""

    data: DataSettings
    notes: tuple[str, ...]


def fit_to_machine(data: DataSettings) -> FittedSettings:
    """Bound the cache by the memory that is free, and the store by the disk."""
    notes: list[str] = []
    memory_mb = max(_LEAST_MB, _free_memory() // _MB // _MEMORY_SHARE)
    if data.cache.memory_mb > memory_mb:
        notes.append(f"the cache takes {memory_mb} MB, not {data.cache.memory_mb}: a quarter of what is free")
        data = data.model_copy(update={"cache": data.cache.model_copy(update={"memory_mb": memory_mb})})
    folder = Path(data.store.folder)
    room_gb = round(_DISK_SHARE * (_free_disk(folder) + _size_of(folder)) / _GB, 2)
    if data.store.max_gb > room_gb > 0:
        notes.append(
            f"the store takes {room_gb:g} GB at most, not {data.store.max_gb:g}: the disk has no more"
        )
        data = data.model_copy(update={"store": data.store.model_copy(update={"max_gb": room_gb})})
    return FittedSettings(data, tuple(notes))


class Costs(NamedTuple):
    """Memory and processor time of a process and its children."""

    memory_mb: int
    """Resident now; memory that they share counts in each."""
    processor: float
    """Of one core, on average since each of them began."""


def measure_costs(pid: int) -> Costs | None:
    """Of a process with all its children; None if it has ended."""
    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
        resident = sum(each.memory_info().rss for each in family)
        shares = [sum(each.cpu_times()[:2]) / max(1.0, time.time() - each.create_time()) for each in family]
    except psutil.Error:
        return None
    return Costs(resident // _MB, round(sum(shares), 3))


def _free_memory() -> int:
    """Bytes, of this machine or of the container that this is."""
    free = int(psutil.virtual_memory().available)
    try:
        limit = (_CGROUP / "memory.max").read_text(encoding="ascii").strip()
        used = int((_CGROUP / "memory.current").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return free
    return free if limit == "max" else max(0, min(free, int(limit) - used))


def _free_disk(folder: Path) -> int:
    there = next(path for path in (folder.resolve(), *folder.resolve().parents) if path.exists())
    return shutil.disk_usage(there).free


def _size_of(folder: Path) -> int:
    """Bytes on the disk that are the store's already."""
    return sum(path.lstat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())
