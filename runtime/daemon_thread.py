"""Daemon threads for blocking calls that may never return.

A thread of `asyncio.to_thread` that hangs keeps the whole process from ending, since the interpreter joins
it. These are left behind; give a call up with `asyncio.timeout`. Apart from `tasks`, since the prompt uses
them before it loads anyio.
"""

import asyncio
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import TypeVar

T = TypeVar("T")
_Job = tuple[Callable[[], object], "asyncio.Future[object]"]


class DaemonThread:
    """Runs calls one after the other. The program can end while one of them hangs."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.get_running_loop()
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        threading.Thread(target=self._work, name=name, daemon=True).start()

    async def run(self, call: Callable[[], T]) -> T:
        """The result of a call, or its error."""
        future: asyncio.Future[object] = self._loop.create_future()
        self._jobs.put((call, future))
        return await future  # type: ignore[return-value]

    def close(self) -> None:
        """End the thread after the calls that are waiting."""
        self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            call, future = job
            try:
                settle = partial(_settle, future, call(), None)
            except BaseException as error:
                settle = partial(_settle, future, None, error)
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                self._loop.call_soon_threadsafe(settle)


@contextmanager
def daemon_thread(name: str) -> Iterator[DaemonThread]:
    """A thread that ends with the block, or with the program where a call hangs."""
    thread = DaemonThread(name)
    try:
        yield thread
    finally:
        thread.close()


async def in_daemon_thread(call: Callable[[], T]) -> T:
    """The result of a call that has a thread of its own, or its error."""
    with daemon_thread(getattr(call, "__name__", "call")) as thread:
        return await thread.run(call)


def _settle(future: "asyncio.Future[object]", result: object, error: BaseException | None) -> None:
    if future.cancelled():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)
