"""Landlock: a process gives up, for good and without root, all files but those named.

Structures and rights from Linux's `include/uapi/linux/landlock.h`; what an ABI version brings is in
Documentation/userspace-api/landlock.rst. Standard library only.
"""

import ctypes
import os
import platform
import stat
import struct
from collections.abc import Iterable
from typing import Final

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_RULE_PATH_BENEATH, _ASK_VERSION = 1, 1

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1, 2, 4, 8
_TRUNCATE, _IOCTL_DEV = 1 << 14, 1 << 15
_OF_FILES: Final = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV
_MAKE_CHAR, _MAKE_BLOCK = 1 << 6, 1 << 11
_HANDLED: Final = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}
"""File rights by the ABI that brought the last of them."""
_TCP: Final = 3
_ABSTRACT_SOCKETS_AND_SIGNALS: Final = 3
TCP_ABI, SIGNALS_ABI, TRUNCATE_ABI = 4, 6, 3


def abi() -> int:
    """The kernel's version of Landlock; 0 where there is none."""
    if platform.system() != "Linux":
        return 0
    return max(0, _syscall(_CREATE_RULESET, None, 0, _ASK_VERSION))


def restrict(version: int, readable: Iterable[str], writable: Iterable[str]) -> None:
    """Leave this process these files and folders, no TCP, and no signals to others.

    What a `version` does not know stays open: signals before 6, TCP before 4. Paths that do not exist
    are passed over. Needs `seccomp.forgo_privileges` first. Raises OSError where the kernel refuses.
    """
    handled = next(rights for first, rights in sorted(_HANDLED.items(), reverse=True) if version >= first)
    net = _TCP if version >= TCP_ABI else 0
    scoped = _ABSTRACT_SOCKETS_AND_SIGNALS if version >= SIGNALS_ABI else 0
    attributes = struct.pack("=QQQ", handled, net, scoped)
    size = 24 if version >= SIGNALS_ABI else 16 if version >= TCP_ABI else 8
    ruleset = _checked(_CREATE_RULESET, ctypes.c_char_p(attributes), size, 0)
    try:
        for path in readable:
            _allow(ruleset, path, handled & (_EXECUTE | _READ_FILE | _READ_DIR))
        for path in writable:
            _allow(ruleset, path, handled & ~(_MAKE_CHAR | _MAKE_BLOCK | _IOCTL_DEV))
        _checked(_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: str, rights: int) -> None:
    try:
        folder = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except (FileNotFoundError, PermissionError):
        return
    try:
        if not stat.S_ISDIR(os.fstat(folder).st_mode):
            rights &= _OF_FILES
        rule = struct.pack("=Qi", rights, folder)
        _checked(_ADD_RULE, ruleset, _RULE_PATH_BENEATH, ctypes.c_char_p(rule), 0)
    finally:
        os.close(folder)


def _checked(number: int, *arguments: "ctypes.c_char_p | int | None") -> int:
    result = _syscall(number, *arguments)
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"Landlock was refused: {os.strerror(error)}")
    return result


def _syscall(number: int, *arguments: "ctypes.c_char_p | int | None") -> int:
    words = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    return int(_LIBC.syscall(ctypes.c_long(number), *words))


_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_LIBC.syscall.restype = ctypes.c_long
