"""A context that is entered and left in a task of its own, so that any task may ask for it and close it.

Cancel scopes belong to the task that entered them; a program that opens things when they are first needed,
and whose work may be interrupted, cannot enter them where the need arises. Apart from `tasks`, since the
prompt uses it before it loads anyio.
"""

import asyncio
from contextlib import AbstractAsyncContextManager
from typing import Generic, TypeVar

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
