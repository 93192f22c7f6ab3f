"""A sandboxed program, from its start to the death of its last process."""

import asyncio
import os
import socket
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from ...configs.sandbox import CommandSandboxSettings, Level
from . import bwrap_command
from .errors import SandboxError
from .fork_server_client import command
from .inside import landlock
from .inside.launch_spec import HERE, SCRATCH, UP, LaunchSpec, ProbeTarget, encode
from .inside.protocol import Ending
from .resource_usage import FolderUsage, UsageMonitor, allowed_usage, children
from .subprocess_io import ExitEvent, Pipes
from .workspace import chown_workdir

START_TIMEOUT_S: Final = 30.0
_DEATH_TIMEOUT_S: Final = 5.0
"""From a kill to the end; twice, before it counts as one that cannot be killed."""
_WATCH_S: Final = 0.1
"""Time between looks at what all processes take together."""
_CHUNK: Final = 65536
_MB: Final = 2**20


class Stdio(NamedTuple):
    """Descriptors of the caller's own."""

    stdin: int
    stdout: int


class SandboxedProcess:
    """A started program: its pipes, its limits, its end."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        control: socket.socket,
        settings: CommandSandboxSettings,
        level: Level,
        workdir: Path,
        most: FolderUsage,
    ) -> None:
        """`most`: what the workdir may hold."""
        self.pipes = Pipes()
        self._process = process
        self._control = control
        self._settings = settings
        self._level = level
        self._workdir = workdir
        self._most = most
        self._scratch: list[int] = []
        self._ended = ExitEvent(process.pid)
        self._first_processes: list[ExitEvent] = []
        self._killing: asyncio.Task[None] | None = None

    @classmethod
    async def start(
        cls,
        argv: Sequence[str],
        workdir: Path,
        settings: CommandSandboxSettings,
        level: Level,
        cpu_s: int,
        probe: ProbeTarget | None = None,
        stdio: Stdio | None = None,
    ) -> "SandboxedProcess":
        """Start the program confined. Raises SandboxError where it cannot be.

        `stdio` takes the place of the pipes to standard input and from standard output.
        """
        workdir, most = await asyncio.to_thread(_prepare, workdir, settings)
        spec = _launch_spec(argv, workdir, settings, level, cpu_s, probe)
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        try:
            with theirs:
                process = _spawn(theirs, settings, level, workdir, stdio)
        except OSError as error:
            ours.close()
            raise SandboxError(f"the sandbox's process cannot be started: {error}") from error
        running = cls(process, ours, settings, level, workdir, most)
        try:
            await running.pipes.connect(process)
            await running._come_up(spec)
        except BaseException:
            await asyncio.shield(running.kill())
            raise
        return running

    @property
    def status(self) -> int:
        """Exit code, or 128 + n where signal n ended it. Ask once it has ended."""
        code = self._process.poll()
        assert code is not None, "it still runs"
        return code if code >= 0 else 128 - code

    @property
    def ended(self) -> bool:
        """Whether its first process is dead."""
        return self._ended.is_set()

    @property
    def pid(self) -> int:
        """The process that all others of the call descend from."""
        return self._process.pid

    async def finish(self, stdin: bytes, timeout_s: float) -> tuple[Ending, bytes, bytes]:
        """Feed it, hear it out, and kill it where a limit is broken: how, standard output, standard error."""
        outputs = (bytearray(), bytearray())
        ending: Ending = "ok"
        tasks = [
            asyncio.create_task(self._feed(stdin)),
            asyncio.create_task(self._collect(self.pipes.stdout, outputs[0])),
            asyncio.create_task(self._collect(self.pipes.stderr, outputs[1])),
        ]
        limit = asyncio.create_task(self.breaks_a_limit())
        end = asyncio.create_task(_until(self._ended))
        try:
            async with asyncio.timeout(timeout_s):
                ending = await self._first_limit(end, limit, tasks)
        except TimeoutError:
            ending = "timeout"
        finally:
            try:
                await asyncio.shield(self.kill())
            finally:
                for task in (*tasks, limit, end):
                    task.cancel()
                await asyncio.gather(*tasks, limit, end, return_exceptions=True)
        return ending, bytes(outputs[0]), bytes(outputs[1])

    async def kill(self) -> None:
        """End all its processes, and wait until they are gone. Raises SandboxError where they do not end."""
        if self._killing is None:
            self._killing = asyncio.create_task(self._kill())
        await asyncio.shield(self._killing)

    async def breaks_a_limit(self, cpu_s: float | None = None) -> Ending:
        """Return once its processes or its files together take more than allowed, and what: `memory`,
        `disk`, or `timeout` for more processor time than `cpu_s` from now on."""
        usage = await asyncio.to_thread(
            UsageMonitor, self.pid, self._workdir, self._most, self._scratch, self._settings
        )
        # The kernel tells nobody, so it has to be asked.
        while (broken := await asyncio.to_thread(usage.broken, cpu_s)) is None:  # noqa: ASYNC110
            await asyncio.sleep(_WATCH_S)
        return broken

    async def _first_limit(
        self, end: "asyncio.Task[None]", limit: "asyncio.Task[Ending]", tasks: "list[asyncio.Task[None]]"
    ) -> Ending:
        """Wait for the program's end and its last output, or for the first limit that is broken."""
        _, stdout, stderr = tasks
        waiting: set[asyncio.Task[None] | asyncio.Task[Ending]] = {end, stdout, stderr, limit}
        while not (end.done() and stdout.done() and stderr.done()):
            _, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if limit.done():
                return limit.result()
            for task in (stdout, stderr):
                if task.done() and isinstance(task.exception(), OutputTooLong):
                    return "output"
                if task.done():
                    task.result()
        return "ok"

    async def _feed(self, stdin: bytes) -> None:
        with suppress(BrokenPipeError, ConnectionResetError):  # it need not read all, or at all
            self.pipes.stdin.write(stdin)
            await self.pipes.stdin.drain()
        self.pipes.stdin.close()

    async def _collect(self, stream: asyncio.StreamReader, output: bytearray) -> None:
        limit = self._settings.output_bytes
        while chunk := await stream.read(_CHUNK):
            output += chunk[: limit + 1 - len(output)]
            if len(output) > limit:
                del output[limit:]
                raise OutputTooLong

    async def _come_up(self, spec: LaunchSpec) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                said = await self._hear()
                if said == HERE:
                    if self._level == "bubblewrap":
                        self._first_processes = [ExitEvent(pid) for pid in children(self.pid)]
                    await loop.sock_sendall(self._control, encode(spec))
                    said = await self._hear()
        except (ConnectionError, ProcessLookupError):
            said = b""
        except TimeoutError as error:
            limit = f"{START_TIMEOUT_S:g} s"
            raise SandboxError(f"the {self._level} sandbox was not up within {limit}") from error
        if said != UP:
            complaint = said.decode("utf-8", "replace").strip() or await self.last_words()
            raise SandboxError(f"the {self._level} sandbox does not come up: {complaint}")

    async def _hear(self) -> bytes:
        loop = asyncio.get_running_loop()
        readable = asyncio.Event()
        loop.add_reader(self._control, readable.set)
        try:
            await readable.wait()
            said, scratch, _, _ = socket.recv_fds(self._control, 4096, len(SCRATCH))
        except ConnectionError:
            return b""
        finally:
            loop.remove_reader(self._control)
        self._scratch += scratch
        return said

    async def _all_ended(self) -> None:
        for each in (*self._first_processes, self._ended):
            await each.wait()

    async def last_words(self) -> str:
        """What it said on standard error that could say nothing else."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_DEATH_TIMEOUT_S):
                return (await self.pipes.stderr.read(_CHUNK)).decode("utf-8", "replace").strip()
        return ""

    async def _kill(self) -> None:
        # Namespaces die with their first process, bubblewrap's child, and bubblewrap itself may end before
        # they do. Elsewhere the launcher kills once its client is gone, and ends last.
        self._control.close()
        for first in self._first_processes:
            first.kill()
        try:
            if not await self._end_within(_DEATH_TIMEOUT_S):
                self._ended.kill()
                if not await self._end_within(_DEATH_TIMEOUT_S):
                    limit = f"{_DEATH_TIMEOUT_S:g} s"
                    raise SandboxError(f"the sandbox's process {self.pid} is alive {limit} after its kill")
        finally:
            self._let_go()

    async def _end_within(self, limit_s: float) -> bool:
        """Whether all its processes end in that time."""
        try:
            async with asyncio.timeout(limit_s):
                await self._all_ended()
        except TimeoutError:
            return False
        return True

    def _let_go(self) -> None:
        """Close what is held of it, and take its exit code where it has ended."""
        self._process.poll()
        for each in (*self._first_processes, self._ended):
            each.close()
        self.pipes.close()
        while self._scratch:
            os.close(self._scratch.pop())


class OutputTooLong(Exception):
    """The program has written more than allowed."""


def _spawn(
    theirs: socket.socket,
    settings: CommandSandboxSettings,
    level: Level,
    workdir: Path,
    stdio: Stdio | None,
) -> "subprocess.Popen[bytes]":
    launcher = [*command("agentfactory.runtime.sandbox.inside.launcher"), str(theirs.fileno())]
    if level == "bubblewrap":
        program = bwrap_command.bwrap_program()
        if program is None:
            raise SandboxError("bubblewrap is not installed")
        launcher = bwrap_command.bwrap_command(program, settings, workdir, launcher)
    # On the loop's own thread: the kernel kills the sandbox when its maker's thread ends.
    return subprocess.Popen(
        launcher,
        stdin=subprocess.PIPE if stdio is None else stdio.stdin,
        stdout=subprocess.PIPE if stdio is None else stdio.stdout,
        stderr=subprocess.PIPE,
        pass_fds=(theirs.fileno(),),
        env={},
        cwd="/",
        start_new_session=True,
    )


def _launch_spec(
    argv: Sequence[str],
    workdir: Path,
    settings: CommandSandboxSettings,
    level: Level,
    cpu_s: int,
    probe: ProbeTarget | None,
) -> LaunchSpec:
    return {
        "argv": list(argv),
        "workdir": str(workdir),
        "env": bwrap_command.environment(workdir),
        "level": level,
        "readable": bwrap_command.readable_paths(settings),
        "memory_bytes": settings.memory_mb * _MB,
        "file_bytes": settings.file_mb * _MB,
        "open_files": settings.open_files,
        "processes": settings.processes,
        "cpu_s": cpu_s,
        "landlock_abi": landlock.abi(),
        "probe": probe,
    }


def _prepare(workdir: Path, settings: CommandSandboxSettings) -> tuple[Path, FolderUsage]:
    """Its real path, the folder made over to whoever runs there; and what it may hold."""
    try:
        workdir = workdir.resolve(strict=True)
        if not workdir.is_dir() or workdir == Path("/"):
            raise SandboxError(f"{workdir}: a program's workdir has to be a folder, and not the root")
        chown_workdir(workdir)
        most = allowed_usage(workdir, settings)
    except OSError as error:
        raise SandboxError(f"{workdir}: cannot be a program's workdir: {error.strerror}") from error
    return workdir, most


async def _until(event: asyncio.Event) -> None:
    await event.wait()
