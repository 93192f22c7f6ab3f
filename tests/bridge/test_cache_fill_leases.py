"""What a reader does that has missed: the lease it takes, and the load that it shares."""

import asyncio
import gc

import pytest

from agentfactory.bridge.cache.base import CacheUnavailable
from agentfactory.bridge.cache.embedded import EmbeddedCache
from agentfactory.bridge.cache.items import VALUE, ValueCodec
from agentfactory.bridge.cache.servers import CacheServer, KeyRoute
from agentfactory.bridge.cache.tier import CacheTier, FillLease, FillLeases
from agentfactory.configs.data import CacheSettings
from tests.bridge.interleaving import KEY

MB = 1 << 20


class Interrupted(EmbeddedCache):
    """Something happens just before a reader adds its mark."""

    def __init__(self, found: bytes | None = None, down: bool = False) -> None:
        super().__init__(MB)
        self._found = found
        self.down = down
        self.adds = 0

    async def add(self, key: bytes, value: bytes, ttl_s: int) -> bool:
        if key == KEY:
            self.adds += 1
            if self.down:
                raise CacheUnavailable("down")
            if self._found is not None:
                await self.set(key, self._found, 100)
        return await super().add(key, value, ttl_s)


async def unasked() -> bytes:
    raise AssertionError("there is no need to load")


async def stored() -> bytes:
    return b"stored"


async def test_a_value_that_comes_while_a_reader_takes_its_lease_is_what_it_reads() -> None:
    tier = CacheTier(CacheSettings(), [Interrupted(VALUE + b"cached")])
    assert await tier.read_through("t", "n", unasked) == (b"cached", True)
    await tier.aclose()


async def test_a_server_that_fails_while_a_reader_takes_its_lease_rests() -> None:
    cache = Interrupted(down=True)
    tier = CacheTier(CacheSettings(retry_s=100.0), [cache])
    for _ in range(2):
        assert await tier.read_through("t", "n", stored) == (b"stored", False)
    assert cache.adds == 1
    assert tier.statistics().servers[0].state == "resting"
    await tier.aclose()


async def test_a_server_that_gives_a_lease_after_its_rest_is_well() -> None:
    now = 0.0
    server = CacheServer(EmbeddedCache(MB), 1.0, lambda: now)
    leases = FillLeases(ValueCodec(CacheSettings()), 60)
    server.failed()
    assert await leases.take(KeyRoute(KEY, server)) is None
    now = 1.0
    assert isinstance(await leases.take(KeyRoute(KEY, server)), FillLease)
    assert server.state == "well"


@pytest.mark.parametrize("under_a_lease", [True, False])
async def test_whoever_closes_waits_until_the_loads_under_way_have_ended(under_a_lease: bool) -> None:
    reported: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    leases, begun, ended = FillLeases(ValueCodec(CacheSettings()), 60), asyncio.Event(), asyncio.Event()
    slot = KeyRoute(KEY, CacheServer(EmbeddedCache(MB), 1.0, lambda: 0.0))

    async def load() -> bytes:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            for _ in range(20):  # as one that has a connection to close
                await asyncio.sleep(0)
            ended.set()
        raise AssertionError("unreachable")

    if under_a_lease:
        lease = await leases.take(slot)
        assert isinstance(lease, FillLease)
        loading = asyncio.create_task(leases.load(slot, lease, load))
    else:
        loading = asyncio.create_task(leases.load_without_lease(slot, load))
    await begun.wait()
    await leases.aclose()
    assert ended.is_set()
    with pytest.raises(asyncio.CancelledError):
        await loading
    assert reported == []


async def test_a_load_that_ends_after_its_last_reader_has_gone_is_forgotten_without_a_word() -> None:
    reported: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    leases, begun, go_on = FillLeases(ValueCodec(CacheSettings()), 60), asyncio.Event(), asyncio.Event()

    async def fail() -> bytes:
        begun.set()
        await go_on.wait()
        raise OSError("no store")

    slot = KeyRoute(KEY, CacheServer(EmbeddedCache(MB), 1.0, lambda: 0.0))
    reading = asyncio.create_task(leases.load_without_lease(slot, fail))
    await begun.wait()
    reading.cancel()
    await asyncio.wait((reading,))
    go_on.set()
    while leases._tasks:  # noqa: ASYNC110 - nobody waits for it any more
        await asyncio.sleep(0)
    gc.collect()
    assert reported == []
