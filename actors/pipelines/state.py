"""State file of a pipeline run: a line for its beginning, and a line for each step that has ended.

A line is handed to the operating system at once, so it survives the death of the process. A step whose
line the machine lost is taken again: the actions of the data plane may be repeated. A torn last line is
left out.
"""

import errno
import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from ...configs.errors import BadInput, CannotWrite
from ...messages.base import Message
from ...messages.pipelines import PipelineBegun, StepOutput


class PreviousRun(NamedTuple):
    """State of an earlier run."""

    begun: PipelineBegun
    steps: dict[str, StepOutput]
    """The last outcome of each step."""


class StateFile:
    """Appends outcomes."""

    def __init__(self, path: Path, begun: PipelineBegun, kept: Iterable[StepOutput] = ()) -> None:
        """Take the place of an earlier run's file, with these of its outcomes.

        Raises CannotWrite; then the earlier file is still there.
        """
        self._path = path
        fresh = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._stream = fresh.open("wb", buffering=0)
        except OSError as error:
            raise _cannot(path, error) from error
        try:
            for message in (begun, *kept):
                self._write(message)
            fresh.replace(path)
        except OSError as error:
            self.close()
            raise _cannot(path, error) from error

    def append(self, output: StepOutput) -> None:
        """Keep an outcome. Raises CannotWrite."""
        try:
            self._write(output)
        except OSError as error:
            raise _cannot(self._path, error) from error

    def close(self) -> None:
        """Close the file."""
        self._stream.close()

    def _write(self, message: Message) -> None:
        line = message.model_dump_json().encode() + b"\n"
        if self._stream.write(line) != len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def read_state(path: Path) -> PreviousRun:
    """Read the state of an earlier run. Raises BadInput."""
    try:
        lines = path.read_bytes().split(b"\n")[:-1]
    except OSError as error:
        raise BadInput(f"{path}: there is no earlier run to go on with ({error.strerror})") from error
    try:
        begun = PipelineBegun.model_validate_json(lines[0] if lines else b"")
        outputs = [StepOutput.model_validate_json(line) for line in lines[1:]]
    except ValidationError as error:
        found = error.errors(include_url=False)[0]["msg"]
        raise BadInput(f"{path}: no state of a pipeline ({found}); run it without --resume") from error
    return PreviousRun(begun, {output.step: output for output in outputs})


def _cannot(path: Path, error: OSError) -> CannotWrite:
    return CannotWrite(f"{path}: cannot be written ({error.strerror}); free some space, or name another file")
