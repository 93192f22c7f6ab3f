"""The cache backend protocol: memcached's own commands, for one key and for many.

The rules that keep stale bytes out are built on these (see `bridge.cache`), so a backend needs
no cleverness: only that `add` and `compare_and_set` are atomic, as memcached's are.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol


class CasValue(NamedTuple):
    """A value with the token that `compare_and_set` wants."""

    value: bytes
    token: int


class CacheUnavailable(Exception):
    """The server is down, slow or wrong. For the tier's own use: a read never fails of it."""


class ItemRefused(CacheUnavailable):
    """The server is well, but does not take this item: it is too large, or there is no memory for it."""


class CacheBackend(Protocol):
    """One cache server. Keys are at most 250 printable ASCII bytes. Raises CacheUnavailable."""

    name: str

    async def get(self, key: bytes) -> bytes | None:
        """The value, or None."""

    async def get_many(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """Those that are there, in one round trip."""

    async def lengths(self, keys: Sequence[bytes]) -> dict[bytes, int]:
        """Bytes of those that are there, in one round trip that does not carry them."""

    async def gets(self, key: bytes) -> CasValue | None:
        """The value and its token, or None."""

    async def gets_many(self, keys: Sequence[bytes]) -> dict[bytes, CasValue]:
        """Those that are there, with their tokens, in one round trip."""

    async def set(self, key: bytes, value: bytes, ttl_s: int) -> None:
        """Whatever was there before."""

    async def add(self, key: bytes, value: bytes, ttl_s: int) -> bool:
        """Only if nothing is there; whether it was stored."""

    async def add_many(self, items: Mapping[bytes, bytes], ttl_s: int) -> frozenset[bytes]:
        """`add` for each, sent together; the keys that were stored. One that is refused is not."""

    async def compare_and_set(self, key: bytes, value: bytes, token: int, ttl_s: int) -> bool:
        """Only if nobody has changed it since `gets`; whether it was stored."""

    async def compare_and_set_many(self, items: Mapping[bytes, CasValue], ttl_s: int) -> frozenset[bytes]:
        """The same for new values with the tokens that they want, sent together; the keys that were stored.

        One that is refused is not.
        """

    async def delete(self, key: bytes) -> None:
        """Forget it, if it is there."""

    async def flush(self) -> None:
        """Forget everything."""

    async def aclose(self) -> None:
        """Close the connection."""
