"""A look at this machine: what is there, what holds, and what to do about the rest.

Imports none of the heavy packages that it looks for. Blocks for about a second, most of it for sandboxes
that try to break out.
"""

import asyncio
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final, Literal

import psutil
from pydantic import BaseModel, ConfigDict

from ..configs.data import DataSettings
from ..configs.sandbox import CommandSandboxSettings
from ..runtime.sandbox.errors import SandboxError
from ..runtime.sandbox.isolation import ProbedLevel, probe_levels
from ..runtime.sandbox.python import isolation
from .data_plane.ports import address, is_free, listener

Verdict = Literal["ok", "missing", "without"]
"""`missing`: something needed is not there. `without`: it works, but less well."""

_NEEDED: Final = ("ray", "pydantic", "torch", "transformers", "peft", "pyzmq", "lmdb")
_OPTIONAL: Final = {
    "vllm": "for inference on a GPU: pip install 'agentfactory[vllm]'",
    "iowarp-core": "for `agentfactory up --store iowarp`: pip install 'agentfactory[iowarp]'",
}
_PROGRAMS: Final = {
    "memcached": "the embedded cache takes its place; apt-get install memcached",
    "bwrap": "programs run behind Landlock instead, or not at all; apt-get install bubblewrap",
}
_GB: Final = 1e9
_LEAST_MEMORY_GB: Final = 4.0
_LEAST_SHARED_GB: Final = 1.0
_GPU_TIMEOUT_S: Final = 20.0
_DRIVER: Final = "look at the driver"


class MachineCheck(BaseModel):
    """One thing that was looked at."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    verdict: Verdict
    found: str
    """What is there, or why it is not."""
    advice: str = ""
    """What to do; empty where nothing has to be done."""


class MachineReport(BaseModel):
    """All that was looked at."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ok: bool
    """Whether nothing needed is missing."""
    checks: tuple[MachineCheck, ...]


def check_machine() -> MachineReport:
    """Look at everything."""
    checks = (*_software(), *_isolation(), *_hardware(), *_ports())
    return MachineReport(ok=all(check.verdict != "missing" for check in checks), checks=checks)


def _software() -> Iterator[MachineCheck]:
    new_enough = sys.version_info >= (3, 11)
    advice = "" if new_enough else "use Python 3.11 or newer"
    yield MachineCheck(
        name="python", verdict=_needed(new_enough), found=platform.python_version(), advice=advice
    )
    for name in _NEEDED:
        found = _version(name)
        advice = "" if found else f"pip install {name}"
        yield MachineCheck(
            name=name, verdict=_needed(bool(found)), found=found or "not installed", advice=advice
        )
    for name, advice in _OPTIONAL.items():
        builds = (name, f"{name}-cpu")  # vLLM's build for processors is a distribution of its own
        yield _optional(name, next(filter(None, map(_version, builds)), ""), advice)
    for name, advice in _PROGRAMS.items():
        yield _optional(name, shutil.which(name) or "", advice)


def _isolation() -> Iterator[MachineCheck]:
    try:
        cells = isolation()
        holds = cells.level == "seccomp"
        apart = f", without {', '.join(cells.namespaces)} of this machine" if cells.namespaces else ""
        found = f"{cells.level}{apart}, as {cells.user} user" if holds else cells.detail
    except SandboxError as error:
        holds, found = False, str(error)
    advice = "" if holds else "student.sandbox.allow_weak: true goes on with resource limits alone"
    yield MachineCheck(name="python calls", verdict=_needed(holds), found=found, advice=advice)
    levels = asyncio.run(probe_levels(CommandSandboxSettings(allow_weak=True)))
    strong = [level for level in levels if level.holds and level.level != "limits"]
    for level in levels:
        yield _level(level, any_holds=bool(strong))


def _level(found: ProbedLevel, any_holds: bool) -> MachineCheck:
    name = f"programs: {found.level}"
    if found.level == "limits":
        return MachineCheck(
            name=name, verdict="ok", found="always; no isolation, used only where allow_weak is set"
        )
    if found.holds:
        return MachineCheck(name=name, verdict="ok", found="holds: a process inside could not break out")
    advice = {
        "bubblewrap": "apt-get install bubblewrap, and allow user namespaces "
        "(kernel.unprivileged_userns_clone, AppArmor, the container's seccomp profile)",
        "landlock": "a kernel from 5.13 on, started with landlock among its security modules",
    }[found.level]
    return MachineCheck(
        name=name, verdict="without" if any_holds else "missing", found=found.why, advice=advice
    )


def _hardware() -> Iterator[MachineCheck]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    yield MachineCheck(name="cores", verdict="ok" if cores > 1 else "without", found=str(cores))
    memory_gb = psutil.virtual_memory().total / _GB
    advice = "" if memory_gb >= _LEAST_MEMORY_GB else f"Ray and a model want {_LEAST_MEMORY_GB:g} GB"
    yield MachineCheck(name="memory", verdict=_wanted(not advice), found=f"{memory_gb:.1f} GB", advice=advice)
    shared = Path("/dev/shm")
    shared_gb = shutil.disk_usage(shared).free / _GB if shared.is_dir() else 0.0
    advice = "" if shared_gb >= _LEAST_SHARED_GB else "Ray falls back to slow files; docker run --shm-size=2g"
    yield MachineCheck(
        name="/dev/shm", verdict=_wanted(not advice), found=f"{shared_gb:.1f} GB free", advice=advice
    )
    yield _gpu()


def _ports() -> Iterator[MachineCheck]:
    """Those of the data plane, as its settings have them by default."""
    data = DataSettings()
    host = data.cache.hosts[0]
    wanted = {"bridge": address(data.bridge.endpoints[0]), "memcached": (host.host, host.port)}
    for name, place in wanted.items():
        assert place is not None
        free = is_free(*place)
        yield MachineCheck(
            name=f"port {place[1]}",
            verdict=_wanted(free),
            found=f"free, for {name}" if free else f"{listener(*place)}, where {name} would be",
            advice="" if free else "`agentfactory up` takes another port and says which",
        )


def _gpu() -> MachineCheck:
    program = shutil.which("nvidia-smi")
    if program is None:
        return _optional("gpu", "", "models run on the processor; the laptop preset is made for that")
    command = [program, "--query-gpu=name,memory.total", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_GPU_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return MachineCheck(
            name="gpu", verdict="without", found=f"nvidia-smi fails ({error})", advice=_DRIVER
        )
    found = "; ".join(line.strip() for line in (done.stdout or done.stderr).splitlines())
    if done.returncode:
        return MachineCheck(
            name="gpu", verdict="without", found=f"nvidia-smi fails ({found})", advice=_DRIVER
        )
    return MachineCheck(name="gpu", verdict="ok", found=found)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _optional(name: str, found: str, advice: str) -> MachineCheck:
    return MachineCheck(
        name=name, verdict=_wanted(bool(found)), found=found or "not there", advice="" if found else advice
    )


def _needed(there: bool) -> Verdict:
    return "ok" if there else "missing"


def _wanted(there: bool) -> Verdict:
    return "ok" if there else "without"
