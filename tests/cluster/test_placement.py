"""Setting parts of a cluster aside, and who of a run gets which."""

import pytest

from agentfactory.cluster.placement import gpu_requests, reserve_gpus
from agentfactory.configs.models import ModelSettings, TransformersEngineSettings, VllmEngineSettings
from agentfactory.messages.base import Done, Request
from agentfactory.runtime.actor import Actor
from agentfactory.runtime.errors import TransportError
from agentfactory.runtime.system import ActorSystem
from agentfactory.runtime.transport import PlacementBundle, Resources

ON_GPUS = ModelSettings(device="cuda")


class Hello(Request[Done]):
    """Say that you are there."""


class Greeter(Actor):
    """Is there."""

    async def greet(self, message: Hello) -> Done:
        """Say so."""
        return Done()


def test_on_processors_nothing_is_set_aside() -> None:
    assert gpu_requests(ModelSettings(), TransformersEngineSettings(copies=3), trains=True) == ()


async def test_the_trainer_shares_the_gpu_of_the_first_replica() -> None:
    engine = TransformersEngineSettings(copies=2)
    assert gpu_requests(ON_GPUS, engine, trains=True) == (Resources(gpus=1), Resources(gpus=1))
    async with ActorSystem.open("local") as system:
        gpus = await reserve_gpus(system, ON_GPUS, engine, trains=True)
    first, second = gpus.replicas
    assert first == gpus.trainer == Resources(gpus=0.5, place=first.place)
    assert second.gpus == 1
    assert first.place != second.place


async def test_a_replica_of_several_gpus_shares_none() -> None:
    engine = VllmEngineSettings(copies=2, tensor_parallel=4)
    assert [part.gpus for part in gpu_requests(ON_GPUS, engine, trains=True)] == [4, 4, 1]
    async with ActorSystem.open("local") as system:
        gpus = await reserve_gpus(system, ON_GPUS, engine, trains=True)
    assert [part.gpus for part in gpus.replicas] == [4, 4]
    assert gpus.trainer.gpus == 1
    assert len({part.place for part in (*gpus.replicas, gpus.trainer)}) == 3


async def test_where_nothing_trains_each_replica_has_its_gpus_alone() -> None:
    engine = TransformersEngineSettings(copies=2)
    async with ActorSystem.open("local") as system:
        gpus = await reserve_gpus(system, ON_GPUS, engine, trains=False)
    assert [part.gpus for part in gpus.replicas] == [1, 1]


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
async def test_what_is_set_aside_is_there_for_its_actors_and_for_nobody_else() -> None:
    import ray

    parts = [Resources(cpus=1), Resources(cpus=ray.cluster_resources()["CPU"] - 1)]
    async with ActorSystem.open("ray") as system:
        places = await system.reserve("both", parts)
        assert places == (PlacementBundle("both", 0), PlacementBundle("both", 1))
        with pytest.raises(TransportError, match=r"no room for more: it needs 1 CPU and has \d+ CPU"):
            await system.reserve("more", [Resources(cpus=1)], timeout_s=1)
        placed = [Resources(cpus=1, place=place) for place in places]
        pool = await system.spawn_pool(Greeter, name="greeter", copies=2, resources=placed)
        for member in pool.members:
            assert await member.ask(Hello(), timeout_s=120) == Done()
    async with ActorSystem.open("ray") as system:  # all of it was given back
        assert len(await system.reserve("both", parts)) == 2
