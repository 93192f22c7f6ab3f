"""A reply while it is written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

from ...messages.chat import ChatReply
from .backend import BackendReply, Pieces
from .deadline import Deadline
from .errors import BrokenReply, ModelError
from .guard import Guard


class ReplyStream:
    """Pieces of text, then `reply`. Made by `ChatModel.stream`."""

    def __init__(
        self,
        pieces: Pieces,
        guard: Guard,
        deadline: Deadline,
        finish: Callable[[BackendReply], ChatReply],
        *,
        whole: bool,
    ) -> None:
        self._whole = whole
        self._pieces = pieces
        self._guard = guard
        self._deadline = deadline
        self._finish = finish
        self._first: str | BackendReply | None = None
        self._reply: ChatReply | None = None
        self.attempts = 1

    @property
    def reply(self) -> ChatReply:
        """The whole reply, once all pieces have been read."""
        if self._reply is None:
            raise ModelError("the reply is not complete: read the stream to its end first")
        return self._reply

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str:
        """The next piece. Raises ModelTimeout, BrokenReply and the other ModelErrors."""
        if self._reply is not None:
            raise StopAsyncIteration
        piece, self._first = self._first, None
        if piece is None:
            piece = await self._next()
        if isinstance(piece, str):
            return piece
        self._reply = self._finish(piece).model_copy(update={"attempts": self.attempts})
        raise StopAsyncIteration

    async def open(self) -> None:
        """Wait for the first piece: until then a request may be made again."""
        self._first = await self._next()

    async def _next(self) -> str | BackendReply:
        piece = await self._guard.wait(anext(self._pieces, None), self._deadline, whole=self._whole)
        if piece is None:
            raise BrokenReply(f"{self._guard.name}: the reply was cut off")
        return piece
