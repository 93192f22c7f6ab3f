"""What the cache tier costs over raw aiomcache, and how well it keeps what is read often.

Each pair is measured in turn, several times, against the same memcached on the loopback; a figure is the
median of the ratios. Raw aiomcache is what a careful user would write: one client, as many connections
as ours has, plain gets.

    python -m benchmarks.data_plane.cache
"""

import asyncio
import itertools
import os
import random
import socket
import subprocess
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple

import aiomcache

from agentfactory.bridge.cache.base import CacheBackend
from agentfactory.bridge.cache.embedded import ITEM_OVERHEAD, EmbeddedCache
from agentfactory.bridge.cache.items import cache_key
from agentfactory.bridge.cache.memcached import CONNECTIONS, MemcachedBackend
from agentfactory.bridge.cache.tier import CacheTier
from agentfactory.configs.data import CacheSettings
from benchmarks.figures import Figures, median

ROUNDS = 25
"""Short ones in turn: what else the machine does meets both sides."""
GETS = 1000
BLOBS = 1024
VALUE = b"v" * 1024
BATCH = 64
START_S = 10.0
TIMEOUT_S = 5.0
TRACE = 60_000
ZIPF = 1.0
SPACE = 4
"""Key space over cache size."""
MEMCACHED_MB = 4
TAG = "bench"

Get = Callable[[int], Awaitable[object]]


class HitRate(NamedTuple):
    """Of one trace."""

    ours: float
    ideal: float
    """Of a least-recently-used cache that holds as many items, exactly."""


@asynccontextmanager
async def memcached(memory_mb: int) -> AsyncIterator[int]:
    """One of our own, on a free port."""
    port, process = start_memcached(memory_mb)
    try:
        async with asyncio.timeout(START_S):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                except OSError:
                    await asyncio.sleep(0.02)
                else:
                    writer.close()
                    break
        yield port
    finally:
        process.kill()
        process.wait()


def start_memcached(memory_mb: int) -> tuple[int, "subprocess.Popen[bytes]"]:
    """Its port, and the process."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    user = ["-u", "nobody"] if os.geteuid() == 0 else []
    options = ["-l", "127.0.0.1", "-p", str(port), "-m", str(memory_mb), "-t", "1"]
    return port, subprocess.Popen(["memcached", *user, *options], start_new_session=True)


async def seconds(get: Get, tasks: int, count: int) -> float:
    """How long so many gets take, from tasks each of which waits for one before the next."""

    async def ask(first: int) -> None:
        for number in range(first, count, tasks):
            await get(number % BLOBS)

    begin = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for first in range(tasks):
            group.create_task(ask(first))
    return time.perf_counter() - begin


async def gets_vs_raw(port: int, tasks: int) -> float:
    """The rate of `CacheTier.get` of 1 KB over that of raw aiomcache, both from so many tasks."""
    raw = aiomcache.Client("127.0.0.1", port, pool_size=CONNECTIONS)
    tier = CacheTier(CacheSettings(), [MemcachedBackend("127.0.0.1", port, TIMEOUT_S)])
    await filled(tier)
    keys = [cache_key("iowarp", TAG, str(number)) for number in range(BLOBS)]

    async def ours(number: int) -> None:
        assert await tier.get(TAG, names[number]) == VALUE

    async def theirs(number: int) -> None:
        assert len(await raw.get(keys[number])) == len(VALUE) + 4

    names = [str(number) for number in range(BLOBS)]
    await seconds(ours, tasks, GETS)
    await seconds(theirs, tasks, GETS)
    pairs = [(await seconds(ours, tasks, GETS), await seconds(theirs, tasks, GETS)) for _ in range(ROUNDS)]
    rates = [GETS / median(side) for side in zip(*pairs, strict=True)]
    print(f"# gets of 1 KB from {tasks} tasks: {rates[0]:.0f}/s, raw {rates[1]:.0f}/s", flush=True)
    await raw.close()
    await tier.aclose()
    return median(their / our for our, their in pairs)


async def many_vs_single(port: int) -> float:
    """The rate at which blobs come by `get_many` of 64 over that of single gets, one after the other."""
    tier = CacheTier(CacheSettings(), [MemcachedBackend("127.0.0.1", port, TIMEOUT_S)])
    await filled(tier)
    blobs = [(TAG, str(number)) for number in range(BLOBS)]

    async def batches() -> float:
        begin = time.perf_counter()
        for at in range(0, BLOBS, BATCH):
            assert len(await tier.get_many(blobs[at : at + BATCH])) == BATCH
        return time.perf_counter() - begin

    async def single(number: int) -> None:
        await tier.get(*blobs[number])

    await batches()
    pairs = [(await batches(), await seconds(single, 1, BLOBS)) for _ in range(ROUNDS)]
    rates = [BLOBS / median(side) for side in zip(*pairs, strict=True)]
    print(f"# blobs by get_many of {BATCH}: {rates[0]:.0f}/s, one by one {rates[1]:.0f}/s", flush=True)
    await tier.aclose()
    return median(one / many for many, one in pairs)


async def filled(tier: CacheTier) -> None:
    """With `BLOBS` blobs."""

    async def put() -> None:
        return None

    for number in range(BLOBS):
        await tier.write_through(TAG, str(number), put, VALUE)


async def zipf_hit_rate_embedded() -> HitRate:
    """Through a tier over an embedded cache of 2,000 items."""
    capacity = 2000
    key = cache_key("iowarp", TAG, "00000")
    room = capacity * (len(key) + len(VALUE) + 4 + ITEM_OVERHEAD)
    return await zipf_hit_rate(EmbeddedCache(room), capacity)


async def zipf_hit_rate_memcached() -> HitRate:
    """Through a tier over a memcached of its own; it holds as many items as are left after a flood."""
    async with memcached(MEMCACHED_MB) as port:
        backend = MemcachedBackend("127.0.0.1", port, TIMEOUT_S)
        tier = CacheTier(CacheSettings(), [backend])
        flood = 4 * MEMCACHED_MB * 1024
        for number in range(flood):
            await backend.set(cache_key("iowarp", TAG, f"{number:05}"), b"af1=" + VALUE, 3600)
        keys = [cache_key("iowarp", TAG, f"{number:05}") for number in range(flood)]
        capacity = 0
        for at in range(0, flood, 128):
            capacity += len(await backend.lengths(keys[at : at + 128]))
        await backend.flush()
        await tier.aclose()
        return await zipf_hit_rate(MemcachedBackend("127.0.0.1", port, TIMEOUT_S), capacity)


async def zipf_hit_rate(backend: CacheBackend, capacity: int) -> HitRate:
    """`read_through` of a Zipf mix over four times as many keys; the first half only warms the cache."""
    tier = CacheTier(CacheSettings(), [backend])
    trace = zipf(capacity * SPACE, TRACE)

    async def load() -> bytes:
        return VALUE

    hits = [(await tier.read_through(TAG, f"{number:05}", load))[1] for number in trace]
    await tier.aclose()
    ideal = lru_hits(trace, capacity)
    half = TRACE // 2
    return HitRate(sum(hits[half:]) / half, sum(ideal[half:]) / half)


def zipf(keys: int, count: int) -> list[int]:
    """Reads: the k-th key comes 1/k as often as the first."""
    weights = itertools.accumulate(1 / (rank + 1) ** ZIPF for rank in range(keys))
    return random.Random(0).choices(range(keys), cum_weights=list(weights), k=count)


def lru_hits(trace: list[int], capacity: int) -> list[bool]:
    """Of an exact least-recently-used cache."""
    held: OrderedDict[int, None] = OrderedDict()
    hits = []
    for key in trace:
        hits.append(key in held)
        held[key] = None
        held.move_to_end(key)
        if len(held) > capacity:
            held.popitem(last=False)
    return hits


async def main(figures: Figures) -> None:
    """Measure everything."""
    async with memcached(64) as port:
        for tasks in (1, 8, 64):
            figures.add(f"cache_gets_vs_raw_{tasks}", await gets_vs_raw(port, tasks), "x", ">=", 0.8)
        figures.add("cache_get_many_vs_single", await many_vs_single(port), "x", ">=", 5)
    for kind, rate in (
        ("embedded", await zipf_hit_rate_embedded()),
        ("memcached", await zipf_hit_rate_memcached()),
    ):
        figures.add(f"cache_zipf_hits_{kind}", rate.ours, "of reads")
        figures.add(f"cache_zipf_hits_{kind}_ideal_lru", rate.ideal, "of reads")


if __name__ == "__main__":
    collected = Figures()
    asyncio.run(main(collected))
    raise SystemExit(collected.exit_code())
