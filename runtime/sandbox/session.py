"""Python sessions: cells that see what earlier cells have defined, in one sandboxed process.

Consumes code; produces one `ToolResult` for each call, never an exception for what the code does. Waits
for the call before it, then for its own end; unblocked by its deadline. A call that breaks a limit costs
the session: its result says so, and the next call begins a new one.

Names and files last from call to call; the threads and the processes that a call has started end with it.
Between calls the session is watched: one that then takes more memory, processor time or room for files than
it may is ended, and the next call is told.

>>> session = PythonSession(CommandSandboxSettings(), Path("work"))       # doctest: +SKIP
>>> await session.run("x = 2"); (await session.run("x + 1")).output       # doctest: +SKIP
'3'
"""

import asyncio
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from ...configs.sandbox import CommandSandboxSettings
from ...messages.turns import ToolResult
from .audit_log import AuditLog
from .bwrap_command import PACKAGES
from .commands import CommandSandbox
from .errors import SandboxError
from .inside.protocol import Ending
from .isolation import Isolation
from .sandboxed_process import START_TIMEOUT_S, SandboxedProcess, Stdio
from .session_worker import ControlSocket, OutputPipe, SessionWorker, WorkerLost

MAX_CODE_CHARACTERS: Final = 100_000
_BOOTSTRAP: Final = f"""
import sys, types
for name, path in {PACKAGES!r}.items():
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = [path]
from agentfactory.runtime.sandbox.inside.session_repl import main
main()
"""
"""The packages are named by hand: the folders that they lie in cannot be listed at every level."""
_IDLE_CPU_S: Final = 1.0
"""Processor time that a session may use between two calls, where there is nothing to do."""
_GONE: Final = "the session is gone, and the next call begins a new one"
_NEW: Final = "this is a new one"
_ENDINGS: Final[dict[str, Ending]] = {"ok": "ok", "memory": "memory"}
"""What a cell that is over says; anything else is an error, and may be the code's own making."""
_LOST: Final[dict[Ending, str]] = {
    "timeout": "the call timed out",
    "output": "too much output",
    "memory": "out of memory",
    "disk": "too many or too large files",
}
_BETWEEN: Final[dict[Ending, str]] = {
    "timeout": "used processor time",
    "memory": "held more memory than allowed",
    "disk": "held too many or too large files",
}
"""Why a session was ended between two calls."""


class _Open:
    """A session that runs."""

    def __init__(
        self, running: SandboxedProcess, output: OutputPipe, worker: SessionWorker, stack: AsyncExitStack
    ) -> None:
        self.running = running
        self.output = output
        self.worker = worker
        self._stack = stack

    @classmethod
    async def begin(cls, sandbox: CommandSandbox, workdir: Path) -> "_Open":
        """Start it. Raises SandboxError."""
        argv = [sys.executable, "-I", "-B", "-u", "-c", _BOOTSTRAP]
        async with AsyncExitStack() as stack:
            control, output = ControlSocket(), OutputPipe()
            stack.callback(control.close)
            stack.callback(output.close)
            stdio = Stdio(control.theirs.fileno(), output.theirs)
            running = await stack.enter_async_context(sandbox.open(argv, workdir=workdir, stdio=stdio))
            control.theirs.close()
            output.let_go()
            try:
                async with asyncio.timeout(START_TIMEOUT_S):
                    worker = await SessionWorker.meet(running, control)
            except (WorkerLost, TimeoutError) as error:
                complaint = await running.last_words()
                raise SandboxError(f"the session does not start: {error} {complaint}".strip()) from error
            stack.callback(worker.close)
            return cls(running, output, worker, stack.pop_all())
        raise AssertionError("the stack swallows nothing")

    async def close(self) -> None:
        """End all its processes."""
        await self._stack.aclose()


class PythonSession:
    """One session, in one folder. Calls that come at the same time run one after the other."""

    def __init__(self, settings: CommandSandboxSettings, workdir: Path) -> None:
        """`workdir` is the folder that the code runs in, and the one that it may write to."""
        self._settings = settings
        self._workdir = workdir
        self._sandbox = CommandSandbox(settings)
        self._audit = AuditLog(settings.audit)
        self._turn = asyncio.Lock()
        self._open: _Open | None = None
        self._watching: asyncio.Task[None] | None = None
        self._ended_for: Ending | None = None
        """The limit that it has broken between calls."""
        self.starts = 0
        """Sessions begun so far."""

    def __repr__(self) -> str:
        return f"<PythonSession {'up' if self._open else 'down'}, {self.starts} starts>"

    @property
    def isolation(self) -> Isolation | None:
        """What stands between the code and this machine; None before `start`."""
        return self._sandbox.isolation

    async def start(self) -> None:
        """Find the level of isolation. Raises SandboxError if none holds that the settings allow."""
        await self._sandbox.start()

    async def run(self, code: str, timeout_s: float | None = None) -> ToolResult:
        """Run a cell. `timeout_s` can only shorten the settings' limit. Raises SandboxError like `start`."""
        if len(code) > MAX_CODE_CHARACTERS:
            output = f"Error: the code is longer than {MAX_CODE_CHARACTERS} characters"
            return ToolResult(output=output, ok=False, failure="error")
        limit_s = min(self._settings.timeout_s, timeout_s or self._settings.timeout_s)
        async with self._turn:
            started = time.perf_counter()
            try:
                await self._stop_watching()
                opened, note = await self._alive()
                ending, lost = await self._exchange(opened, code, limit_s)
            except BaseException:
                await asyncio.shield(self._drop())
                raise
            output = opened.output.text.decode("utf-8", "replace").rstrip("\n")
            if lost:
                await asyncio.shield(self._drop())
                output = _joined(output, f"Error: {lost}; {_GONE}")
            else:
                self._watching = asyncio.create_task(self._watch(opened))
            duration_s = time.perf_counter() - started
        self._audit.record("session", [code], self._level, ending, duration_s)
        return _result(note + output, ending, duration_s)

    async def aclose(self) -> None:
        """End the session and all that it started."""
        await self._stop_watching()
        await self._sandbox.aclose()
        await self._drop()
        await self._audit.aclose()

    async def _alive(self) -> tuple[_Open, str]:
        """The session that runs, begun if need be; and what there is to say about that."""
        note = ""
        if self._ended_for is not None:
            note = f"(the session was ended: it {_BETWEEN[self._ended_for]} between calls; {_NEW})\n"
            self._ended_for = None
        elif self._open is not None and self._open.worker.gone:
            await self._drop()
            note = f"(the session had ended by itself; {_NEW})\n"
        if self._open is None:
            self._open = await _Open.begin(self._sandbox, self._workdir)
            self.starts += 1
        return self._open, note

    async def _exchange(self, opened: _Open, code: str, limit_s: float) -> tuple[Ending, str]:
        """One cell, within its limits: how it ended, and why the session is lost, if it is."""
        opened.output.begin(self._settings.output_bytes)
        call = asyncio.create_task(opened.worker.run(code.encode("utf-8", "surrogatepass")))
        limit = asyncio.create_task(opened.running.breaks_a_limit())
        flood = asyncio.create_task(opened.output.too_long.wait())
        tasks = (call, limit, flood)
        try:
            async with asyncio.timeout(limit_s):
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if call.done():
                line = call.result()
                opened.output.end()
                if not opened.output.too_long.is_set():
                    return _ENDINGS.get(line, "error"), ""
            ending: Ending = limit.result() if limit.done() else "output"
        except TimeoutError:
            ending = "timeout"
        except WorkerLost as error:
            return "crashed", str(error)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            opened.output.end()
        return ending, _LOST[ending]

    async def _watch(self, opened: _Open) -> None:
        """End the session where it breaks a limit between two calls."""
        broken = await opened.running.breaks_a_limit(_IDLE_CPU_S)
        self._ended_for = broken  # from here on this is not cancelled
        await asyncio.shield(self._drop())

    async def _stop_watching(self) -> None:
        if self._watching is not None:
            if self._ended_for is None:
                self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
            self._watching = None

    @property
    def _level(self) -> str:
        isolation = self._sandbox.isolation
        return isolation.level if isolation else ""

    async def _drop(self) -> None:
        """End the session, if it runs."""
        opened, self._open = self._open, None
        if opened is not None:
            await opened.close()


def _joined(output: str, line: str) -> str:
    return f"{output.rstrip()}\n{line}" if output.strip() else line


def _result(output: str, ending: Ending, duration_s: float) -> ToolResult:
    failure = "" if ending == "ok" else ending
    return ToolResult(output=output, ok=ending == "ok", failure=failure, duration_s=duration_s)
