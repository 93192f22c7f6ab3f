"""A sandbox for Python that a model wrote.

Consumes code; produces one `ToolResult` for each call, never an exception: a call that loops, forks,
eats memory, floods its output or breaks the server is answered with its failure. Waits for a free
slot of `max_parallel`, then for the call; unblocked by the call's deadline.

>>> sandbox = PythonSandbox(SandboxSettings())           # doctest: +SKIP
>>> (await sandbox.run("1+2")).output                    # doctest: +SKIP
'3'
"""

import socket
import subprocess
import time
from functools import cache
from typing import Final

from ...configs.roles import SandboxSettings
from ...messages.turns import ToolResult
from .audit_log import AuditLog
from .errors import SandboxError
from .fork_server_client import ForkServerClient, Outcome, command
from .inside.protocol import Ending, FrameDecoder, ServerHello, Setup, encode, read_hello
from .isolation import Isolation

MAX_CODE_CHARACTERS: Final = 100_000
_MODULE: Final = "agentfactory.runtime.sandbox.inside.python_cell"
_PROBE_TIMEOUT_S: Final = 30.0

_CLOSING_LINES: Final[dict[Ending, str]] = {
    "timeout": "Error: the tool timed out",
    "output": "Error: too much output",
    "crashed": "Error: the tool failed",
}
"""Said by us where the code could not say it itself."""


class PythonSandbox:
    """Runs each call in a fresh, confined fork of a warm interpreter."""

    def __init__(self, settings: SandboxSettings) -> None:
        self._settings = settings
        self._audit = AuditLog(settings.audit)
        self._server = ForkServerClient(
            _MODULE, _setup(settings), settings.output_bytes, settings.max_parallel
        )

    def __repr__(self) -> str:
        return f"<PythonSandbox {self._server!r}>"

    @property
    def isolation(self) -> Isolation | None:
        """What the running server found out when it tried to break out; None before `start`."""
        hello = self._server.hello
        return _read_isolation(hello) if hello else None

    async def start(self) -> None:
        """Start the warm interpreter. Raises SandboxError if the isolation asked for is not there."""
        await self._server.start()

    async def run(self, code: str, timeout_s: float | None = None) -> ToolResult:
        """Run the code like one cell of a REPL. `timeout_s` can only shorten the settings' limit."""
        if len(code) > MAX_CODE_CHARACTERS:
            return ToolResult(
                output=f"Error: the code is longer than {MAX_CODE_CHARACTERS} characters",
                ok=False,
                failure="error",
            )
        limit_s = min(self._settings.timeout_s, timeout_s or self._settings.timeout_s)
        started = time.perf_counter()
        try:
            outcome = await self._server.call(code, limit_s)
        except SandboxError as error:
            outcome = Outcome("crashed", str(error))
        duration_s = time.perf_counter() - started
        isolation = self.isolation
        self._audit.record("python", [code], isolation.level if isolation else "", outcome.ending, duration_s)
        return _result(outcome, duration_s)

    async def aclose(self) -> None:
        """Kill what runs. A call that comes later is answered as crashed."""
        await self._server.aclose()
        await self._audit.aclose()


@cache
def isolation() -> Isolation:
    """Start a sandbox, let it try to break out, and say what held; asked once in a process.

    Blocks for about 0.1 s. Raises SandboxError if no sandbox starts at all.
    """
    setup: Setup = {**_setup(SandboxSettings()), "allow_weak": True, "modules": []}
    # The server reads one socket and writes to it, so a plain pair with a time limit will do.
    ours, theirs = socket.socketpair()
    with (
        ours,
        theirs,
        subprocess.Popen(
            command(_MODULE),
            stdin=theirs.fileno(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={},
        ) as process,
    ):
        try:
            theirs.close()
            ours.settimeout(_PROBE_TIMEOUT_S)
            ours.sendall(encode(setup))
            decoder = FrameDecoder()
            while data := ours.recv(65536):
                for body in decoder.feed(data):
                    return _read_isolation(read_hello(body))
        except OSError as error:
            raise SandboxError(f"the sandbox does not start: {error}") from error
        finally:
            process.kill()
    raise SandboxError("the sandbox does not start: its process ended before it was ready")


def _setup(settings: SandboxSettings) -> Setup:
    return {
        "modules": list(settings.modules),
        "memory_mb": settings.memory_mb,
        "reads": False,
        "stderr": True,
        "allow_weak": settings.allow_weak,
    }


def _read_isolation(hello: ServerHello) -> Isolation:
    return Isolation(hello["level"], tuple(hello["namespaces"]), hello["user"], hello["detail"])


def _result(outcome: Outcome, duration_s: float) -> ToolResult:
    output = outcome.output.rstrip("\n")
    closing = _CLOSING_LINES.get(outcome.ending)
    if closing:
        output = f"{output}\n{closing}" if output else closing
    ok = outcome.ending == "ok"
    failure = "" if outcome.ending == "ok" else outcome.ending
    return ToolResult(output=output, ok=ok, failure=failure, duration_s=duration_s)
