"""Manager of open sessions and their data planes, each from the moment it is needed.

Nothing heavy is imported before something is opened, and then in a thread: a person can type meanwhile.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

from ..cluster.agents.blueprint_registry import BlueprintRegistry, apply_changes
from ..configs.agents.blueprints import Blueprint, read_blueprint
from ..configs.agents.settings import CoordinatorAgentSettings, check_models
from ..configs.data import DataSettings
from ..configs.load import YamlValue
from ..configs.yaml_core import parse_mapping
from ..runtime.owned_context import OwnedContext

if TYPE_CHECKING:
    from ..actors.agents.routing.dispatcher import CommandDispatcher
    from ..actors.agents.session import AgentSession
    from ..data import DataPlane

HEAVY = (
    "agentfactory.data",
    "agentfactory.sessions",
    "agentfactory.cluster.agents.routing",
    "agentfactory.bridge.client.client",
)
LOOK_MS = 1000
"""How long a bridge that a blueprint names may take to answer before it is taken to be not up."""


class _Open(NamedTuple):
    """A session, and the blueprint that it was opened from."""

    sha256: str
    held: "OwnedContext[AgentSession]"


class _Changed(NamedTuple):
    """A blueprint that was configured here."""

    values: dict[str, YamlValue]
    """As its file would have them."""
    blueprint: Blueprint


class SessionManager:
    """Opens what is asked for, and keeps it until `aclose`.

    A worked example::

        manager = SessionManager(BlueprintRegistry(), DataSettings())
        session = await manager.session("iowarp_agent")
        step = await session.command("load file::notes.md as docs")
        await manager.aclose()
    """

    def __init__(
        self,
        registry: BlueprintRegistry,
        data: DataSettings,
        *,
        record: bool = True,
        prepare: Callable[[], None] = lambda: None,
    ) -> None:
        """`record`: what agents do is kept as trajectories. `prepare` is called in a thread before the first
        thing is opened, to set up what is slow to import."""
        self._prepare = prepare
        self.registry = registry
        self._data = data
        self._record = record
        self._changed: dict[str, _Changed] = {}
        self._planes: dict[tuple[object, ...], OwnedContext[DataPlane]] = {}
        self._sessions: dict[str, _Open] = {}
        self._dispatchers: dict[str, tuple[str, OwnedContext[CommandDispatcher]]] = {}

    def blueprint(self, name: str) -> Blueprint:
        """As it is now: the registry's, unless it was configured here. Raises BadInput, SettingsError."""
        return self._changed[name].blueprint if name in self._changed else self.registry.get(name)

    def configure(self, name: str, changes: Mapping[str, YamlValue]) -> Blueprint:
        """Change a blueprint by dotted keys, here only; agents that are open are opened anew when needed.

        Raises SettingsError, with everything as it was.
        """
        values = apply_changes(self._values_of(name), changes)
        changed = read_blueprint(values, name)
        changed.data_settings(self._data)
        check_models(changed.agent)
        self._changed[name] = _Changed(values, changed)
        return changed

    def _values_of(self, name: str) -> dict[str, YamlValue]:
        if name in self._changed:
            return self._changed[name].values
        values = parse_mapping(self.registry.text(name))
        return {"agent": {"type": self.registry.get(name).agent.type}, **values}

    def prefetch(self, name: str) -> None:
        """Begin to open what this agent needs. What fails is told to whoever asks for it."""
        self._plane(self.blueprint(name))

    async def plane(self, name: str) -> "DataPlane":
        """The data plane that an agent works on. Raises BadInput, CannotStart, BridgeDown."""
        return await self._plane(self.blueprint(name)).get()

    async def session(self, name: str) -> "AgentSession":
        """The session of an agent. Raises what `plane` raises, and SettingsError."""
        blueprint = self.blueprint(name)
        known = self._sessions.get(name)
        if known is not None and (known.sha256 != blueprint.sha256() or known.held.failed):
            del self._sessions[name]
            await known.held.aclose()
            known = None
        if known is None:
            known = _Open(blueprint.sha256(), OwnedContext(self._opened(blueprint)))
            self._sessions[name] = known
        return await known.held.get()

    async def dispatcher(self, name: str) -> "CommandDispatcher | None":
        """Dispatcher of a coordinator's commands; None for an agent that is no coordinator."""
        blueprint = self.blueprint(name)
        if not isinstance(blueprint.agent, CoordinatorAgentSettings):
            return None
        digest, known = self._dispatchers.get(name, ("", None))
        if known is not None and (digest != blueprint.sha256() or known.failed):
            await known.aclose()
            known = None
        if known is None:
            known = OwnedContext(self._routing(blueprint))
            self._dispatchers[name] = (blueprint.sha256(), known)
        return await known.get()

    async def aclose(self) -> None:
        """Close all that is open, the youngest first."""
        held: list[OwnedContext[AgentSession] | OwnedContext[CommandDispatcher] | OwnedContext[DataPlane]] = [
            *(each.held for each in reversed(self._sessions.values())),
            *(each for _, each in reversed(self._dispatchers.values())),
            *reversed(self._planes.values()),
        ]
        self._sessions, self._dispatchers, self._planes = {}, {}, {}
        for each in held:
            await each.aclose()

    def _plane(self, blueprint: Blueprint) -> "OwnedContext[DataPlane]":
        wanted = blueprint.data_settings(self._data)
        where = (wanted.bridge.endpoints, wanted.cache.hosts)
        known = self._planes.get(where)
        if known is None or known.failed:
            # What the settings say too is this folder's data plane, on whatever port that runs.
            others = blueprint.iowarp.endpoints not in ((), self._data.bridge.endpoints)
            known = OwnedContext(self._open_plane(wanted, own_endpoints=others))
            self._planes[where] = known
        return known

    @asynccontextmanager
    async def _opened(self, blueprint: Blueprint) -> "AsyncIterator[AgentSession]":
        plane = await self._plane(blueprint).get()
        from ..sessions import open_session

        async with open_session(blueprint, plane, record=self._record) as session:
            yield session

    @asynccontextmanager
    async def _routing(self, blueprint: Blueprint) -> "AsyncIterator[CommandDispatcher]":
        plane = await self._plane(blueprint).get()
        from ..actors.agents.routing.dispatcher import CommandDispatcher
        from ..actors.agents.routing.rule_router import RuleRouter
        from ..cluster.agents.loader import rules_of
        from ..cluster.agents.routing import cards_of, open_router

        rules = RuleRouter(rules_of(blueprint).own)
        discover = cards_of(self.registry, blueprint, self._data)
        async with open_router(blueprint, rules, plane.settings.search.embedder) as router:
            yield CommandDispatcher(rules, router, discover, plane.topics.publish)

    @asynccontextmanager
    async def _open_plane(self, wanted: DataSettings, *, own_endpoints: bool) -> "AsyncIterator[DataPlane]":
        """The bridges that the blueprint names, where one answers; else the folder's, or one of our own."""
        await asyncio.to_thread(_load, self._prepare)
        from ..cluster.data_plane.services import running_plan
        from ..data import DataPlane, data_folder

        plan = running_plan(data_folder(wanted))
        up = plan is not None and plan.data.bridge.endpoints == wanted.bridge.endpoints
        served = own_endpoints and not up and await _answers(wanted)
        async with DataPlane.join(wanted) if served else DataPlane.open(wanted) as plane:
            for note in plane.notes:
                print(f"note: {note}", file=sys.stderr)
            yield plane


def _load(prepare: Callable[[], None]) -> None:
    prepare()
    for name in HEAVY:
        import_module(name)


async def _answers(wanted: DataSettings) -> bool:
    from ..bridge.client.client import BridgeClient
    from ..bridge.errors import BridgeDown

    brief = wanted.bridge.model_copy(update={"connect_timeout_ms": LOOK_MS})
    try:
        async with BridgeClient(brief):
            return True
    except BridgeDown:
        return False
