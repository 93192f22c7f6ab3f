"""Keeps a runtime and a client up, and asks again what was asked while they were down.

Consumes requests from any thread; waits for an answer, or for a new client when the old one is gone.
Every request may be asked twice: a chunk's name and bytes never change, so nothing is harmed.

Invariant: one thread starts, watches, restarts and stops both processes; it lives as long as they do.
"""

import logging
import os
import select
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from ...errors import StoreError
from .client import START_LIMIT_S
from .frames import Head
from .link import Answer, Link, LinkBroken
from .runtime import IOWarpRuntime

_LOG = logging.getLogger(__name__)
_AT_ONCE: Final = 32
_REST_S: Final = 1.0
"""After a start that failed."""

Request = tuple[Head, bytes]


class IOWarp:
    """A supervised IOWarp over a folder."""

    def __init__(self, folder: Path, max_gb: float, outage_s: float) -> None:
        """`outage_s`: how long a request waits for a runtime that went away or does not complete it."""
        self.runtime: Final = IOWarpRuntime(folder, max_gb)
        self.restarts = 0
        """Times that the runtime or its client had to be started again."""
        self._outage_s = outage_s
        self._link: Link | None = None
        self._trouble: Exception | None = None
        self._changed = threading.Condition()
        self._stopping = False
        self._wake_read, self._wake_write = os.pipe()
        self._keeper = threading.Thread(target=self._keep, name="iowarp-keeper", daemon=True)

    def start(self) -> None:
        """Start both, once. Raises StoreError."""
        self._keeper.start()
        with self._changed:
            self._changed.wait_for(lambda: self._link or self._trouble, 3 * START_LIMIT_S)
            if self._link is not None:
                return
            trouble = self._trouble
        self.stop()
        raise StoreError(f"IOWarp does not start: {trouble or 'it took too long'}") from trouble

    def ask(self, head: Head, data: bytes = b"") -> Answer:
        """One request. Raises StoreError."""
        return self.ask_all([(head, data)])[0]

    def ask_all(self, requests: Sequence[Request]) -> list[Answer]:
        """Requests, many under way at once; the answers in their order. Raises StoreError."""
        ends = time.monotonic() + self._outage_s
        answers: list[Answer] = []
        while len(answers) < len(requests):
            part = requests[len(answers) : len(answers) + _AT_ONCE]
            link = self._current(ends)
            try:
                futures = [link.submit(head, data) for head, data in part]
                answers += [future.result(max(0.0, ends - time.monotonic())) for future in futures]
            except (LinkBroken, TimeoutError) as error:
                self._lose(link)
                if time.monotonic() > ends:
                    raise StoreError(f"IOWarp does not answer; see {self.runtime.log}") from error
            else:
                ends = time.monotonic() + self._outage_s
        for head, _ in answers:
            if head[0] == "refused":
                raise StoreError(str(head[1]))
        return answers

    def stop(self) -> None:
        """Stop both; what is not answered yet fails."""
        with self._changed:
            if self._stopping:
                return
            self._stopping = True
            self._changed.notify_all()
        os.write(self._wake_write, b"!")
        self._keeper.join()
        os.close(self._wake_read)
        os.close(self._wake_write)

    def _current(self, ends: float) -> Link:
        with self._changed:
            self._changed.wait_for(lambda: self._link or self._stopping, ends - time.monotonic())
            if self._link is not None:
                return self._link
            trouble = self._trouble
        if self._stopping:
            raise StoreError("the store is closed; open it again")
        raise StoreError(f"IOWarp is down and does not come back ({trouble}); see {self.runtime.log}")

    def _lose(self, link: Link) -> None:
        with self._changed:
            if self._link is link:
                self._link = None
        link.process.kill()  # the keeper sees it

    def _keep(self) -> None:
        try:
            self._keep_up()
        finally:
            self.runtime.stop()

    def _keep_up(self) -> None:
        while not self._stopping:
            try:
                self.runtime.start()
                link = Link(self.runtime, self._outage_s)
            except (StoreError, OSError) as error:
                self.runtime.kill()
                self._say(None, error)
                self._watch([], _REST_S)
                continue
            self._say(link, None)
            self._watch([link.process.pid, self.runtime.pid], None)
            self._say(None, None)
            link.close()
            if not self._stopping:  # one without the other is of no use, and a kill loses nothing
                self.runtime.kill()
                self.restarts += 1
                _LOG.warning("IOWarp went away and is started again; see %s", self.runtime.log)

    def _say(self, link: Link | None, trouble: Exception | None) -> None:
        with self._changed:
            self._link, self._trouble = link, trouble
            self._changed.notify_all()

    def _watch(self, processes: Sequence[int | None], limit_s: float | None) -> None:
        """Wait until one of the processes ends, or `stop` is called, or the time is over."""
        with ExitStack() as stack:
            poll = select.poll()
            poll.register(self._wake_read, select.POLLIN)
            for pid in processes:
                if pid is not None:
                    handle = os.pidfd_open(pid)
                    stack.callback(os.close, handle)
                    poll.register(handle, select.POLLIN)
            poll.poll(None if limit_s is None else limit_s * 1000)
