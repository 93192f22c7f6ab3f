"""Python sessions: cells that see what earlier cells have defined, in one sandboxed process.

Consumes code; produces one `ToolResult` for each call, never an exception for what the code does. Waits
for the call before it, then for its own end; unblocked by its deadline. A call that breaks a limit costs
the session: its result says so, and the next call begins a new one.

>>> session = PythonSession(CommandSandboxSettings(), Path("work"))       # doctest: +SKIP
>>> await session.run("x = 2"); (await session.run("x + 1")).output       # doctest: +SKIP
'3'
"""

import asyncio
import secrets
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from configs.sandbox import CommandSandboxSettings
from messages.turns import ToolResult
from runtime.sandbox.audit import AuditLog
from runtime.sandbox.commands import CommandSandbox
from runtime.sandbox.frames import Ending
from runtime.sandbox.isolation import Isolation
from runtime.sandbox.layout import ROOT
from runtime.sandbox.repl import MARK
from runtime.sandbox.running import Running

MAX_CODE_CHARACTERS: Final = 100_000
_PACKAGES: Final = {"runtime": str(ROOT / "runtime"), "runtime.sandbox": str(ROOT / "runtime" / "sandbox")}
_BOOTSTRAP: Final = f"""
import sys, types
for name, path in {_PACKAGES!r}.items():
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = [path]
from runtime.sandbox.repl import main
main()
"""
"""The packages are named by hand: the folders that they lie in cannot be listed at every level."""
_CHUNK: Final = 65536
_GONE: Final = "the session is gone, and the next call begins a new one"
_ENDINGS: Final[dict[bytes, Ending]] = {b"ok": "ok", b"memory": "memory"}
"""What a cell that is over says; anything else is an error, and may be the code's own making."""
_LOST: Final[dict[Ending, str]] = {
    "timeout": f"Error: the call timed out; {_GONE}",
    "output": f"Error: too much output; {_GONE}",
    "memory": f"Error: out of memory; {_GONE}",
    "crashed": f"Error: the process ended; {_GONE}",
}


class PythonSession:
    """One session, in one folder. Calls that come at the same time run one after the other."""

    def __init__(self, settings: CommandSandboxSettings, workdir: Path) -> None:
        """`workdir` is the folder that the code runs in, and the one that it may write to."""
        self._settings = settings
        self._workdir = workdir
        self._sandbox = CommandSandbox(settings)
        self._audit = AuditLog(settings.audit)
        self._turn = asyncio.Lock()
        self._stack = AsyncExitStack()
        self._running: Running | None = None
        self.starts = 0
        """Sessions begun so far."""

    def __repr__(self) -> str:
        return f"<PythonSession {'up' if self._running else 'down'}, {self.starts} starts>"

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
            running, note = await self._alive()
            heard = bytearray()
            try:
                ending = await self._exchange(running, code, limit_s, heard)
            except BaseException:
                await asyncio.shield(self._drop())
                raise
            output = heard.decode("utf-8", "replace").rstrip("\n")
            if self._running is None:
                output = _joined(output, _LOST[ending])
            duration_s = time.perf_counter() - started
        self._audit.record("session", [code], self._level, ending, duration_s)
        return _result(note + output, ending, duration_s)

    async def aclose(self) -> None:
        """End the session and all that it started."""
        await self._sandbox.aclose()
        await self._drop()
        await self._audit.aclose()

    async def _alive(self) -> tuple[Running, str]:
        """The session that runs, begun if need be; and what there is to say about that."""
        note = ""
        if self._running is not None and self._running.ended:
            await self._drop()
            note = "(the session had ended by itself; this is a new one)\n"
        if self._running is None:
            argv = [sys.executable, "-I", "-B", "-u", "-c", _BOOTSTRAP]
            opening = self._sandbox.open(argv, workdir=self._workdir)
            self._running = await self._stack.enter_async_context(opening)
            self.starts += 1
        return self._running, note

    async def _exchange(self, running: Running, code: str, limit_s: float, output: bytearray) -> Ending:
        """One cell, within its limits; where one is broken, the session is dropped."""
        call = asyncio.create_task(self._call(running, code, output))
        memory = asyncio.create_task(running.outgrows_memory())
        try:
            async with asyncio.timeout(limit_s):
                await asyncio.wait({call, memory}, return_when=asyncio.FIRST_COMPLETED)
            if not call.done():
                memory.result()
            ending, alive = call.result() if call.done() else ("memory", False)
        except TimeoutError:
            ending, alive = "timeout", False
        finally:
            for task in (call, memory):
                task.cancel()
            await asyncio.gather(call, memory, return_exceptions=True)
        if not alive:
            await asyncio.shield(self._drop())
        return ending

    async def _call(self, running: Running, code: str, output: bytearray) -> tuple[Ending, bool]:
        """How the cell ended, and whether the session outlives it."""
        token = secrets.token_hex(16).encode()
        body = code.encode("utf-8", "surrogatepass")
        mark = MARK + token + b" "
        limit = self._settings.output_bytes
        try:
            running.pipes.stdin.write(b"%s %d\n%s" % (token, len(body), body))
            await running.pipes.stdin.drain()
        except ConnectionError:
            return "crashed", False
        heard = bytearray()
        while not (heard.endswith(b"\n") and (at := heard.rfind(mark)) >= 0):
            output[:] = heard[:limit]
            if len(heard) > limit + len(mark) + _CHUNK:
                return "output", False
            chunk = await running.pipes.stdout.read(_CHUNK)
            if not chunk:
                output += await running.pipes.stderr.read(limit)
                return "crashed", False
            heard += chunk
        output[:] = heard[: min(at, limit)]
        if at > limit:
            return "output", False
        return _ENDINGS.get(bytes(heard[at + len(mark) : -1]), "error"), True

    @property
    def _level(self) -> str:
        isolation = self._sandbox.isolation
        return isolation.level if isolation else ""

    async def _drop(self) -> None:
        self._running = None
        await self._stack.aclose()


def _joined(output: str, line: str) -> str:
    return f"{output.rstrip()}\n{line}" if output.strip() else line


def _result(output: str, ending: Ending, duration_s: float) -> ToolResult:
    failure = "" if ending == "ok" else ending
    return ToolResult(output=output, ok=ending == "ok", failure=failure, duration_s=duration_s)
