"""Runs any program at the strongest level of isolation that really holds here.

Consumes a command line; produces one `CommandResult` for each, whatever the program does: one that
loops, forks, floods or eats memory is killed and answered with that. Waits for a free slot of
`max_parallel`, then for the program; unblocked by the call's deadline.

Levels, the strongest first; `start` has each try to break out, and takes the first that cannot:
`bubblewrap` (all namespaces are its own, a root of its own, a seccomp filter), `landlock` (Landlock and
a seccomp filter; needs no rights at all), and `limits` (resource limits alone; only if `allow_weak`).

Invariant: when `run` returns or raises, cancellation included, every process of the call is dead.

>>> sandbox = CommandSandbox(CommandSandboxSettings())                            # doctest: +SKIP
>>> (await sandbox.run(["echo", "hello"], workdir=Path("work"))).stdout           # doctest: +SKIP
'hello\\n'
"""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, NamedTuple

from ...configs.sandbox import CommandSandboxSettings, Level
from .audit_log import AuditLog
from .errors import SandboxError
from .inside.protocol import Ending
from .isolation import Isolation, strongest_level
from .sandboxed_process import SandboxedProcess, Stdio

_CPU_TIME_USED_UP: Final = 128 + 24


class CommandResult(NamedTuple):
    """The result of a program."""

    status: int
    """Exit code; 128 + n where signal n ended it, our own kill included; 127 where it cannot be started."""
    stdout: str
    """As UTF-8, broken characters replaced; cut at the settings' limit, as is `stderr`."""
    stderr: str
    ending: Ending
    """`ok`: exit code 0. `error`: another one. `timeout`, `output`, `memory`: killed for that."""
    duration_s: float


class CommandSandbox:
    """Runs programs, each confined by itself. Use it from one event loop."""

    def __init__(self, settings: CommandSandboxSettings) -> None:
        self._settings = settings
        self._slots = asyncio.Semaphore(settings.max_parallel)
        self._starting = asyncio.Lock()
        self._isolation: Isolation | None = None
        self._level: Level = "limits"
        self._audit = AuditLog(settings.audit)
        self._running: set[SandboxedProcess] = set()
        self._closed = False

    def __repr__(self) -> str:
        level = self._isolation.level if self._isolation else "not started"
        return f"<CommandSandbox {level}, {len(self._running)} running>"

    @property
    def settings(self) -> CommandSandboxSettings:
        """What it was made with."""
        return self._settings

    @property
    def isolation(self) -> Isolation | None:
        """What was found to hold; None before `start`."""
        return self._isolation

    async def start(self) -> None:
        """Find the level. Raises SandboxError if none holds that the settings allow."""
        async with self._starting:
            if self._isolation is None:
                self._isolation, self._level = await strongest_level(self._settings)

    async def run(
        self,
        argv: Sequence[str],
        *,
        workdir: Path,
        stdin: bytes = b"",
        timeout_s: float | None = None,
    ) -> CommandResult:
        """Run a program in `workdir`, the one folder that it may write to; no shell reads `argv`.

        `timeout_s` can only shorten the settings' limit. Where we are root the program runs as nobody,
        to whom `workdir` is handed over. Raises SandboxError where the sandbox itself does not work.
        """
        limit_s = min(self._settings.timeout_s, timeout_s or self._settings.timeout_s)
        ending: Ending = "crashed"
        async with self._slots:
            started = time.perf_counter()
            try:
                async with self.open(argv, workdir=workdir, cpu_s=int(limit_s) + 1) as running:
                    ending, stdout, stderr = await running.finish(stdin, limit_s)
                status = running.status
                if ending == "ok" and status:
                    ending = "timeout" if status == _CPU_TIME_USED_UP else "error"
            finally:
                duration_s = time.perf_counter() - started
                self._audit.record("command", argv, self._level, ending, duration_s)
        return CommandResult(status, _text(stdout), _text(stderr), ending, duration_s)

    @asynccontextmanager
    async def open(
        self, argv: Sequence[str], *, workdir: Path, cpu_s: int = 0, stdio: Stdio | None = None
    ) -> AsyncIterator[SandboxedProcess]:
        """Start a program to talk with; it is dead once the block is left. `cpu_s` 0: no limit.

        `stdio` takes the place of the pipes to its standard input and from its standard output.
        """
        await self.start()
        if self._closed:
            raise SandboxError("the command sandbox is closed; make a new one")
        running = await SandboxedProcess.start(argv, workdir, self._settings, self._level, cpu_s, stdio=stdio)
        self._running.add(running)
        try:
            yield running
        finally:
            try:
                await asyncio.shield(running.kill())
            finally:
                self._running.discard(running)

    async def aclose(self) -> None:
        """Kill all that runs."""
        self._closed = True
        kills = [running.kill() for running in self._running]
        try:
            outcomes = await asyncio.gather(*kills, return_exceptions=True)
        finally:
            await self._audit.aclose()
        for outcome in outcomes:
            if outcome is not None:
                raise outcome


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")
