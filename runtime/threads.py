"""Blocking calls beside the event loop that may never return."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TypeVar

ResultT = TypeVar("ResultT")


async def in_daemon_thread(call: Callable[[], ResultT]) -> ResultT:
    """Run it in a thread of its own; raises what it raises. Give it up with `asyncio.timeout`.

    A thread of `asyncio.to_thread` that never returns keeps the whole process from ending, since the
    interpreter joins it. This one is left behind.
    """
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[ResultT] = loop.create_future()

    def work() -> None:
        try:
            settle = partial(_set_result, outcome, call())
        except BaseException as error:
            settle = partial(_set_exception, outcome, error)
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle)

    threading.Thread(target=work, name=getattr(call, "__name__", "call"), daemon=True).start()
    return await outcome


def _set_result(outcome: asyncio.Future[ResultT], result: ResultT) -> None:
    if not outcome.done():  # else it was given up
        outcome.set_result(result)


def _set_exception(outcome: asyncio.Future[ResultT], error: BaseException) -> None:
    if not outcome.done():
        outcome.set_exception(error)
