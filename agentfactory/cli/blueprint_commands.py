"""What the blueprints' commands print."""

import json

from rich.console import Console

from ..cluster.agents.blueprint_registry import BlueprintRegistry, RegistryEntry
from ..configs.agents.settings import model_summary
from ..terminal.tables import show_rows

COLUMNS = ("name", "type", "works with", "from", "description")


def show_all(registry: BlueprintRegistry, *, as_json: bool) -> int:
    """`blueprints`: those that can be used, and the files that cannot, each with the reason. Always 0."""
    listed, unusable = registry.listed(), registry.unusable()
    if as_json:
        print(
            json.dumps({"blueprints": [_summary(each) for each in listed], "problems": registry.problems()})
        )
        return 0
    rows = [[str(part) for part in list(_summary(each).values())[: len(COLUMNS)]] for each in listed]
    rows += [[name, "unreadable", "", "you", reason] for name, reason in unusable.items()]
    styles = [""] * len(listed) + ["red"] * len(unusable)
    show_rows(Console(), COLUMNS, rows, styles)
    return 0


def show(registry: BlueprintRegistry, name: str, revision: int | None, *, as_json: bool) -> int:
    """`show`: the file as it is; in JSON every value, those too that the file leaves out."""
    if as_json:
        print(registry.get(name, revision).model_dump_json())
    else:
        print(registry.text(name, revision), end="")
    return 0


def show_revisions(registry: BlueprintRegistry, name: str, *, as_json: bool) -> int:
    """`show --revisions`."""
    numbers = registry.revisions(name)
    if not numbers:
        registry.get(name)  # raises what is wrong with a name that is none
    if as_json:
        print(json.dumps({"name": name, "revisions": numbers}))
    else:
        kept = ", ".join(map(str, numbers)) or "none: it was not changed here"
        print(f"{name}: {kept}")
    return 0


def created(made: RegistryEntry, as_json: bool) -> int:
    """`create`."""
    return _changed("created", made, as_json)


def updated(made: RegistryEntry, as_json: bool) -> int:
    """`update`."""
    return _changed("updated", made, as_json)


def deleted(name: str, revision: int, as_json: bool) -> int:
    """`delete`."""
    if as_json:
        print(json.dumps({"name": name, "revision": revision}))
    else:
        print(f"deleted {name}; `agentfactory update {name} --revision {revision}` brings it back")
    return 0


def _changed(done: str, made: RegistryEntry, as_json: bool) -> int:
    if as_json:
        print(json.dumps(_summary(made)))
    else:
        print(f"{done} {made.blueprint.name}, revision {made.revision}: {made.path}")
    return 0


def _summary(each: RegistryEntry) -> dict[str, str | int]:
    blueprint = each.blueprint
    return {
        "name": blueprint.name,
        "type": blueprint.agent.type,
        "works_with": model_summary(blueprint.agent),
        "from": "the project" if each.shipped else "you",
        "description": blueprint.blueprint.description,
        "version": blueprint.blueprint.version,
        "revision": each.revision,
        "file": str(each.path),
    }
