"""Main loop of every grader process: job after job, a line of JSON for each.

The other side of `actors.domains.grader_pool`. Only for processes that the pool starts.
"""

import json
import logging
import os
from collections.abc import Callable
from typing import NoReturn

from pydantic import JsonValue

from ...runtime.sandbox.inside.fork_server import Job, serve
from ...runtime.sandbox.inside.protocol import Ending, Setup

GradeFunction = Callable[[str], JsonValue]
"""One job in, what to say to it out."""


def serve_grader(prepare: Callable[[], GradeFunction]) -> NoReturn:
    """Be a grader's server. `prepare` loads and warms up what forks then share."""

    def ready(_: Setup) -> Job:
        logging.disable(logging.WARNING)
        work = prepare()
        return lambda text: run_jobs(work, text)

    serve(ready)


def run_jobs(work: GradeFunction, text: str) -> Ending:
    """Do a JSON list of jobs; what kills one ends the process, and the pool sees which it was."""
    for job in json.loads(text):
        try:
            said = work(job)
        except MemoryError:
            return "memory"
        except Exception as error:
            # Libraries that meet a model's text fail in any way; the pool reports which and how.
            _say(f"{type(error).__name__}: {error}"[:500].replace("\n", " "))
            return "error"
        _say(_line(said))
    return "ok"


def _line(said: JsonValue) -> str:
    """Its JSON. Half characters, which a model may write and no strict reader takes, become `?`."""
    return json.dumps(said, ensure_ascii=False).encode("utf-8", "replace").decode() + "\n"


def _say(text: str) -> None:
    data = text.encode("utf-8", "replace")
    while data:
        data = data[os.write(1, data) :]
