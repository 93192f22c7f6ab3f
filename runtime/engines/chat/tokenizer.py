"""Loader of a model's tokenizer and chat templates, from its folder or the hub.

Texts are encoded whole: what a `tokenizer.json` says of truncation and padding was meant for the batches
that it was saved after, and is switched off. Who has a limit checks it and says so.

Tokens are also given as bytes (`speller`): one may hold half a character, which no text can show.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from .template import DEFAULT, WITH_TOOLS, ChatFormatError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Encode = Callable[[str], Sequence[int]]
Decode = Callable[[Sequence[int]], str]

_TEMPLATE_FILE: Final = "chat_template.jinja"
_MORE_TEMPLATES: Final = "additional_chat_templates"


class TokenizerFiles(NamedTuple):
    """Parts of a chat format, wherever they came from."""

    encode: Encode
    decode: Decode
    """Without special tokens."""
    decode_all: Decode
    """With them."""
    special_texts: tuple[str, ...]
    """All special tokens as texts."""
    spell: Callable[[int], bytes]
    """The bytes of one token; none of a special one."""
    templates: Mapping[str, str]
    """`default`, and where the model has one for tools, `tool_use`."""
    specials: Mapping[str, str]
    """Named special tokens that templates may use: `bos_token`, `eos_token`, …"""
    eos_ids: frozenset[int]
    eos_texts: tuple[str, ...]


def read_tokenizer_files(folder_or_name: str | Path) -> TokenizerFiles:
    """Read a model folder, or a hub name. Raises ChatFormatError."""
    folder = Path(folder_or_name)
    if (folder / "tokenizer.json").is_file():
        return _read_folder(folder)
    return _read_with_transformers(str(folder_or_name))


def _read_folder(folder: Path) -> TokenizerFiles:
    from tokenizers import Tokenizer

    path = folder / "tokenizer.json"
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises nothing narrower
        raise ChatFormatError(f"{path}: not a tokenizer: {error}") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    settings = _read_json(folder / "tokenizer_config.json")
    specials = _special_tokens(settings)
    eos_ids = _stored_eos_ids(folder)
    eos_id = tokenizer.token_to_id(specials.get("eos_token", ""))
    if eos_id is not None:
        eos_ids |= {eos_id}
    return TokenizerFiles(
        encode=lambda text: tokenizer.encode(text, add_special_tokens=False).ids,
        decode=tokenizer.decode,
        decode_all=partial(tokenizer.decode, skip_special_tokens=False),
        special_texts=tuple(
            token.content for token in tokenizer.get_added_tokens_decoder().values() if token.special
        ),
        spell=speller(tokenizer),
        templates=_find_templates(folder, settings),
        specials=specials,
        eos_ids=frozenset(eos_ids),
        eos_texts=tuple(filter(None, (tokenizer.id_to_token(eos) for eos in sorted(eos_ids)))),
    )


def _read_with_transformers(name: str) -> TokenizerFiles:
    from transformers import AutoTokenizer, GenerationConfig

    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
        templates = _named_templates(name, tokenizer.chat_template or tokenizer.get_chat_template())
    except (OSError, ValueError) as error:
        raise ChatFormatError(f"{name}: no tokenizer with a chat template: {error}") from error
    eos_ids = set() if tokenizer.eos_token_id is None else {int(tokenizer.eos_token_id)}
    with contextlib.suppress(OSError):  # without generation_config.json the tokenizer's eos is all there is
        eos_ids |= _as_ids(GenerationConfig.from_pretrained(name).eos_token_id)
    fast = getattr(tokenizer, "backend_tokenizer", None)

    def decode(ids: Sequence[int]) -> str:
        return str(tokenizer.decode(list(ids), skip_special_tokens=True))

    return TokenizerFiles(
        encode=lambda text: tokenizer.encode(text, add_special_tokens=False, truncation=False, padding=False),
        decode=decode,
        decode_all=lambda ids: str(tokenizer.decode(list(ids), skip_special_tokens=False)),
        special_texts=tuple(map(str, tokenizer.all_special_tokens)),
        spell=(lambda token_id: decode([token_id]).encode()) if fast is None else speller(fast),
        templates=templates,
        specials={name: str(token) for name, token in tokenizer.special_tokens_map.items()},
        eos_ids=frozenset(eos_ids),
        eos_texts=tuple(str(tokenizer.convert_ids_to_tokens(eos)) for eos in sorted(eos_ids)),
    )


def _find_templates(folder: Path, settings: Mapping[str, object]) -> dict[str, str]:
    """Those in files of their own win over those in `tokenizer_config.json`."""
    templates = _named_templates(str(folder), settings.get("chat_template") or {})
    more = folder / _MORE_TEMPLATES / f"{WITH_TOOLS}.jinja"
    for name, path in ((DEFAULT, folder / _TEMPLATE_FILE), (WITH_TOOLS, more)):
        if path.is_file():
            templates[name] = path.read_text(encoding="utf-8")
    if DEFAULT not in templates:
        raise ChatFormatError(
            f"{folder}: neither {_TEMPLATE_FILE} nor tokenizer_config.json has a chat template; "
            "use an instruction-tuned model, or add a template"
        )
    return templates


def _named_templates(where: str, stored: Any) -> dict[str, str]:
    """One template, or several by name, in either form that models store them in."""
    if isinstance(stored, str):
        return {DEFAULT: stored}
    if isinstance(stored, list):
        stored = {entry.get("name"): entry.get("template") for entry in stored if isinstance(entry, Mapping)}
    if not isinstance(stored, Mapping):
        raise ChatFormatError(f"{where}: its chat_template is neither a text nor texts by name")
    return {
        name: text for name, text in stored.items() if name in (DEFAULT, WITH_TOOLS) and isinstance(text, str)
    }


def _special_tokens(settings: Mapping[str, object]) -> dict[str, str]:
    """`{"eos_token": "<eos>"}` or `{"eos_token": {"content": "<eos>", …}}`, as texts."""
    specials: dict[str, str] = {}
    for name, token in settings.items():
        text = token.get("content") if isinstance(token, dict) else token
        if name.endswith("_token") and isinstance(text, str):
            specials[name] = text
    return specials


def _stored_eos_ids(folder: Path) -> set[int]:
    """Every id at which this model stops, by `generation_config.json`, else by `config.json`."""
    for name in ("generation_config.json", "config.json"):
        eos_ids = _as_ids(_read_json(folder / name).get("eos_token_id"))
        if eos_ids:
            return eos_ids
    return set()


def _as_ids(value: object) -> set[int]:
    return set(value) if isinstance(value, list) else {value} if isinstance(value, int) else set()


def _read_json(path: Path) -> dict[str, object]:
    if not path.is_file():
        return {}
    try:
        loaded = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ChatFormatError(f"{path}: not valid JSON: {error}") from error
    return loaded if isinstance(loaded, dict) else {}


Spell = Callable[[int], bytes]
"""The bytes of one token in UTF-8; none for a special token."""

_BYTE_TOKEN: Final = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_BLANK: Final = "▁"
"""SentencePiece's mark for a blank."""


def speller(tokenizer: Tokenizer) -> Spell:
    """The bytes of each of a tokenizer's tokens, by the kind of its decoder."""
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
    """The characters that byte-level BPE tokenizers (GPT-2's `bytes_to_unicode`) write the 256 bytes with.

    Those of Latin-1 that can be seen stand for themselves, the others for the characters from 256 on.
    """
    seen = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [value for value in range(256) if value not in seen]
    table = {chr(value): bytes([value]) for value in seen}
    return table | {chr(256 + number): bytes([value]) for number, value in enumerate(others)}
