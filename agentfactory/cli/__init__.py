"""The command line.

Only `argparse` and the errors are imported here; each command imports what it needs, so that
`--help` answers at once.
"""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from typing import NoReturn

from .. import __version__
from ..configs.errors import AgentFactoryError
from ..configs.printable import printable
from .agents import add_run_commands
from .blueprints import add_blueprint_commands
from .data import add_data_commands
from .doctor import add_doctor_command
from .domains import add_domain_commands
from .pipelines import add_pipeline_command
from .process_setup import prepare_process, sentence_of
from .router import add_router_commands
from .servers import add_environment_command, add_serve_command
from .tools import add_tool_commands
from .versions import add_version_commands

MAX_TEMPERATURE = 100.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code (0 it worked, 1 it failed, 2 bad input, 130 interrupted)."""
    try:
        prepare_process()
        options = _parser().parse_args(arguments)
        return int(options.command(options))
    except AgentFactoryError as error:
        print(f"agentfactory: {printable(str(error), lines=True)}", file=sys.stderr)
        return error.exit_code
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("agentfactory: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 1
    except OSError as error:
        sentence = sentence_of(error)
        if not sentence:
            raise
        print(f"agentfactory: {printable(sentence)}", file=sys.stderr)
        return 2


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One sentence and exit code 2, without the usage in front of it."""
        self.exit(2, f"agentfactory: {printable(message)}; see `{self.prog} --help`\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="agentfactory",
        description="Language-model agents that get better at their work.",
    )
    parser.add_argument("--version", action="version", version=f"agentfactory {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    evolve = commands.add_parser("evolve", help="train a student: one whole run")
    evolve.add_argument("preset", nargs="?", default="laptop", help="a preset or a .yaml file (laptop)")
    evolve.add_argument("--rounds", type=_count, help="training steps")
    evolve.add_argument("--seed", type=_count, help="of everything that is drawn at random")
    evolve.add_argument("--run-dir", help="the run's folder (runs/PRESET-TIME)")
    evolve.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="any other setting, such as loop.max_staleness=0",
    )
    evolve.add_argument("--engine", choices=("transformers", "vllm", "simulated"), help="who runs the model")
    _add_run_options(evolve)
    evolve.set_defaults(command=_evolve)

    resume = commands.add_parser("resume", help="go on with a run where its journal ends")
    resume.add_argument("run_dir", metavar="RUN_DIR")
    resume.add_argument("--rounds", type=_count, help="training steps of the whole run, to make it longer")
    _add_run_options(resume)
    resume.set_defaults(command=_resume)

    solve = commands.add_parser("solve", help="have one task solved, and watch how")
    solve.add_argument("task", metavar="TASK")
    solve.add_argument("--run", metavar="RUN_DIR", help="use this run's newest version (the base model)")
    solve.add_argument("--version", type=_count, help="of that run (the newest); 0 is the base model")
    solve.add_argument(
        "--temperature", type=_temperature, default=0.0, help="0, the default, takes the likeliest token"
    )
    solve.add_argument("--preset", default="laptop", help="preset or file, where there is no --run")
    solve.add_argument("--json", action="store_true", help="print one JSON object")
    solve.set_defaults(command=_solve)

    report = commands.add_parser("report", help="write report.html and report.png for a run")
    report.add_argument("run_dir", metavar="RUN_DIR")
    report.set_defaults(command=_report)
    add_serve_command(commands.add_parser)
    add_data_commands(commands.add_parser)
    add_router_commands(commands.add_parser)
    add_pipeline_command(commands.add_parser)
    add_environment_command(commands.add_parser)
    add_tool_commands(commands.add_parser)
    add_doctor_command(commands.add_parser)
    add_domain_commands(commands.add_parser)
    add_blueprint_commands(commands.add_parser)
    add_version_commands(commands.add_parser)
    add_run_commands(commands.add_parser)
    return parser


def _add_run_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--transport", choices=("ray", "local"), help="Ray, or all in this process")
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object, and nothing else, to stdout"
    )


def _count(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = -1
    if value < 0:
        raise argparse.ArgumentTypeError(f"expected a whole number from 0, found {text!r}")
    return value


def _temperature(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.0 <= value <= MAX_TEMPERATURE:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to {MAX_TEMPERATURE:g}, found {text!r}")
    return value


def _evolve(options: argparse.Namespace) -> int:
    from .arguments import assignment
    from .run_commands import evolve

    changes = dict(assignment(text, "loop.max_staleness=0", "--set") for text in options.set)
    if options.engine:
        changes["engine.kind"] = options.engine
    return evolve(
        preset=options.preset,
        rounds=options.rounds,
        seed=options.seed,
        run_dir=options.run_dir,
        transport=options.transport,
        as_json=options.json,
        overrides=changes,
    )


def _resume(options: argparse.Namespace) -> int:
    from .run_commands import resume

    return resume(options.run_dir, rounds=options.rounds, transport=options.transport, as_json=options.json)


def _solve(options: argparse.Namespace) -> int:
    from .run_commands import solve

    return solve(
        options.task,
        run_dir=options.run,
        version=options.version,
        temperature=options.temperature,
        preset=options.preset,
        as_json=options.json,
    )


def _report(options: argparse.Namespace) -> int:
    from .run_commands import report

    return report(options.run_dir)
