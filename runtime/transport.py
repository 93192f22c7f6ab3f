"""What a transport must offer: spawn actors, reach them, watch them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from .actor import Actor
from .ref import ActorRef
from .supervised_actor import ActorStatistics


class PlacementBundle(NamedTuple):
    """One part of what was set aside on the cluster, on one node."""

    group: str
    part: int


@dataclass(frozen=True, slots=True)
class Resources:
    """What an actor's process needs from the cluster. Only Ray looks at it."""

    cpus: float = 0.0
    gpus: float = 0.0
    node_resources: dict[str, float] = field(default_factory=dict)
    """Custom Ray resources, such as `{"node:10.0.0.7": 0.01}`."""
    place: PlacementBundle | None = None
    """Where they are taken from; None takes them from whatever node has them free."""


@dataclass(frozen=True, slots=True)
class SpawnSpec:
    """Everything that is needed to make an actor, here or in another process."""

    name: str
    actor: Callable[..., Actor]
    args: tuple[object, ...]
    mailbox: int
    max_restarts: int
    backoff_s: float
    resources: Resources
    start_timeout_s: float


class ProcessStatistics(NamedTuple):
    """An actor and the process it lives in."""

    actor: ActorStatistics
    pid: int
    memory_mb: int
    lag_ms: float
    """Worst event-loop delay since the last look, milliseconds."""
    process_restarts: int = 0
    lost: str = ""
    """What is known of the last process that was lost; empty while none was."""


class Transport(Protocol):
    """Where actors live."""

    async def reserve(
        self, name: str, parts: Sequence[Resources], timeout_s: float
    ) -> tuple[PlacementBundle, ...]:
        """Set all parts aside, or none. Raises TransportError where the cluster has no room for them."""

    async def spawn(self, spec: SpawnSpec) -> ActorRef:
        """Make the actor and wait until its `start` has returned."""

    async def describe(self, name: str) -> ProcessStatistics:
        """What the actor is doing. Raises ActorDown while it is dead."""

    async def stop(self, name: str, grace_s: float) -> None:
        """Stop one actor: what is in hand may finish, what waits is answered."""

    async def kill(self, name: str) -> None:
        """SIGKILL the actor's process, or the nearest thing there is. For fault tests."""

    async def aclose(self) -> None:
        """Stop everything that is left."""
