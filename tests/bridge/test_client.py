"""The client against a real server on a real socket."""

import hashlib
import os
from collections.abc import AsyncIterator

import pytest

from messages.blobs import BlobMeta
from tests.bridge.serving import connected

BIG = os.urandom(3_000_000)


async def pieces(*values: bytes) -> AsyncIterator[bytes]:
    for value in values:
        yield value


@pytest.mark.parametrize("size", [0, 1, 1024, 65_536, 65_537, 131_072, 3_000_000])
async def test_what_is_put_is_what_is_got(size: int) -> None:
    async with connected() as (client, _):
        info = await client.put("docs", "a", BIG[:size], BlobMeta(content_type="text/plain"))
        assert (info.size, info.sha256) == (size, hashlib.sha256(BIG[:size]).hexdigest())
        assert await client.get("docs", "a") == BIG[:size]
        assert await client.stat("docs", "a") == info
        assert info.meta.content_type == "text/plain"


@pytest.mark.parametrize("steps", [1000, 65_536, 200_001, 2_999_999])
async def test_what_an_iterator_yields_is_stored(steps: int) -> None:
    parts = [BIG[begin : begin + steps] for begin in range(0, len(BIG), steps)]
    async with connected() as (client, _):
        await client.put("docs", "a", pieces(*parts))
        await client.put("docs", "b", pieces(b"x", b"y"))
        assert await client.get("docs", "a") == BIG
        assert await client.get("docs", "b") == b"xy"
