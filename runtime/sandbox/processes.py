"""What a sandbox's processes are, and how much memory they hold, seen from outside (Linux)."""

import os
from contextlib import suppress
from pathlib import Path

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


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


def memory_bytes(pid: int, limit_bytes: int) -> int:
    """What all descendants hold together.

    Pages that forks share count once, unless counting them for each stays below the limit anyway.
    """
    pids = descendants(pid)
    resident = sum(map(_resident, pids))
    return resident if resident <= limit_bytes else sum(map(_proportional, pids))


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
