"""The Python API: open a factory, let agents evolve, have tasks solved."""

import asyncio
import os
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from .actors.domains import domain_named, needs_store
from .actors.namespaces import DataAccess, clear, new_namespace
from .actors.student.actor import Student
from .cluster.data_plane.tiers import spawn_data_access, spawn_searcher
from .cluster.launch import needs_data_plane, spawn_actors, spawn_coordinator
from .cluster.preflight import check_model, check_run
from .cluster.run_folder import create_run_folder, lock_run_folder, open_run_folder, store_settings
from .configs.base_config import with_absolute_places
from .configs.data import DataSettings
from .configs.errors import BadInput
from .configs.load import YamlValue, load_settings
from .configs.settings import RuntimeSettings, Settings
from .data import DataPlane
from .messages.adapters import AdapterRef
from .messages.data import BlobInfo, CachedBlob, Format, IngestReport
from .messages.episodes import Solution, SolveTask
from .messages.runs import StartRun
from .messages.search import Passage
from .messages.tasks import Task
from .run import Run, extended, open_run, read_state, student_of
from .runtime.engines.actor import InferenceEngine
from .runtime.on_ray.address import cluster_address
from .runtime.system import ActorSystem
from .runtime.telemetry import LogSettings
from .training.adapter_files import read_adapter

if TYPE_CHECKING:
    from .runtime.on_ray.session import RaySession

SOLVE_TIMEOUT_S = 600.0
Transport = Literal["ray", "local"]


class Factory:
    """A way into the system. Open it with `Factory.open`; whatever it started ends with the block."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._stack = AsyncExitStack()
        self._ray: RaySession | None = None
        self._data: dict[DataSettings, DataPlane] = {}
        self._opening_data = asyncio.Lock()
        self.on_starting: Callable[[str], None] = lambda what: None
        """Told what is being started, for a progress display."""
        self.on_logging: Callable[[LogSettings], None] = lambda logging: None
        """Told how a run's actors log, before any starts; `configure_logging` here logs there, too."""

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        preset: str | Settings = "laptop",
        *,
        transport: Transport | None = None,
        overrides: Mapping[str, YamlValue] | None = None,
    ) -> AsyncIterator[Self]:
        """Open a factory with a preset's name, a settings file or ready settings.

        `overrides` maps dotted keys, such as `loop.rounds`, to values. Raises SettingsError.
        """
        changes = dict(overrides or {})
        if transport is not None:
            changes["runtime.transport"] = transport
        settings = preset if isinstance(preset, Settings) else load_settings(preset, changes)
        factory = cls(settings)
        async with factory._stack:
            yield factory

    async def evolve(
        self, *, rounds: int | None = None, seed: int | None = None, run_dir: str | Path | None = None
    ) -> "Run":
        """Start a new run. Iterate over it for its events, then ask for its `result()`."""
        settings = self.settings
        if rounds is not None:
            settings = _with(settings, loop=settings.loop.model_copy(update={"rounds": rounds}))
        if seed is not None:
            settings = _with(settings, seed=seed)
        settings = with_absolute_places(settings)
        await check_run(settings, joins=_joins_cluster(settings.runtime))
        new = create_run_folder(settings, Path(run_dir) if run_dir is not None else None)
        self._stack.callback(new.discard_unless_begun)  # after everything that runs in it
        return await self._start(settings, new.folder)

    async def resume(self, run_dir: str | Path, *, rounds: int | None = None) -> "Run":
        """Go on with a run where its journal ends; `rounds`: of the whole run, kept from now on.

        Raises BadInput for a folder that is none, or whose journal is gone or damaged.
        """
        folder, settings, state = open_run(Path(run_dir))
        if rounds is not None:
            settings = extended(settings, state, rounds)
        if self.settings.runtime.transport != settings.runtime.transport:
            settings = _with(settings, runtime=self.settings.runtime)
        await check_run(settings, joins=_joins_cluster(settings.runtime))
        return await self._start(settings, folder, store=rounds is not None)

    async def solve(
        self,
        task: str | Task,
        *,
        run_dir: str | Path | None = None,
        version: int | None = None,
        temperature: float = 0.0,
    ) -> Solution:
        """Have one task solved by a version of a run (the newest), or else by the base model.

        Greedily, unless a temperature is given. Runs in this process, whatever the transport of the
        settings. Raises BadInput, also for a version that the run does not have.
        """
        settings, adapter = self.settings, AdapterRef(policy="student", version=0)
        folder = None
        if run_dir is not None:
            folder, settings = open_run_folder(Path(run_dir))
            settings = _with(settings, data=settings.data_for(folder))
            adapter = student_of(read_state(folder, settings), version)
        elif version:
            raise BadInput(f"version {version} of which run? Without one there is only the base model (0)")
        asked = task if isinstance(task, Task) else parse_task(task, settings)
        await check_model(settings.model, settings.engine)
        async with ActorSystem.open("local", stall_s=settings.runtime.stall_s) as system:
            data = await self._data_access(system, settings) if needs_store(asked.domain) else None
            self.on_starting("engine")
            engine = await system.spawn(InferenceEngine, settings.model, settings.engine, name="engine")
            searcher = None
            if tags := settings.student.retrieve.tags:
                searcher = await spawn_searcher(system, (await self._open_data(settings.data)).settings, tags)
            self.on_starting("student")
            student = await system.spawn(
                Student, settings.student, settings.model, engine, searcher, data, name="student"
            )
            if folder is not None and adapter.version:
                await engine.ask(read_adapter(folder, adapter), timeout_s=SOLVE_TIMEOUT_S)
            episode_id = uuid.uuid4().hex
            space = new_namespace("solve", episode_id) if data else ""
            request = SolveTask(
                episode_id=episode_id,
                task=asked,
                adapter=adapter,
                pinned=True,
                temperature=temperature,
                space=space,
            )
            try:
                return await student.ask(request, timeout_s=SOLVE_TIMEOUT_S)
            finally:
                if data:
                    await clear(data, [space])

    async def data(self) -> DataPlane:
        """The data plane: the one that is up, or one of this factory's own, opened when first asked for.

        Raises BadInput, CannotStart, BridgeDown.
        """
        return await self._open_data(self.settings.data)

    async def ingest(self, src: str | Sequence[str], *, tag: str, format: Format = "arrow") -> IngestReport:
        """Store what URIs name under a tag (see `DataPlane.ingest`)."""
        return await (await self.data()).ingest(src, tag=tag, format=format)

    async def query(self, tag_pattern: str = "*", blob_pattern: str = "*") -> tuple[CachedBlob, ...]:
        """Blobs in the cache."""
        return await (await self.data()).query(tag_pattern, blob_pattern)

    async def get(self, tag: str, name: str, *, force: bool = False, original: bool = False) -> bytes:
        """A blob's bytes, from the cache where it has them; `original`: of a table, the file as it was."""
        return await (await self.data()).get(tag, name, force=force, original=original)

    async def list_blobs(
        self, tag_pattern: str = "*", blob_pattern: str = "*", *, hidden: bool = False
    ) -> AsyncIterator[BlobInfo]:
        """Blobs in the store; `hidden`: also under tags that begin with a dot."""
        async for blob in (await self.data()).list(tag_pattern, blob_pattern, hidden=hidden):
            yield blob

    async def search(self, tag: str, question: str, k: int = 5) -> tuple[Passage, ...]:
        """The passages under a tag that speak of a question, the best first (see `DataPlane.search`)."""
        return await (await self.data()).search(tag, question, k)

    async def prune(self, tag: str, names: Sequence[str] = ()) -> tuple[str, ...]:
        """Let the cache forget; the store keeps."""
        return await (await self.data()).prune(tag, names)

    async def destroy(self, *tags: str) -> int:
        """Remove tags and all their blobs for good; how many blobs."""
        return await (await self.data()).destroy(*tags)

    async def _data_access(self, system: ActorSystem, settings: Settings) -> DataAccess:
        return await spawn_data_access(system, (await self._open_data(settings.data)).settings)

    async def _open_data(self, settings: DataSettings) -> DataPlane:
        async with self._opening_data:
            if settings not in self._data:  # a run's folder may name another one than this factory's settings
                self.on_starting("data plane")
                self._data[settings] = await self._stack.enter_async_context(DataPlane.open(settings))
        return self._data[settings]

    async def _start(self, settings: Settings, folder: Path, *, store: bool = False) -> "Run":
        self._stack.enter_context(lock_run_folder(folder))
        runtime = settings.runtime
        logging = LogSettings(level=runtime.log_level, format=runtime.log_format, folder=str(folder / "logs"))
        self.on_logging(logging)
        if store:
            store_settings(folder, settings)
        data = await self._open_below(settings, folder)
        system = await self._stack.enter_async_context(
            ActorSystem.open(
                runtime.transport,
                mailbox=runtime.mailbox,
                max_restarts=runtime.max_restarts,
                backoff_s=runtime.restart_backoff_s,
                stall_s=runtime.stall_s,
                logging=logging,
            )
        )
        events = await system.topics.subscribe()
        self.on_starting("engine, teacher, students, verifier, sink, trainer")
        crew = await spawn_actors(system, settings, folder, data)
        self.on_starting("coordinator")
        coordinator = await spawn_coordinator(system, settings, folder, crew)
        await coordinator.ask(StartRun(), timeout_s=30.0)
        return Run(folder, settings, system, coordinator, events)

    async def _open_below(self, settings: Settings, folder: Path) -> DataSettings | None:
        """Ray and the data plane, at the same time where both are to be started: each mostly waits for its
        processes. A cluster that is to be joined comes first, since it may not be there."""
        ray: asyncio.Task[None] | None = None
        with_data = needs_data_plane(settings)
        if settings.runtime.transport == "ray":
            ray = asyncio.create_task(self._ensure_ray(settings.runtime))
            if not with_data or cluster_address() is not None:
                await ray
        try:
            return (await self._open_data(settings.data_for(folder))).settings if with_data else None
        finally:
            if ray is not None:
                await ray

    async def _ensure_ray(self, runtime: RuntimeSettings) -> None:
        if self._ray is not None:
            return
        from .runtime.on_ray.session import ray_session

        self.on_starting("Ray")
        self._ray = await self._stack.enter_async_context(ray_session(dashboard=runtime.dashboard))

    @property
    def dashboard_url(self) -> str:
        """URL of Ray's dashboard; empty where there is none."""
        return self._ray.dashboard_url if self._ray is not None else ""


def _joins_cluster(runtime: RuntimeSettings) -> bool:
    return runtime.transport == "ray" and cluster_address() is not None


def _with(settings: Settings, **changes: object) -> Settings:
    """The settings with changes, checked again."""
    return Settings.model_validate({**settings.model_dump(), **{k: _plain(v) for k, v in changes.items()}})


def _plain(value: object) -> object:
    from pydantic import BaseModel

    return value.model_dump() if isinstance(value, BaseModel) else value


def parse_task(text: str, settings: Settings) -> Task:
    """The task that a text asks for, in the domain that knows it. Raises BadInput for an empty one."""
    with suppress(UnicodeEncodeError):
        text = os.fsencode(text).decode("utf-8", "replace")  # an argument not in the terminal's encoding
    text = text.encode("utf-8", "replace").decode()  # half a character, which no tokenizer takes
    if not text.strip():
        raise BadInput("the task is empty; expected something to solve, such as 'What is 12*(7+5)?'")
    return Task(
        id=uuid.uuid4().hex[:12],
        domain=_domain_of(text.strip(), settings),
        description=text.strip(),
        difficulty=0.5,
        reference_kind="none",
        created_at=time.time(),
    )


def _domain_of(text: str, settings: Settings) -> str:
    """The first of the run's domains that can tell what the answer is; else the first of all."""
    domains = tuple(dict.fromkeys(settings.curriculum.domains))
    if len(domains) > 1:
        library = Path(settings.data.locate_library())
        for name in domains:
            checked = domain_named(name).task_generator(library).check(f"Task: {text}", difficulty=0.5)
            if checked is not None and checked.reference is not None:
                return name
    return domains[0]
