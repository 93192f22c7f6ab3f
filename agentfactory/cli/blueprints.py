"""The blueprints' part of the command line: `blueprints`, `show`, `create`, `update`, `delete`."""

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..configs.errors import BadInput
from .arguments import AddParser

if TYPE_CHECKING:
    from ..cluster.agents.blueprint_registry import BlueprintRegistry
    from ..configs.load import YamlValue

TYPES = "rule_based, llm, claude, prompt, lora, ingestor, retriever, coordinator"
EXAMPLE = "agent.temperature=0.2"


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


def open_registry(preset: str, *, deployed: bool = False) -> "BlueprintRegistry":
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
    from .blueprint_commands import show_all

    return show_all(open_registry(options.preset), as_json=options.json)


def _show(options: argparse.Namespace) -> int:
    from . import blueprint_commands

    registry = open_registry(options.preset)
    if options.revisions:
        return blueprint_commands.show_revisions(registry, options.name, as_json=options.json)
    return blueprint_commands.show(registry, options.name, options.revision, as_json=options.json)


def _create(options: argparse.Namespace) -> int:
    from .blueprint_commands import created

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
    return created(registry.create(options.name, values | _changes(options), options.base), options.json)


def _update(options: argparse.Namespace) -> int:
    from .blueprint_commands import updated

    if bool(options.changes) == (options.revision is not None):
        raise BadInput(f"update {options.name}: say key.path=value, such as {EXAMPLE}, or --revision N")
    registry = open_registry(options.preset)
    if options.revision is not None:
        return updated(registry.restore(options.name, options.revision), options.json)
    return updated(registry.update(options.name, _changes(options)), options.json)


def _delete(options: argparse.Namespace) -> int:
    from .blueprint_commands import deleted

    return deleted(options.name, open_registry(options.preset).delete(options.name), options.json)


def _changes(options: argparse.Namespace) -> "dict[str, YamlValue]":
    from .arguments import assignments

    return assignments(options.changes, EXAMPLE)
