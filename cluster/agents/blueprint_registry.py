"""The blueprints by name: those that ship with the project, and a person's own.

Invariants:
  - a shipped blueprint is never written; a file of one's own with its name takes its place;
  - an own one is replaced whole, under its folder's lock, and only by what is a blueprint;
  - whatever a file held before it was changed or removed here is kept under a number (`revisions`);
  - a file that is no blueprint, or whose name is taken, hides no other.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

from ...configs.agents.blueprints import FIRST_VERSION, NAME, SHIPPED, Blueprint, read_blueprint
from ...configs.agents.settings import BaseAgentSettings, check_models
from ...configs.errors import BadInput, CannotWrite, SettingsError
from ...configs.files import locked, write_atomically
from ...configs.load import YamlValue, expand_dotted_key, suggest
from ...configs.settings import AgentPaths
from ...configs.yaml_core import format_yaml
from .blueprint_files import BlueprintFile, BlueprintFolder, InvalidBlueprint, RevisionHistory, read_file

OWN: Final = AgentPaths().blueprints
_TAGS: Final = (".type", ".kind", ".backend")
_COMMON: Final = frozenset(BaseAgentSettings.model_fields)


class RegistryEntry(NamedTuple):
    """A blueprint and where it is from."""

    blueprint: Blueprint
    path: Path
    shipped: bool
    revision: int
    """The number of its newest kept content; 0 for one that was not changed here."""


class _Found(NamedTuple):
    """All that the two folders hold."""

    shipped: dict[str, BlueprintFile]
    own: dict[str, BlueprintFile]
    broken: dict[str, str]
    """A sentence for each file that cannot be used, by its name without the ending."""
    twice: dict[str, str]
    """The same for each name that several files claim."""


class BlueprintRegistry:
    """Sees what is added to its folders or changed in them at once.

    A worked example::

        registry = BlueprintRegistry()
        registry.create("mine", {"agent.type": "llm", "agent.model": "llama3.2"})
        registry.update("mine", {"agent.temperature": 0.2, "environment": {"reward": {"error": -1.0}}})
        registry.get("mine").agent
        registry.delete("mine")
        registry.restore("mine", 1)
    """

    def __init__(self, shipped: Path = SHIPPED, own: Path | str = OWN) -> None:
        self._shipped = BlueprintFolder(shipped)
        self._own = BlueprintFolder(Path(own).expanduser().resolve())
        self._revisions = RevisionHistory(self._own.folder / ".versions")

    @property
    def own(self) -> Path:
        """The folder of a person's own."""
        return self._own.folder

    def names(self) -> tuple[str, ...]:
        """Of all that can be used, in order."""
        found = self._look()
        return tuple(sorted({*found.shipped, *found.own}))

    def listed(self) -> tuple[RegistryEntry, ...]:
        """All that can be used, by name."""
        found = self._look()
        both = {**found.shipped, **found.own}
        return tuple(self._listed(both[name], name not in found.own) for name in sorted(both))

    def unusable(self) -> Mapping[str, str]:
        """A sentence for each file that cannot be used, by its name without the ending, and for each name
        that several files claim."""
        found = self._look()
        return {**found.broken, **found.twice}

    def problems(self) -> tuple[str, ...]:
        """The sentences of `unusable`."""
        return tuple(self.unusable().values())

    def get(self, name: str, revision: int | None = None) -> Blueprint:
        """As it is, or as a kept revision of it was. Raises SettingsError and BadInput."""
        return self._file(name, revision).blueprint

    def text(self, name: str, revision: int | None = None) -> str:
        """Its YAML, as the file has it. Raises SettingsError and BadInput."""
        path = self._file(name, revision).path
        try:
            return path.read_text(encoding="utf-8")
        except OSError as error:
            raise SettingsError(f"{path}: cannot be read ({error.strerror})") from error

    def revisions(self, name: str) -> tuple[int, ...]:
        """Numbers of what is kept of an own blueprint, also of one that is deleted; the newest last."""
        if not re.fullmatch(NAME, name):
            raise BadInput(_not_a_name(name))
        return self._revisions.numbers(name)

    def create(
        self, name: str, values: Mapping[str, YamlValue] | None = None, base: str | None = None
    ) -> RegistryEntry:
        """Make an own blueprint of dotted keys, on top of `base`'s where one is named.

        Raises BadInput for a name that is taken or is none, SettingsError for values that are wrong, and
        CannotWrite.
        """
        if not re.fullmatch(NAME, name):
            raise BadInput(_not_a_name(name))
        with locked(self.own):
            if name in self._look().shipped:
                raise BadInput(
                    f"{name} ships with the project and is not replaced; choose another name, with "
                    f"`--from {name}` to build on it"
                )
            self._refuse_taken(name)
            start = dict(self._file(base).values) if base is not None else {}
            header: dict[str, YamlValue] = {"name": name, "version": FIRST_VERSION}
            merged = {"blueprint": header, **{key: start[key] for key in start if key != "blueprint"}}
            return self._write(name, self.own / f"{name}.yaml", apply_changes(merged, values or {}))

    def update(self, name: str, changes: Mapping[str, YamlValue]) -> RegistryEntry:
        """Change an own blueprint: dotted keys or whole sections, merged into what it says; None removes a
        key. Raises BadInput for a shipped one, SettingsError for values that are wrong, and CannotWrite.
        """
        with locked(self.own):
            file = self._changeable(name)
            return self._write(name, file.path, apply_changes(file.values, changes))

    def restore(self, name: str, revision: int) -> RegistryEntry:
        """Put a kept revision of an own blueprint back, also of one that is deleted."""
        if not re.fullmatch(NAME, name):
            raise BadInput(_not_a_name(name))
        with locked(self.own):
            kept = _readable(read_file(self._revisions.path(name, revision)))
            found = self._look()
            if name in found.own:
                path = found.own[name].path
            else:
                self._refuse_taken(name)
                path = self.own / f"{name}.yaml"
            return self._write(name, path, kept.values)

    def delete(self, name: str) -> int:
        """Remove an own blueprint; what it said stays among its revisions, under the number returned."""
        with locked(self.own):
            file = self._changeable(name)
            number = self._revisions.keep(name, file.path.read_bytes())
            try:
                file.path.unlink(missing_ok=True)
            except OSError as error:
                raise CannotWrite(f"{file.path}: cannot be removed ({error.strerror})") from error
            return number

    def _write(self, name: str, path: Path, values: Mapping[str, YamlValue]) -> RegistryEntry:
        blueprint = read_blueprint(values, name)
        if blueprint.name != name:
            raise BadInput(
                f"{name}: a blueprint keeps its name; make {blueprint.name!r} of it with "
                f"`agentfactory create {blueprint.name} --from {name}`"
            )
        check_models(blueprint.agent)
        if path.exists():
            self._revisions.keep(name, path.read_bytes())
        content = format_yaml(dict(values)).encode()
        write_atomically(path, content)
        return RegistryEntry(blueprint, path, shipped=False, revision=self._revisions.keep(name, content))

    def _changeable(self, name: str) -> BlueprintFile:
        file = self._file(name)
        if file.path.parent != self.own:
            raise BadInput(
                f"{name} ships with the project and stays as it is; make one of your own of it with "
                f"`agentfactory create NAME --from {name}`"
            )
        return file

    def _file(self, name: str, revision: int | None = None) -> BlueprintFile:
        found = self._look()
        if revision is not None and (name in found.own or name not in found.shipped):
            return _readable(read_file(self._revisions.path(name, revision)))
        if revision is not None:
            raise BadInput(f"{name} ships with the project: there is no other revision of it")
        if name in found.twice:
            raise SettingsError(found.twice[name])
        file = found.own.get(name) or found.shipped.get(name)
        if file is not None:
            return file
        if name in found.broken:
            raise SettingsError(found.broken[name])
        known = sorted({*found.shipped, *found.own})
        raise BadInput(f"there is no blueprint {name!r}; {suggest(name, known, 'there are')}")

    def _refuse_taken(self, name: str) -> None:
        found = self._look()
        if name in found.twice:
            raise SettingsError(found.twice[name])
        taken = found.own[name].path if name in found.own else self.own / f"{name}.yaml"
        if taken.exists():
            raise BadInput(
                f"there is a blueprint {name!r} already ({taken}); change it with "
                f"`agentfactory update {name}`"
            )

    def _look(self) -> _Found:
        shipped: dict[str, BlueprintFile] = {}
        own: dict[str, BlueprintFile] = {}
        broken: dict[str, str] = {}
        twice: dict[str, str] = {}
        for file in self._shipped.look():
            shipped[_readable(file).blueprint.name] = _readable(file)
        for file in self._own.look():
            if isinstance(file, InvalidBlueprint):
                broken[file.path.stem] = file.reason
                continue
            name = file.blueprint.name
            before = own.pop(name, None)
            if before is not None:
                twice[name] = _twice(name, before.path, file.path)
            elif name not in twice:
                own[name] = file
        return _Found(shipped, own, broken, twice)

    def _listed(self, file: BlueprintFile, shipped: bool) -> RegistryEntry:
        numbers = () if shipped else self._revisions.numbers(file.blueprint.name)
        return RegistryEntry(file.blueprint, file.path, shipped, numbers[-1] if numbers else 0)


def apply_changes(values: Mapping[str, YamlValue], changes: Mapping[str, YamlValue]) -> dict[str, YamlValue]:
    """The values with dotted keys changed, in whatever order: types go first, since what an agent of
    another type does not know goes with the old one. None removes a key."""
    result = dict(values)
    for key in sorted(changes, key=lambda key: not key.endswith(_TAGS)):
        result = _patched(result, expand_dotted_key(key, changes[key]))
    return result


def _patched(base: Mapping[str, YamlValue], over: Mapping[str, YamlValue]) -> dict[str, YamlValue]:
    merged = dict(base)
    if _differs(base, over, "type") or _differs(base, over, "kind"):
        merged = {"type": over["type"]} if "type" in over else {}
        merged |= {key: value for key, value in base.items() if key in _COMMON}
    elif _differs(base, over, "backend"):
        merged = {key: value for key, value in base.items() if key not in {"model", "base_url"}}
    for key, value in over.items():
        old = merged.get(key)
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, dict):
            merged[key] = _patched(old if isinstance(old, dict) else {}, value)
        else:
            merged[key] = value
    return merged


def _differs(base: Mapping[str, YamlValue], over: Mapping[str, YamlValue], key: str) -> bool:
    """True if a tag that is there gets another value."""
    return key in over and base.get(key) is not None and isinstance(over[key], str) and over[key] != base[key]


def _readable(file: BlueprintFile | InvalidBlueprint) -> BlueprintFile:
    if isinstance(file, InvalidBlueprint):
        raise SettingsError(file.reason)
    return file


def _twice(name: str, first: Path, second: Path) -> str:
    return f"the name {name!r} stands in two blueprints, {first} and {second}: give one of them another"


def _not_a_name(name: str) -> str:
    return (
        f"{name!r} cannot name a blueprint: expected up to 64 letters, digits, `_`, `-` and `.`, the first a "
        "letter or a digit"
    )
