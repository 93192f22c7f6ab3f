"""The client's side of a fork server: starts it, gives it work, outlives its death.

Consumes `call(input)`; produces one `Outcome` for each. Waits for a free slot, then for the
server's answer; unblocked at the latest by the work's deadline plus `GRACE_S`, because a server that
has not answered by then is killed and started again.

Why not `anyio.to_process` or `multiprocessing`: their workers import the parent's `__main__`, which
in a Ray worker is Ray's own `default_worker.py`; and a worker that is killed for one slow call pays
for its imports again, where a fork of a warm process costs a millisecond. The server here is an
ordinary subprocess with its own command line.

Invariant: when `call` returns or raises, cancellation included, the process that did the work is
dead or about to be killed, and nobody will write to its slot.
"""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Final, NamedTuple, cast

from runtime.sandbox.errors import SandboxError
from runtime.sandbox.frames import (
    BadFrame,
    Decoder,
    Ending,
    Hello,
    Setup,
    Work,
    encode,
    read_answer,
    read_hello,
)

GRACE_S: Final = 2.0
"""How long after its deadline a work may go unanswered before the server counts as stuck."""
START_TIMEOUT_S: Final = 60.0
_ROOT: Final = str(Path(__file__).resolve().parents[2])
_BOOTSTRAP: Final = "import sys; sys.path += {path!r}; from {module} import main; main()"


class Outcome(NamedTuple):
    """How a piece of work ended, and what it printed."""

    ending: Ending
    output: str


class ForkServer:
    """Work in killable forks of one warm process.

    `module` names a module whose `main()` calls `runtime.sandbox.zygote.serve`. Use it from one
    event loop; the server ends with the thread that started it.
    """

    def __init__(self, module: str, setup: Setup, max_parallel: int) -> None:
        self._command = command(module)
        self._setup = setup
        self._slots = asyncio.Semaphore(max_parallel)
        self._starting = asyncio.Lock()
        self._connection: _Connection | None = None
        self._closed = False
        self._last_id = 0
        self.starts = 0
        """Times that a server was started."""

    def __repr__(self) -> str:
        connection = self._connection
        state = "closed" if self._closed else "up" if connection and connection.up else "down"
        running = len(connection.pending) if connection else 0
        return f"<ForkServer {state}, {running} running, {self.starts} starts>"

    @property
    def hello(self) -> Hello | None:
        """What the server that runs now found out about its walls."""
        return self._connection.hello if self._connection else None

    async def start(self) -> None:
        """Start the server. Raises SandboxError if it cannot serve here."""
        await self._connected()

    async def call(self, text: str, timeout_s: float) -> Outcome:
        """Have one piece of work done. Raises SandboxError if no server can be started.

        Waits while `max_parallel` others are at work, each of which has its own deadline.
        """
        async with self._slots:
            connection = await self._connected()
            self._last_id += 1
            return await connection.call(self._last_id, text, timeout_s)

    async def aclose(self) -> None:
        """Kill the server and all its work; what still runs ends as crashed."""
        self._closed = True
        async with self._starting:
            if self._connection is not None:
                await self._connection.aclose()

    async def _connected(self) -> "_Connection":
        if self._connection is not None and self._connection.up:
            return self._connection
        async with self._starting:
            if self._closed:
                raise SandboxError("the sandbox is closed; make a new one")
            if self._connection is not None:
                if self._connection.up:
                    return self._connection
                await self._connection.aclose()
            self.starts += 1
            self._connection = await _Connection.open(self._command, self._setup)
            return self._connection


def command(module: str) -> list[str]:
    """The server's command line. A stronger launcher (bubblewrap, a container) would go in front.

    The interpreter starts isolated; this process's import path comes after the standard library's.
    """
    path = list(dict.fromkeys(folder for folder in (_ROOT, *sys.path) if folder))
    bootstrap = _BOOTSTRAP.format(path=path, module=module)
    return [sys.executable, "-I", "-S", "-E", "-B", "-c", bootstrap]


class _Connection(asyncio.Protocol):
    """One server process, from its start to its death."""

    def __init__(self, process: subprocess.Popen[bytes], complaints: IO[bytes]) -> None:
        self.pending: dict[int, asyncio.Future[Outcome]] = {}
        self.hello: Hello | None = None
        self.up = False
        self._process = process
        self._complaints = complaints
        self._decoder = Decoder()
        self._greeting: asyncio.Future[Hello] = asyncio.get_running_loop().create_future()
        self._transport: asyncio.WriteTransport | None = None

    @classmethod
    async def open(cls, command: list[str], setup: Setup) -> "_Connection":
        """Start a server and hear its greeting."""
        ours, theirs = socket.socketpair()
        complaints = TemporaryFile()  # noqa: SIM115 - closed with the connection
        with theirs:
            try:
                # On the loop's own thread: the kernel kills the server when its maker's thread ends.
                process = subprocess.Popen(  # noqa: ASYNC220
                    command,
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=complaints,
                    env={},
                    cwd="/",
                    start_new_session=True,
                )
            except OSError as error:
                ours.close()
                complaints.close()
                raise SandboxError(f"the sandbox's process cannot be started: {error}") from error
        connection = cls(process, complaints)
        try:
            await asyncio.get_running_loop().create_unix_connection(lambda: connection, sock=ours)
            async with asyncio.timeout(START_TIMEOUT_S):
                await connection._greet(setup)
        except BaseException as error:
            await connection.aclose()
            if isinstance(error, TimeoutError):
                raise SandboxError(f"the sandbox said nothing within {START_TIMEOUT_S:g} s") from error
            raise
        return connection

    async def _greet(self, setup: Setup) -> None:
        self._write(encode(setup))
        hello = await self._greeting
        if hello["error"]:
            raise SandboxError(
                f"the sandbox cannot run here: {hello['error']}; set allow_weak to go on without the "
                "kernel's isolation"
            )
        self.hello = hello
        self.up = True

    async def call(self, number: int, text: str, timeout_s: float) -> Outcome:
        """Send the work, wait for its end."""
        outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self.pending[number] = outcome
        work: Work = {"id": number, "input": text, "timeout_s": timeout_s, "cancel": False}
        self._write(encode(work))
        try:
            async with asyncio.timeout(timeout_s + GRACE_S):
                return await outcome
        except TimeoutError:
            self.kill()
            return _CRASHED
        except asyncio.CancelledError:
            self._write(encode({**work, "input": "", "cancel": True}))
            raise
        finally:
            self.pending.pop(number, None)

    def kill(self) -> None:
        """End the server's whole session, now; its children follow it by the kernel's hand."""
        self.up = False
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        if self._transport is not None:
            self._transport.abort()

    async def aclose(self) -> None:
        """Kill the server and wait until it is gone."""
        self.kill()
        self._crash_pending()
        await asyncio.shield(asyncio.to_thread(self._process.wait, GRACE_S))
        self._complaints.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the event loop."""
        self._transport = cast(asyncio.WriteTransport, transport)

    def data_received(self, data: bytes) -> None:
        """Called by the event loop: hand each answer to the call that waits for it."""
        try:
            for body in self._decoder.feed(data):
                if not self._greeting.done():
                    self._greeting.set_result(read_hello(body))
                    continue
                answer = read_answer(body)
                outcome = self.pending.get(answer["id"])
                if outcome is not None and not outcome.done():
                    outcome.set_result(Outcome(answer["ending"], answer["output"]))
        except (BadFrame, ValueError):
            self.kill()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the event loop once the server is gone."""
        self.kill()
        self._crash_pending()
        if not self._greeting.done():
            error = f"its process ended before it was ready{self._last_complaint()}"
            self._greeting.set_result(
                {"error": error, "level": "", "namespaces": [], "user": "", "detail": ""}
            )

    def _last_complaint(self) -> str:
        self._complaints.seek(0)
        lines = self._complaints.read().decode("utf-8", "replace").strip().splitlines()
        return f": {lines[-1]}" if lines else ""

    def _crash_pending(self) -> None:
        for outcome in self.pending.values():
            if not outcome.done():
                outcome.set_result(_CRASHED)

    def _write(self, frame: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(frame)


_CRASHED: Final = Outcome("crashed", "")
