"""Refs: how one actor knows another. `tell` and `ask`, and nothing else."""

import asyncio
from typing import Protocol, TypeVar, cast, runtime_checkable

from ..messages.base import Message, Request
from .errors import ActorDown, ActorError, ActorStopped, MailboxFull

ReplyT = TypeVar("ReplyT")


class ActorChannel(Protocol):
    """The transport's side of a ref."""

    async def tell(self, message: Message) -> None:
        """Queue the message; waits while there is no room."""

    async def ask(self, message: Message, timeout_s: float) -> Message:
        """Queue the message and wait for its answer."""


@runtime_checkable
class Ref(Protocol):
    """Something that messages can be sent to: one actor, or a pool of equals."""

    async def tell(self, message: Message) -> None:
        """Send without waiting for an answer; waits, for minutes at most, while there is no room."""

    async def ask(self, message: Request[ReplyT], *, timeout_s: float) -> ReplyT:
        """Send and wait for the answer, at most `timeout_s` seconds."""


class ActorRef:
    """One actor, wherever it runs. Can be passed to other actors' constructors.

    Raises, from `tell`: MailboxFull when the actor has made no room for minutes.

    Raises, from `ask`: AskTimeout after `timeout_s`; ActorDown when the actor dies over the
    message; ActorStopped; and whatever `AgentFactoryError` the handler raised.
    """

    def __init__(self, name: str, channel: ActorChannel) -> None:
        self.name = name
        self.pending = 0
        """Asks that wait for an answer through this ref: what pools compare."""
        self.terminated = False
        """Whether a message through this ref met an actor that will not come back."""
        self._channel = channel

    def __repr__(self) -> str:
        return f"<ActorRef {self.name}: {self.pending} pending{', gone' if self.terminated else ''}>"

    def __reduce__(self) -> tuple[object, ...]:
        return ActorRef, (self.name, self._channel)

    async def tell(self, message: Message) -> None:
        """Send without waiting for an answer; waits while there is no room."""
        try:
            await self._channel.tell(message)
        except (ActorDown, ActorStopped) as error:
            self._note(error)
            raise

    async def ask(self, message: Request[ReplyT], *, timeout_s: float) -> ReplyT:
        """Send and wait for the answer, at most `timeout_s` seconds."""
        self.pending += 1
        try:
            return cast(ReplyT, await self._channel.ask(message, timeout_s))
        except (ActorDown, ActorStopped) as error:
            self._note(error)
            raise
        finally:
            self.pending -= 1

    def _note(self, error: ActorDown | ActorStopped) -> None:
        """Remember that the actor is gone (it may also have passed on another actor's error)."""
        if isinstance(error, ActorStopped) or error.permanent:
            self.terminated = self.terminated or error.actor == self.name


class PoolRef:
    """Equal actors; each message goes to the one with the fewest asks pending.

    A member that is gone for good gets nothing more. A message over which a member died is not
    sent again: whether to redo it is the asker's decision.
    """

    def __init__(self, name: str, members: tuple[ActorRef, ...]) -> None:
        if not members:
            raise ValueError(f"the pool {name!r} has no members")
        self.name = name
        self.members = members
        self._turn = 0

    def __repr__(self) -> str:
        loads = ", ".join("gone" if member.terminated else str(member.pending) for member in self.members)
        return f"<PoolRef {self.name}: {loads} pending>"

    def __reduce__(self) -> tuple[object, ...]:
        return PoolRef, (self.name, self.members)

    def candidates(self) -> tuple[ActorRef, ...]:
        """The members that are not gone. Once all are gone, all."""
        return tuple(member for member in self.members if not member.terminated) or self.members

    def least_loaded(self) -> ActorRef:
        """The member with the fewest asks pending; equals take turns."""
        self._turn += 1
        members = self.candidates()
        first = self._turn % len(members)
        return min((*members[first:], *members[:first]), key=lambda member: member.pending)

    async def tell(self, message: Message) -> None:
        """Send to one member."""
        await self.least_loaded().tell(message)

    async def ask(self, message: Request[ReplyT], *, timeout_s: float) -> ReplyT:
        """Ask one member."""
        return await self.least_loaded().ask(message, timeout_s=timeout_s)

    async def broadcast(self, message: Message) -> None:
        """Send to every member that is not gone. Raises, at the end, the first error that a send met."""
        members = PoolRef.candidates(self)
        errors: list[ActorError] = []
        for member in members:
            try:
                await member.tell(message)
            except (ActorDown, ActorStopped, MailboxFull) as error:
                errors.append(error)
        if errors:
            raise errors[0]


RETRY_ATTEMPTS = 6
RETRY_PAUSE_S = 0.2


async def ask_with_retry(ref: Ref, message: Request[ReplyT], *, timeout_s: float) -> ReplyT:
    """Ask until the actor lives long enough to answer, at most `RETRY_ATTEMPTS` times.

    `timeout_s` bounds each attempt. Raises what `ask` raises; ActorDown only once the actor is gone
    for good or the attempts are spent.
    """
    for attempt in range(RETRY_ATTEMPTS):
        try:
            return await ref.ask(message, timeout_s=timeout_s)
        except ActorDown as down:
            if down.permanent or attempt == RETRY_ATTEMPTS - 1:
                raise
        await asyncio.sleep(RETRY_PAUSE_S * 2.0**attempt)
    raise AssertionError("unreachable")
