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
from ..configs.errors import boundary
from ..configs.printable import printable
from .agents import add_agent_commands
from .blueprints import add_blueprint_commands
from .data import add_data_commands
from .doctor import add_doctor_command
from .domains import add_domain_commands
from .process_setup import prepare_process
from .router import add_route_command
from .runs import add_run_commands
from .servers import add_environment_command, add_serve_command
from .tools import add_tool_commands
from .versions import add_version_commands


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code (0 it worked, 1 it failed, 2 bad input, 130 interrupted)."""
    try:
        prepare_process()
        options = _parser().parse_args(arguments)
        return int(options.command(options))
    except (Exception, KeyboardInterrupt, asyncio.CancelledError) as error:
        end = boundary(error)
        if end.sentence:
            print(f"agentfactory: {printable(end.sentence, lines=True)}", file=sys.stderr)
        return end.exit_code


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

    add_run_commands(commands.add_parser)
    add_serve_command(commands.add_parser)
    add_data_commands(commands.add_parser)
    add_route_command(commands.add_parser)
    add_environment_command(commands.add_parser)
    add_tool_commands(commands.add_parser)
    add_doctor_command(commands.add_parser)
    add_domain_commands(commands.add_parser)
    add_blueprint_commands(commands.add_parser)
    add_version_commands(commands.add_parser)
    add_agent_commands(commands.add_parser)
    return parser
