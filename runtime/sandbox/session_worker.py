"""The client's side of a session's processes: which one is the worker, what it says, what it prints.

The kernel tells who has sent a line, so no process can speak for another. Once a cell is over, its worker's
successor is the only process that is left, with one thread, and what had been said or printed by then is
taken or thrown away: nobody is there who could answer a later call in its place.
"""

import asyncio
import contextlib
import os
import signal
import socket
import struct
from typing import Final, NamedTuple

from .inside.protocol import with_length
from .resource_usage import descendants, is_alive, threads
from .sandboxed_process import SandboxedProcess
from .subprocess_io import ExitEvent

_CHUNK: Final = 65536
_CREDENTIALS: Final = struct.Struct("3i")
_SPACE: Final = socket.CMSG_SPACE(_CREDENTIALS.size) + socket.CMSG_SPACE(64)
_CLEAR_S: Final = 5.0
"""Time to kill what a cell has left."""


class WorkerMessage(NamedTuple):
    """A line, and the process that has sent it."""

    pid: int
    line: str


class WorkerLost(Exception):
    """The session cannot go on; the message says why."""


class ControlSocket:
    """The session's socket: `theirs` is its standard input."""

    def __init__(self) -> None:
        self._ours, self.theirs = socket.socketpair()
        self._ours.setblocking(False)
        self._ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)

    async def hear(self, speaker: asyncio.Event | None = None) -> WorkerMessage | None:
        """The next line; None at the end of all processes, or where the `speaker` ends without one."""
        loop = asyncio.get_running_loop()
        readable = asyncio.Event()
        loop.add_reader(self._ours, readable.set)
        waits = [asyncio.create_task(event.wait()) for event in (readable, speaker) if event is not None]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            return self._receive()
        except BlockingIOError:
            return None
        finally:
            loop.remove_reader(self._ours)
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    async def say(self, data: bytes) -> None:
        """Send all of it. Raises WorkerLost."""
        try:
            await asyncio.get_running_loop().sock_sendall(self._ours, data)
        except OSError as error:
            raise WorkerLost("the process ended") from error

    def forget(self) -> None:
        """Throw away what has been said and not been heard."""
        with contextlib.suppress(BlockingIOError):
            while self._receive() is not None:
                pass

    def close(self) -> None:
        """Let go of it."""
        self._ours.close()
        self.theirs.close()

    def _receive(self) -> WorkerMessage | None:
        try:
            data, ancillary, _, _ = self._ours.recvmsg(64, _SPACE)
        except ConnectionError:
            return None
        pid = 0
        for _, kind, value in ancillary:
            if kind == socket.SCM_CREDENTIALS:
                pid = _CREDENTIALS.unpack(value)[0]
            elif kind == socket.SCM_RIGHTS:  # descriptors that nobody has asked for
                for (descriptor,) in struct.iter_unpack("i", value[: len(value) // 4 * 4]):
                    os.close(descriptor)
        return WorkerMessage(pid, data.decode("ascii", "replace").strip()) if data else None


class OutputPipe:
    """The pipe of the session's output: `theirs` is its standard output."""

    def __init__(self) -> None:
        self.text = bytearray()
        """What the cell has printed so far, up to its limit."""
        self.too_long = asyncio.Event()
        self._limit = 0
        self._ours, self.theirs = os.pipe()
        os.set_blocking(self._ours, False)

    def begin(self, limit: int) -> None:
        """Listen for a cell's output."""
        self.text, self._limit = bytearray(), limit
        asyncio.get_running_loop().add_reader(self._ours, self._take)

    def end(self) -> None:
        """Take what is left of it; nobody prints any more."""
        while not self.too_long.is_set() and self._take():
            pass
        asyncio.get_running_loop().remove_reader(self._ours)

    def let_go(self) -> None:
        """The session has its end by now."""
        os.close(self.theirs)
        self.theirs = -1

    def close(self) -> None:
        """Let go of it."""
        asyncio.get_running_loop().remove_reader(self._ours)
        os.close(self._ours)
        if self.theirs >= 0:
            self.let_go()

    def _take(self) -> bool:
        """Take a piece; False where there is none."""
        try:
            chunk = os.read(self._ours, _CHUNK)
        except BlockingIOError:
            return False
        if not chunk or len(self.text) + len(chunk) > self._limit:
            asyncio.get_running_loop().remove_reader(self._ours)
        if len(self.text) + len(chunk) > self._limit:
            self.too_long.set()
        self.text += chunk[: self._limit - len(self.text)]
        return bool(chunk)


class SessionWorker:
    """The one process of a session that runs code."""

    def __init__(
        self, running: SandboxedProcess, control: ControlSocket, others: frozenset[int], pid: int
    ) -> None:
        self._running = running
        self._control = control
        self._others = others
        self._pid = pid
        self._ended = ExitEvent(pid)

    @classmethod
    async def meet(cls, running: SandboxedProcess, control: ControlSocket) -> "SessionWorker":
        """Hear the session's first process, then the first worker. Raises WorkerLost."""
        first = await control.hear()
        others = frozenset(await asyncio.to_thread(descendants, running.pid))
        if first is None or first.pid not in others:
            raise WorkerLost("its process ended before it was ready")
        await control.say(b"\n")
        said = await control.hear()
        if said is None:
            raise WorkerLost("its process ended before it was ready")
        try:
            return cls(running, control, others, said.pid)
        except ProcessLookupError as error:
            raise WorkerLost("its process ended before it was ready") from error

    @property
    def gone(self) -> bool:
        """Whether it has ended without a successor."""
        return self._ended.is_set()

    @property
    def ended(self) -> asyncio.Event:
        """Set once it has ended."""
        return self._ended

    async def run(self, code: bytes) -> str:
        """Have it run a cell: how that ended. Only the worker's successor is left then.

        Raises WorkerLost: it has ended without one, or spoken itself, or something cannot be killed.
        """
        await self._control.say(with_length(code))
        said = await self._control.hear(self._ended)  # a successor speaks before its predecessor ends
        if said is None:
            raise WorkerLost("the process ended")
        if said.pid == self._pid:
            raise WorkerLost("the code spoke for its session")
        await self._succeed(said.pid)
        return said.line

    def close(self) -> None:
        """Watch it no longer."""
        self._ended.close()

    async def _succeed(self, pid: int) -> None:
        """Leave no process but the successor, and see that it has no thread but its first."""
        self._ended.close()
        try:
            self._ended = ExitEvent(pid)
            async with asyncio.timeout(_CLEAR_S):
                # What is killed takes its time to be gone, and tells nobody but its parent.
                while await asyncio.to_thread(self._kill_all_but, pid):  # noqa: ASYNC110
                    await asyncio.sleep(0.001)
        except ProcessLookupError as error:
            raise WorkerLost("the process ended") from error
        except TimeoutError as error:
            raise WorkerLost("processes are left that do not end") from error
        if await asyncio.to_thread(threads, pid) != 1:
            raise WorkerLost("the code spoke for its session")
        self._pid = pid
        self._control.forget()

    def _kill_all_but(self, pid: int) -> int:
        """How many there were."""
        spared = {*self._others, pid}
        left = [each for each in descendants(self._running.pid) if each not in spared and is_alive(each)]
        for each in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(each, signal.SIGKILL)
        return len(left)
