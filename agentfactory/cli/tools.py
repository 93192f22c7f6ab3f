"""The tools' part of the command line: `tools`, `tool`, `plan` and `mcp`."""

import argparse
from typing import TYPE_CHECKING

from .arguments import AddParser

if TYPE_CHECKING:
    from ..configs.settings import Settings


def add_tool_commands(add_parser: AddParser) -> None:
    """Add them to the parser. Nothing heavy is imported until one of them runs."""
    tools = add_parser("tools", help="list the tools that a student may have")
    tools.add_argument("--format", choices=("openai", "mcp"), help="print them as JSON in this form")
    tools.add_argument("--json", action="store_true", help="print one JSON list to stdout")
    _add_settings(tools)
    tools.set_defaults(command=_tools)

    tool = add_parser("tool", help="run one tool as the student would")
    tool.add_argument("name", metavar="NAME")
    tool.add_argument("arguments", metavar="ARGUMENTS", nargs="?", default="", help="JSON, or a bare text")
    tool.add_argument("--json", action="store_true", help="print one JSON object to stdout")
    _add_settings(tool)
    tool.set_defaults(command=_tool)

    plan = add_parser("plan", help="carry out a plan: several calls of tools")
    plan.add_argument("file", metavar="FILE", help="JSON, or lines with `Action:` and `Input:`; - for stdin")
    plan.add_argument("--json", action="store_true", help="print one JSON object to stdout")
    _add_settings(plan)
    plan.set_defaults(command=_plan)

    mcp = add_parser("mcp", help="serve the tools to an MCP client over stdin and stdout")
    mcp.add_argument("--tools", metavar="NAMES", help="with commas between them (all that can be served)")
    _add_settings(mcp)
    mcp.set_defaults(command=_mcp)


def _add_settings(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--preset", default="laptop", help="a preset or a .yaml file, for its student section"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="any other setting, such as student.toolbox.workspace=FOLDER",
    )


def _settings(options: argparse.Namespace) -> "Settings":
    from ..configs.load import load_settings
    from .arguments import assignments

    return load_settings(options.preset, assignments(options.set, "loop.max_staleness=0", "--set"))


def _tools(options: argparse.Namespace) -> int:
    from .tool_commands import show_tools

    return show_tools(_settings(options).student, form=options.format, as_json=options.json)


def _tool(options: argparse.Namespace) -> int:
    from .tool_commands import run_tool

    return run_tool(options.name, options.arguments, _settings(options), as_json=options.json)


def _plan(options: argparse.Namespace) -> int:
    from .tool_commands import run_plan

    return run_plan(options.file, _settings(options), as_json=options.json)


def _mcp(options: argparse.Namespace) -> int:
    from .tool_commands import serve_mcp

    names = tuple(options.tools.split(",")) if options.tools else None
    return serve_mcp(_settings(options), names)
