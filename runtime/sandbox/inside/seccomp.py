"""A seccomp filter that leaves a process just what computing needs.

The filter is a list of the allowed system calls; any other answers EPERM, so that Python raises
PermissionError. A call made through another architecture's table kills the process. Numbers come
from the kernel's `unistd_64.h` (x86_64) and `asm-generic/unistd.h` (aarch64); the program's format
from Documentation/userspace-api/seccomp_filter.rst. Standard library only.
"""

import ctypes
import os
import platform
import signal
import struct
from typing import Final, NamedTuple

ARCHITECTURES: Final = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
COLUMN: Final = {"x86_64": 0, "aarch64": 1}

_COMPUTE: Final = {
    "futex": (202, 98), "read": (0, 63), "write": (1, 64), "mmap": (9, 222), "munmap": (11, 215),
    "brk": (12, 214), "mremap": (25, 216), "madvise": (28, 233), "mprotect": (10, 226),
    "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139),
    "sigaltstack": (131, 132), "restart_syscall": (219, 128), "close": (3, 57), "fstat": (5, 80),
    "lseek": (8, 62), "getpid": (39, 172), "getppid": (110, 173), "gettid": (186, 178),
    "getuid": (102, 174), "geteuid": (107, 175), "getgid": (104, 176), "getegid": (108, 177),
    "clock_gettime": (228, 113), "clock_getres": (229, 114), "clock_nanosleep": (230, 115),
    "nanosleep": (35, 101), "gettimeofday": (96, 169), "time": (201, None), "times": (100, 153),
    "getrusage": (98, 165), "getrandom": (318, 278), "sched_yield": (24, 124),
    "exit": (60, 93), "exit_group": (231, 94),
}  # fmt: skip
_READ: Final = {
    "stat": (4, None), "lstat": (6, None), "newfstatat": (262, 79), "statx": (332, 291),
    "access": (21, None), "faccessat": (269, 48), "readlink": (89, None), "readlinkat": (267, 78),
    "getdents64": (217, 61), "getcwd": (79, 17), "pread64": (17, 67), "fcntl": (72, 25),
    "ioctl": (16, 29),
}  # fmt: skip
_OPENAT: Final = (257, 56)
_FLAGS_THAT_WRITE: Final = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

_LOAD_WORD, _JUMP_EQUAL, _JUMP_ANY_BIT, _RETURN = 0x20, 0x15, 0x45, 0x06
_NUMBER_AT, _ARCHITECTURE_AT, _THIRD_ARGUMENT_AT = 0, 4, 32
ALLOW, KILL_PROCESS = 0x7FFF0000, 0x80000000
_ANSWER_EPERM = 0x00050001

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 1, 4, 22, 38
_PR_SET_CHILD_SUBREAPER = 36
_SECCOMP_MODE_FILTER = 2


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


class Filter(NamedTuple):
    """A filter ready to install."""

    address: int
    """Where `program` lies."""
    program: _Program
    instructions: bytes
    """What `program` points to."""


def build(reads: bool) -> Filter | None:
    """The filter for this machine; None where there is none to build (not Linux, other CPUs).

    With `reads`, files may be opened, but not for writing.
    """
    machine = platform.machine()
    if platform.system() != "Linux" or machine not in ARCHITECTURES:
        return None
    column = COLUMN[machine]
    names = {**_COMPUTE, **_READ} if reads else _COMPUTE
    numbers = [number for row in names.values() if (number := row[column]) is not None]
    opening = _OPENAT[column] if reads else None
    return pack(_assemble(ARCHITECTURES[machine], numbers, opening))


def pack(instructions: bytes) -> Filter:
    """A filter of these instructions (`struct sock_filter`, 8 bytes each)."""
    program = _Program(len(instructions) // 8, instructions)
    return Filter(ctypes.addressof(program), program, instructions)


def set_no_new_privs() -> None:
    """No program that this process starts can gain rights; a filter needs it. Children inherit it."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def install(walls: Filter) -> None:
    """Put this process behind the filter, for good. Raises OSError where the kernel refuses."""
    _prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, walls.address)


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


def _assemble(architecture: int, numbers: list[int], opening: int | None) -> bytes:
    """Arch check, one comparison for each number, then the verdicts they jump to."""
    checks = [*numbers, *([] if opening is None else [opening])]
    code = [
        (_LOAD_WORD, 0, 0, _ARCHITECTURE_AT),
        (_JUMP_EQUAL, 1, 0, architecture),
        (_RETURN, 0, 0, KILL_PROCESS),
        (_LOAD_WORD, 0, 0, _NUMBER_AT),
    ]
    # After the comparisons: [refuse, allow, load flags, writes? refuse : allow, refuse, allow]
    for index, number in enumerate(checks):
        to_refuse = len(checks) - index - 1
        code.append((_JUMP_EQUAL, to_refuse + (2 if number == opening else 1), 0, number))
    code += [
        (_RETURN, 0, 0, _ANSWER_EPERM),
        (_RETURN, 0, 0, ALLOW),
        (_LOAD_WORD, 0, 0, _THIRD_ARGUMENT_AT),
        (_JUMP_ANY_BIT, 0, 1, _FLAGS_THAT_WRITE),
        (_RETURN, 0, 0, _ANSWER_EPERM),
        (_RETURN, 0, 0, ALLOW),
    ]
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in code)


def _prctl(option: int, value: int, pointer: int = 0) -> None:
    if _LIBC.prctl(option, *map(ctypes.c_ulong, (value, pointer, 0, 0))) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl({option}) was refused: {os.strerror(number)}")


_LIBC: Final = ctypes.CDLL(None, use_errno=True)
