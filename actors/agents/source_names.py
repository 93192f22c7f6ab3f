"""Sources in a command to load: words with a scheme, paths, and what only describes them."""

import re
from collections.abc import Sequence
from typing import Final

from .base import NotUnderstood
from .command_parser import ARTICLES, Operands, Part, only_fillers
from .words import Word, in_groups, joined

_PATH: Final = re.compile(r"[.~]?.*/.*|\.{1,2}|.*[\w)\]-]\.[A-Za-z0-9]{1,8}")


def sources_of(operands: Operands) -> tuple[str, ...]:
    """The URIs that a command names, in order. Raises NotUnderstood.

    Where one has a scheme, words without one that do not look like a path only describe it.
    """
    operands.allow("bare", "place", "origin", "tag", "blob", "source")
    if operands.words("origin") and (bare := [word for word in operands.words("bare") if _is_path(word)]):
        raise NotUnderstood(
            f"{operands.verb}: what is {joined(bare)!r}? Say where it is in full, as file::PATH"
        )
    told = any(_has_scheme(word) for part in operands.parts for word in part.words if part.slot != "tag")
    told = told or any(part.slot in ("origin", "source", "blob") for part in operands.parts)
    return tuple(
        uri
        for part in operands.parts
        if part.slot != "tag"
        for group in in_groups(part.words)
        for uri in _uris(operands, part, group, told=told)
    )


def tag_of_load(operands: Operands) -> str:
    """The tag that a command to load names; empty if it names none. Raises NotUnderstood."""
    places = tuple(
        part
        for part in operands.parts
        if part.slot == "tag" or (part.slot == "place" and not any(map(_has_scheme, part.words)))
    )
    return operands.with_parts(places).one("tag", "place", "tag")


def _uris(operands: Operands, part: Part, group: list[Word], *, told: bool) -> list[str]:
    begins = [at for at, word in enumerate(group) if _has_scheme(word)]
    if begins:
        _check_description(group[: begins[0]])
        ends = [*begins[1:], len(group)]
        return [operands.name_in(group[begin:end]) for begin, end in zip(begins, ends, strict=True)]
    if part.slot == "place" or only_fillers(group):
        return []
    if part.slot == "bare" and told and not any(map(_is_path, group)):
        return []  # a description, such as "the new markdown files from"
    named = [word for word in group if not word.among(ARTICLES)]
    if len(named) > 1 and not any(map(_is_path, named)):
        raise NotUnderstood(f"{operands.verb} which {joined(named)}? Say where it is, as file::PATH")
    name = operands.name_in(group)
    if "://" in name:
        raise NotUnderstood(f"{operands.verb}: {name!r} is no source; say a scheme, as file::PATH")
    return [_with_scheme(name)] if name else []


def _check_description(words: Sequence[Word]) -> None:
    """What stands before a source may describe it, and is no source itself. Raises NotUnderstood."""
    for word in words:
        if _is_path(word):
            raise NotUnderstood(f"what is {word.text!r}? Sources are parted by commas, or by `and`")


def _has_scheme(word: Word) -> bool:
    return "::" in word.text


def _is_path(word: Word) -> bool:
    return word.quoted or bool(_PATH.fullmatch(word.text))


def _with_scheme(name: str) -> str:
    """A URI. A path without a scheme is a file if it has a suffix, else a folder."""
    last = name.rstrip("/").rpartition("/")[2]
    return f"file::{name}" if "." in last.strip(".") and not name.endswith("/") else f"folder::{name}"
