"""A subprocess's three pipes as asyncio streams, and its end as an event.

Not `asyncio.subprocess`: there a process whose output nobody reads any more never ends.
"""

import asyncio
import os
import signal
import subprocess
from asyncio.streams import FlowControlMixin
from contextlib import suppress
from typing import IO


class Pipes:
    """Standard input, output and error of one process."""

    stdin: asyncio.StreamWriter
    stdout: asyncio.StreamReader
    stderr: asyncio.StreamReader

    def __init__(self) -> None:
        self._transports: list[asyncio.BaseTransport] = []

    async def connect(self, process: "subprocess.Popen[bytes]") -> None:
        """Take them over from a process that was made with pipes; input and output may be something else."""
        assert process.stderr is not None, "made without pipes"
        loop = asyncio.get_running_loop()
        if process.stdin is not None:
            writing, protocol = await loop.connect_write_pipe(FlowControlMixin, process.stdin)
            self._transports.append(writing)
            self.stdin = asyncio.StreamWriter(writing, protocol, None, loop)
        if process.stdout is not None:
            self.stdout = await self._reader(process.stdout)
        self.stderr = await self._reader(process.stderr)

    def close(self) -> None:
        """Let go of them; what has not been read is lost."""
        for transport in self._transports:
            transport.close()

    async def _reader(self, pipe: IO[bytes]) -> asyncio.StreamReader:
        reader = asyncio.StreamReader()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), pipe
        )
        self._transports.append(transport)
        return reader


class ExitEvent(asyncio.Event):
    """Set once a process has ended."""

    def __init__(self, pid: int) -> None:
        """Raises ProcessLookupError if it is gone."""
        super().__init__()
        self._handle = os.pidfd_open(pid)
        asyncio.get_running_loop().add_reader(self._handle, self._end)

    def kill(self) -> None:
        """Kill the process, if it has not ended; no other is hit that may bear its number by now."""
        if not self.is_set():
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._handle, signal.SIGKILL)

    def close(self) -> None:
        """Watch the process no longer; it counts as ended."""
        if not self.is_set():
            self._end()

    def _end(self) -> None:
        asyncio.get_running_loop().remove_reader(self._handle)
        os.close(self._handle)
        self.set()
