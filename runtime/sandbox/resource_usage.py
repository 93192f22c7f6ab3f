"""Resource usage of a sandboxed program: its processes and files, all together, seen from outside (Linux).

No limit of the kernel's covers that without rights that we need not have, so it has to be asked again and
again. Blocking: call it in a thread.
"""

import errno
import os
import stat
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from ...configs.sandbox import CommandSandboxSettings
from .inside.protocol import Ending

_MB: Final = 2**20
_BLOCK_BYTES: Final = 512
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
_DUTY: Final = 10
"""Time between looks at the files, against the time that a look takes."""
_MOST_COUNTED: Final = 20
"""A folder is counted up to so many times what it may hold."""


class FolderUsage(NamedTuple):
    """Files and bytes of a folder, itself left out."""

    files: int
    """Files, folders and all else that has a name."""
    size: int
    """Bytes on the disk."""
    hidden: int = 0
    """Folders in it that cannot be looked into: closed to us, or too deep."""


def folder_usage(folder: str | Path, max_files: int) -> FolderUsage:
    """Count what is there, up to `max_files`; what goes in between is left out."""
    files = size = hidden = 0
    waiting = [os.fspath(folder)]
    while waiting and files <= max_files:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    files += 1
                    if files > max_files:
                        break
                    with suppress(FileNotFoundError):
                        size += entry.stat(follow_symlinks=False).st_blocks * _BLOCK_BYTES
                        if entry.is_dir(follow_symlinks=False):
                            waiting.append(entry.path)
        except OSError as error:
            hidden += error.errno not in (errno.ENOENT, errno.ENOTDIR)
    return FolderUsage(files, size, hidden)


def allowed_usage(workdir: Path, settings: CommandSandboxSettings) -> FolderUsage:
    """The quota of a workdir: one that holds more already must not grow further.

    Ask before the program starts, which might fill it meanwhile.
    """
    at_first = folder_usage(workdir, _MOST_COUNTED * settings.workdir_files)
    return FolderUsage(
        max(at_first.files, settings.workdir_files),
        max(at_first.size, settings.workdir_mb * _MB),
        at_first.hidden,
    )


class UsageMonitor:
    """One program's."""

    def __init__(
        self,
        pid: int,
        workdir: Path,
        most: FolderUsage,
        scratch: Sequence[int],
        settings: CommandSandboxSettings,
    ) -> None:
        """`most`: what the workdir may hold; `scratch`: descriptors of the private folders for temporary
        files, where there are any."""
        self._pid = pid
        self._device = workdir.stat().st_dev
        self._workdir = workdir
        self._scratch = scratch
        self._memory_bytes = settings.memory_mb * _MB
        self._tmp_files = settings.workdir_files
        self._most = most
        self._cpu_s = cpu_seconds(pid)
        self._look_again = 0.0

    def broken(self, cpu_s: float | None = None) -> Ending | None:
        """The limit that is broken now, if one is; `cpu_s` limits the processor time since the beginning."""
        if memory_bytes(self._pid, self._memory_bytes) > self._memory_bytes:
            return "memory"
        if cpu_s is not None and cpu_seconds(self._pid) - self._cpu_s > cpu_s:
            return "timeout"
        return "disk" if self._holds_too_much() else None

    def _holds_too_much(self) -> bool:
        started = time.monotonic()
        if started < self._look_again:
            return False
        usage = folder_usage(self._workdir, self._most.files)
        self._look_again = time.monotonic() + _DUTY * (time.monotonic() - started)
        return (
            usage.files > self._most.files
            or usage.size + unlinked_bytes(self._pid, self._device) > self._most.size
            or usage.hidden > self._most.hidden
            or any(_names_in(folder) > self._tmp_files for folder in self._scratch)
        )


def _names_in(folder: int) -> int:
    """Files and folders of the whole file system; 0 once it is gone."""
    with suppress(OSError):
        found = os.fstatvfs(folder)
        return found.f_files - found.f_ffree
    return 0


def children(pid: int) -> list[int]:
    """Its children now; none where it is gone."""
    found: list[int] = []
    with suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            with suppress(OSError):
                found += map(int, Path(f"/proc/{pid}/task/{task}/children").read_text().split())
    return found


def descendants(pid: int) -> list[int]:
    """Its children, theirs, and so on, as far as they can be seen."""
    found: list[int] = []
    waiting = children(pid)
    while waiting:
        found.append(waiting.pop())
        waiting += children(found[-1])
    return found


def cpu_seconds(pid: int) -> float:
    """Processor time that all descendants have used, those included whose end they have seen."""
    return sum(map(_ticks, descendants(pid))) / _TICKS_PER_S


def is_alive(pid: int) -> bool:
    """Whether it runs; one that is dead and still has a number, until its parent asks, does not."""
    with suppress(OSError):
        return _fields(pid)[0] not in "ZX"
    return False


def threads(pid: int) -> int:
    """How many a process has; 0 where it is gone."""
    with suppress(OSError):
        return len(os.listdir(f"/proc/{pid}/task"))
    return 0


def _ticks(pid: int) -> int:
    with suppress(OSError):
        return sum(map(int, _fields(pid)[11:15]))
    return 0


def _fields(pid: int) -> list[str]:
    """What the kernel's `stat` says behind the name, the state first."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def memory_bytes(pid: int, limit_bytes: int) -> int:
    """What all descendants hold together.

    Pages that forks share count once, unless counting them for each stays below the limit anyway.
    """
    pids = descendants(pid)
    resident = sum(map(_resident, pids))
    return resident if resident <= limit_bytes else sum(map(_proportional, pids))


def unlinked_bytes(pid: int, device: int) -> int:
    """What files of a file system hold that have no name any more, and that descendants have open."""
    sizes: dict[int, int] = {}
    for each in descendants(pid):
        with suppress(OSError), os.scandir(f"/proc/{each}/fd") as descriptors:
            for descriptor in descriptors:
                with suppress(OSError):
                    found = descriptor.stat()
                    if found.st_nlink == 0 and found.st_dev == device and stat.S_ISREG(found.st_mode):
                        sizes[found.st_ino] = found.st_blocks * _BLOCK_BYTES
    return sum(sizes.values())


def _resident(pid: int) -> int:
    with suppress(OSError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES
    return 0


def _proportional(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return _resident(pid)
    wanted = ("Pss_Anon:", "Pss_Shmem:")
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(wanted))
