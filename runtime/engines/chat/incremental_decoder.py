"""Incremental decoding of a streamed reply: emits only text that is certain to be part of it.

Held back are: half a character, what may become a stop string, and (where functions are offered) all
from the first place on where a call may stand. So the pieces of a stream, put together, are the reply as
it would come whole.
"""

from __future__ import annotations

from collections.abc import Sequence

from ....messages.chat import FunctionSpec
from .call_parser import CallParser, TextAndCalls
from .format import ChatFormat, Decode

_HALF = "\ufffd"
"""The decoder's replacement for bytes that are no whole character (yet)."""


class Detokenizer:
    """Decodes each token together with the piece before it, since some lose a blank when alone."""

    def __init__(self, decode: Decode) -> None:
        self._decode = decode
        self._ids: list[int] = []
        self._context = 0
        """Index of the first token of the piece before."""
        self._done = 0
        """Tokens whose text has been handed out."""

    def add(self, token_ids: Sequence[int]) -> str:
        """The text that these tokens complete."""
        self._ids += token_ids
        text = self._fresh()
        if text.endswith(_HALF):
            return ""
        self._context, self._done = self._done, len(self._ids)
        return text

    def rest(self) -> str:
        """Text that was held back, whole characters or not."""
        text = self._fresh()
        self._context, self._done = self._done, len(self._ids)
        return text

    def _fresh(self) -> str:
        before = self._decode(self._ids[self._context : self._done])
        return self._decode(self._ids[self._context :])[len(before) :]


class IncrementalDecoder:
    """Decoder of one reply.

    text = IncrementalDecoder.of(chat, stops=("\\n\\n",), functions=())
    while ...: send(text.add(token_ids))
    rest = text.finish()                  # its text, and the calls that were written
    """

    def __init__(self, decode: Decode, stops: tuple[str, ...], reader: CallParser | None = None) -> None:
        self._tokens = Detokenizer(decode)
        self._stops = stops
        self._reader = reader
        self._held = ""
        self._begun = False
        """Something has been sent."""
        self._stopped = False
        self._holds = False
        """A call has begun: nothing more is sent before the end."""

    @classmethod
    def of(
        cls, chat: ChatFormat, stops: tuple[str, ...], functions: Sequence[FunctionSpec]
    ) -> IncrementalDecoder:
        """The text of a reply to a request that offers these functions."""
        if not functions and not chat.has_channels:
            return cls(chat.decode, stops)
        reader = CallParser(functions, chat.without_specials, channels=chat.has_channels)
        return cls(chat.decode_marked, stops, reader)

    def add(self, token_ids: Sequence[int]) -> str:
        """The text that can be sent."""
        self._take(self._tokens.add(token_ids))
        return self._release()

    def finish(self) -> TextAndCalls:
        """The rest of the text, and the calls."""
        self._take(self._tokens.rest())
        held, self._held = self._held, ""
        return TextAndCalls(held, ()) if self._reader is None else self._reader.read(held, begun=self._begun)

    def _take(self, text: str) -> None:
        if self._stopped or not text:
            return
        known = len(self._held)
        self._held += text
        ends = [
            at for stop in self._stops if (at := self._held.find(stop, max(0, known - len(stop) + 1))) >= 0
        ]
        if ends:
            self._held, self._stopped = self._held[: min(ends)], True
        if self._reader is not None:
            self._held = self._held[self._reader.hidden(self._held, known) :]

    def _release(self) -> str:
        if self._holds:
            return ""
        end = len(self._held)
        if not self._stopped:
            end -= max((_begun(self._held, stop) for stop in self._stops), default=0)
        if self._reader is not None:
            shown = self._reader.visible(self._held)
            self._holds, end = shown.holds, min(end, shown.end)
        text, self._held = self._held[:end], self._held[end:]
        self._begun |= bool(text.strip())
        return text if self._reader is None else self._reader.show(text)


def _begun(text: str, word: str) -> int:
    """Number of the word's first characters that the text ends with, short of the whole."""
    return next((n for n in range(min(len(word) - 1, len(text)), 0, -1) if text.endswith(word[:n])), 0)
