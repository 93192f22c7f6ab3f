"""The isolation self-test: attempts to break out of a sandbox, made in it before it is used.

Standard library only.
"""

import ctypes
import os
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final

from .launch_spec import ProbeTarget
from .protocol import Ending

NEW: Final = ".new"
"""Ending of the file that an attempt makes beside the target's."""
_NEW_USER: Final = 0x10000000


def escapes_from_command_sandbox(target: ProbeTarget, level: str) -> int:
    """Do what must not be possible; prints what was. 0 if nothing was, 1 otherwise."""
    file, pid = target["file"], target["pid"]
    attempts: dict[str, Callable[[], object]] = {
        "read a file outside": lambda: os.close(os.open(file, os.O_RDONLY)),
        "wrote a file outside": lambda: os.close(os.open(file, os.O_WRONLY)),
        "removed a file outside": lambda: os.unlink(file),
        "reached the network": lambda: socket.create_connection(("127.0.0.1", target["port"]), 1).close(),
        "read another process's environment": lambda: os.open(f"/proc/{pid}/environ", os.O_RDONLY),
        "traced a process": lambda: _libc("ptrace", 16, pid, 0, 0),
        "made a namespace": lambda: _libc("unshare", _NEW_USER),
        "mounted": lambda: _libc("mount", b"none", b"/", b"tmpfs", 0, 0),
    }
    if pid not in (os.getpid(), os.getppid()):  # in a namespace of its own it may bear the same number
        attempts["signalled a process"] = lambda: os.kill(pid, 0)
    if level == "landlock":
        attempts["left its process group"] = os.setsid
    with suppress(OSError):  # the folder may be the sandbox's own, by the same name: who asked looks
        os.close(os.open(file + NEW, os.O_WRONLY | os.O_CREAT))
    succeeded = _succeeded(attempts, OSError)
    if succeeded:
        os.write(1, ", ".join(succeeded).encode())
    return int(bool(succeeded))


def escapes_from_python_sandbox(_: str) -> Ending:
    """Do what must not be possible; prints what was."""
    attempts: dict[str, Callable[[], object]] = {
        "opened a socket": lambda: socket.socketpair(),
        "signalled its parent": lambda: os.kill(os.getppid(), 0),
        "wrote a file": lambda: os.open("/tmp", os.O_WRONLY | os.O_CREAT),
        "made a folder": lambda: os.mkdir("/"),
        "started a process": _fork_and_end,
    }
    succeeded = _succeeded(attempts, PermissionError)  # what the filter refuses fails by that alone
    if succeeded:
        os.write(1, ("a process behind the filter " + ", ".join(succeeded)).encode())
        return "error"
    return "ok"


def _succeeded(attempts: Mapping[str, Callable[[], object]], refusal: type[OSError]) -> list[str]:
    """The attempts that are not refused; one that fails otherwise is told with its error."""
    succeeded: list[str] = []
    for name, attempt in attempts.items():
        try:
            attempt()
        except refusal:
            continue
        except OSError as error:
            succeeded.append(f"{name} ({error})")
        else:
            succeeded.append(name)
    return succeeded


def _fork_and_end() -> None:
    if os.fork() == 0:
        os._exit(0)


def _libc(name: str, *arguments: int | bytes) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments) == -1:
        raise OSError(ctypes.get_errno(), name)
