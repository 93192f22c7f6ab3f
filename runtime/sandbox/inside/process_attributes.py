"""Attributes that a process sets for itself: no new privileges, death with its parent, namespaces.

Standard library only.
"""

import ctypes
import os
import platform
import signal
from typing import Final

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 1, 4, 22, 38
_PR_SET_CHILD_SUBREAPER = 36
_SECCOMP_MODE_FILTER = 2


def set_no_new_privs() -> None:
    """No program that this process starts can gain rights; a filter needs it. Children inherit it."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def set_seccomp_filter(address: int) -> None:
    """Put this process behind the filter (`struct sock_fprog`) that lies there, for good. Raises OSError."""
    _prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, address)


def die_with_parent() -> None:
    """Have the kernel kill this process when the thread that made it ends (Linux)."""
    if platform.system() == "Linux":
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def set_undumpable() -> None:
    """Keep other processes of the same user from tracing this one, and core files from forming."""
    if platform.system() == "Linux":
        _prctl(_PR_SET_DUMPABLE, 0)


def set_child_subreaper() -> None:
    """Become the parent of all descendants whose parent ends (Linux)."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def unshare(flags: int) -> bool:
    """Move to new namespaces; False where the kernel refuses."""
    if platform.system() != "Linux":
        return False
    return int(_LIBC.unshare(ctypes.c_int(flags))) == 0


def _prctl(option: int, value: int, pointer: int = 0) -> None:
    if _LIBC.prctl(option, *map(ctypes.c_ulong, (value, pointer, 0, 0))) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl({option}) was refused: {os.strerror(number)}")


_LIBC: Final = ctypes.CDLL(None, use_errno=True)
