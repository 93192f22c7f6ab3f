"""From settings to a server that answers, and its end.

The engine is an actor of a system of its own; the HTTP side runs beside it in this process. At the first
signal the server takes nothing new, finishes what is in hand for `drain_s`, and ends; at the second one,
at once.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import uvicorn

from actors.coordinator.journal import read_journal
from cluster.gpus import reserve_gpus
from cluster.run_folder import JOURNAL
from cluster.serving.application import build
from cluster.serving.gate import is_loopback
from cluster.serving.sampler import Sampler
from cluster.serving.service import Service
from configs.errors import BadInput
from configs.models import EngineSettings, ModelSettings
from configs.serving import ServingSettings
from messages.adapters import AdapterRef, LoadAdapter, Policy
from messages.runs import StepFinished
from runtime.engines.actor import InferenceEngine
from runtime.engines.chat import ChatFormat
from runtime.engines.pool import EnginePool
from runtime.system import ActorSystem
from training.adapter_files import WEIGHTS_FILE, adapter_folder, read_adapter


class Plan(NamedTuple):
    """What to serve, and where."""

    model: ModelSettings
    engine: EngineSettings
    serving: ServingSettings
    run_dir: Path | None = None
    """The run whose adapters are served."""
    transport: Literal["local", "ray"] = "local"
    """Where the engine's replicas live: in this process, or in processes of their own on a cluster."""


def keys_of(settings: ServingSettings, environment: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """What clients may say who they are with. Raises BadInput where other machines need none."""
    given = environment.get(settings.api_key_env, "").split(",") if settings.api_key_env else ()
    keys = tuple(key.strip() for key in given if key.strip())
    if not keys and not is_loopback(settings.host):
        variable = settings.api_key_env or "(serving.api_key_env is empty)"
        raise BadInput(
            f"serving on {settings.host} needs a key that clients must know: put one into the environment "
            f"variable {variable}, or serve on 127.0.0.1"
        )
    return keys


def bind(settings: ServingSettings) -> socket.socket:
    """A socket that listens there. Raises BadInput."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family)
    except OSError as error:
        where = f"{settings.host}:{settings.port}"
        raise BadInput(f"{where}: cannot be served on ({error.strerror}); choose another --port") from error


def newest_versions(run_dir: Path, limit: int) -> tuple[AdapterRef, ...]:
    """Of each policy, the newest versions that the run's journal knows and its folder has, oldest first."""
    found: dict[Policy, dict[int, AdapterRef]] = {"student": {}, "teacher": {}}
    for entry in read_journal(run_dir / JOURNAL):
        if isinstance(entry, StepFinished):
            found[entry.policy][entry.adapter.version] = entry.adapter
    return tuple(
        versions[version]
        for policy, versions in found.items()
        for version in sorted(v for v in versions if _lies_there(run_dir, policy, v))[-limit:]
    )


@asynccontextmanager
async def opened(system: ActorSystem, plan: Plan) -> AsyncIterator[Service]:
    """The engine with its adapters. Raises what a model or an adapter that cannot be loaded raises."""
    chat = await asyncio.to_thread(ChatFormat.load, plan.model.locate())
    files: dict[str, Callable[[], LoadAdapter]] = {}
    if plan.run_dir is not None:
        for adapter in newest_versions(plan.run_dir, plan.serving.versions):
            files[str(adapter.name)] = partial(read_adapter, plan.run_dir, adapter)
    gpus = await reserve_gpus(system, plan.model, plan.engine, trains=False)
    replicas = await system.spawn_pool(
        InferenceEngine,
        plan.model,
        plan.engine,
        name="engine",
        copies=plan.engine.copies,
        resources=gpus.replicas,
        mailbox=4 * plan.serving.max_requests,
        start_timeout_s=plan.engine.start_timeout_s,
    )
    engine = EnginePool("engine", replicas.members)
    sampler = Sampler(engine, files, plan.serving.timeout_s)
    await sampler.load_all()
    models: dict[str, str | None] = {_name(plan.model): None}
    models |= {name: name for name in files}
    yield Service(sampler, chat, models, plan.serving)


async def serve(plan: Plan, watch: Callable[[str], None] = lambda _: None) -> None:
    """Serve until a signal ends it. Raises BadInput, and ActorDown when the engine is gone for good."""
    keys = keys_of(plan.serving)
    with bind(plan.serving) as listening:
        watch(f"loading {_name(plan.model)}")
        async with (
            _cluster(plan),
            ActorSystem.open(plan.transport) as system,
            opened(system, plan) as service,
            running(service, keys, listening) as server,
        ):
            watch(f"serving {', '.join(service.names)} on {url_of(listening)}")
            await _end_of(server, system)


@asynccontextmanager
async def _cluster(plan: Plan) -> AsyncIterator[None]:
    """Ray, started or joined, where the plan asks for it."""
    if plan.transport == "local":
        yield
        return
    from runtime.on_ray.session import ray_session

    async with ray_session():
        yield


@asynccontextmanager
async def running(service: Service, keys: tuple[str, ...], listening: socket.socket) -> AsyncIterator[Server]:
    """The HTTP side; leaving the block drains it."""
    server = Server(
        uvicorn.Config(
            build(service, keys),
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=service.settings.drain_s,
        )
    )
    serving = asyncio.create_task(server.serve([listening]), name="http")
    try:
        await server.up.wait()
        yield server
    finally:
        server.should_exit = True
        await serving


class Server(uvicorn.Server):
    """uvicorn's, but a signal only ends it: what comes after still has things to put in order."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()
        """Set when it answers, and listens to signals."""
        self.ended = asyncio.Event()
        """Set when it has been asked to end."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's, which tells nobody."""
        try:
            await super().startup(sockets)
        finally:
            self.up.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Listen to the signals without sending them on afterwards."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._asked, number)
        try:
            yield
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)

    def _asked(self, number: int) -> None:
        self.force_exit = self.ended.is_set()
        self.should_exit = True
        self.ended.set()


def url_of(listening: socket.socket) -> str:
    """Where clients find it."""
    host, port = listening.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/v1"


async def _end_of(server: Server, system: ActorSystem) -> None:
    """Wait until somebody asks for the end, or the engine is gone for good. Raises ActorDown then."""
    asked = asyncio.ensure_future(server.ended.wait())
    lost = asyncio.ensure_future(system.wait_given_up())
    try:
        await asyncio.wait((asked, lost), return_when=asyncio.FIRST_COMPLETED)
        if lost.done():
            raise lost.result()
    finally:
        asked.cancel()
        lost.cancel()


def _name(model: ModelSettings) -> str:
    """What clients call the base model: a folder's name, else what the settings say."""
    path = Path(model.source).expanduser()
    return path.resolve().name if model.source != "seed" and path.is_dir() else model.source


def _lies_there(run_dir: Path, policy: Policy, version: int) -> bool:
    return (adapter_folder(run_dir, policy, version) / WEIGHTS_FILE).is_file()
