"""Encoding of cache keys and items: a value, the list of a value's parts, or a lease.

Keys are `prefix:tag:blob`. Tag and blob are percent-encoded, the colon included, so that a key has one
reading only, and holds nothing that memcached forbids. One that would be longer than 250 bytes is
`prefix:#` and the SHA-256 of itself. `#`, `!` (parts) and `@` (the index) never begin an encoded name.

Every item begins with four bytes that say which it is; anything else is somebody else's. A fill lease (of
a reader) carries random bytes, so that no two are equal. A write lease names all the writers that hold
the key; each name ends with the second after which nobody need wait for it any longer. A value too
large for one item lies in parts whose keys carry the random version that its list names: parts of two
writes cannot mix, and a part is never changed.
"""

import secrets
import struct
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from typing import NamedTuple, TypeVar
from urllib.parse import quote

from ...configs.data import CacheSettings
from .base import CacheUnavailable
from .servers import CacheServer, KeyRoute

VALUE = b"af1="
PARTS = b"af1+"
WRITE_LEASE = b"af1w"
FILL_LEASE = b"af1r"
HEAD = len(VALUE)
HOLDER_ID_BYTES = 12
"""Of a writer."""
LEASE_HOLDER = struct.Struct(f"!{HOLDER_ID_BYTES}sI")
"""A writer's name, and the second since the epoch after which nobody need wait for it."""
MAX_HOLDERS = 16
MAX_LEASE_BYTES = HEAD + LEASE_HOLDER.size * MAX_HOLDERS
"""Bytes of the longest lease, longer than a list of parts."""
ITEM_SPARE = 512
"""Of an item's limit, for the key, our head, and what the server keeps with an item."""
PARTS_AT_ONCE = 4
"""Parts that are asked for in one round trip: each has the time of a whole one."""
_LIST = struct.Struct("!4s16sIQ")


class PartList(NamedTuple):
    """Manifest of a value that was split into parts."""

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


def split_value(value: bytes, part_bytes: int) -> tuple[PartList, list[bytes]]:
    """A new version of parts, and what lies in each."""
    parts = [VALUE + value[at : at + part_bytes] for at in range(0, len(value), part_bytes)]
    return PartList(secrets.token_bytes(16), len(parts), len(value)), parts


def fill_lease() -> bytes:
    """A new fill lease, unlike any other."""
    return FILL_LEASE + secrets.token_bytes(16)


def write_lease(owners: Iterable[bytes]) -> bytes:
    """The write lease of these writers."""
    return WRITE_LEASE + b"".join(owners)


def lease_holders(item: bytes) -> list[bytes]:
    """The writers that a write lease names; none if it is something else."""
    if not item.startswith(WRITE_LEASE):
        return []
    return [item[at : at + LEASE_HOLDER.size] for at in range(HEAD, len(item), LEASE_HOLDER.size)]


MAX_KEY_BYTES = 250
UNESCAPED = "/"
"""Kept as it is, beside letters, digits and `_.-~`."""


def cache_key(prefix: str, tag: str, name: str) -> bytes:
    """The key of a blob."""
    key = f"{prefix}:{_encoded(tag)}:{_encoded(name)}".encode("ascii")
    if len(key) <= MAX_KEY_BYTES:
        return key
    return f"{prefix}:#{sha256(key).hexdigest()}".encode("ascii")


def _encoded(text: str) -> str:
    return quote(text, safe=UNESCAPED, errors="surrogatepass")


T = TypeVar("T")
_KEYS_PER_TRIP = 128
"""Keys in one round trip."""


class ValueCodec:
    """Splits values that are too large for one item, and joins them. Parts lie at their list's home."""

    def __init__(self, settings: CacheSettings) -> None:
        self._prefix = settings.key_prefix.encode()
        self._ttl_s = settings.default_ttl
        self._part_bytes = settings.item_limit - ITEM_SPARE
        self._max_bytes = settings.max_value_size if settings.oversize == "split" else self._part_bytes
        self._max_bytes = min(self._max_bytes, settings.max_value_size)

    def cacheable(self, value: bytes) -> bool:
        """Return whether a value of this size is cached at all."""
        return len(value) <= self._max_bytes

    async def pack(self, route: KeyRoute, value: bytes) -> bytes:
        """The item that stands for the value; its parts, if it has any, are there already.

        Raises CacheUnavailable.
        """
        if len(value) <= self._part_bytes:
            return VALUE + value
        listed, parts = split_value(value, self._part_bytes)
        for key, part in zip(listed.keys(self._prefix), parts, strict=True):
            await route.server.backend.set(key, part, self._ttl_s)
        return listed.pack()

    async def try_pack(self, route: KeyRoute, value: bytes | None) -> bytes | None:
        """The item for a value; None if there is none, it is too large, or its parts found no room."""
        if value is None or not self.cacheable(value):
            return None
        try:
            return await self.pack(route, value)
        except CacheUnavailable as error:
            route.server.failed(error)
            return None

    async def join(self, route: KeyRoute, item: bytes) -> bytes | None:
        """The value that an item stands for; None if it stands for none, or a part is missing.

        Raises CacheUnavailable.
        """
        if item.startswith(VALUE):
            return item[HEAD:]
        listed = PartList.parse(item)
        if listed is None:
            return None
        parts: list[bytes] = []
        for keys in batches(listed.keys(self._prefix), PARTS_AT_ONCE):
            found = await route.server.backend.get_many(keys)
            if len(found) < len(keys):
                return None
            parts += (found[key][HEAD:] for key in keys)
        value = b"".join(parts)
        return value if len(value) == listed.size else None

    async def sizes(self, server: CacheServer, keys: Sequence[bytes]) -> dict[bytes, int]:
        """Bytes of the values that are there, whole. Only items that may be leases are read.

        Raises CacheUnavailable.
        """
        sizes: dict[bytes, int] = {}
        for some in batches(keys, _KEYS_PER_TRIP):
            lengths = await server.backend.lengths(some)
            unclear = [key for key, length in lengths.items() if length <= MAX_LEASE_BYTES]
            items = await server.backend.get_many(unclear) if unclear else {}
            sizes |= {key: length - HEAD for key, length in lengths.items() if key not in unclear}
            for key, item in items.items():
                if item.startswith(VALUE):
                    sizes[key] = len(item) - HEAD
                elif (listed := PartList.parse(item)) and await self._whole(server, listed):
                    sizes[key] = listed.size
        return sizes

    async def _whole(self, server: CacheServer, listed: PartList) -> bool:
        return len(await server.backend.lengths(listed.keys(self._prefix))) == listed.parts


def batches(things: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Runs of at most `size`."""
    return (things[at : at + size] for at in range(0, len(things), size))
