"""Stores of agents' versions: a record a file, and the blueprints as they are deployed.

A record is replaced whole under the folder's lock.
"""

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from ...configs.agents.blueprints import NAME, SHIPPED, Blueprint
from ...configs.agents.evaluation import EvaluationRecord
from ...configs.errors import BadInput, SettingsError
from ...configs.files import locked, write_atomically
from ...configs.load import format_validation_error
from ...configs.settings import AgentPaths
from .blueprint_registry import OWN, BlueprintRegistry, RegistryEntry
from .versions import AgentManifest, AgentRecord, AgentVersion

FOLDER: Final = AgentPaths().versions


class VersionStore:
    """Versions of agents, by the agents' names. All of it raises SettingsError for a file that is damaged,
    and whatever changes something raises CannotWrite; nothing is changed then.

    A worked example::

        version = store.add("mine", makeup)            # TRAIN
        store.begin("mine", version.number)            # EVALUATE
        store.finish("mine", version.number, outcome)
        store.deploy("mine", version.number)           # DEPLOY, if the outcome is good enough
        store.roll_back("mine")
    """

    def __init__(self, folder: Path | str = FOLDER) -> None:
        self._folder = Path(folder).expanduser().resolve()

    def record(self, agent: str) -> AgentRecord:
        """Record of an agent; empty for one that has no version yet."""
        path = self._path(agent)
        try:
            return AgentRecord.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return AgentRecord(agent=agent)
        except OSError as error:
            raise SettingsError(f"{path}: cannot be read ({error.strerror})") from error
        except ValidationError as error:
            raise SettingsError(format_validation_error(error, str(path), AgentRecord)) from error

    def add(self, agent: str, makeup: AgentManifest) -> AgentVersion:
        """The version that is made of this: a new one, in TRAIN, unless there is one already."""

        def change(record: AgentRecord) -> AgentRecord:
            return record if record.like(makeup) is not None else record.added(makeup, time.time())

        version = self._change(agent, change).like(makeup)
        assert version is not None
        return version

    def begin(self, agent: str, number: int) -> AgentRecord:
        """See `AgentRecord.begun`."""
        return self._change(agent, lambda record: record.begun(number))

    def finish(self, agent: str, number: int, outcome: EvaluationRecord) -> AgentRecord:
        """See `AgentRecord.evaluated`."""
        return self._change(agent, lambda record: record.evaluated(number, outcome))

    def deploy(self, agent: str, number: int) -> AgentRecord:
        """See `AgentRecord.deploying`."""
        return self._change(agent, lambda record: record.deploying(number))

    def roll_back(self, agent: str) -> AgentRecord:
        """See `AgentRecord.rolled_back`."""
        return self._change(agent, AgentRecord.rolled_back)

    def _change(self, agent: str, change: Callable[[AgentRecord], AgentRecord]) -> AgentRecord:
        path = self._path(agent)
        with locked(self._folder):
            before = self.record(agent)
            after = change(before)
            if after != before:
                write_atomically(path, after.model_dump_json(indent=1).encode())
            return after

    def _path(self, agent: str) -> Path:
        if not re.fullmatch(NAME, agent):
            raise BadInput(f"{agent!r} cannot name an agent")
        return self._folder / f"{agent}.json"


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

    def listed(self) -> tuple[RegistryEntry, ...]:
        """See `BlueprintRegistry.listed`."""
        return tuple(each._replace(blueprint=self._deployed(each)) for each in super().listed())

    def _deployed(self, each: RegistryEntry) -> Blueprint:
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
