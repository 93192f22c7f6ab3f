"""Cache commands over the wire, for processes that have no cache of their own."""

from collections.abc import Sequence

from ..cache.base import CacheBackend, CacheUnavailable, ItemRefused
from ..frames import BadFrames
from ..wire import CacheReply, CacheRequest
from .sessions import PendingReply


async def reply_from_cache(
    cache: CacheBackend, reply: PendingReply, asked: CacheRequest, value: bytes
) -> None:
    """Run a cache command, and answer."""
    try:
        answer, found = await _ask(cache, asked, value)
    except ItemRefused as error:
        reply.answer_raw(CacheReply(refused=str(error) or "refused").model_dump_json().encode(), b"")
    except (CacheUnavailable, BadFrames) as error:
        reply.fail(error)
    except Exception as error:  # the client is owed an answer whatever the cache does
        reply.fail(CacheUnavailable(f"{type(error).__name__}: {error}"))
    else:
        reply.answer_raw(answer.model_dump_json().encode(), b"".join(v for v in found if v is not None))


async def _ask(
    cache: CacheBackend, asked: CacheRequest, value: bytes
) -> tuple[CacheReply, Sequence[bytes | None]]:
    keys = [_key(key) for key in asked.keys]
    if asked.word in ("get_many", "lengths", "flush"):
        return await _ask_of_many(cache, asked, keys)
    if len(keys) != 1:
        raise BadFrames(f"{asked.word} takes one key, not {len(keys)}")
    return await _ask_of_one(cache, asked, keys[0], value)


async def _ask_of_many(
    cache: CacheBackend, asked: CacheRequest, keys: list[bytes]
) -> tuple[CacheReply, Sequence[bytes | None]]:
    match asked.word:
        case "get_many":
            values = await cache.get_many(keys)
            return _found([values.get(key) for key in keys])
        case "lengths":
            lengths = await cache.lengths(keys)
            return CacheReply(sizes=tuple(lengths.get(key, -1) for key in keys)), ()
        case _:
            await cache.flush()
            return CacheReply(), ()


async def _ask_of_one(
    cache: CacheBackend, asked: CacheRequest, key: bytes, value: bytes
) -> tuple[CacheReply, Sequence[bytes | None]]:
    match asked.word:
        case "get":
            return _found([await cache.get(key)])
        case "gets":
            held = await cache.gets(key)
            return _found([None], 0) if held is None else _found([held.value], held.token)
        case "set":
            await cache.set(key, value, asked.ttl_s)
            return CacheReply(stored=True), ()
        case "add":
            return CacheReply(stored=await cache.add(key, value, asked.ttl_s)), ()
        case "compare_and_set":
            stored = await cache.compare_and_set(key, value, asked.token, asked.ttl_s)
            return CacheReply(stored=stored), ()
        case _:
            await cache.delete(key)
            return CacheReply(), ()


def _found(values: Sequence[bytes | None], token: int = 0) -> tuple[CacheReply, Sequence[bytes | None]]:
    sizes = tuple(-1 if value is None else len(value) for value in values)
    return CacheReply(sizes=sizes, token=token), values


def _key(key: str) -> bytes:
    if not 1 <= len(key) <= 250 or not all("!" <= char <= "~" for char in key):
        raise BadFrames("a cache key is 1 to 250 printable ASCII characters")
    return key.encode("ascii")
