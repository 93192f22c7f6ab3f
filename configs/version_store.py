"""Each agent's record on disk: one file an agent, replaced whole under the folder's lock."""

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from .agent_folders import AgentFolders
from .agent_versions import AgentRecord, AgentVersion, Evaluated, Makeup
from .blueprints import NAME
from .errors import BadInput, SettingsError
from .files import locked, write_atomically
from .load import describe

FOLDER: Final = AgentFolders().versions


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
        """What is known of an agent; empty for one that has no version yet."""
        path = self._path(agent)
        try:
            return AgentRecord.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return AgentRecord(agent=agent)
        except OSError as error:
            raise SettingsError(f"{path}: cannot be read ({error.strerror})") from error
        except ValidationError as error:
            raise SettingsError(describe(error, str(path), AgentRecord)) from error

    def add(self, agent: str, makeup: Makeup) -> AgentVersion:
        """The version that is made of this: a new one, in TRAIN, unless there is one already."""

        def change(record: AgentRecord) -> AgentRecord:
            return record if record.like(makeup) is not None else record.added(makeup, time.time())

        version = self._change(agent, change).like(makeup)
        assert version is not None
        return version

    def begin(self, agent: str, number: int) -> AgentRecord:
        """See `AgentRecord.begun`."""
        return self._change(agent, lambda record: record.begun(number))

    def finish(self, agent: str, number: int, outcome: Evaluated) -> AgentRecord:
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
