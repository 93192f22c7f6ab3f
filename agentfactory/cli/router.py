"""The router's part of the command line: `route`."""

import argparse

from .arguments import AddParser


def add_router_commands(add_parser: AddParser) -> None:
    """Add them to the parser. Nothing heavy is imported until one of them runs."""
    route = add_parser("route", help="have a task answered by the first model that is sure enough")
    route.add_argument("task", metavar="TASK")
    route.add_argument("--models", metavar="FILE.yaml", help="a router's settings (the seed model alone)")
    route.add_argument("--explain", action="store_true", help="show which models were considered, and why")
    route.add_argument("--json", action="store_true", help="print one JSON object to stdout")
    route.add_argument(
        "--preset",
        default="laptop",
        help="a preset or a .yaml file, for its `data` section, where replies are kept",
    )
    route.set_defaults(command=_route)


def _route(options: argparse.Namespace) -> int:
    from .router_commands import route

    return route(
        options.task,
        models=options.models,
        preset=options.preset,
        explain=options.explain,
        as_json=options.json,
    )
