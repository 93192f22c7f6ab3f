"""The Python API: open a factory, let agents evolve, have tasks solved."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from actors.coordinator.journal import read_journal
from actors.coordinator.state import RunState
from actors.spaces import DataAccess, clear, new_space
from actors.student.actor import Student
from agentfactory.data import DataPlane
from agentfactory.question import task_of
from agentfactory.report.result import run_result
from cluster.crew import spawn_coordinator, spawn_crew
from cluster.data_plane import spawn_data_access, spawn_searcher
from cluster.run_folder import JOURNAL, create_run_folder, hold, open_run_folder
from configs.data import DataSettings
from configs.errors import AgentFactoryError, BadInput
from configs.files import write_atomically
from configs.load import YamlValue, load_settings
from configs.settings import RuntimeSettings, Settings
from messages.adapters import AdapterRef
from messages.base import Event
from messages.blobs import BlobInfo
from messages.data import CachedBlob, Format, IngestReport
from messages.episodes import Solution, SolveTask
from messages.runs import DescribeRun, DrainRun, RunFailed, RunFinished, RunResult, StartRun
from messages.search import Passage
from messages.tasks import Task
from runtime.engines.actor import InferenceEngine
from runtime.errors import ActorDown
from runtime.ref import ActorRef
from runtime.system import ActorSystem
from runtime.telemetry import LogSettings
from runtime.topics import Subscription
from training.adapter_files import read_adapter

if TYPE_CHECKING:
    from runtime.on_ray.session import RaySession

SOLVE_TIMEOUT_S = 600.0
Transport = Literal["ray", "local"]


class RunError(AgentFactoryError):
    """A run ended badly; the message says why and how to go on."""

    def __init__(self, reason: str, run_dir: Path, exit_code: int = 1) -> None:
        super().__init__(reason, run_dir, exit_code)
        self.reason = reason
        self.run_dir = run_dir
        self.exit_code = exit_code  # type: ignore[misc]  # an instance may differ from its class

    def __str__(self) -> str:
        return (
            f"{self.reason.rstrip('.')}. The run is saved: `agentfactory resume {self.run_dir}` goes on, "
            f"and {self.run_dir / 'logs'} has the details"
        )


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
        settings.model.locate()  # a missing model is found before anything is written
        folder = create_run_folder(settings, Path(run_dir) if run_dir is not None else None)
        return await self._start(settings, folder)

    async def resume(self, run_dir: str | Path) -> "Run":
        """Go on with a run where its journal ends. Raises BadInput for a folder that is none."""
        folder, settings = open_run_folder(Path(run_dir))
        if self.settings.runtime.transport != settings.runtime.transport:
            settings = _with(settings, runtime=self.settings.runtime)
        settings.model.locate()
        if (folder / JOURNAL).exists():
            for _ in read_journal(folder / JOURNAL):
                pass  # a damaged journal is reported before anything starts
        return await self._start(settings, folder)

    async def solve(self, task: str | Task, *, run_dir: str | Path | None = None) -> Solution:
        """Have one task solved by the newest version of a run, or else by the base model.

        Runs in this process, whatever the transport of the settings.
        """
        settings, adapter = self.settings, AdapterRef(policy="student", version=0)
        folder = None
        if run_dir is not None:
            folder, settings = open_run_folder(Path(run_dir))
            settings = _with(settings, data=settings.data_for(folder))
            adapter = read_state(folder, settings).adapters["student"]
        asked = task if isinstance(task, Task) else task_of(task, settings)
        async with ActorSystem.open("local", stall_s=settings.runtime.stall_s) as system:
            data = await self._data_access(system, settings) if asked.domain == "data" else None
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
            space = new_space("solve", episode_id) if data else ""
            request = SolveTask(episode_id=episode_id, task=asked, adapter=adapter, pinned=True, space=space)
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
        """What the cache holds."""
        return await (await self.data()).query(tag_pattern, blob_pattern)

    async def get(self, tag: str, name: str, *, force: bool = False, original: bool = False) -> bytes:
        """A blob's bytes, from the cache where it has them; `original`: of a table, the file as it was."""
        return await (await self.data()).get(tag, name, force=force, original=original)

    async def list_blobs(
        self, tag_pattern: str = "*", blob_pattern: str = "*", *, hidden: bool = False
    ) -> AsyncIterator[BlobInfo]:
        """What the store holds; `hidden`: also under tags that begin with a dot."""
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

    async def _start(self, settings: Settings, folder: Path) -> "Run":
        self._stack.enter_context(hold(folder))
        runtime = settings.runtime
        if runtime.transport == "ray":
            await self._ensure_ray(runtime)
        logging = LogSettings(level=runtime.log_level, format=runtime.log_format, folder=str(folder / "logs"))
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
        data = (await self._open_data(settings.data_for(folder))).settings if settings.needs_data else None
        events = await system.topics.subscribe()
        self.on_starting("engine, teacher, students, verifier, sink, trainer")
        crew = await spawn_crew(system, settings, folder, data)
        self.on_starting("coordinator")
        coordinator = await spawn_coordinator(system, settings, folder, crew)
        await coordinator.ask(StartRun(), timeout_s=30.0)
        return Run(folder, settings, system, coordinator, events)

    async def _ensure_ray(self, runtime: RuntimeSettings) -> None:
        if self._ray is not None:
            return
        from runtime.on_ray.session import ray_session

        self.on_starting("Ray")
        self._ray = await self._stack.enter_async_context(ray_session(dashboard=runtime.dashboard))

    @property
    def dashboard_url(self) -> str:
        """Where Ray's dashboard is; empty where there is none."""
        return self._ray.dashboard_url if self._ray is not None else ""


class Run:
    """A run under way: an async iterator over its events.

    The run itself does not depend on being watched. `result` waits for its end.
    """

    def __init__(
        self,
        folder: Path,
        settings: Settings,
        system: ActorSystem,
        coordinator: ActorRef,
        events: Subscription,
    ) -> None:
        self.run_dir = folder
        self.settings = settings
        self.system = system
        self._coordinator = coordinator
        self._events = events
        self._end: RunFinished | RunFailed | None = None

    async def __aiter__(self) -> AsyncIterator[Event]:
        """Events as they happen, until the run has ended. Raises RunError if an actor is lost for good."""
        given_up = asyncio.ensure_future(self.system.wait_given_up())
        try:
            while self._end is None:
                for event in await self._next(given_up):
                    if isinstance(event, RunFinished | RunFailed):
                        self._end = event
                    yield event
        finally:
            given_up.cancel()

    async def result(self) -> RunResult:
        """What the run came to, also kept as `run.json`. Raises RunError for one that failed."""
        async for _ in self:
            pass
        if isinstance(self._end, RunFailed):
            raise RunError(self._end.reason, self.run_dir, self._end.exit_code)
        result = run_result(self.run_dir, read_state(self.run_dir, self.settings))
        write_atomically(self.run_dir / "run.json", result.model_dump_json(indent=2).encode())
        return result

    @property
    def drained(self) -> bool:
        """Whether it ended because it was asked to, with work left for `resume`."""
        return isinstance(self._end, RunFinished) and self._end.reason == "drained"

    async def drain(self) -> None:
        """Lease nothing new, finish what runs, save, end."""
        timeout_s = self.settings.loop.drain_timeout_s + 30.0
        await self._coordinator.ask(DrainRun(), timeout_s=timeout_s)

    async def _next(self, given_up: "asyncio.Future[ActorDown]") -> tuple[Event, ...]:
        taking = asyncio.ensure_future(self._events.take())
        try:
            await asyncio.wait((taking, given_up), return_when=asyncio.FIRST_COMPLETED)
            if given_up.done():
                down = given_up.result()
                raise RunError(str(down), self.run_dir) from down
            events = await taking
        finally:
            taking.cancel()
        if not events:  # silence: make sure that somebody is still there
            await self._coordinator.ask(DescribeRun(), timeout_s=60.0)
        return events


def read_state(folder: Path, settings: Settings) -> RunState:
    """What a run has come to, from its journal. Raises BadInput."""
    state = RunState(settings.curriculum)
    if not (folder / JOURNAL).exists():
        raise BadInput(f"{folder}: the run has no {JOURNAL}: it ended before it began")
    for entry in read_journal(folder / JOURNAL):
        state.apply(entry)
    return state


def _with(settings: Settings, **changes: object) -> Settings:
    """The settings with changes, checked again."""
    return Settings.model_validate({**settings.model_dump(), **{k: _plain(v) for k, v in changes.items()}})


def _plain(value: object) -> object:
    from pydantic import BaseModel

    return value.model_dump() if isinstance(value, BaseModel) else value
