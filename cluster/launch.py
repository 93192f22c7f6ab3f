"""Building the system: every role in its place, in the order in which they need one another."""

import asyncio
from functools import partial
from pathlib import Path

from ..actors.coordinator.actor import Coordinator
from ..actors.coordinator.peers import ActorRefs
from ..actors.domains import needs_store
from ..actors.namespaces import DataAccess
from ..actors.sink.actor import TrajectorySink
from ..actors.student.actor import Student
from ..actors.teacher.actor import Teacher
from ..actors.trainer import Trainer
from ..actors.verifier import Verifier
from ..configs.data import DataSettings
from ..configs.settings import Settings
from ..messages.adapters import Policy
from ..runtime.engines.actor import InferenceEngine
from ..runtime.engines.base import AdapterStoreFactory
from ..runtime.engines.pool import EnginePool
from ..runtime.ref import ActorRef, PoolRef, Ref
from ..runtime.system import ActorSystem
from ..runtime.tasks import task_group
from .adapters import open_adapter_store
from .data_plane.tiers import spawn_data_access, spawn_searcher
from .placement import GpuAllocation, reserve_gpus


def needs_data_plane(settings: Settings) -> bool:
    """True if a run of these settings works with the data plane. Raises BadInput for an unknown domain."""
    by_settings = bool(settings.searched_tags) or settings.trainer.publish == "store"
    return by_settings or _acts_on_store(settings)


def _acts_on_store(settings: Settings) -> bool:
    return any(needs_store(name) for name in settings.curriculum.domains)


async def spawn_actors(
    system: ActorSystem, settings: Settings, run_dir: Path, data: DataSettings | None = None
) -> ActorRefs:
    """Spawn everyone but the Coordinator, at the same time where they do not need one another.

    `data` says how to reach the data plane; None where the run needs none (`needs_data_plane`).
    """
    shelf = partial(open_adapter_store, data) if data and settings.trainer.publish == "store" else None
    gpus = await reserve_gpus(system, settings.model, settings.engine, trains=True)
    spawning = _Spawning(system, settings, run_dir, data, shelf, gpus)
    async with task_group() as group:
        for part in (
            spawning.trainer,
            spawning.engine,
            spawning.sink,
            spawning.data_access,
            spawning.searcher,
            spawning.engines_users,
            spawning.verifier,
        ):
            group.start_soon(part)
    return ActorRefs(
        engines=spawning.pools["engine"],
        teacher=spawning.actors["teacher"],
        students=spawning.pools["student"],
        verifier=spawning.pools["verifier"],
        sink=spawning.actors["sink"],
        trainer=spawning.actors["trainer"],
        topics=system.topics,
        open_adapter_store=shelf,
        data=spawning.access,
    )


class _Spawning:
    """State of a launch: the actors spawned so far, and how to spawn the rest."""

    def __init__(
        self,
        system: ActorSystem,
        settings: Settings,
        run_dir: Path,
        data: DataSettings | None,
        shelf: AdapterStoreFactory | None,
        gpus: GpuAllocation,
    ) -> None:
        self._system = system
        self._data = data
        self._shelf = shelf
        self._settings = settings
        self._run_dir = run_dir
        self._gpus = gpus
        self._ready = {name: asyncio.Event() for name in ("engine", "access", "searcher")}
        self.access: DataAccess | None = None
        self._searcher: Ref | None = None
        self.actors: dict[str, ActorRef] = {}
        self.pools: dict[str, PoolRef] = {}

    async def data_access(self) -> None:
        """What Students and judges of domains that act on the store work with; the others need none."""
        if self._data and _acts_on_store(self._settings):
            self.access = await spawn_data_access(self._system, self._data)
        self._ready["access"].set()

    async def searcher(self) -> None:
        """Spawn the Searcher of stored texts, where any are named."""
        if self._data and self._settings.searched_tags:
            self._searcher = await spawn_searcher(self._system, self._data, self._settings.searched_tags)
        self._ready["searcher"].set()

    async def engine(self) -> None:
        """The model's replicas."""
        settings = self._settings
        replicas = await self._system.spawn_pool(
            InferenceEngine,
            settings.model,
            settings.engine,
            self._shelf,
            name="engine",
            copies=settings.engine.copies,
            resources=self._gpus.replicas,
            mailbox=8192,
            start_timeout_s=settings.engine.start_timeout_s,
        )
        self.pools["engine"] = EnginePool("engine", replicas.members)
        self._ready["engine"].set()

    async def engines_users(self) -> None:
        """Students and Teacher, which hold refs to the engine and to the data plane's actors."""
        for each in self._ready.values():
            await each.wait()
        async with task_group() as group:
            group.start_soon(self._students)
            group.start_soon(self._teacher)

    async def _students(self) -> None:
        settings, engine = self._settings.student, self.pools["engine"]
        self.pools["student"] = await self._system.spawn_pool(
            Student,
            settings,
            self._settings.model,
            engine,
            self._searcher,
            self.access,
            name="student",
            copies=settings.copies,
            mailbox=8192,
        )

    async def _teacher(self) -> None:
        archive = self._run_dir / "teacher-archive.jsonl"
        engine = self.pools["engine"]
        self.actors["teacher"] = await self._system.spawn(
            Teacher,
            self._settings.teacher,
            self._settings.model,
            engine,
            archive,
            self._searcher,
            Path(self._settings.data.locate_library()),
            name="teacher",
        )

    async def verifier(self) -> None:
        """The graders are walled in like the tools, or allowed to be weak like them."""
        settings, weak = self._settings.verifier, self._settings.student.sandbox.allow_weak
        await self._ready["access"].wait()
        self.pools["verifier"] = await self._system.spawn_pool(
            Verifier,
            settings,
            weak,
            self.access.retriever if self.access else None,
            self._settings.curriculum.domains,
            name="verifier",
            copies=settings.copies,
        )

    async def sink(self) -> None:
        """The sink writes into the run's folder."""
        folder = self._run_dir / "trajectories"
        self.actors["sink"] = await self._system.spawn(
            TrajectorySink, self._settings.sink, folder, self._system.topics, name="sink"
        )

    async def trainer(self) -> None:
        """The Trainer holds an adapter for each policy that learns."""
        settings = self._settings
        policies: dict[Policy, float] = {"student": settings.student.temperature}
        if settings.teacher.train:
            policies["teacher"] = settings.teacher.temperature
        self.actors["trainer"] = await self._system.spawn(
            Trainer,
            settings.trainer,
            settings.model,
            policies,
            self._run_dir,
            settings.seed,
            self._shelf,
            name="trainer",
            resources=self._gpus.trainer,
        )


async def spawn_coordinator(
    system: ActorSystem, settings: Settings, run_dir: Path, crew: ActorRefs
) -> ActorRef:
    """Spawn the Coordinator; it waits for StartRun, or goes on where its journal ends."""
    return await system.spawn(Coordinator, settings, run_dir, crew, name="coordinator")
