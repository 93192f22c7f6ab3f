"""The blueprints as they are deployed."""

from pathlib import Path

from .agent_versions import AgentVersion
from .blueprint_registry import OWN, SHIPPED, BlueprintRegistry, Listed
from .blueprints import Blueprint
from .version_store import VersionStore


class DeployedRegistry(BlueprintRegistry):
    """As a `BlueprintRegistry`, but of an agent that has a version in use it gives that version's blueprint,
    whatever has become of the file since. An agent of which no version was deployed is as its file has it.
    """

    def __init__(self, store: VersionStore, shipped: Path = SHIPPED, own: Path | str = OWN) -> None:
        super().__init__(shipped, own)
        self._store = store
        self._known: dict[tuple[str, int], Blueprint] = {}
        """Versions do not change: each is read once."""

    def get(self, name: str, revision: int | None = None) -> Blueprint:
        """See `BlueprintRegistry.get`."""
        found = super().get(name, revision)
        version = self._in_use(name, revision)
        return self._read(name, version) if version is not None else found

    def text(self, name: str, revision: int | None = None) -> str:
        """See `BlueprintRegistry.text`."""
        found = super().text(name, revision)
        version = self._in_use(name, revision)
        return version.makeup.blueprint if version is not None else found

    def listed(self) -> tuple[Listed, ...]:
        """See `BlueprintRegistry.listed`."""
        return tuple(each._replace(blueprint=self._deployed(each)) for each in super().listed())

    def _deployed(self, each: Listed) -> Blueprint:
        name = each.blueprint.name
        version = self._in_use(name, None)
        return self._read(name, version) if version is not None else each.blueprint

    def _read(self, name: str, version: AgentVersion) -> Blueprint:
        key = (name, version.number)
        if key not in self._known:
            self._known[key] = version.makeup.read()
        return self._known[key]

    def _in_use(self, name: str, revision: int | None) -> AgentVersion | None:
        return self._store.record(name).in_use if revision is None else None
