"""Tasks, threads and contexts whose lives are bounded.

`task_group` raises the error itself instead of a group of errors: callers tell our errors apart by type,
and a group hides it. The first error cancels the siblings, so what came after it is their cancellation,
or at worst a second error of the same cause.

`DaemonThread` runs blocking calls that may never return. A thread of `asyncio.to_thread` that hangs
keeps the whole process from ending, since the interpreter joins it. These are left behind; give a call
up with `asyncio.timeout`.

`OwnedContext` enters and leaves a context in a task of its own, so that any task may ask for it and
close it: anyio's cancel scopes belong to the task that entered them, and a program that opens things
when they are first needed, and whose work may be interrupted, cannot enter them where the need arises.
"""

import asyncio
import queue
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from functools import partial
from typing import Generic, TypeVar

import anyio
from anyio.abc import TaskGroup


def unwrap_exception_group(error: BaseException) -> BaseException:
    """The first real error inside (nested) groups."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


@asynccontextmanager
async def task_group() -> AsyncIterator[TaskGroup]:
    """anyio's task group; raises the first error of its tasks, with its own cause."""
    try:
        async with anyio.create_task_group() as group:
            yield group
    except BaseExceptionGroup as errors:
        first = unwrap_exception_group(errors)
        raise first from first.__cause__


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


OwnedT = TypeVar("OwnedT")


class OwnedContext(Generic[OwnedT]):
    """Begins to open at once.

    A worked example::

        plane = Held(DataPlane.open())
        data = await plane.get()      # waits until it is open; raises what opening raised
        await plane.aclose()
    """

    def __init__(self, context: AbstractAsyncContextManager[OwnedT]) -> None:
        self._opened: asyncio.Future[OwnedT] = asyncio.get_running_loop().create_future()
        self._closing = asyncio.Event()
        self._task = asyncio.create_task(self._hold(context))

    @property
    def failed(self) -> bool:
        """Whether opening raised."""
        return self._opened.done() and (self._opened.cancelled() or self._opened.exception() is not None)

    async def get(self) -> OwnedT:
        """What was opened. Cancelling this leaves the opening alone."""
        return await asyncio.shield(self._opened)

    async def aclose(self) -> None:
        """Leave the context; one that is still being opened is given up. Raises what leaving it raises."""
        self._closing.set()
        if not self._opened.done():
            self._task.cancel()
        await asyncio.wait([self._task])
        if self._opened.done() and not self._opened.cancelled():
            self._opened.exception()  # it was told to whoever asked, or nobody needed it
        if not self._task.cancelled() and (error := self._task.exception()) is not None:
            raise error

    async def _hold(self, context: AbstractAsyncContextManager[OwnedT]) -> None:
        try:
            value = await context.__aenter__()
        except asyncio.CancelledError:
            self._opened.cancel()
            raise
        except Exception as error:
            self._opened.set_exception(error)
            return
        self._opened.set_result(value)
        try:
            await self._closing.wait()
        finally:
            await context.__aexit__(None, None, None)
