"""`agentfactory evolve`, `resume`, `solve` and `report`."""

import argparse

from .arguments import ENGINE_HELP, AddParser

MAX_TEMPERATURE = 100.0


def add_run_commands(add_parser: AddParser) -> None:
    """Add them to the parser. Nothing heavy is imported until one of them runs."""
    evolve = add_parser("evolve", help="train a student: one whole run")
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
    evolve.add_argument("--engine", metavar="KIND", help=ENGINE_HELP)
    _add_run_options(evolve)
    evolve.set_defaults(command=_evolve)

    resume = add_parser("resume", help="go on with a run where its journal ends")
    resume.add_argument("run_dir", metavar="RUN_DIR")
    resume.add_argument("--rounds", type=_count, help="training steps of the whole run, to make it longer")
    _add_run_options(resume)
    resume.set_defaults(command=_resume)

    solve = add_parser("solve", help="have one task solved, and watch how")
    solve.add_argument("task", metavar="TASK")
    solve.add_argument("--run", metavar="RUN_DIR", help="use this run's newest version (the base model)")
    solve.add_argument("--version", type=_count, help="of that run (the newest); 0 is the base model")
    solve.add_argument(
        "--temperature", type=_temperature, default=0.0, help="0, the default, takes the likeliest token"
    )
    solve.add_argument("--preset", default="laptop", help="preset or file, where there is no --run")
    solve.add_argument("--json", action="store_true", help="print one JSON object")
    solve.set_defaults(command=_solve)

    report = add_parser("report", help="write report.html and report.png for a run")
    report.add_argument("run_dir", metavar="RUN_DIR")
    report.set_defaults(command=_report)


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
