"""Isolation levels of programs: which hold on this machine, found out by having each try to break out."""

import asyncio
import os
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple, get_args

from ...configs.sandbox import CommandSandboxSettings, Level
from . import bwrap_command
from .errors import SandboxError
from .inside import landlock
from .inside.confinement import NOBODY_UID
from .inside.launch_spec import ProbeTarget
from .inside.selftest import NEW
from .sandboxed_process import SandboxedProcess


class Isolation(NamedTuple):
    """The isolation found to hold between the model's code and this machine."""

    level: str
    """`seccomp` (Python calls: the kernel refuses all but computing), `bubblewrap`, `landlock`, or
    `limits`: only resource limits hold."""
    namespaces: tuple[str, ...]
    """Which parts of the machine are out of sight as well."""
    user: str
    """`nobody`, or `same` where the sandbox was not started by root."""
    detail: str
    """Why the level is not higher; empty at the highest."""


LEVELS: Final[tuple[Level, ...]] = get_args(Level)
_PROBE_TIMEOUT_S: Final = 20.0
_NAMESPACES: Final = ("user", "pid", "net", "ipc", "uts", "mnt", "cgroup")


class ProbedLevel(NamedTuple):
    """One level on this machine."""

    level: Level
    holds: bool
    why: str
    """Why it does not hold; empty where it does."""


async def strongest_level(settings: CommandSandboxSettings) -> tuple[Isolation, Level]:
    """The strongest level that the settings allow and that holds. Raises SandboxError if there is none."""
    wanted = LEVELS if settings.level == "auto" else (settings.level,)
    complaints: list[str] = []
    for level in wanted:
        if level == "limits" and not settings.allow_weak:
            continue
        found = await probe_level(level, settings)
        if found.holds:
            namespaces = _NAMESPACES if level == "bubblewrap" else ()
            user = "nobody" if os.geteuid() == 0 else "same"
            return Isolation(level, namespaces, user, "; ".join(complaints)), level
        complaints.append(f"{level}: {found.why}")
    raise SandboxError(
        f"no isolation for programs holds here ({'; '.join(complaints)}); install bubblewrap, or set "
        "allow_weak to go on with resource limits alone"
    )


async def probe_levels(settings: CommandSandboxSettings) -> tuple[ProbedLevel, ...]:
    """Every level, the strongest first."""
    return tuple([await probe_level(level, settings) for level in LEVELS])


async def probe_level(level: Level, settings: CommandSandboxSettings) -> ProbedLevel:
    """Have a process at this level try to break out. `limits` holds wherever a process starts."""
    missing = _missing(level)
    if missing:
        return ProbedLevel(level, False, missing)
    with tempfile.TemporaryDirectory(prefix="agentfactory-probe-") as folder:
        try:
            async with asyncio.timeout(_PROBE_TIMEOUT_S):
                return await _probe_level(level, settings, Path(folder))
        except TimeoutError:
            return ProbedLevel(level, False, f"the probe did not end within {_PROBE_TIMEOUT_S:g} s")
        except SandboxError as error:
            return ProbedLevel(level, False, str(error))


def _missing(level: Level) -> str:
    if level == "bubblewrap" and bwrap_command.bwrap_program() is None:
        return "bwrap is not installed"
    if level == "landlock" and landlock.abi() == 0:
        return "the kernel has no Landlock (Linux 5.13 and later, switched on at boot)"
    return ""


async def _probe_level(level: Level, settings: CommandSandboxSettings, folder: Path) -> ProbedLevel:
    workdir, canary = folder / "work", folder / "canary"
    _lay_out(folder, workdir, canary)
    with socket.create_server(("127.0.0.1", 0)) as listener, _bystander() as pid:
        target: ProbeTarget = {"file": str(canary), "port": listener.getsockname()[1], "pid": pid}
        running = await SandboxedProcess.start([], workdir, settings, level, 5, target)
        try:
            ending, output, complaint = await running.finish(b"", _PROBE_TIMEOUT_S)
        finally:
            await asyncio.shield(running.kill())
    if level != "limits" and os.path.exists(f"{canary}{NEW}"):  # noqa: ASYNC240
        return ProbedLevel(level, False, "a process inside made a file outside")
    if level == "limits" or (ending == "ok" and running.status == 0):
        return ProbedLevel(level, True, "")
    if output:
        return ProbedLevel(level, False, f"a process inside {output.decode('utf-8', 'replace')}")
    said = complaint.decode("utf-8", "replace").strip()
    return ProbedLevel(level, False, said or f"the probe ended by {ending}")


@contextmanager
def _bystander() -> Iterator[int]:
    """A process of the user that programs run as, whom they must leave alone all the same."""
    user = NOBODY_UID if os.geteuid() == 0 else None
    with subprocess.Popen(["sleep", str(2 * _PROBE_TIMEOUT_S)], user=user, env={"SECRET": "1"}) as process:
        try:
            yield process.pid
        finally:
            process.kill()


def _lay_out(folder: Path, workdir: Path, canary: Path) -> None:
    """Open to all users, so that only the sandbox stands before the canary."""
    folder.chmod(0o755)
    workdir.mkdir()
    canary.write_text("outside\n")
    canary.chmod(0o666)
