"""Ray's errors, translated once, at the boundary."""

import ray.exceptions

from ...configs.errors import AgentFactoryError
from ..errors import ActorDown, ActorStopped, TransportError

STOPPED = ("INTENDED_USER_EXIT", "ray.kill", "all references to the actor were removed")
"""What Ray says of an actor that was ended on purpose: only our own `stop` asks its process to end, kills it
where it does not, and drops its handle."""


def map_ray_error(error: BaseException, actor: str, memory_mb: int = 0) -> AgentFactoryError:
    """What a failed call to an actor's process means. `__cause__` is what Ray said."""
    fault = _translate(error, actor, memory_mb)
    if fault is not error:
        fault.__cause__ = error
    return fault


def _translate(error: BaseException, actor: str, memory_mb: int) -> AgentFactoryError:
    match error:
        case ray.exceptions.RayTaskError():
            return TransportError(f"the process of {actor!r} failed at a call: {_last_line(error)}")
        case AgentFactoryError():
            return error
        case ray.exceptions.ActorUnavailableError():
            return ActorDown(actor, "its process was lost", memory_mb=memory_mb)
        case ray.exceptions.RayActorError():
            if any(sign in str(error) for sign in STOPPED):
                return ActorStopped(actor)
            reason = f"its process was lost: {_last_line(error)}"
            return ActorDown(actor, reason, memory_mb=memory_mb, permanent=True)
        case ray.exceptions.OutOfMemoryError():
            return ActorDown(actor, "its process was killed: the node ran out of memory", memory_mb=memory_mb)
        case ValueError():
            return ActorStopped(actor)  # Ray knows no actor of this name (any more)
        case _:
            return TransportError(f"Ray could not reach {actor!r}: {type(error).__name__}: {error}")


def _last_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    if not lines:
        return type(error).__name__
    return lines[-1].partition(" Some common causes")[0].strip()  # what follows is advice, a page of it
