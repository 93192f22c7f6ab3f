"""The launcher: confines itself and becomes the program, the last thing of ours that runs in a sandbox.

Started by `runtime.sandbox.commands` with a control socket, its number as the one argument. At level
`bubblewrap` it finds itself in namespaces already and becomes the program. Elsewhere it stays outside as
the program's parent: it passes the exit code on, and kills all that the program left when the program
ends or the control socket closes. Standard library only.

Invariant: the program starts only once every limit of its level holds; what fails before is told on the
control socket.
"""

import encodings.idna  # noqa: F401 - the self-test's connecting needs it when no file can be read any more
import os
import resource
import select
import signal
import socket
import sys
from contextlib import suppress
from typing import Final, NoReturn

from . import landlock, process_attributes, seccomp, seccomp_filters
from .confinement import NOBODY_UID
from .launch_spec import HERE, SCRATCH, UP, LaunchSpec, receive
from .selftest import escapes_from_command_sandbox

NOT_CONFINED: Final = 70
NOT_STARTED: Final = 127
"""Exit code where the program cannot be started, as shells have it."""
_NICENESS: Final = 10
_USER_NAMESPACE: Final = 0x10000000
_ADDRESS_SPACE_FACTOR: Final = 8
"""Address space against memory: programs reserve much more than they use."""
_DEVICES: Final = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")


def main() -> NoReturn:
    """Receive the launch spec; be the program, or its parent."""
    control = socket.socket(fileno=int(sys.argv[1]))
    control.set_inheritable(False)
    control.sendall(HERE)
    spec = receive(control)
    if spec["level"] == "bubblewrap":
        _become(spec, control)
    process_attributes.set_child_subreaper()
    child = os.fork()
    if child == 0:
        os.setsid()
        process_attributes.die_with_parent()
        _become(spec, control)
    os._exit(_watch(child, control))


def _watch(child: int, control: socket.socket) -> int:
    """Wait for the program's end or the client's; leave nothing; the exit code."""
    null = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(null, number)
    ended = os.pidfd_open(child)
    select.select([ended, control.fileno()], [], [])
    with suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # without a race: nobody behind the filter can leave the group
    code = NOT_CONFINED
    while True:
        for pid in _children():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        try:
            pid, status = os.waitpid(-1, 0)
        except ChildProcessError:
            return code
        if pid == child:
            ending = os.waitstatus_to_exitcode(status)
            code = ending if ending >= 0 else 128 - ending


def _children() -> list[int]:
    with suppress(OSError), open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as children:
        return [int(pid) for pid in children.read().split()]
    return []


def _become(spec: LaunchSpec, control: socket.socket) -> NoReturn:
    try:
        _confine(spec)
        # Only whoever holds its folders can ask how many files a file system has that nobody else sees.
        socket.send_fds(control, [UP], _scratch_folders() if spec["level"] == "bubblewrap" else [])
    except BaseException as error:
        control.sendall(f"{type(error).__name__}: {error}".encode())
        os._exit(NOT_CONFINED)
    if spec["probe"] is not None:
        os._exit(escapes_from_command_sandbox(spec["probe"], spec["level"]))
    try:
        os.execvpe(spec["argv"][0], spec["argv"], spec["env"])
    except OSError as error:
        os.write(2, f"{spec['argv'][0]}: {error.strerror}\n".encode("utf-8", "backslashreplace"))
    os._exit(NOT_STARTED)


def _scratch_folders() -> list[int]:
    return [os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) for folder in SCRATCH]


def _confine(spec: LaunchSpec) -> None:
    """Apply every limit of the level, the filter last."""
    level = spec["level"]
    workdir = os.open(spec["workdir"], os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    os.nice(_NICENESS)
    _limit(spec)
    root = os.geteuid() == 0
    if root:
        os.setgroups([])
        os.setresgid(NOBODY_UID, NOBODY_UID, NOBODY_UID)
        os.setresuid(NOBODY_UID, NOBODY_UID, NOBODY_UID)
    os.fchdir(workdir)
    os.stat(spec["workdir"])  # told now, rather than by each path that the program makes of HOME
    counted_apart = process_attributes.unshare(_USER_NAMESPACE) or (level == "bubblewrap" and not root)
    processes = spec["processes"] if counted_apart else spec["processes"] + _tasks_of_user()
    resource.setrlimit(resource.RLIMIT_NPROC, (processes, processes))
    process_attributes.die_with_parent()  # a change of user undoes it
    process_attributes.set_no_new_privs()
    os.umask(0o022)
    if level == "landlock":
        landlock.restrict(spec["landlock_abi"], spec["readable"], (".", *_DEVICES))
    if level != "limits":
        denylist = seccomp_filters.program_filter(
            scoped=level == "bubblewrap",
            signals=spec["landlock_abi"] >= landlock.SIGNALS_ABI,
            truncate=spec["landlock_abi"] >= landlock.TRUNCATE_ABI,
        )
        if denylist is None:
            raise OSError("there is no filter for this system")
        seccomp.install(denylist)


def _limit(spec: LaunchSpec) -> None:
    memory = spec["memory_bytes"]
    for limit, value in (
        (resource.RLIMIT_DATA, memory),
        (resource.RLIMIT_AS, memory * _ADDRESS_SPACE_FACTOR),
        (resource.RLIMIT_FSIZE, spec["file_bytes"]),
        (resource.RLIMIT_NOFILE, spec["open_files"]),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(limit, (value, value))
    if spec["cpu_s"]:
        resource.setrlimit(resource.RLIMIT_CPU, (spec["cpu_s"], spec["cpu_s"] + 1))


def _tasks_of_user() -> int:
    """Processes and threads that the limit counts together with the program's own."""
    count = 0
    for entry in os.scandir("/proc"):
        with suppress(OSError):
            if entry.name.isdigit() and entry.stat().st_uid == os.getuid():
                count += len(os.listdir(f"/proc/{entry.name}/task"))
    return count
