"""What a writer does with its claims while servers fail, others write, and it is cancelled itself."""

import asyncio

import pytest

from agentfactory.bridge.cache.items import FILL_LEASE, MAX_HOLDERS, VALUE, lease_holders
from agentfactory.bridge.cache.servers import CacheServer, KeyRoute
from agentfactory.bridge.cache.write_leases import WriteLease, WriteLeases
from tests.bridge.fake_cache_server import FakeCacheServer

NEVER_RENEWED_S = 3600


class Scene:
    """One server, and one process that writes there."""

    def __init__(self, name: str = "key") -> None:
        self.cache = FakeCacheServer(name)
        self.server = CacheServer(self.cache, 1000.0, lambda: 0.0)
        self.slot = KeyRoute(name.encode(), self.server)

    async def there(self) -> bytes | None:
        return await self.cache.cache.get(self.slot.key)


@pytest.fixture
async def scene() -> Scene:
    return Scene()


@pytest.fixture
def claims() -> WriteLeases:
    return WriteLeases(NEVER_RENEWED_S)


async def take_one(claims: WriteLeases, slot: KeyRoute) -> WriteLease:
    (claim,) = await claims.take([slot])
    return claim


async def test_many_keys_of_which_nothing_is_there_take_a_few_round_trips(
    scene: Scene, claims: WriteLeases
) -> None:
    keys = [KeyRoute(b"%d" % number, scene.server) for number in range(50)]
    taken = await claims.take(keys)

    async def put() -> str:
        for _ in range(50):
            await asyncio.sleep(0)
        return "done"

    assert await claims.during(taken, put) == "done"
    assert await claims.settle([(claim, b"value") for claim in taken], 100) == [True] * 50
    assert scene.cache.words == ["add_many", "gets_many", "compare_and_set_many"]


async def test_a_put_that_fails_where_the_old_value_may_be_back_has_the_server_flushed(
    scene: Scene, claims: WriteLeases
) -> None:
    scene.cache.fails = {"add_many", "gets", "set"}
    claim = await take_one(claims, scene.slot)
    assert (claim.token, claim.invalidated, scene.server.needs_flush) == (None, False, True)
    await scene.server.wait_flushed()

    async def put() -> None:
        await scene.cache.cache.set(b"key", VALUE + b"old", 100)  # another process, which reached it
        raise OSError("nobody knows whether it is stored")

    with pytest.raises(OSError, match="nobody knows"):
        await claims.during([claim], put)
    assert scene.server.needs_flush
    await scene.server.wait_flushed()
    assert await scene.there() is None


async def test_a_put_that_fails_where_the_key_was_marked_costs_no_flush(
    scene: Scene, claims: WriteLeases
) -> None:
    async def put() -> None:
        raise OSError("nobody knows whether it is stored")

    claim = await take_one(claims, scene.slot)
    with pytest.raises(OSError, match="nobody knows"):
        await claims.during([claim], put)
    assert scene.server.state == "well"
    assert lease_holders(await scene.there() or b"")


async def test_a_server_that_owes_is_not_asked_by_writers(scene: Scene, claims: WriteLeases) -> None:
    scene.cache.hangs = {"flush"}
    scene.server.mark_dirty()
    claim = await take_one(claims, scene.slot)
    assert (claim.token, claim.invalidated) == (None, False)
    assert await claims.settle([(claim, b"value")], 100) == [False]
    assert set(scene.cache.words) <= {"flush"}
    scene.cache.hangs = set()
    await scene.server.aclose()


async def test_a_server_that_takes_the_mark_and_then_fails_rests(scene: Scene, claims: WriteLeases) -> None:
    scene.cache.fails = {"gets_many"}
    claim = await take_one(claims, scene.slot)
    assert (claim.token, claim.invalidated, scene.server.state) == (None, True, "resting")
    assert await claims.settle([(claim, b"value")], 100) == [False], "nobody knows who came between"
    assert not lease_holders(await scene.there() or b""), "it is left to the readers"


async def test_a_server_that_serves_a_writer_is_well_again(scene: Scene, claims: WriteLeases) -> None:
    scene.server.failed()
    await take_one(claims, scene.slot)
    assert scene.server.state == "well"


@pytest.mark.parametrize(
    ("failures", "state", "invalidated"), [(1, "well", True), (2, "well", True), (4, "owing", False)]
)
async def test_a_connection_that_has_died_is_tried_again_before_the_server_is_given_up(
    scene: Scene, claims: WriteLeases, failures: int, state: str, invalidated: bool
) -> None:
    await scene.cache.cache.set(b"key", VALUE + b"old", 100)
    scene.cache.fails, scene.cache.failures = {"gets", "set"}, failures
    claim = await take_one(claims, scene.slot)
    assert (scene.server.state, claim.invalidated) == (state, invalidated)
    await scene.server.wait_flushed()


async def test_a_key_with_too_many_writers_is_marked_and_cached_by_none_of_them(
    scene: Scene, claims: WriteLeases
) -> None:
    taken = [await take_one(claims, scene.slot) for _ in range(MAX_HOLDERS + 1)]
    assert all(claim.invalidated for claim in taken)
    assert len(lease_holders(await scene.there() or b"")) == 1
    for claim in reversed(taken):
        assert await claims.settle([(claim, VALUE + b"value")], 100) == [False]


async def test_a_renewed_claim_that_is_alone_may_cache_and_one_beside_another_may_not(
    scene: Scene, claims: WriteLeases
) -> None:
    first = await take_one(claims, scene.slot)
    await claims._renew(first)
    assert first.token is not None
    second = await take_one(claims, scene.slot)
    await claims._renew(first)
    assert (first.token, second.token) == (None, None)
    assert await claims.settle([(first, b"first"), (second, b"second")], 100) == [False, False]


async def test_a_claim_whose_name_is_gone_is_not_put_back_by_renewing_it(
    scene: Scene, claims: WriteLeases
) -> None:
    claim = await take_one(claims, scene.slot)
    await scene.cache.cache.set(b"key", VALUE + b"of another", 100)
    await claims._renew(claim)
    assert await scene.there() == VALUE + b"of another"
    assert await claims.settle([(claim, b"value")], 100) == [False]
    assert lease_holders(await scene.there() or b""), "a mark that nobody takes away"


async def test_a_write_that_is_cancelled_waits_until_its_put_has_ended(
    scene: Scene, claims: WriteLeases
) -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def put() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            for _ in range(20):  # as one that takes back what it has begun
                await asyncio.sleep(0)
            ended.set()

    writing = asyncio.create_task(claims.during([await take_one(claims, scene.slot)], put))
    await begun.wait()
    writing.cancel()
    await asyncio.wait((writing,))
    assert writing.cancelled()
    assert ended.is_set()


async def test_a_server_that_fails_a_renewal_rests_and_the_claim_may_not_cache(
    scene: Scene, claims: WriteLeases
) -> None:
    claim = await take_one(claims, scene.slot)
    scene.cache.fails = {"gets"}
    await claims._renew(claim)
    assert (claim.token, scene.server.state) == (None, "resting")


async def test_a_mark_whose_token_cannot_be_read_invalidates_and_may_not_cache(
    scene: Scene, claims: WriteLeases
) -> None:
    await scene.cache.cache.set(b"key", VALUE + b"old", 100)
    scene.cache.fails, scene.cache.served = {"gets"}, 1
    claim = await take_one(claims, scene.slot)
    assert (claim.token, claim.invalidated, scene.server.state) == (None, True, "resting")


async def test_a_claim_is_not_settled_on_a_server_that_has_come_to_owe(
    scene: Scene, claims: WriteLeases
) -> None:
    claim = await take_one(claims, scene.slot)
    scene.cache.words.clear()
    scene.server.mark_dirty()
    assert await claims.settle([(claim, VALUE + b"value")], 100) == [False]
    await scene.server.wait_flushed()
    assert set(scene.cache.words) == {"flush"}


async def test_a_value_that_cannot_be_stored_leaves_the_key_to_its_readers(
    scene: Scene, claims: WriteLeases
) -> None:
    claim = await take_one(claims, scene.slot)
    scene.cache.fails = {"compare_and_set_many"}
    assert await claims.settle([(claim, VALUE + b"value")], 100) == [False]
    assert (await scene.there() or b"").startswith(FILL_LEASE)
