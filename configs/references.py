"""References in values: `${pipeline.src}`, `${ingest.tag}`. `$${` stands for a plain `${`."""

import re
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple, TypeVar

from configs.errors import BadInput

_PLACE: Final = re.compile(r"\$\$\{|\$\{(?P<inner>[^{}]*)\}|(?P<open>\$\{)")
_INNER: Final = re.compile(r"\s*(?P<owner>[A-Za-z_][\w-]*)\.(?P<key>[A-Za-z_]\w*)\s*")
V = TypeVar("V")


class BadReference(BadInput):
    """A `${…}` that cannot be read, or names nothing that there is."""


class Reference(NamedTuple):
    """What a `${…}` names."""

    owner: str
    """A step, or `pipeline`."""
    key: str

    def __str__(self) -> str:
        return f"${{{self.owner}.{self.key}}}"


def references_in(text: str) -> Iterator[Reference]:
    """All of a text, in order. Raises BadReference."""
    for found in _PLACE.finditer(text):
        reference = _read(found)
        if reference is not None:
            yield reference


def fill(text: str, value_of: Callable[[Reference], V], in_words: Callable[[V], str]) -> V | str:
    """The text with its references replaced.

    A text that is one reference and nothing else becomes the value itself, of whatever type it is.
    Raises BadReference, and what `value_of` and `in_words` raise.
    """
    whole = _PLACE.fullmatch(text)
    reference = _read(whole) if whole else None
    if reference is not None:
        return value_of(reference)

    def replace(found: re.Match[str]) -> str:
        inner = _read(found)
        return "${" if inner is None else in_words(value_of(inner))

    return _PLACE.sub(replace, text)


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
