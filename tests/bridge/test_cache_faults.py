"""Servers that stand still, die and come back; processes that race and die."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Protocol

import pytest

from agentfactory.bridge.cache.base import CacheUnavailable, CasValue
from agentfactory.bridge.cache.embedded import EmbeddedCache
from agentfactory.bridge.cache.memcached import MemcachedBackend
from agentfactory.bridge.cache.servers import CacheServer, KeyRoute
from agentfactory.bridge.cache.tier import CacheTier
from agentfactory.bridge.cache.write_leases import WriteLeases
from agentfactory.configs.data import CacheSettings
from tests.bridge import racing
from tests.bridge.memcached_server import Memcached, StartMemcached

TIMEOUT_S = 1.0
RACE_S = 240.0


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Counting(EmbeddedCache):
    """A cache that can be down, and counts who asks."""

    def __init__(self) -> None:
        super().__init__(1 << 20)
        self.down = False
        self.asked = 0

    async def get(self, key: bytes) -> bytes | None:
        self.asked += 1
        await asyncio.sleep(0)
        if self.down:
            raise CacheUnavailable("down")
        return await super().get(key)


class TierOf(Protocol):
    def __call__(
        self, *servers: Memcached, timeout_s: float = TIMEOUT_S, retry_s: float = 0.1
    ) -> CacheTier: ...


@pytest.fixture
async def tier_of(start_memcached: StartMemcached) -> AsyncIterator[TierOf]:
    """Makes tiers, and closes them before the servers end."""
    made: list[CacheTier] = []

    def make(*servers: Memcached, timeout_s: float = TIMEOUT_S, retry_s: float = 0.1) -> CacheTier:
        backends = [MemcachedBackend("127.0.0.1", server.port, timeout_s) for server in servers]
        made.append(CacheTier(CacheSettings(retry_s=retry_s), backends))
        return made[-1]

    yield make
    for tier in made:
        await tier.aclose()


async def write(tier: CacheTier, name: str, value: bytes) -> None:
    async def put() -> None:
        pass

    await tier.write_through("t", name, put, value)


async def stored() -> bytes:
    return b"stored"


async def test_a_dead_server_is_skipped_for_a_while_and_then_one_reader_tries_it() -> None:
    clock, cache = Clock(), Counting()
    tier = CacheTier(CacheSettings(retry_s=2.0), [cache], clock=clock)
    await write(tier, "n", b"1")
    cache.down = True
    for _ in range(10):
        assert await tier.get("t", "n") is None
    assert cache.asked == 1
    assert await tier.get_many([("t", "n"), ("t", "m")]) == {}
    statistics = tier.statistics()
    assert (statistics.misses, statistics.errors, statistics.servers[0].state) == (12, 12, "resting")
    clock.now = 2.0
    assert await asyncio.gather(*(tier.get("t", "n") for _ in range(10))) == [None] * 10
    assert cache.asked == 2
    cache.down = False
    clock.now = 4.0
    assert await tier.get("t", "n") == b"1"
    assert tier.statistics().servers[0].state == "well"
    await tier.aclose()


async def test_the_name_of_a_dead_writer_goes_although_others_write_all_the_time() -> None:
    clock = Clock()
    server = CacheServer(EmbeddedCache(1 << 20, clock=clock), 1.0, clock)
    slot, claims = KeyRoute(b"key", server), WriteLeases(lease_s=60, clock=clock)
    (died,) = await claims.take([slot])
    assert died.token is not None
    for clock.now in (50.0, 100.0):
        (beside,) = await claims.take([slot])
        assert await claims.settle([(beside, b"value")], 100) == [False], f"after {clock.now} s"
    clock.now = 150.0
    (alone,) = await claims.take([slot])
    assert await claims.settle([(alone, b"value")], 100) == [True]
    assert await claims.settle([(died, b"old")], 100) == [False]


async def test_a_claim_is_renewed_as_long_as_the_put_lasts() -> None:
    clock = Clock()
    cache = EmbeddedCache(1 << 20, clock=clock)
    slot, claims = KeyRoute(b"key", CacheServer(cache, 1.0, clock)), WriteLeases(lease_s=1, clock=clock)
    (claim,) = await claims.take([slot])

    async def put() -> None:
        for clock.now in (0.9, 1.8, 2.7):
            first = claim.token
            while claim.token in (first, None):  # noqa: ASYNC110 - renewals go by the loop's own clock
                await asyncio.sleep(0.01)
            assert await cache.get(b"key") is not None

    await claims.during([claim], put)
    assert await claims.settle([(claim, b"value")], 100) == [True]


async def test_a_write_that_fails_while_the_server_is_flushed_has_it_flushed_again() -> None:
    begun, let_go = asyncio.Event(), asyncio.Event()

    class Unwilling(EmbeddedCache):
        flushes = 0

        async def gets(self, key: bytes) -> CasValue | None:
            raise CacheUnavailable("down")

        async def set(self, key: bytes, value: bytes, ttl_s: int) -> None:
            raise CacheUnavailable("down")

        async def flush(self) -> None:
            self.flushes += 1
            begun.set()
            await let_go.wait()

    cache = Unwilling(1 << 20)
    tier = CacheTier(CacheSettings(), [cache])
    await write(tier, "n", b"1")
    await begun.wait()
    await write(tier, "n", b"2")
    let_go.set()
    await tier.wait_flushed()
    assert cache.flushes == 2
    await tier.aclose()


class Flushed(EmbeddedCache):
    """Its first flush fails, and each one is told of."""

    def __init__(self) -> None:
        super().__init__(1 << 20)
        self.flushes: list[str] = []

    async def flush(self) -> None:
        self.flushes.append("failed" if not self.flushes else "done")
        if self.flushes == ["failed"]:
            raise CacheUnavailable("down")

    async def aclose(self) -> None:
        self.flushes.append("closed")


async def test_a_server_that_owes_is_not_asked_before_it_was_flushed() -> None:
    clock, cache = Clock(), Flushed()
    server = CacheServer(cache, 0.01, clock)
    server.mark_dirty()
    assert (server.unhealthy, server.needs_flush) == (True, True), "readers look at trouble alone"
    server.answered()
    clock.now = 100.0
    assert not server.may_read()
    assert repr(server) == f"<CacheServer {cache.name}: owing>"
    await server.wait_flushed()
    assert cache.flushes == ["failed", "done"]
    assert (server.may_read(), server.needs_flush, server.unhealthy) == (True, False, False)
    assert server.statistics().flushes == 1


async def test_a_server_that_owes_is_flushed_once_more_before_it_is_closed() -> None:
    cache = Flushed()
    server = CacheServer(cache, 1000.0, Clock())
    server.mark_dirty()
    while not cache.flushes:  # noqa: ASYNC110 - the flush is a task of the server's own
        await asyncio.sleep(0)
    await server.aclose()
    assert cache.flushes == ["failed", "done", "closed"]


async def test_reads_of_one_key_share_loads_that_they_asked_for_before_they_began() -> None:
    cache = Counting()
    cache.down = True
    tier = CacheTier(CacheSettings(), [cache])
    assert await tier.get("t", "n") is None
    gates = [asyncio.Event(), asyncio.Event()]
    begun = [asyncio.Event(), asyncio.Event()]
    loads = 0

    async def load() -> bytes:
        nonlocal loads
        loads += 1
        number = loads - 1
        begun[number].set()
        await gates[number].wait()
        return b"%d" % number

    first = asyncio.create_task(tier.read_through("t", "n", load))
    await begun[0].wait()
    later = [asyncio.create_task(tier.read_through("t", "n", load)) for _ in range(10)]
    while tier.statistics().shared_loads < 9:  # noqa: ASYNC110 - a count, which nobody announces
        await asyncio.sleep(0)
    gates[0].set()
    await begun[1].wait()
    gates[1].set()
    assert await first == (b"0", False)
    assert await asyncio.gather(*later) == [(b"1", False)] * 10
    assert loads == 2
    assert tier.statistics().shared_loads == 9
    await tier.aclose()


async def test_a_frozen_server_is_a_miss_and_the_others_go_on(
    start_memcached: StartMemcached, tier_of: TierOf
) -> None:
    frozen, well = start_memcached(), start_memcached()
    tier = tier_of(frozen, well, retry_s=100.0)
    names = [f"n{number}" for number in range(50)]
    for name in names:
        await write(tier, name, b"stored")
    frozen.freeze()
    values = await asyncio.gather(*(tier.get("t", name) for name in names))
    assert set(values) == {None, b"stored"}
    assert all([await tier.read_through("t", name, stored) for name in names])
    states = {server.state for server in tier.statistics().servers}
    assert states == {"resting", "well"}


async def test_a_write_while_the_server_is_frozen_leaves_no_old_value_there(
    start_memcached: StartMemcached, tier_of: TierOf
) -> None:
    server = start_memcached()
    writer, reader = tier_of(server), tier_of(server, timeout_s=10.0)
    await write(writer, "n", b"old")
    await write(writer, "other", b"other")
    assert await reader.get("t", "n") == b"old"
    server.freeze()
    await write(writer, "n", b"new")
    await write(writer, "n", b"newer")
    assert writer.statistics().servers[0].state == "owing"
    assert await writer.get("t", "n") is None
    assert await writer.read_through("t", "n", stored) == (b"stored", False)
    server.thaw()
    await writer.wait_flushed()
    assert await reader.get("t", "n") is None
    assert await writer.get("t", "n") is None
    assert writer.statistics().servers[0].flushes >= 1
    await write(writer, "n", b"newest")
    # A flush that had been given up may come late, and costs a hit.
    assert await reader.get("t", "n") in (None, b"newest")


async def test_a_server_that_is_killed_in_the_middle_of_a_write_and_comes_back_holds_nothing_old(
    start_memcached: StartMemcached, tier_of: TierOf
) -> None:
    server = start_memcached()
    tier = tier_of(server)
    await write(tier, "n", b"old")

    async def put() -> None:
        server.kill()

    await tier.write_through("t", "n", put, b"new")
    assert await tier.get("t", "n") is None
    server.start()
    await tier.wait_flushed()
    assert await tier.read_through("t", "n", stored) == (b"stored", False)
    assert await tier.read_through("t", "n", stored) == (b"stored", True)


async def test_a_server_that_restarts_between_two_operations_costs_a_miss_and_no_flush(
    start_memcached: StartMemcached, tier_of: TierOf
) -> None:
    server = start_memcached()
    tier = tier_of(server)
    await write(tier, "n", b"old")
    server.kill()
    server.start()
    await write(tier, "n", b"new")
    assert await tier.get("t", "n") == b"new"
    assert tier.statistics().servers[0].flushes == 0


async def test_nothing_listens_and_everything_works_without_a_cache() -> None:
    tier = CacheTier(CacheSettings(retry_s=100.0), [MemcachedBackend("127.0.0.1", 1, TIMEOUT_S)])
    await write(tier, "n", b"1")
    assert await tier.get("t", "n") is None
    assert await tier.read_through("t", "n", stored) == (b"stored", False)
    assert await tier.query() == []
    assert await tier.prune("t") == 0
    assert await tier.prune("t", ["n"]) == 0

    async def delete() -> list[tuple[str, str]]:
        return [("t", "n")]

    assert await tier.delete_through([("t", "n")], delete) == [("t", "n")]
    await tier.aclose()


@pytest.fixture
def racers(start_memcached: StartMemcached, tmp_path: Path) -> Iterator[list["subprocess.Popen[str]"]]:
    """Three processes over one memcached and one store."""
    server, log = start_memcached(), tmp_path / "log"
    racing.Log.create(log)
    script = Path(racing.__file__)
    environment = os.environ | {"PYTHONPATH": str(script.parent.parent.parent)}
    processes = [
        subprocess.Popen(
            [sys.executable, str(script), str(server.port), str(log), str(seed), "150"],
            env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True,
        )
        for seed in range(3)
    ]  # fmt: skip
    yield processes
    for process in processes:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def test_processes_that_race_never_read_stale_bytes(racers: list["subprocess.Popen[str]"]) -> None:
    for racer in racers:
        told, _ = racer.communicate(timeout=RACE_S)
        assert racer.returncode == 0, "its traceback is above"
        hits, misses, fills, _ = map(int, told.split())
        assert min(hits, misses, fills) > 3


def test_a_process_that_is_killed_in_a_race_leaves_nothing_stale(
    racers: list["subprocess.Popen[str]"], tmp_path: Path
) -> None:
    log = racing.Log(tmp_path / "log")
    while log.acknowledged(0) < 5:
        assert racers[0].poll() is None
    log.close()
    racers[0].send_signal(signal.SIGKILL)
    for racer in racers[1:]:
        racer.communicate(timeout=RACE_S)
        assert racer.returncode == 0, "its traceback is above"
