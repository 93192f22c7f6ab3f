"""A message on its way: the metadata that the runtime adds around the payload."""

import asyncio

from ..messages.base import Message


class Envelope:
    """One message in a mailbox, and the way back for its answer.

    The future is the correlation between question and answer, and whoever made it holds its
    deadline: when that passes, the future is done and the envelope `abandoned`.
    """

    __slots__ = ("message", "reply")

    def __init__(self, message: Message, reply: asyncio.Future[Message] | None = None) -> None:
        self.message = message
        self.reply = reply
        """Where the answer goes; None for a `tell`."""

    def __repr__(self) -> str:
        return f"<Envelope {self.kind}: {'tell' if self.reply is None else 'ask'}>"

    @property
    def kind(self) -> str:
        """Type of the message."""
        return type(self.message).__name__

    @property
    def abandoned(self) -> bool:
        """Whether whoever asked no longer waits (timed out or cancelled)."""
        return self.reply is not None and self.reply.done()

    def answer(self, message: Message) -> None:
        """Give the answer, unless nobody waits for it any more."""
        if self.reply is not None and not self.reply.done():
            self.reply.set_result(message)

    def fail(self, error: BaseException) -> bool:
        """Give an error as the answer; False when nobody waits for it."""
        if self.reply is None or self.reply.done():
            return False
        self.reply.set_exception(error)
        return True
