"""Placement of processes on GPUs.

Each replica of the engine has whole GPUs of one node. Where a replica has a single one, the Trainer of a run
shares the first one's; where a replica needs several, the Trainer has one of its own.
"""

from typing import NamedTuple

from ..configs.models import EngineSettings, ModelSettings
from ..runtime.system import ActorSystem
from ..runtime.transport import Resources


class GpuAllocation(NamedTuple):
    """Resources of each process."""

    replicas: tuple[Resources, ...]
    trainer: Resources


def gpu_requests(model: ModelSettings, engine: EngineSettings, *, trains: bool) -> tuple[Resources, ...]:
    """Resources to reserve, each part on one node; none on processors."""
    if model.device != "cuda":
        return ()
    each = engine.gpus_per_replica
    replicas = (Resources(gpus=each),) * engine.copies
    return (*replicas, Resources(gpus=1)) if trains and each > 1 else replicas


async def reserve_gpus(
    system: ActorSystem, model: ModelSettings, engine: EngineSettings, *, trains: bool
) -> GpuAllocation:
    """Set them aside all together. Raises TransportError where the cluster has too few."""
    parts = gpu_requests(model, engine, trains=trains)
    if not parts:
        return GpuAllocation((Resources(),) * engine.copies, Resources())
    places = await system.reserve("the engine and the Trainer" if trains else "the engine", parts)
    placed = [Resources(gpus=part.gpus, place=place) for part, place in zip(parts, places, strict=True)]
    if not trains:
        return GpuAllocation(tuple(placed), Resources())
    if len(placed) > engine.copies:
        return GpuAllocation(tuple(placed[:-1]), placed[-1])
    half = Resources(gpus=0.5, place=places[0])
    return GpuAllocation((half, *placed[1:]), half)
