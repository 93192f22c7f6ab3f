"""A tokenizer of single bytes, in the folder format of Hugging Face.

One token a byte, which for the text at hand is one token a character. It is an ordinary byte-level
BPE without merges, because loaders insist on that kind of tokenizer for a Qwen2 and rebuild any
other into it. The chat template leaves system messages out (the seed model knows the format by
heart), closes every assistant message with `<eos>`, and ends every message with a newline.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

PAD: Final = "<pad>"
EOS: Final = "<eos>"
PAD_ID: Final = 0
EOS_ID: Final = 1
MAX_LENGTH: Final = 512

CHAT_TEMPLATE: Final = (
    "{%- for message in messages -%}"
    "{%- if message['role'] == 'assistant' -%}"
    "{{- message['content'] + '<eos>\\n' -}}"
    "{%- elif message['role'] != 'system' -%}"
    "{{- message['content'] + '\\n' -}}"
    "{%- endif -%}"
    "{%- endfor -%}"
)

_NEWLINE, _FIRST_PRINTABLE, _LAST_PRINTABLE = 0x0A, 0x20, 0x7E
_EXPECTED: Final = (_NEWLINE, *range(_FIRST_PRINTABLE, _LAST_PRINTABLE + 1))
_BYTES: Final = (*_EXPECTED, *(byte for byte in range(256) if byte not in _EXPECTED))
_ID_OF: Final = {byte: index for index, byte in enumerate(_BYTES, start=EOS_ID + 1)}
_BYTE_OF: Final = {index: byte for byte, index in _ID_OF.items()}

VOCABULARY_SIZE: Final = EOS_ID + 1 + len(_BYTES)
"""`<pad>`, `<eos>`, the newline, printable ASCII, then the bytes that are never taught."""


def encode(text: str) -> list[int]:
    """Ids of plain text, without the tokenizers library: one for each byte of its UTF-8."""
    return [_ID_OF[byte] for byte in text.encode("utf-8")]


def decode(ids: list[int]) -> str:
    """The text of `ids`; `<pad>` and `<eos>` are left out."""
    known = bytes(_BYTE_OF[index] for index in ids if index in _BYTE_OF)
    return known.decode("utf-8", errors="replace")


def build_tokenizer() -> Tokenizer:
    """The same tokenizer for the tokenizers library."""
    spelling = _byte_level_spelling()
    vocabulary = {PAD: PAD_ID, EOS: EOS_ID}
    vocabulary |= {spelling[byte]: index for byte, index in _ID_OF.items()}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in (PAD, EOS)])
    return tokenizer


def save_tokenizer(folder: Path) -> None:
    """Write `tokenizer.json` and `tokenizer_config.json` into `folder`."""
    build_tokenizer().save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "Qwen2Tokenizer",
        "pad_token": PAD,
        "eos_token": EOS,
        "bos_token": None,
        "unk_token": None,
        "add_prefix_space": False,
        "model_max_length": MAX_LENGTH,
        "clean_up_tokenization_spaces": False,
        "padding_side": "left",
        "chat_template": CHAT_TEMPLATE,
    }
    text = json.dumps(settings, indent=2) + "\n"
    (folder / "tokenizer_config.json").write_text(text, encoding="utf-8")


def _byte_level_spelling() -> dict[int, str]:
    """How byte-level BPE files spell a byte: itself if it can be printed, else from U+0100 on.

    Source: the `bytes_to_unicode` table of GPT-2, which every byte-level tokenizer keeps.
    """
    plain = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in plain]
    return {byte: chr(byte) for byte in plain} | {
        byte: chr(0x100 + place) for place, byte in enumerate(others)
    }
