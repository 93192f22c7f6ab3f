"""The confinement of one piece of work: resource limits, another user, and the seccomp filter.

It is applied in two steps, since each microsecond in a child is paid at each call: `confine_server` once in
the warm process, `confine_child` in each child. Standard library only.
"""

import os
import resource
from typing import Final, NamedTuple

from . import process_attributes, seccomp, seccomp_filters

NOBODY_UID: Final = 65534
_MB: Final = 2**20
_OPEN_FILES: Final = 256
_STACK_BYTES: Final = 100 * _MB
"""For code that recurses through C; below what the kernel keeps free for it under any limit."""
_NICENESS: Final = 10
"""The model's code gives way to whoever samples and trains on the same cores."""
_NAMESPACES: Final = {"net": 0x40000000, "pid": 0x20000000, "ipc": 0x08000000}
_USER_NAMESPACE: Final = 0x10000000


class Confinement(NamedTuple):
    """The confinement of all pieces of work, decided once."""

    memory_bytes: int
    """Address space, with what the warm process has already."""
    open_files: int
    nobody: bool
    """Become the user that owns nothing (needs root)."""
    filter: seccomp.Filter | None
    first_process: bool
    """The warm process is process 1 of its namespace: nothing there outlives it."""


def plan(memory_mb: int, reads: bool, first_process: bool) -> Confinement:
    """The confinement that is possible here. Call it once all that the work needs is loaded."""
    return Confinement(
        memory_bytes=_address_space() + memory_mb * _MB,
        open_files=_OPEN_FILES,
        nobody=os.geteuid() == 0 and not reads,
        filter=seccomp_filters.python_call_filter(reads),
        first_process=first_process,
    )


def confine_server(confinement: Confinement) -> None:
    """Give up, in the warm process, all that its children must not have and it can do without.

    What children inherit costs them nothing. Raises OSError where the kernel refuses.
    """
    for limit, value in (
        (resource.RLIMIT_AS, confinement.memory_bytes),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, confinement.open_files),
    ):
        resource.setrlimit(limit, (value, value))
    hard = resource.getrlimit(resource.RLIMIT_STACK)[1]
    if hard == resource.RLIM_INFINITY or hard >= _STACK_BYTES:
        resource.setrlimit(resource.RLIMIT_STACK, (_STACK_BYTES, hard))
    if confinement.nobody:
        os.setgroups([])
        os.setresgid(NOBODY_UID, NOBODY_UID, NOBODY_UID)
        os.setresuid(NOBODY_UID, NOBODY_UID, NOBODY_UID)
    # After the change of user, which would undo both.
    process_attributes.set_undumpable()
    process_attributes.die_with_parent()
    if confinement.filter is not None:
        process_attributes.set_no_new_privs()


def confine_child(confinement: Confinement, cpu_s: int) -> None:
    """Apply the rest, in a child, for good. Raises OSError where the kernel refuses."""
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s))
    resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
    os.nice(_NICENESS)
    if not confinement.first_process:
        process_attributes.die_with_parent()
    if confinement.filter is not None:
        seccomp.install(confinement.filter)


def enter_namespaces() -> tuple[str, ...]:
    """Leave the machine's network and processes behind where that is allowed; names what was left.

    With "pid" among them, the next child is process 1 of its own world: when it dies, all die.
    """
    flags = 0
    for flag in _NAMESPACES.values():
        flags |= flag
    if process_attributes.unshare(flags) or process_attributes.unshare(flags | _USER_NAMESPACE):
        return tuple(_NAMESPACES)
    return ()


def _address_space() -> int:
    try:
        with open("/proc/self/statm", encoding="ascii") as statm:
            return int(statm.read().split()[0]) * resource.getpagesize()
    except OSError:
        return 512 * _MB  # not Linux: a guess on the generous side
