"""What a sandbox's processes are, and how much they hold, seen from outside (Linux)."""

import os
import stat
from contextlib import suppress
from pathlib import Path

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_BLOCK_BYTES = 512
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


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
