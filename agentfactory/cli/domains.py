"""The domains' part of the command line: `domains`, `verify`."""

import argparse

from .arguments import AddParser


def add_domain_commands(add_parser: AddParser) -> None:
    """Add them to the parser. Nothing heavy is imported until one of them runs."""
    domains = add_parser("domains", help="what tasks can be about, and how their answers are judged")
    domains.add_argument("--json", action="store_true", help="print one JSON object to stdout")
    domains.set_defaults(command=_domains)

    verify = add_parser("verify", help="judge one answer to a task")
    verify.add_argument("domain", metavar="DOMAIN", help="one of those that `agentfactory domains` shows")
    verify.add_argument("task", metavar="TASK.json", help="a task, with its reference or goal")
    verify.add_argument("answer", metavar="ANSWER", help="the answer itself; - reads it from standard input")
    verify.add_argument("--json", action="store_true", help="print one JSON object to stdout")
    verify.add_argument("--preset", default="laptop", help="a preset or a .yaml file, for its limits")
    verify.add_argument(
        "--space", default="", help="what the attempt's tags begin with in the store, for the domain data"
    )
    verify.set_defaults(command=_verify)


def _domains(options: argparse.Namespace) -> int:
    from .domain_commands import domains

    return domains(as_json=options.json)


def _verify(options: argparse.Namespace) -> int:
    from .domain_commands import verify

    return verify(
        options.domain,
        task=options.task,
        answer=options.answer,
        preset=options.preset,
        space=options.space,
        as_json=options.json,
    )
