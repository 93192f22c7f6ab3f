"""The bubblewrap command line, and the paths and variables that a sandboxed program is given."""

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import agentfactory

from ...configs.sandbox import CommandSandboxSettings
from .inside.launch_spec import SCRATCH

_SANDBOX: Final = Path(__file__).resolve().parent
_RUNTIME: Final = _SANDBOX.parent
_PACKAGE: Final = Path(agentfactory.__file__ or "").resolve().parent  # beside the runtime's in a checkout
_INSIDE: Final = _SANDBOX / "inside"
PACKAGES: Final = {
    "agentfactory": str(_PACKAGE),
    "agentfactory.runtime": str(_RUNTIME),
    "agentfactory.runtime.sandbox": str(_SANDBOX),
    "agentfactory.runtime.sandbox.inside": str(_INSIDE),
}
"""The folders of the packages that the programs in `inside` lie in."""
_SYSTEM: Final = (
    "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store",
    "/etc/alternatives", "/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/localtime",
    "/etc/mime.types", "/etc/ssl/certs", "/etc/ssl/openssl.cnf", "/etc/fonts", "/etc/magic",
)  # fmt: skip
"""Not /etc as a whole: who lives here, and their secrets, are none of a program's business."""
_OURS: Final = (*(folder / "__init__.py" for folder in (_PACKAGE, _RUNTIME, _SANDBOX)), _INSIDE)
"""All of this project that a sandboxed program can read: what a launcher and a session are made of."""
_WITHOUT_IOWARP: Final = _INSIDE / "without_iowarp"
"""An empty `iowarp_core`: where the real one is installed, every Python imports it as it starts, which loads
its libraries and writes `.clio/clio.yaml` into HOME, here a workspace."""
_MB: Final = 2**20


def bwrap_program() -> str | None:
    """The program, if it is installed."""
    return shutil.which("bwrap")


def readable_paths(settings: CommandSandboxSettings) -> list[str]:
    """The system's programs and libraries, this Python, and what the settings add."""
    ours = map(str, _OURS)
    paths = (*_SYSTEM, sys.prefix, sys.base_prefix, *ours, *settings.readable)
    return [path for path in dict.fromkeys(map(os.path.abspath, paths)) if os.path.exists(path)]


def environment(workdir: Path) -> dict[str, str]:
    """All that a program is told about where it runs; `python` is this one."""
    folders = (os.path.dirname(sys.executable), "/usr/local/bin", "/usr/bin", "/bin")
    return {
        "PATH": os.pathsep.join(dict.fromkeys(folders)),
        "HOME": str(workdir),
        "LANG": "C.UTF-8",
        "PYTHONPATH": str(_WITHOUT_IOWARP),
    }


def bwrap_command(
    program: str, settings: CommandSandboxSettings, workdir: Path, launcher: Sequence[str]
) -> list[str]:
    """The launcher's command line behind bubblewrap: own namespaces, own root, all read-only but three."""
    root = os.geteuid() == 0
    tmp_bytes = str(settings.tmp_mb * _MB)
    # As root, in the machine's own user namespace: the launcher then becomes nobody, makes a namespace
    # for that, and is held to a number of processes, which root is not.
    unshared = ["--unshare-all"] if not root else [
        "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try",
        "--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID",
    ]  # fmt: skip
    command = [program, *unshared, "--die-with-parent", "--hostname", "sandbox", "--clearenv"]
    command += ["--proc", "/proc", "--dev", "/dev"]
    for path in SCRATCH:
        command += ["--perms", "1777", "--size", tmp_bytes, "--tmpfs", path]
    shown = readable_paths(settings)
    command += _parents([*shown, str(workdir)])
    for path in shown:
        command += _shown(path)
    command += ["--bind", str(workdir), str(workdir)]
    return [*command, "--remount-ro", "/dev", "--remount-ro", "/", "--", *launcher]


def _shown(path: str) -> list[str]:
    if os.path.islink(path) and os.path.dirname(path) == "/":
        return ["--symlink", os.readlink(path), path]
    return ["--ro-bind", path, path]


def _parents(paths: Sequence[str]) -> list[str]:
    """Folders on the way there; left to itself, bubblewrap makes them for root alone."""
    parents = {parent for path in paths for parent in Path(path).parents} - {Path("/"), Path("/tmp")}
    return [word for path in sorted(parents) for word in ("--perms", "0755", "--dir", str(path))]
