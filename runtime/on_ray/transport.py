"""Spawning, watching and stopping actors on Ray."""

import asyncio
import os
import signal
from collections.abc import Sequence
from functools import partial

import ray
import ray.actor
import ray.exceptions
import structlog

from ..daemon_thread import in_daemon_thread
from ..errors import ActorDown, AskTimeout, NoSuchActor, TransportError
from ..ref import ActorRef
from ..telemetry import LogSettings
from ..transport import PlacementBundle, ProcessStatistics, Resources, SpawnSpec
from .codec import RemoteError
from .errors import map_ray_error
from .link import RayActorChannel, close_channels
from .placement import PlacementGroups
from .worker import ActorHost

log = structlog.get_logger("transport")

CONTROL_TIMEOUT_S = 10.0
"""A process that does not answer a control call for longer is stuck."""
EXIT_TIMEOUT_S = 5.0
"""A process that takes longer to end, once its actor has stopped, is killed."""
RESTART_LOOK_S = 0.2


class RayTransport:
    """Actors as named Ray actors of one namespace."""

    def __init__(self, namespace: str, logging: LogSettings, stall_s: float) -> None:
        self._namespace = namespace
        self._logging = logging
        self._stall_s = stall_s
        self._handles: dict[str, ray.actor.ActorHandle] = {}
        self._placements = PlacementGroups()
        self._spawned: dict[str, int] = {}
        """How often each name has been given."""
        self._last_seen: dict[str, ProcessStatistics] = {}

    async def reserve(
        self, name: str, parts: Sequence[Resources], timeout_s: float
    ) -> tuple[PlacementBundle, ...]:
        """Set all parts aside, or none. Raises TransportError where the cluster has no room for them."""
        try:
            async with asyncio.timeout(timeout_s + CONTROL_TIMEOUT_S):
                return await in_daemon_thread(partial(self._placements.reserve, name, parts, timeout_s))
        except TimeoutError:
            raise TransportError(f"Ray did not say within {timeout_s:g} s whether it has room") from None

    async def spawn(self, spec: SpawnSpec) -> ActorRef:
        """Make the actor and wait until its `start` has returned."""
        if spec.name in self._handles:
            raise TransportError(f"there is an actor named {spec.name!r} already")
        count = self._spawned[spec.name] = self._spawned.get(spec.name, 0) + 1
        ray_name = spec.name if count == 1 else f"{spec.name}~{count}"
        try:
            async with asyncio.timeout(spec.start_timeout_s):
                handle = await in_daemon_thread(partial(self._create, spec, ray_name))
        except TimeoutError:
            raise AskTimeout(f"Ray did not take {spec.name!r} within {spec.start_timeout_s:g} s") from None
        except ValueError as error:
            raise TransportError(f"{spec.name!r} cannot be made: {error}") from error
        self._handles[spec.name] = handle
        try:
            async with asyncio.timeout(spec.start_timeout_s):
                await self._wait_ready(spec, handle)
        except BaseException as error:
            self._handles.pop(spec.name, None)
            ray.kill(handle)
            if isinstance(error, TimeoutError):
                raise AskTimeout(
                    f"{spec.name!r} did not start within {spec.start_timeout_s:g} s; does the cluster have "
                    f"{spec.resources.cpus:g} CPUs and {spec.resources.gpus:g} GPUs free for it?"
                ) from None
            raise
        return ActorRef(spec.name, RayActorChannel(spec.name, ray_name, self._namespace))

    def _create(self, spec: SpawnSpec, ray_name: str) -> ray.actor.ActorHandle:
        role = getattr(spec.actor, "__name__", "Actor")
        host = type(role, (ActorHost,), {"__doc__": spec.actor.__doc__})  # the dashboard shows the role
        remote = ray.remote(host).options(
            name=ray_name,
            namespace=self._namespace,
            num_cpus=spec.resources.cpus,
            num_gpus=spec.resources.gpus,
            resources=spec.resources.node_resources or None,
            scheduling_strategy=self._placements.strategy(spec.resources.place),
            max_restarts=spec.max_restarts,
            max_task_retries=0,
            max_concurrency=10_000,
        )
        return remote.remote(spec, self._logging, self._stall_s)

    async def _wait_ready(self, spec: SpawnSpec, handle: ray.actor.ActorHandle) -> None:
        while True:
            try:
                failure: RemoteError | None = await handle.wait_ready.remote()
            except ray.exceptions.ActorUnavailableError:
                log.warning("process lost while starting", actor=spec.name)
                await asyncio.sleep(RESTART_LOOK_S)  # Ray starts another one
            except ray.exceptions.RayError as error:
                raise map_ray_error(error, spec.name) from error
            else:
                if failure is not None:
                    raise failure.unwrap()
                return

    async def describe(self, name: str) -> ProcessStatistics:
        """What the actor is doing. Raises ActorDown while it is dead, AskTimeout while it is stuck."""
        handle = self._find(name)
        seen = self._last_seen.get(name)
        try:
            async with asyncio.timeout(CONTROL_TIMEOUT_S):
                answer: ProcessStatistics | RemoteError = await handle.describe.remote()
        except TimeoutError:
            raise AskTimeout(f"{name!r} did not say how it is within {CONTROL_TIMEOUT_S:g} s") from None
        except ray.exceptions.RayError as error:
            fault = map_ray_error(error, name, seen.memory_mb if seen else 0)
            if isinstance(fault, ActorDown) and seen is not None and not fault.last_message:
                fault.last_message = ", ".join(seen.actor.handling)
            raise fault from (fault.__cause__ or error)
        if isinstance(answer, RemoteError):
            raise answer.unwrap()
        stats = _with_history(answer, seen) if seen is not None else answer
        self._last_seen[name] = stats
        return stats

    async def stop(self, name: str, grace_s: float) -> None:
        """Stop one actor and its process."""
        handle = self._find(name)
        del self._handles[name]
        self._last_seen.pop(name, None)
        ended = False
        try:
            async with asyncio.timeout(grace_s + CONTROL_TIMEOUT_S):
                await handle.stop.remote(grace_s)
            ended = await _ended_by_itself(handle)
        except TimeoutError:
            log.error("actor is stuck: its process is killed", actor=name)
        except ray.exceptions.RayError as error:
            log.warning("actor was dead already", actor=name, error=str(map_ray_error(error, name)))
        finally:
            if not ended:
                ray.kill(handle)

    async def kill(self, name: str) -> None:
        """SIGKILL the actor's process (which must be on this machine)."""
        os.kill((await self.describe(name)).pid, signal.SIGKILL)

    async def aclose(self) -> None:
        """Stop everything, all at once."""
        await asyncio.gather(
            *(self.stop(name, grace_s=0.0) for name in reversed(list(self._handles))), return_exceptions=True
        )
        close_channels(self._namespace)
        try:
            async with asyncio.timeout(CONTROL_TIMEOUT_S):
                await in_daemon_thread(self._placements.release)
        except TimeoutError:
            log.error("Ray does not take back what was set aside", after_s=CONTROL_TIMEOUT_S)

    def _find(self, name: str) -> ray.actor.ActorHandle:
        try:
            return self._handles[name]
        except KeyError:
            raise NoSuchActor(f"there is no actor named {name!r}") from None


async def _ended_by_itself(handle: ray.actor.ActorHandle) -> bool:
    """Let the process of a stopped actor end as one that has done its work, not as one that was killed."""
    try:
        async with asyncio.timeout(EXIT_TIMEOUT_S):
            await handle.__ray_terminate__.remote()
    except TimeoutError:
        return False
    except ray.exceptions.RayActorError:
        pass  # that is how an exit is answered
    return True


def _with_history(now: ProcessStatistics, before: ProcessStatistics) -> ProcessStatistics:
    """`now`, knowing of the processes before it: a new one starts to count from nothing."""
    if now.pid == before.pid:
        return now._replace(process_restarts=before.process_restarts, lost=before.lost)
    handling = f" while handling {', '.join(before.actor.handling)}" if before.actor.handling else ""
    lost = f"process {before.pid} was lost{handling}, {before.memory_mb} MB resident when last seen"
    return now._replace(process_restarts=before.process_restarts + 1, lost=lost)
