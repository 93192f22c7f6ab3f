"""The lifecycle's part of the command line: `versions`, `promote`, `rollback`."""

import argparse
from collections.abc import Callable
from pathlib import Path

from .arguments import AddParser


def add_version_commands(add_parser: AddParser) -> None:
    """Add them to the parser. Nothing heavy is imported until one of them runs."""
    _add(add_parser, "versions", "an agent's versions, how they did, and which one is in use", _versions)
    promote = _add(add_parser, "promote", "evaluate an agent as it stands; deploy it if it passed", _promote)
    promote.add_argument("--suite", metavar="FILE.yaml", help="the evaluation (17 commands)")
    rollback = _add(add_parser, "rollback", "use the version that was in use before", _rollback)
    rollback.add_argument("--to", type=int, metavar="N", help="a certain version that passed its evaluation")


def _add(
    add_parser: AddParser, name: str, about: str, run: Callable[[argparse.Namespace], int]
) -> argparse.ArgumentParser:
    parser = add_parser(name, help=about)
    parser.add_argument("name", metavar="NAME")
    parser.add_argument("--preset", default="laptop", help="a preset or a .yaml file, for `agents`")
    parser.add_argument("--json", action="store_true", help="print JSON, and nothing else, to stdout")
    parser.set_defaults(command=run)
    return parser


def _versions(options: argparse.Namespace) -> int:
    from .version_commands import versions

    return versions(options.name, preset=options.preset, as_json=options.json)


def _promote(options: argparse.Namespace) -> int:
    from .version_commands import promote

    suite = Path(options.suite) if options.suite is not None else None
    return promote(options.name, preset=options.preset, suite=suite, as_json=options.json)


def _rollback(options: argparse.Namespace) -> int:
    from .version_commands import rollback

    return rollback(options.name, to=options.to, preset=options.preset, as_json=options.json)
