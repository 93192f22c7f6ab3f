"""The bridge's end of the client process: requests go out at once, answers come back in order."""

import os
import socket
import struct
import subprocess
import sys
import threading
from collections import deque
from concurrent.futures import Future
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from ...errors import StoreError
from .client import START_LIMIT_S
from .frames import Head, receive, send

if TYPE_CHECKING:
    from .runtime import IOWarpRuntime

_WINDOW: Final = 64
_BOOTSTRAP: Final = (
    "import sys; sys.path[:] = {path!r}; "
    "from agentfactory.bridge.store.iowarp.launch import die_with_parent; die_with_parent({parent}); "
    "from agentfactory.bridge.store.iowarp.client import main; main()"
)

Answer = tuple[Head, bytes]


class LinkBroken(StoreError):
    """The client process or its runtime went away before it answered; it is unknown what was done."""


class Link:
    """A client process. Threads may share it; it ends with the thread that made it."""

    def __init__(self, runtime: "IOWarpRuntime", limit_s: float) -> None:
        """`limit_s`: a request that the runtime does not complete in that time ends the process."""
        self._limit_s = limit_s
        ours, theirs = socket.socketpair()
        self._socket = ours
        self._window = threading.BoundedSemaphore(_WINDOW)
        self._sending = threading.Lock()
        self._waiting: deque[Future[Answer]] = deque()
        self._broken = False
        bootstrap = _BOOTSTRAP.format(path=sys.path, parent=os.getpid())
        with theirs, runtime.open_log() as log:
            self.process: Final = subprocess.Popen(
                [sys.executable, "-c", bootstrap, *map(str, (theirs.fileno(), limit_s, START_LIMIT_S))],
                env=runtime.environment(),
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            ours.settimeout(START_LIMIT_S)
            receive(ours)
            ours.settimeout(None)
            _limit_sends(ours, limit_s)
        except (EOFError, OSError) as error:
            self.close()
            ours.close()
            raise LinkBroken(
                f"its client does not start; the end of {runtime.log}:\n{runtime.log_tail()}"
            ) from error
        self._reader = threading.Thread(target=self._read, name="iowarp-answers", daemon=True)
        self._reader.start()

    def submit(self, head: Head, data: bytes = b"") -> Future[Answer]:
        """Send a request; its answer comes later. Raises LinkBroken."""
        future: Future[Answer] = Future()
        if not self._window.acquire(timeout=self._limit_s):
            raise LinkBroken("IOWarp does not keep up")
        with self._sending:
            if self._broken:
                self._window.release()
                raise LinkBroken("IOWarp's client went away")
            self._waiting.append(future)
            try:
                send(self._socket, head, data)
            except OSError as error:  # the reader fails the future once the process is gone
                raise LinkBroken("IOWarp's client went away, or stands still") from error
        return future

    def close(self) -> None:
        """End the process; what was not answered fails with LinkBroken."""
        self.process.kill()
        self.process.wait()
        with suppress(OSError):  # the reader has seen the end
            self._socket.shutdown(socket.SHUT_RDWR)

    def _read(self) -> None:
        try:
            while True:
                answer = receive(self._socket)
                self._window.release()
                self._waiting.popleft().set_result(answer)
        except (EOFError, OSError):
            with self._sending:
                self._broken = True
            for future in self._waiting:
                self._window.release()
                future.set_exception(LinkBroken("IOWarp's client went away"))
            self._socket.close()


def _limit_sends(link: socket.socket, limit_s: float) -> None:
    """A send that a stopped process leaves standing fails with BlockingIOError after `limit_s`."""
    seconds, part = divmod(limit_s, 1.0)
    limit = struct.pack("@ll", int(seconds), int(part * 1e6))
    link.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
