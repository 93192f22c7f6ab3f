"""Contexts that are held by a task of their own."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest

from agentfactory.runtime.owned_context import OwnedContext


class Door:
    """Tells what happened to it."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.may_open = asyncio.Event()
        self.may_open.set()
        self.knocked = asyncio.Event()

    @asynccontextmanager
    async def opened(self, problem: Exception | None = None) -> AsyncIterator[str]:
        async with anyio.create_task_group():
            self.knocked.set()
            await self.may_open.wait()
            if problem is not None:
                raise problem
            self.heard.append("opened")
            try:
                yield "inside"
            finally:
                self.heard.append("closed")


async def test_what_is_opened_in_one_task_is_used_and_closed_in_others() -> None:
    door = Door()
    held = OwnedContext(door.opened())
    assert await asyncio.create_task(held.get()) == "inside"
    await asyncio.create_task(held.aclose())
    assert door.heard == ["opened", "closed"]


async def test_whoever_gives_up_waiting_leaves_the_opening_alone() -> None:
    door = Door()
    door.may_open.clear()
    held = OwnedContext(door.opened())
    waiting = asyncio.create_task(held.get())
    await door.knocked.wait()
    waiting.cancel()
    await asyncio.wait([waiting])
    door.may_open.set()
    assert await held.get() == "inside"
    await held.aclose()


async def test_what_cannot_be_opened_is_told_to_each_who_asks() -> None:
    held = OwnedContext(Door().opened(ValueError("locked")))
    for _ in range(2):
        with pytest.raises(ExceptionGroup) as raised:
            await held.get()
        assert raised.group_contains(ValueError, match="locked")
    assert held.failed
    await held.aclose()


async def test_closing_gives_up_what_is_still_being_opened() -> None:
    door = Door()
    door.may_open.clear()
    held = OwnedContext(door.opened())
    await door.knocked.wait()
    await held.aclose()
    assert door.heard == []
    assert held.failed
