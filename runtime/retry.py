"""Asking again when an actor was lost over the message: only for requests that may be repeated."""

import asyncio
from typing import TypeVar

from ..messages.base import Request
from .errors import ActorDown
from .ref import Ref

ReplyT = TypeVar("ReplyT")

ATTEMPTS = 6
PAUSE_S = 0.2


async def ask_again(ref: Ref, message: Request[ReplyT], *, timeout_s: float) -> ReplyT:
    """Ask until the actor lives long enough to answer, at most `ATTEMPTS` times.

    `timeout_s` bounds each attempt. Raises what `ask` raises; ActorDown only once the actor is gone
    for good or the attempts are spent.
    """
    for attempt in range(ATTEMPTS):
        try:
            return await ref.ask(message, timeout_s=timeout_s)
        except ActorDown as down:
            if down.permanent or attempt == ATTEMPTS - 1:
                raise
        await asyncio.sleep(PAUSE_S * 2.0**attempt)
    raise AssertionError("unreachable")
