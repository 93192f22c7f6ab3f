"""The seccomp filter of Python calls: a list of the allowed system calls, just what computing needs.

Any other answers EPERM. Standard library only.
"""

import os
from typing import Final

from .seccomp import ALLOW, EPERM, ArgumentRule, Filter, SyscallNumbers, SyscallRule, build_filter

_COMPUTE: Final[dict[str, SyscallNumbers]] = {
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
_READ: Final[dict[str, SyscallNumbers]] = {
    "stat": (4, None), "lstat": (6, None), "newfstatat": (262, 79), "statx": (332, 291),
    "access": (21, None), "faccessat": (269, 48), "readlink": (89, None), "readlinkat": (267, 78),
    "getdents64": (217, 61), "getcwd": (79, 17), "pread64": (17, 67), "fcntl": (72, 25),
    "ioctl": (16, 29),
}  # fmt: skip
_OPENAT: Final = (257, 56)
_FLAGS_THAT_WRITE: Final = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def build(reads: bool) -> Filter | None:
    """The filter for this machine; None where there is none to build (not Linux, other CPUs).

    With `reads`, files may be opened, but not for writing.
    """
    if not reads:
        return build_filter([SyscallRule(tuple(_COMPUTE.values()), ALLOW)], EPERM)
    reading = ArgumentRule(_OPENAT, 2, (_FLAGS_THAT_WRITE,), passed=EPERM, failed=ALLOW, any_bit=True)
    calls = {**_COMPUTE, **_READ}
    return build_filter([SyscallRule(tuple(calls.values()), ALLOW), reading], EPERM)
