"""References in values: `${pipeline.src}`, `${ingest.tag}`. `$${` stands for a plain `${`."""

import re
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from ...messages.data import Param
from ..errors import BadInput

_PLACE: Final = re.compile(r"\$\$\{|\$\{(?P<inner>[^{}]*)\}|(?P<open>\$\{)")
_INNER: Final = re.compile(r"\s*(?P<owner>[A-Za-z_][\w-]*)\.(?P<key>[A-Za-z_]\w*)\s*")


class BadReference(BadInput):
    """A `${…}` that cannot be read, or names nothing that there is."""


class Reference(NamedTuple):
    """Target of a `${…}`."""

    owner: str
    """A step, or `pipeline`."""
    key: str

    def __str__(self) -> str:
        return f"${{{self.owner}.{self.key}}}"


def references_of(value: Param) -> list[Reference]:
    """All references of a value. Raises BadReference."""
    texts = (value,) if isinstance(value, str) else value if isinstance(value, tuple) else ()
    return [reference for text in texts for reference in _references_in(text)]


def substitute(value: Param, value_of: Callable[[Reference], Param]) -> Param:
    """The value with its references replaced; a list inside a list becomes part of it.

    Raises BadReference, and what `value_of` raises.
    """
    if isinstance(value, str):
        return _substitute_in(value, value_of)
    if not isinstance(value, tuple):
        return value
    items: list[str] = []
    for text in value:
        item = _substitute_in(text, value_of)
        items += item if isinstance(item, tuple) else (_in_words(item),)
    return tuple(items)


def _references_in(text: str) -> Iterator[Reference]:
    for found in _PLACE.finditer(text):
        reference = _read(found)
        if reference is not None:
            yield reference


def _substitute_in(text: str, value_of: Callable[[Reference], Param]) -> Param:
    """A text that is one reference and nothing else becomes the value itself, of whatever type it is."""
    whole = _PLACE.fullmatch(text)
    reference = _read(whole) if whole else None
    if reference is not None:
        return value_of(reference)

    def replace(found: re.Match[str]) -> str:
        inner = _read(found)
        return "${" if inner is None else _in_words(value_of(inner))

    return _PLACE.sub(replace, text)


def _in_words(value: Param) -> str:
    """A value inside a text."""
    if isinstance(value, bool):
        return str(value).lower()
    return ", ".join(value) if isinstance(value, tuple) else str(value)


def _read(found: re.Match[str]) -> Reference | None:
    """The reference at a place; None for an escaped one."""
    if found["open"] is not None:
        raise BadReference(f"{found.string!r}: a ${{ without its }}; write $${{ for a plain one")
    if found["inner"] is None:
        return None
    inner = _INNER.fullmatch(found["inner"])
    if inner is None:
        raise BadReference(f"{found[0]}: expected ${{pipeline.VARIABLE}} or ${{STEP.OUTPUT}}")
    return Reference(inner["owner"], inner["key"])
