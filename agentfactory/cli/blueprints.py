"""`agentfactory blueprints`, `show`, `create`, `update` and `delete`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..configs.errors import BadInput
from .arguments import AddParser

if TYPE_CHECKING:
    from ..cluster.agents.blueprint_registry import BlueprintRegistry, RegistryEntry
    from ..configs.load import YamlValue

TYPES = "rule_based, llm, claude, prompt, lora, ingestor, retriever, coordinator"
EXAMPLE = "agent.temperature=0.2"
COLUMNS = ("name", "type", "works with", "from", "description")


def add_blueprint_commands(add_parser: AddParser) -> None:
    """Add them to the parser. Nothing heavy is imported until one of them runs."""
    _add(add_parser, "blueprints", "the agents there are, shipped and your own", _blueprints)

    show = _add(add_parser, "show", "a blueprint as its file has it", _show)
    show.add_argument("name", metavar="NAME")
    which = show.add_mutually_exclusive_group()
    which.add_argument("--revision", type=int, metavar="N", help="as it was, under this number")
    which.add_argument("--revisions", action="store_true", help="the numbers of what it was")

    create = _add(add_parser, "create", "a blueprint of your own", _create)
    create.add_argument("name", metavar="NAME")
    create.add_argument("--type", help=TYPES)
    create.add_argument("--backend", help="what a specialist works with, or the kind of a model: ollama ...")
    create.add_argument("--model", help="seed, a folder, a hub name, or a model of the backend's")
    create.add_argument("--from", dest="base", metavar="BASE", help="build on this blueprint")
    create.add_argument("--description", metavar="TEXT")
    create.add_argument(
        "--set",
        dest="changes",
        action="append",
        default=[],
        metavar="key.path=value",
        help=f"any other key, such as {EXAMPLE}",
    )

    update = _add(add_parser, "update", "change keys of a blueprint of your own", _update)
    update.add_argument("name", metavar="NAME")
    update.add_argument("changes", nargs="*", metavar="key.path=value", help="`key=` alone removes it")
    update.add_argument("--revision", type=int, metavar="N", help="put back what it was, deleted or not")

    delete = _add(add_parser, "delete", "remove a blueprint of your own; its revisions are kept", _delete)
    delete.add_argument("name", metavar="NAME")


def _add(
    add_parser: AddParser, name: str, about: str, run: Callable[[argparse.Namespace], int]
) -> argparse.ArgumentParser:
    parser = add_parser(name, help=about)
    parser.add_argument(
        "--preset", default="laptop", help="a preset or a .yaml file, for its `agents` section"
    )
    parser.add_argument("--json", action="store_true", help="print JSON, and nothing else, to stdout")
    parser.set_defaults(command=run)
    return parser


def open_registry(preset: str, *, deployed: bool = False) -> BlueprintRegistry:
    """The shipped blueprints and those in the folder that a preset's `agents` section names; `deployed`: as
    their versions in use have them."""
    from ..cluster.agents.blueprint_registry import BlueprintRegistry
    from ..cluster.agents.version_store import DeployedRegistry, VersionStore
    from ..configs.load import load_settings

    agents = load_settings(preset).agents
    if deployed:
        return DeployedRegistry(VersionStore(agents.versions), own=agents.blueprints)
    return BlueprintRegistry(own=agents.blueprints)


def _blueprints(options: argparse.Namespace) -> int:
    return show_all(open_registry(options.preset), as_json=options.json)


def _show(options: argparse.Namespace) -> int:
    registry = open_registry(options.preset)
    if options.revisions:
        return show_revisions(registry, options.name, as_json=options.json)
    return show(registry, options.name, options.revision, as_json=options.json)


def _create(options: argparse.Namespace) -> int:
    if options.type is None and options.base is None:
        raise BadInput(f"create {options.name}: say its --type ({TYPES}), or what it builds on with --from")
    registry = open_registry(options.preset)
    said: dict[str, YamlValue] = {
        "blueprint.description": options.description,
        "agent.type": options.type,
        "agent.backend": options.backend,
        "agent.model": options.model,
    }
    values = {key: value for key, value in said.items() if value is not None}
    made = registry.create(options.name, values | _changes(options), options.base)
    return _tell("created", made, options.json)


def _update(options: argparse.Namespace) -> int:
    if bool(options.changes) == (options.revision is not None):
        raise BadInput(f"update {options.name}: say key.path=value, such as {EXAMPLE}, or --revision N")
    registry = open_registry(options.preset)
    if options.revision is not None:
        made = registry.restore(options.name, options.revision)
    else:
        made = registry.update(options.name, _changes(options))
    return _tell("updated", made, options.json)


def _delete(options: argparse.Namespace) -> int:
    name = options.name
    revision = open_registry(options.preset).delete(name)
    if options.json:
        print(json.dumps({"name": name, "revision": revision}))
    else:
        print(f"deleted {name}; `agentfactory update {name} --revision {revision}` brings it back")
    return 0


def _changes(options: argparse.Namespace) -> dict[str, YamlValue]:
    from .arguments import assignments

    return assignments(options.changes, EXAMPLE)


def show_all(registry: BlueprintRegistry, *, as_json: bool) -> int:
    """`blueprints`: those that can be used, and the files that cannot, each with the reason. Always 0."""
    from rich.console import Console

    from ..terminal.tables import show_rows

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


def _tell(done: str, made: RegistryEntry, as_json: bool) -> int:
    if as_json:
        print(json.dumps(_summary(made)))
    else:
        print(f"{done} {made.blueprint.name}, revision {made.revision}: {made.path}")
    return 0


def _summary(each: RegistryEntry) -> dict[str, str | int]:
    from ..configs.agents.settings import model_summary

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
