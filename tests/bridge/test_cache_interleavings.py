"""Nothing stale is read or stays, in whatever order readers and writers of several processes take their
steps, and wherever one of them dies."""

import pytest

from tests.bridge.interleaving import KEY, Actor, World, orders, some_orders


async def reader(world: World) -> None:
    await world.read(world.tier())


async def writer(world: World) -> None:
    await world.write(world.tier(), b"new")


async def other_writer(world: World) -> None:
    await world.write(world.tier(), b"newer")


async def writer_of_many(world: World) -> None:
    await world.write_with_others(world.tier(), b"newest")


async def destroyer(world: World) -> None:
    await world.destroy(world.tier(), expected=True)


async def destroyer_that_knows_of_nothing(world: World) -> None:
    await world.destroy(world.tier(), expected=False)


async def pruner(world: World) -> None:
    await world.tier().prune("t", ["n"])


async def evictor(world: World) -> None:
    for _ in range(2):
        await world.step("evict")
        await world.cache.delete(KEY)


PAIRS: dict[str, list[Actor]] = {
    "a read and a write": [reader, writer],
    "two writes": [writer, other_writer],
    "a write and a write of many": [writer, writer_of_many],
    "a write and a destroy": [writer, destroyer],
    "a write and a destroy that did not expect it": [writer, destroyer_that_knows_of_nothing],
    "a read and a destroy": [reader, destroyer],
    "a read and a destroy that did not expect it": [reader, destroyer_that_knows_of_nothing],
    "a prune and a write": [pruner, writer],
    "an eviction and a write": [evictor, writer],
}
TRIOS: dict[str, list[Actor]] = {
    "a read and two writes": [reader, writer, other_writer],
    "two reads and a write": [reader, reader, writer],
    "a read, a write and a write of many": [reader, writer, writer_of_many],
    "a read, a write and a destroy": [reader, writer, destroyer_that_knows_of_nothing],
    "a read, a write and an eviction": [reader, evictor, writer],
    "a read, a write and a prune": [reader, pruner, writer],
}


@pytest.mark.parametrize(
    ("what", "warm"), [(what, warm) for what in PAIRS for warm in (True, False) if warm or "read" in what]
)
async def test_no_order_of_two_leaves_or_reads_stale_bytes(what: str, warm: bool) -> None:
    seen = [" ".join(world.trace) async for world in orders(PAIRS[what], warm)]
    assert len(seen) == len(set(seen)) >= 3


@pytest.mark.parametrize("warm", [True, False])
@pytest.mark.parametrize("what", [what for what in PAIRS if "eviction" not in what])
async def test_no_death_at_any_step_leaves_or_reads_stale_bytes(what: str, warm: bool) -> None:
    # A destroy that did not expect the blob and dies in the middle is what remains (see the tier).
    for actor in range(1 if "did not expect" in what else 2):
        step = died = 1
        while died:
            crash = (actor, step)
            worlds = [world async for world in some_orders(PAIRS[what], warm, 12, crash)]
            died = sum(" dies " in " ".join(world.trace) for world in worlds)
            step += 1
        assert step > 2


@pytest.mark.parametrize("step", range(4, 9))
async def test_a_writer_that_dies_beside_another_writer_and_a_reader_leaves_nothing_stale(step: int) -> None:
    async for _ in some_orders([writer, other_writer, reader], warm=False, number=150, crash=(1, step)):
        pass


@pytest.mark.parametrize("warm", [True, False])
@pytest.mark.parametrize("what", TRIOS)
async def test_no_order_of_three_leaves_or_reads_stale_bytes(what: str, warm: bool) -> None:
    async for _ in some_orders(TRIOS[what], warm, 80):
        pass
