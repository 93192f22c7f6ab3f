"""The bridge's cache as a backend, for processes without one of their own."""

import asyncio
from collections.abc import Awaitable, Mapping, Sequence

from ..cache.base import CacheUnavailable, CasValue, ItemRefused
from ..errors import BridgeError
from ..wire import CacheReply, CacheRequest
from .client import BridgeClient


class RemoteCache:
    """A CacheBackend over a client. Does not own it: `aclose` leaves it open."""

    name = "bridge"

    def __init__(self, client: BridgeClient) -> None:
        self._client = client

    async def get(self, key: bytes) -> bytes | None:
        """The value, or None."""
        return (await self._found(CacheRequest(word="get", keys=(_text(key),))))[0]

    async def get_many(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """Those that are there, in one round trip."""
        if not keys:
            return {}
        values = await self._found(CacheRequest(word="get_many", keys=tuple(map(_text, keys))))
        return {key: value for key, value in zip(keys, values, strict=True) if value is not None}

    async def lengths(self, keys: Sequence[bytes]) -> dict[bytes, int]:
        """Bytes of those that are there, in one round trip that does not carry them."""
        if not keys:
            return {}
        answer, _ = await self._ask(CacheRequest(word="lengths", keys=tuple(map(_text, keys))))
        return {key: size for key, size in zip(keys, answer.sizes, strict=True) if size >= 0}

    async def gets(self, key: bytes) -> CasValue | None:
        """The value and its token, or None."""
        answer, body = await self._ask(CacheRequest(word="gets", keys=(_text(key),)))
        return None if answer.sizes[0] < 0 else CasValue(body, answer.token)

    async def gets_many(self, keys: Sequence[bytes]) -> dict[bytes, CasValue]:
        """Those that are there, with their tokens."""
        wanted = tuple(dict.fromkeys(keys))
        found = await asyncio.gather(*(self.gets(key) for key in wanted))
        return {key: held for key, held in zip(wanted, found, strict=True) if held is not None}

    async def set(self, key: bytes, value: bytes, ttl_s: int) -> None:
        """Whatever was there before."""
        await self._ask(CacheRequest(word="set", keys=(_text(key),), ttl_s=ttl_s), value)

    async def add(self, key: bytes, value: bytes, ttl_s: int) -> bool:
        """Only if nothing is there; whether it was stored."""
        words = CacheRequest(word="add", keys=(_text(key),), ttl_s=ttl_s)
        return (await self._ask(words, value))[0].stored

    async def add_many(self, items: Mapping[bytes, bytes], ttl_s: int) -> frozenset[bytes]:
        """`add` for each; the keys that were stored."""
        return await _stored_keys({key: self.add(key, value, ttl_s) for key, value in items.items()})

    async def compare_and_set(self, key: bytes, value: bytes, token: int, ttl_s: int) -> bool:
        """Only if nobody has changed it since `gets`; whether it was stored."""
        words = CacheRequest(word="compare_and_set", keys=(_text(key),), token=token, ttl_s=ttl_s)
        return (await self._ask(words, value))[0].stored

    async def compare_and_set_many(self, items: Mapping[bytes, CasValue], ttl_s: int) -> frozenset[bytes]:
        """`compare_and_set` for each; the keys that were stored."""
        return await _stored_keys(
            {key: self.compare_and_set(key, value, token, ttl_s) for key, (value, token) in items.items()}
        )

    async def delete(self, key: bytes) -> None:
        """Forget it, if it is there."""
        await self._ask(CacheRequest(word="delete", keys=(_text(key),)))

    async def flush(self) -> None:
        """Forget everything."""
        await self._ask(CacheRequest(word="flush"))

    async def aclose(self) -> None:
        """No-op: the client belongs to its owner."""

    async def _found(self, words: CacheRequest) -> list[bytes | None]:
        answer, body = await self._ask(words)
        values: list[bytes | None] = []
        begin = 0
        for size in answer.sizes:
            values.append(None if size < 0 else body[begin : begin + size])
            begin += max(size, 0)
        return values

    async def _ask(self, words: CacheRequest, value: bytes = b"") -> tuple[CacheReply, bytes]:
        try:
            answer, body = await self._client.cache(words, value)
        except BridgeError as error:
            raise CacheUnavailable(str(error)) from error
        if answer.refused:
            raise ItemRefused(answer.refused)
        return answer, body


async def _stored_keys(asked: Mapping[bytes, Awaitable[bool]]) -> frozenset[bytes]:
    """Requests that are made at once go to the bridge together. Raises CacheUnavailable."""
    outcomes = await asyncio.gather(*asked.values(), return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, BaseException) and not isinstance(outcome, ItemRefused):
            raise outcome
    return frozenset(key for key, outcome in zip(asked, outcomes, strict=True) if outcome is True)


def _text(key: bytes) -> str:
    return key.decode("ascii")
