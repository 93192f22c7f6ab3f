"""Engines that leave their GPU to the Trainer while it works."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

from ...messages.base import Done, Request
from ...messages.generation import SleepEngine, WakeEngine
from ...runtime.groups import task_group
from ...runtime.ref import PoolRef, Ref
from ...runtime.retry import ask_again

NAP_TIMEOUT_S = 300.0
"""The longest that an engine's last requests, or moving its weights, may take."""


@asynccontextmanager
async def asleep(engines: PoolRef) -> AsyncIterator[None]:
    """All engines sleep inside the block, and are woken however it ends. A new one is born awake."""
    try:
        await _ask_all(engines, SleepEngine())
        yield
    finally:
        with anyio.CancelScope(shield=True), anyio.fail_after(NAP_TIMEOUT_S):
            await _ask_all(engines, WakeEngine())


async def _ask_all(engines: PoolRef, message: Request[Done]) -> None:
    async with task_group() as group:
        for engine in engines.members:
            group.start_soon(_ask, engine, message)


async def _ask(engine: Ref, message: Request[Done]) -> None:
    await ask_again(engine, message, timeout_s=NAP_TIMEOUT_S)
