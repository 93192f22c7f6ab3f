"""Publisher of new versions: loaded on every replica, confirmed, and only then sampled with.

Each version has a name of its own, so an engine can never serve an old one under a new name. A replica
that cannot load a version is taken out until it can; where none can, the old version stays in use. A
version's files come with the message, or lie in an adapter store that the replicas fetch them from; there
they stay until the version is retired or the run ends.
"""

import time
from collections.abc import Iterable
from contextlib import suppress

import anyio
import structlog

from ...configs.errors import AgentFactoryError
from ...messages.adapters import (
    AdapterPublished,
    AdapterRef,
    FetchAdapter,
    LoadAdapter,
    Policy,
    SetPolicyVersion,
    UnloadAdapter,
)
from ...runtime.engines.base import AdapterRejected, AdapterStore, UnknownAdapter
from ...runtime.ref import ActorRef, PoolRef, Ref, ask_with_retry
from ...runtime.tasks import task_group
from ...runtime.topics import Topics
from ...training.adapter_files import with_location

log = structlog.get_logger("coordinator")
LOAD_TIMEOUT_S = 120.0


class PolicyPublisher:
    """Keeps the engines and the actors that sample in step with the versions in use."""

    def __init__(self, engines: PoolRef, students: PoolRef, teacher: Ref, topics: Topics) -> None:
        self._engines = engines
        self._students = students
        self._teacher = teacher
        self._topics = topics
        self._adapter_store: AdapterStore | None = None
        self.tag = ""
        """Under which new versions are put in the adapter store; empty where there is none."""
        self._live: dict[str, LoadAdapter | FetchAdapter] = {}
        self._current: dict[Policy, AdapterRef] = {
            "student": AdapterRef(policy="student", version=0),
            "teacher": AdapterRef(policy="teacher", version=0),
        }
        self._out: frozenset[str] = frozenset()
        """Replicas that lack a version in use."""
        self._reloading = anyio.Lock()
        self._reloaded_at = -1.0

    def current(self, policy: Policy) -> AdapterRef:
        """The version in use."""
        return self._current[policy]

    def use_adapter_store(self, store: AdapterStore, tag: str) -> None:
        """From now on versions lie in this store, under this tag."""
        self._adapter_store = store
        self.tag = tag

    async def restore(self, files: LoadAdapter) -> None:
        """Bring back a version from its files, which the store may lack. Raises what `publish` raises."""
        if self._adapter_store is None:
            return await self.publish(files)
        located = with_location(files, self.tag)
        await self._adapter_store.put(located)
        await self.publish(FetchAdapter(adapter=located.adapter))

    async def publish(self, message: LoadAdapter | FetchAdapter) -> None:
        """Load everywhere, then use. Where no replica takes it: raises the error, with nothing changed."""
        began = time.monotonic()
        adapter = message.adapter
        assert adapter.name is not None
        self._out |= await self._load(message)
        self._live[adapter.name] = message
        self._current[adapter.policy] = adapter
        if self._out:
            await self._load_all()  # once more, and whatever else they lack
        await self._announce(adapter)
        load_s = time.monotonic() - began
        await self._topics.publish(AdapterPublished(adapter=adapter, load_s=load_s))

    async def reload(self) -> None:
        """Make sure that every replica has every live version: one may have been restarted."""
        asked_at = time.monotonic()
        async with self._reloading:
            if asked_at < self._reloaded_at:
                return  # someone did it while we waited
            began, out = time.monotonic(), self._out
            await self._load_all()
            self._reloaded_at = began
            if self._out or out:  # also for whoever was restarted meanwhile
                for adapter in self._current.values():
                    await self._announce(adapter)

    async def retire(self, policy: Policy, keep: Iterable[int]) -> None:
        """Unload the versions of a policy other than these; waits for what still runs on them."""
        kept = {AdapterRef(policy=policy, version=version).name for version in keep}
        for name, message in list(self._live.items()):
            if message.adapter.policy == policy and name not in kept:
                del self._live[name]
                for engine in self._engines.members:
                    await self._unload(engine, name)
                await self._remove_from_store(message.adapter)

    async def clear_adapter_store(self) -> None:
        """The run has ended: its folder keeps every version, the adapter store none."""
        if self._adapter_store is not None:
            try:
                await self._adapter_store.clear(self.tag)
            except AgentFactoryError as error:
                log.warning("adapters stay in the data plane", tag=self.tag, reason=str(error))

    async def _remove_from_store(self, adapter: AdapterRef) -> None:
        if self._adapter_store is not None and adapter.tag:
            async with self._reloading:  # which may be fetching it
                try:
                    await self._adapter_store.remove(adapter)
                except AgentFactoryError as error:  # it goes with the run's tag
                    log.warning("an adapter stays in the data plane", name=adapter.name, reason=str(error))

    async def _unload(self, engine: Ref, name: str) -> None:
        with suppress(UnknownAdapter):  # this replica was restarted meanwhile and never had it
            await ask_with_retry(engine, UnloadAdapter(name=name), timeout_s=LOAD_TIMEOUT_S)

    async def _announce(self, adapter: AdapterRef) -> None:
        message = SetPolicyVersion(adapter=adapter, avoid=tuple(sorted(self._out)))
        if adapter.policy == "student":
            await self._students.broadcast(message)
        else:
            await self._teacher.tell(message)

    async def _load_all(self) -> None:
        """Give every replica every live version; those that then lack one are out."""
        out: set[str] = set()
        for name in list(self._live):
            message = self._live.get(name)  # it may be retired while the others are loaded
            if message is not None:
                out |= await self._load(message)
        self._out = frozenset(out)

    async def _load(self, message: LoadAdapter | FetchAdapter) -> frozenset[str]:
        """Load on every replica; who could not. Raises the first error if nobody could."""
        name = message.adapter.name
        errors: dict[str, AgentFactoryError] = {}

        async def load(engine: ActorRef) -> None:
            try:
                loaded = await ask_with_retry(engine, message, timeout_s=LOAD_TIMEOUT_S)
                if name not in loaded.names:
                    errors[engine.name] = AdapterRejected(f"{engine.name} did not confirm {name}")
            except AgentFactoryError as error:
                errors[engine.name] = error

        async with task_group() as group:
            for engine in self._engines.members:
                group.start_soon(load, engine)
        if len(errors) == len(self._engines.members):
            raise next(iter(errors.values()))
        for engine_name, error in errors.items():
            log.error("a replica is taken out", engine=engine_name, adapter=name, reason=str(error))
        return frozenset(errors)
