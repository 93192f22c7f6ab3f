"""The checkup's part of the command line: `doctor`."""

import argparse

from .arguments import AddParser


def add_doctor_command(add_parser: AddParser) -> None:
    """Add it to the parser. Nothing heavy is imported until it runs."""
    doctor = add_parser("doctor", help="say what this machine has, and which isolation holds on it")
    doctor.add_argument("--json", action="store_true", help="print one JSON object to stdout")
    doctor.set_defaults(command=_doctor)


def _doctor(options: argparse.Namespace) -> int:
    from .doctor_commands import doctor

    return doctor(as_json=options.json)
