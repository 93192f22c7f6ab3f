"""Task groups whose errors keep their types.

`task_group` raises the error itself instead of a group of errors: callers tell our errors apart by type,
and a group hides it. The first error cancels the siblings, so what came after it is their cancellation,
or at worst a second error of the same cause.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

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
