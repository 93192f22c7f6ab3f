"""Who gets which part of which GPU.

Each replica of the engine has whole GPUs of one node. On a run with single-GPU replicas the Trainer shares
the first one's; where a replica needs several, it has one of its own.
"""

from typing import NamedTuple

from configs.models import VllmEngineSettings
from configs.settings import Settings
from runtime.system import ActorSystem
from runtime.transport import Resources


class Gpus(NamedTuple):
    """What each process takes."""

    replicas: tuple[Resources, ...]
    trainer: Resources


def parts_of(settings: Settings) -> tuple[Resources, ...]:
    """What is to be set aside, each part on one node; nothing for a run on processors."""
    if settings.model.device != "cuda":
        return ()
    each = _gpus_of_a_replica(settings)
    replicas = (Resources(gpus=each),) * settings.engine.copies
    return replicas if each == 1 else (*replicas, Resources(gpus=1))


async def reserve_gpus(system: ActorSystem, settings: Settings) -> Gpus:
    """Set them aside all together. Raises TransportError where the cluster has too few."""
    copies = settings.engine.copies
    parts = parts_of(settings)
    if not parts:
        return Gpus((Resources(),) * copies, Resources())
    places = await system.reserve("the engine and the Trainer", parts)
    each = _gpus_of_a_replica(settings)
    replicas = [Resources(gpus=each, place=place) for place in places[:copies]]
    if each > 1:
        return Gpus(tuple(replicas), Resources(gpus=1, place=places[-1]))
    half = Resources(gpus=0.5, place=places[0])
    return Gpus((half, *replicas[1:]), half)


def _gpus_of_a_replica(settings: Settings) -> int:
    engine = settings.engine
    return engine.tensor_parallel if isinstance(engine, VllmEngineSettings) else 1
