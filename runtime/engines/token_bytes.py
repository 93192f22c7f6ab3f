"""The bytes that single tokens stand for: a token may hold half a character, which no text can show."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from typing import Final

from tokenizers import Tokenizer

Spell = Callable[[int], bytes]
"""The bytes of one token in UTF-8; none for a special token."""

_BYTE_TOKEN: Final = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_BLANK: Final = "▁"
"""SentencePiece's mark for a blank."""


def speller(tokenizer: Tokenizer) -> Spell:
    """How this tokenizer's tokens are spelled, by the kind of its decoder."""
    added = {
        token_id: b"" if token.special else token.content.encode()
        for token_id, token in tokenizer.get_added_tokens_decoder().items()
    }
    decoder = "" if tokenizer.decoder is None else tokenizer.decoder.__getstate__().decode()
    byte_level, marks_blanks = '"ByteLevel"' in decoder, _BLANK in decoder

    def spell(token_id: int) -> bytes:
        if token_id in added:
            return added[token_id]
        piece = tokenizer.id_to_token(token_id)
        if piece is None:
            return b""
        if byte_level:
            table = byte_alphabet()
            return b"".join(table.get(character) or character.encode() for character in piece)
        single = _BYTE_TOKEN.fullmatch(piece)
        if single is not None:
            return bytes.fromhex(single[1])
        if marks_blanks:
            return piece.replace(_BLANK, " ").encode()
        return str(tokenizer.decode([token_id])).encode()

    return spell


@cache
def byte_alphabet() -> dict[str, bytes]:
    """The characters that byte-level tokenizers (GPT-2's and its heirs) write the 256 bytes with.

    Those of Latin-1 that can be seen stand for themselves, the others for the characters from 256 on.
    """
    seen = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [value for value in range(256) if value not in seen]
    table = {chr(value): bytes([value]) for value in seen}
    return table | {chr(256 + number): bytes([value]) for number, value in enumerate(others)}
