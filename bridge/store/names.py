"""Names as keys: which tags and names are taken, in what order they are listed, and how patterns find them.

A key is the tag and the name in UTF-8, each ended by a zero byte (a zero byte inside is written as
`00 FF`), so keys sort as (tag, name) do by code point. LMDB keys end at 511 bytes: a longer key is
cut to its first `HEAD` bytes and ends with its SHA-256. So the listing is ordered by tag, then name;
only those that agree in the first 479 bytes of it stand among themselves in an order of their own.

Invariants:
  - different (tag, name) have different keys: short keys have at most 510 bytes, cut ones 511;
  - a key begins with the first `HEAD` bytes of what it stands for, so a prefix can be sought.
"""

import base64
import binascii
import fnmatch
import hashlib
import re
from collections.abc import Iterator
from typing import Final

from ...configs.errors import BadInput
from ..errors import BadName
from .base import MAX_NAME_BYTES

HEAD: Final = 479
_WHOLE: Final = 510
_SHOWN: Final = 60


def check_name(what: str, text: str) -> None:
    """Refuse a tag, a name or the like that is empty, too long or not text. Raises BadName."""
    _encoded(what, text)


def blob_key(tag: str, name: str) -> bytes:
    """The key of a blob. Raises BadName."""
    whole = _part(_encoded("tag", tag)) + b"\0" + _part(_encoded("name", name)) + b"\0"
    return whole if len(whole) <= _WHOLE else whole[:HEAD] + hashlib.sha256(whole).digest()


def tag_prefix(tag: str) -> bytes:
    """Key prefix of all blobs under a tag; with a long tag others may share it."""
    return (_part(_encoded("tag", tag)) + b"\0")[:HEAD]


def names_in(key: bytes) -> tuple[str, str] | None:
    """The tag and name that a key stands for; None if it was cut."""
    if len(key) > _WHOLE:
        return None
    # 00 never stands before FF unless it is an escaped zero: no name holds the byte FF.
    tag, name = re.split(b"\0(?!\xff)", key)[:2]
    return tag.replace(b"\0\xff", b"\0").decode(), name.replace(b"\0\xff", b"\0").decode()


class NamePattern:
    """Glob patterns for a tag and a name: `*`, `?`, `[abc]`, `[!abc]`; case matters.

    Tags that begin with a dot are hidden, as files are: only a pattern that begins so matches them.
    """

    def __init__(self, tag: str, name: str) -> None:
        for what, text in (("tag pattern", tag), ("name pattern", name)):
            if text:
                _encoded(what, text)
        self._tag = re.compile(fnmatch.translate(tag)).match
        self._name = re.compile(fnmatch.translate(name)).match
        tag_head, tag_whole = _literal(tag)
        self._hidden = tag_head.startswith(".")
        head = _part(tag_head.encode())
        if tag_whole:
            head += b"\0" + _part(_literal(name)[0].encode())
        self.prefix: Final = head[:HEAD]
        """What every key that can match begins with."""

    def matches(self, tag: str, name: str) -> bool:
        """Return whether both match."""
        return bool(self._tag(tag) and self._name(name)) and (self._hidden or not tag.startswith("."))


def write_cursor(key: bytes) -> str:
    """A key as the opaque `after` of a listing."""
    return base64.urlsafe_b64encode(key).decode()


def read_cursor(after: str) -> bytes:
    """The key of a cursor. Raises BadInput."""
    try:
        key = base64.b64decode(after.encode("ascii"), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadInput("after: give what the last page said was `next`, or nothing to begin") from error
    if not key or len(key) > _WHOLE + 1:
        raise BadInput("after: give what the last page said was `next`, or nothing to begin")
    return key


def _encoded(what: str, text: str) -> bytes:
    if not text:
        raise BadName(f"{what}: is empty; it needs at least one character")
    try:
        data = text.encode()
    except UnicodeEncodeError as error:
        raise BadName(f"{what}: {text[:_SHOWN]!r} holds half of a surrogate pair, not a character") from error
    if len(data) > MAX_NAME_BYTES:
        raise BadName(
            f"{what}: {text[:_SHOWN]!r}… has {len(data)} bytes in UTF-8; at most {MAX_NAME_BYTES} are taken"
        )
    return data


def _part(data: bytes) -> bytes:
    return data.replace(b"\0", b"\0\xff")


def _literal(pattern: str) -> tuple[str, bool]:
    """The plain characters that a pattern begins with, and whether that is all of it."""
    plain: list[str] = []
    for piece, is_plain in _pieces(pattern):
        if not is_plain:
            return "".join(plain), False
        plain.append(piece)
    return "".join(plain), True


def _pieces(pattern: str) -> Iterator[tuple[str, bool]]:
    at = 0
    while at < len(pattern):
        if pattern[at] == "[" and pattern[at + 2 : at + 3] == "]" and pattern[at + 1] not in "!]":
            yield pattern[at + 1], True
            at += 3
        else:
            yield pattern[at], pattern[at] not in "*?["
            at += 1
