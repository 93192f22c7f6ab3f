"""What is written under a key: a value, the list of a value's parts, or a mark.

Every item begins with four bytes that say which it is; anything else is somebody else's. A reader's
mark carries random bytes, so that no two are equal. A writer's mark names all the writers that hold
the key; each name ends with the second after which nobody need wait for it any longer. A value too
large for one item lies in parts whose keys carry the random version that its list names: parts of two
writes cannot mix, and a part is never changed.
"""

import secrets
import struct
from collections.abc import Iterable
from typing import NamedTuple

VALUE = b"af1="
PARTS = b"af1+"
WRITER = b"af1w"
READER = b"af1r"
HEAD = len(VALUE)
NAME_BYTES = 12
"""Of a writer."""
OWNER = struct.Struct(f"!{NAME_BYTES}sI")
"""A writer's name, and the second since the epoch after which nobody need wait for it."""
MAX_OWNERS = 16
MAX_MARK = HEAD + OWNER.size * MAX_OWNERS
"""Bytes of the longest mark, longer than a list of parts."""
ITEM_SPARE = 512
"""Of an item's limit, for the key, our head, and what the server keeps with an item."""
PARTS_AT_ONCE = 4
"""Parts that are asked for in one round trip: each has the time of a whole one."""
_LIST = struct.Struct("!4s16sIQ")


class PartList(NamedTuple):
    """Where a large value lies."""

    version: bytes
    parts: int
    size: int

    def pack(self) -> bytes:
        """As an item."""
        return _LIST.pack(PARTS, *self)

    @classmethod
    def parse(cls, item: bytes) -> "PartList | None":
        """None if it is none."""
        if len(item) != _LIST.size or not item.startswith(PARTS):
            return None
        return cls(*_LIST.unpack(item)[1:])

    def keys(self, prefix: bytes) -> list[bytes]:
        """Of the parts, in order."""
        return [b"%b:!%b.%d" % (prefix, self.version.hex().encode(), part) for part in range(self.parts)]


def split(value: bytes, part_bytes: int) -> tuple[PartList, list[bytes]]:
    """A new version of parts, and what lies in each."""
    parts = [VALUE + value[at : at + part_bytes] for at in range(0, len(value), part_bytes)]
    return PartList(secrets.token_bytes(16), len(parts), len(value)), parts


def reader_mark() -> bytes:
    """A mark like no other."""
    return READER + secrets.token_bytes(16)


def writer_mark(owners: Iterable[bytes]) -> bytes:
    """The mark of these writers."""
    return WRITER + b"".join(owners)


def owners_in(item: bytes) -> list[bytes]:
    """The writers that a writer's mark names; none if it is something else."""
    if not item.startswith(WRITER):
        return []
    return [item[at : at + OWNER.size] for at in range(HEAD, len(item), OWNER.size)]
