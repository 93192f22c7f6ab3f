"""Values of any size as items, and back."""

from collections.abc import Iterator, Sequence
from typing import TypeVar

from ...configs.data import CacheSettings
from .items import HEAD, ITEM_SPARE, MAX_MARK, PARTS_AT_ONCE, VALUE, PartList, split
from .servers import Server, Slot

T = TypeVar("T")
_AT_ONCE = 128
"""Keys in one round trip."""


class Values:
    """Cuts what is too large for one item, and puts it together again. Parts lie at their list's home."""

    def __init__(self, settings: CacheSettings) -> None:
        self._prefix = settings.key_prefix.encode()
        self._ttl_s = settings.default_ttl
        self._part_bytes = settings.item_limit - ITEM_SPARE
        self._max_bytes = settings.max_value_size if settings.oversize == "split" else self._part_bytes
        self._max_bytes = min(self._max_bytes, settings.max_value_size)

    def cacheable(self, value: bytes) -> bool:
        """Whether a value of this size is cached at all."""
        return len(value) <= self._max_bytes

    async def pack(self, slot: Slot, value: bytes) -> bytes:
        """The item that stands for the value; its parts, if it has any, are there already.

        Raises CacheUnavailable.
        """
        if len(value) <= self._part_bytes:
            return VALUE + value
        listed, parts = split(value, self._part_bytes)
        for key, part in zip(listed.keys(self._prefix), parts, strict=True):
            await slot.server.backend.set(key, part, self._ttl_s)
        return listed.pack()

    async def join(self, slot: Slot, item: bytes) -> bytes | None:
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
            found = await slot.server.backend.get_many(keys)
            if len(found) < len(keys):
                return None
            parts += (found[key][HEAD:] for key in keys)
        value = b"".join(parts)
        return value if len(value) == listed.size else None

    async def sizes(self, server: Server, keys: Sequence[bytes]) -> dict[bytes, int]:
        """Bytes of the values that are there, whole. Only items that may be marks are read.

        Raises CacheUnavailable.
        """
        sizes: dict[bytes, int] = {}
        for some in batches(keys, _AT_ONCE):
            lengths = await server.backend.lengths(some)
            unclear = [key for key, length in lengths.items() if length <= MAX_MARK]
            items = await server.backend.get_many(unclear) if unclear else {}
            sizes |= {key: length - HEAD for key, length in lengths.items() if key not in unclear}
            for key, item in items.items():
                if item.startswith(VALUE):
                    sizes[key] = len(item) - HEAD
                elif (listed := PartList.parse(item)) and await self._whole(server, listed):
                    sizes[key] = listed.size
        return sizes

    async def _whole(self, server: Server, listed: PartList) -> bool:
        return len(await server.backend.lengths(listed.keys(self._prefix))) == listed.parts


def batches(things: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Runs of at most `size`."""
    return (things[at : at + size] for at in range(0, len(things), size))
