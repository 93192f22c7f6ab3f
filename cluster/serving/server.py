"""From settings to a server that answers, and its end.

The engine is an actor of a system of its own; the HTTP side runs beside it in this process.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

from ...configs.errors import SettingsError
from ...configs.http_servers import ServingSettings
from ...configs.models import EngineSettings, ModelSettings
from ...messages.adapters import LoadAdapter
from ...runtime.engines.actor import InferenceEngine
from ...runtime.engines.chat.format import ChatFormat
from ...runtime.engines.pool import EnginePool
from ...runtime.system import ActorSystem
from ...training.adapter_files import read_adapter
from ..placement import reserve_gpus
from ..run_folder import newest_versions
from .context_length import fit_context
from .generation import Sampler
from .http_server import bind, read_api_keys, running, url_of, wait_for_shutdown
from .routes import build
from .served_model import ServedModel


class ServingPlan(NamedTuple):
    """Model to serve, and where."""

    model: ModelSettings
    engine: EngineSettings
    serving: ServingSettings
    run_dir: Path | None = None
    """The run whose adapters are served."""
    transport: Literal["local", "ray"] = "local"
    """Where the engine's replicas live: in this process, or in processes of their own on a cluster."""
    own_context: bool = False
    """The engine's context is the model's own, as far as the memory holds it."""


@asynccontextmanager
async def opened(system: ActorSystem, plan: ServingPlan) -> AsyncIterator[ServedModel]:
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
    yield ServedModel(sampler, chat, models, plan.serving)


async def serve(plan: ServingPlan, watch: Callable[[str], None] = lambda _: None) -> None:
    """Serve until a signal ends it. Raises BadInput, and ActorDown when the engine is gone for good."""
    keys = read_api_keys(plan.serving)
    with bind(plan.serving) as listening:
        watch(f"loading {_name(plan.model)}")
        plan = await _with_context(plan, watch)
        async with (
            _cluster(plan),
            ActorSystem.open(plan.transport) as system,
            opened(system, plan) as service,
            running(build(service, keys), plan.serving.drain_s, listening) as server,
        ):
            watch(f"serving {', '.join(service.names)} on {url_of(listening)}")
            await wait_for_shutdown(server, system)


async def _with_context(plan: ServingPlan, watch: Callable[[str], None]) -> ServingPlan:
    """With the model's own context, where it is to have that. Raises SettingsError."""
    if not plan.own_context:
        return plan
    try:
        engine, told = await asyncio.to_thread(fit_context, plan.model, plan.engine)
    except (OSError, ValueError) as error:
        raise SettingsError(
            f"model.source: {plan.model.source!r} has no configuration to read: {error}"
        ) from error
    if told:
        watch(told)
    return plan._replace(engine=engine)


@asynccontextmanager
async def _cluster(plan: ServingPlan) -> AsyncIterator[None]:
    """Ray, started or joined, where the plan asks for it."""
    if plan.transport == "local":
        yield
        return
    from ...runtime.on_ray.session import ray_session

    async with ray_session():
        yield


def _name(model: ModelSettings) -> str:
    """Name of the base model for clients: a folder's name, else what the settings say."""
    path = Path(model.source).expanduser()
    return path.resolve().name if model.source != "seed" and path.is_dir() else model.source
