"""The agents' part of the command line: `run` and `demo`."""

import argparse

from .arguments import AddParser


def add_run_commands(add_parser: AddParser) -> None:
    """Add them to the parser. Nothing heavy is imported until one of them runs."""
    run = add_parser("run", help="talk to an agent: at a prompt, from a pipe, or one command")
    run.add_argument("name", metavar="NAME", help="a blueprint; `agentfactory blueprints` lists them")
    run.add_argument(
        "-c",
        "--command",
        dest="commands",
        action="append",
        default=[],
        metavar="TEXT",
        help="carry this out and end; may be given several times",
    )
    run.add_argument(
        "--deployed",
        action="store_true",
        help="each agent as the version that `agentfactory promote` put to use, not as its file is now",
    )
    _add_options(run)
    run.set_defaults(command=_run)

    demo = add_parser(
        "demo", help="sample documents in, found, fetched and pruned: by one agent, and by several"
    )
    demo.add_argument("--mode", choices=("both", "single", "coordinated"), default="both")
    _add_options(demo)
    demo.set_defaults(command=_demo)


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--preset", default="laptop", help="a preset or a .yaml file, for its `data` and `agents` sections"
    )
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object for each input, and nothing else"
    )


def _run(options: argparse.Namespace) -> int:
    from ..configs.load import load_settings
    from ..repl.loop import run
    from .blueprints import open_registry

    return run(
        options.name,
        open_registry(options.preset, deployed=options.deployed),
        load_settings(options.preset).data,
        commands=tuple(options.commands),
        as_json=options.json,
    )


def _demo(options: argparse.Namespace) -> int:
    from ..configs.load import load_settings
    from ..repl.demo import demo
    from .blueprints import open_registry

    return demo(
        open_registry(options.preset),
        load_settings(options.preset).data,
        mode=options.mode,
        as_json=options.json,
    )
