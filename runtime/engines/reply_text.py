"""From tokens to text while they come: nothing is sent that could turn out not to be part of the reply.

Held back are: half a character, what may become a stop string, and (where functions are offered) all
from the first call on. So the pieces of a stream, put together, are the reply as it would come whole.
"""

from __future__ import annotations

from collections.abc import Sequence

from runtime.engines.chat import Decode
from runtime.engines.functions import CALL, Read, read_calls

_HALF = "\ufffd"
"""What a decoder shows for bytes that are no whole character (yet)."""


class Detokenizer:
    """Decodes each token together with the piece before it, since some lose a blank when alone."""

    def __init__(self, decode: Decode) -> None:
        self._decode = decode
        self._ids: list[int] = []
        self._context = 0
        """Where the piece before begins."""
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
        """What was held back, whole or not."""
        text = self._fresh()
        self._context, self._done = self._done, len(self._ids)
        return text

    def _fresh(self) -> str:
        before = self._decode(self._ids[self._context : self._done])
        return self._decode(self._ids[self._context :])[len(before) :]


class ReplyText:
    """A reply's text.

    text = ReplyText(chat.decode, stops=("\\n\\n",), calls=False)
    while ...: send(text.add(token_ids))
    rest = text.finish()                  # its text, and the calls that were written
    """

    def __init__(self, decode: Decode, stops: tuple[str, ...], *, calls: bool) -> None:
        self._tokens = Detokenizer(decode)
        self._stops = stops
        self._reads_calls = calls
        self._held = ""
        self._stopped = False

    def add(self, token_ids: Sequence[int]) -> str:
        """The text that can be sent."""
        self._take(self._tokens.add(token_ids))
        return self._release()

    def finish(self) -> Read:
        """What is left."""
        self._take(self._tokens.rest())
        held, self._held = self._held, ""
        return read_calls(held) if self._reads_calls else Read(held, ())

    def _take(self, text: str) -> None:
        if self._stopped:
            return
        self._held += text
        ends = [at for at in map(self._held.find, self._stops) if at >= 0]
        if ends:
            self._held, self._stopped = self._held[: min(ends)], True

    def _release(self) -> str:
        begun = self._held.find(CALL) if self._reads_calls else -1
        if begun < 0:
            awaited = () if self._stopped else self._stops
            awaited = (*awaited, CALL) if self._reads_calls else awaited
            begun = len(self._held) - max((_begun(self._held, word) for word in awaited), default=0)
        text, self._held = self._held[:begun], self._held[begun:]
        return text


def _begun(text: str, word: str) -> int:
    """How many of the word's first characters the text ends with, short of the whole."""
    return next((n for n in range(min(len(word) - 1, len(text)), 0, -1) if text.endswith(word[:n])), 0)
