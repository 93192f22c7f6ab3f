"""The pipelines' part of the command line: `pipeline`."""

import argparse

from .arguments import AddParser


def add_pipeline_command(add_parser: AddParser) -> None:
    """Add it to the parser. Nothing heavy is imported until it runs."""
    pipeline = add_parser("pipeline", help="run the steps of a YAML file, each as soon as it can")
    pipeline.add_argument(
        "file", metavar="FILE.yaml", help="or the name of one that is shipped: ingest_retrieve"
    )
    pipeline.add_argument("variables", nargs="*", metavar="KEY=VALUE", help="values of ${pipeline.KEY}")
    pipeline.add_argument("--resume", action="store_true", help="go on with the last run, where it failed")
    pipeline.add_argument("--state", metavar="FILE", help="where the outcomes of steps are kept")
    pipeline.add_argument("--json", action="store_true", help="print one JSON object to stdout")
    pipeline.add_argument(
        "--preset", default="laptop", help="a preset or a .yaml file, for its `data` section"
    )
    pipeline.set_defaults(command=_pipeline)


def _pipeline(options: argparse.Namespace) -> int:
    from .pipeline_commands import pipeline

    return pipeline(
        options.file,
        options.variables,
        preset=options.preset,
        resume=options.resume,
        state=options.state,
        as_json=options.json,
    )
