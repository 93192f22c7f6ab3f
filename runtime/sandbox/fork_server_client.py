"""The client's side of a fork server: starts it, gives it work, hears the work out, outlives its death.

Consumes `call(input)`; produces one `Outcome` for each. Waits for a free slot, then for the work's
output and the server's word that it has ended; unblocked by the work's deadline, at which it is killed,
and at the latest `GRACE_S` after it, because a server that has said nothing by then is killed and
started again.

What the work is, and what it prints, passes between this process and the fork that does it, and never
through the server, from which later forks would inherit it.

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
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Final, NamedTuple

import agentfactory

from .errors import SandboxError
from .inside.protocol import (
    BadFrame,
    Ending,
    FrameDecoder,
    ServerHello,
    Setup,
    Work,
    encode,
    read_exit,
    read_hello,
    write_input,
)

GRACE_S: Final = 2.0
"""How long after its deadline a work may go unanswered before the server counts as stuck."""
START_TIMEOUT_S: Final = 60.0
_DEATH_TIMEOUT_S: Final = 30.0
_CPU_MARGIN_S: Final = 2
"""Processor time beyond the deadline: a wall for work whose client cannot kill it in time."""
_LISTEN_AFTER_S: Final = 0.02
"""Output waits in its pipe for so long: most work is over by then, and listening would cost as much."""
_CHUNK: Final = 65536
_ROOT: Final = str(Path(agentfactory.__file__ or "").resolve().parents[1])
_BOOTSTRAP: Final = "import sys; sys.path += {path!r}; from {module} import main; main()"


class Outcome(NamedTuple):
    """The ending of a piece of work, and its output."""

    ending: Ending
    output: str


class ForkServerClient:
    """Work in killable forks of one warm process.

    `module` names a module whose `main()` calls `runtime.sandbox.inside.fork_server.serve`. Use it from one
    event loop; the server ends with the thread that started it.
    """

    def __init__(self, module: str, setup: Setup, output_bytes: int, max_parallel: int) -> None:
        self._command = command(module)
        self._setup = setup
        self._output_bytes = output_bytes
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
        return f"<ForkServerClient {state}, {running} running, {self.starts} starts>"

    @property
    def hello(self) -> ServerHello | None:
        """What the server that runs now found out about its confinement."""
        return self._connection.hello if self._connection else None

    async def start(self) -> None:
        """Start the server. Raises SandboxError if it cannot serve here."""
        await self._connected()

    async def call(self, text: str, timeout_s: float, stdin: bytes | None = None) -> Outcome:
        """Have one piece of work done. Raises SandboxError if no server can be started.

        Waits while `max_parallel` others are at work, each of which has its own deadline.
        """
        async with self._slots:
            connection = await self._connected()
            self._last_id += 1
            job = _Job(self._last_id, self._output_bytes)
            return await connection.call(job, text, stdin, timeout_s)

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


class _Job:
    """One piece of work in progress: what it has printed so far, and how it ends."""

    def __init__(self, number: int, output_bytes: int) -> None:
        self.id = number
        self.outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self.stopped_for: Ending | None = None
        """Why it was killed, if it was."""
        self._output = bytearray()
        self._output_bytes = output_bytes
        self._reader = -1
        self._listening: asyncio.TimerHandle | None = None

    def open(self) -> int:
        """Make the pipe for its output; the end to hand over."""
        self._reader, writer = os.pipe()
        os.set_blocking(self._reader, False)
        return writer

    def listen(self, too_much: Callable[[], None]) -> None:
        """From soon on, take its output as it comes; `too_much` is called once that is more than allowed."""
        loop = asyncio.get_running_loop()

        def hear() -> None:
            if self._read() == b"" or self._full:
                loop.remove_reader(self._reader)
            if self._full:
                too_much()

        self._listening = loop.call_later(_LISTEN_AFTER_S, lambda: loop.add_reader(self._reader, hear))

    def end(self, ending: Ending) -> None:
        """It is dead: take what it has left in the pipe, and answer who waits."""
        while not self._full and len(self._read() or b"") == _CHUNK:
            pass
        if self._full:
            self.stopped_for = self.stopped_for or "output"
        output = self._output[: self._output_bytes].decode("utf-8", "replace")
        if not self.outcome.done():
            self.outcome.set_result(Outcome(self.stopped_for or ending, output))

    def close(self) -> None:
        """Nobody waits for it any more."""
        if self._listening is not None:
            self._listening.cancel()
        if self._reader >= 0:
            asyncio.get_running_loop().remove_reader(self._reader)
            os.close(self._reader)
            self._reader = -1

    @property
    def _full(self) -> bool:
        return len(self._output) > self._output_bytes

    def _read(self) -> bytes | None:
        """Take one piece: empty at the end of the output, None where there is nothing yet."""
        try:
            chunk = os.read(self._reader, _CHUNK)
        except BlockingIOError:
            return None
        self._output += chunk[: self._output_bytes + 1 - len(self._output)]
        return chunk


class _Connection:
    """One server process, from its start to its death."""

    def __init__(
        self, process: subprocess.Popen[bytes], control: socket.socket, complaints: IO[bytes]
    ) -> None:
        self.pending: dict[int, _Job] = {}
        self.hello: ServerHello | None = None
        self.up = False
        self._process = process
        self._control = control
        self._complaints = complaints
        self._decoder = FrameDecoder()
        self._greeting: asyncio.Future[ServerHello] = asyncio.get_running_loop().create_future()

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
        ours.setblocking(False)
        connection = cls(process, ours, complaints)
        asyncio.get_running_loop().add_reader(ours, connection._hear)
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                await connection._greet(setup)
        except BaseException as error:
            await connection.aclose()
            if isinstance(error, TimeoutError):
                raise SandboxError(f"the sandbox said nothing within {START_TIMEOUT_S:g} s") from error
            raise
        return connection

    async def _greet(self, setup: Setup) -> None:
        self._say(encode(setup))
        hello = await self._greeting
        if hello["error"]:
            raise SandboxError(
                f"the sandbox cannot run here: {hello['error']}; set allow_weak to go on without the "
                "kernel's isolation"
            )
        self.hello = hello
        self.up = True

    async def call(self, job: _Job, text: str, stdin: bytes | None, timeout_s: float) -> Outcome:
        """Begin the work, wait for its end. Raises SandboxError where this process has no room for it."""
        self.pending[job.id] = job
        deadline = asyncio.get_running_loop().call_later(timeout_s, self._stop, job, "timeout")
        try:
            self._begin(job, text, stdin, int(timeout_s) + _CPU_MARGIN_S)
            async with asyncio.timeout(timeout_s + GRACE_S):
                return await job.outcome
        except TimeoutError:
            if job.outcome.done() and not job.outcome.cancelled():  # both came while the loop stood still
                return job.outcome.result()
            self.kill()
            return _CRASHED
        finally:
            deadline.cancel()
            if not job.outcome.done() or job.outcome.cancelled():
                self._say(_kill(job))
            self.pending.pop(job.id, None)
            job.close()

    def _begin(self, job: _Job, text: str, stdin: bytes | None, cpu_s: int) -> None:
        """Hand the work over; this process keeps none of its descriptors but the one that it reads."""
        handed: list[int] = []
        try:
            handed.append(write_input(text.encode("utf-8", "surrogatepass")))
            handed.append(job.open())
            if stdin is not None:
                handed.append(write_input(stdin))
            work: Work = {"id": job.id, "cpu_s": cpu_s, "stdin": stdin is not None, "kill": False}
            self._say(encode(work), *handed)
        except OSError as error:
            raise SandboxError(f"a sandboxed call cannot be begun: {error}") from error
        finally:
            for descriptor in handed:
                os.close(descriptor)
        job.listen(lambda: self._stop(job, "output"))

    def kill(self) -> None:
        """End the server's whole session, now; its children follow it by the kernel's hand."""
        self.up = False
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        if self._control.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._control)
            self._control.close()
        for job in self.pending.values():
            if not job.outcome.done():
                job.outcome.set_result(_CRASHED)
        if not self._greeting.done():
            error = f"its process ended before it was ready{self._last_complaint()}"
            self._greeting.set_result(
                {"error": error, "level": "", "namespaces": [], "user": "", "detail": ""}
            )
        self._complaints.close()

    async def aclose(self) -> None:
        """Kill the server and wait until it is gone. Raises SandboxError where it does not go."""
        self.kill()  # which leaves nothing open: whoever waits here may be cancelled
        try:
            await asyncio.shield(asyncio.to_thread(self._process.wait, _DEATH_TIMEOUT_S))
        except subprocess.TimeoutExpired as error:
            raise SandboxError(f"the sandbox does not end within {_DEATH_TIMEOUT_S:g} s") from error

    def _stop(self, job: _Job, ending: Ending) -> None:
        """Have the work killed; its end is then told as any other."""
        if job.stopped_for is None and not job.outcome.done():
            job.stopped_for = ending
            self._say(_kill(job))

    def _hear(self) -> None:
        """Called by the event loop: tell each work that has ended; or all, where the server has."""
        try:
            data = self._control.recv(_CHUNK)
            for body in self._decoder.feed(data):
                if not self._greeting.done():
                    self._greeting.set_result(read_hello(body))
                    continue
                told = read_exit(body)
                if job := self.pending.get(told["id"]):
                    job.end(told["ending"])
        except (OSError, BadFrame, ValueError):
            data = b""
        if not data:
            self.kill()

    def _last_complaint(self) -> str:
        self._complaints.seek(0)
        lines = self._complaints.read().decode("utf-8", "replace").strip().splitlines()
        return f": {lines[-1]}" if lines else ""

    def _say(self, frame: bytes, *descriptors: int) -> None:
        """Frames are small and few: a server that leaves them unread is stuck, and killed for it."""
        if self._control.fileno() < 0:
            return
        try:
            sent = socket.send_fds(self._control, [frame], descriptors)
        except OSError:
            sent = 0
        if sent < len(frame):
            self.kill()


def _kill(job: _Job) -> bytes:
    return encode({"id": job.id, "cpu_s": 0, "stdin": False, "kill": True})


_CRASHED: Final = Outcome("crashed", "")
