"""Base of every error that this project raises on purpose, the errors about input, and their boundary.

At the boundary of a process `boundary` turns an error into a sentence and an exit code; at the boundary of an
HTTP server `cluster.serving.errors.to_api_error` turns it into a status.
"""

import errno
from typing import ClassVar, Final, NamedTuple

INTERRUPTED: Final = 130
"""Exit code of a process that was interrupted: 128 + SIGINT."""
_OF_THE_MACHINE: Final = {
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE),
    *(errno.ENAMETOOLONG, errno.ELOOP, errno.ENOMEM),
}


class AgentFactoryError(Exception):
    """Base of all our errors. The message says what was wrong, where, and what to do."""

    exit_code: ClassVar[int] = 1


class BadInput(AgentFactoryError):
    """Something a person gave us cannot be used. Nothing has been written."""

    exit_code: ClassVar[int] = 2


class SettingsError(BadInput):
    """A preset, a settings file or one of its values is wrong."""


class CannotWrite(AgentFactoryError):
    """The disk is full, or the folder may not be written. What was acknowledged before is safe."""

    exit_code: ClassVar[int] = 2


class ProcessEnd(NamedTuple):
    """Message and exit code of a process that an error ended."""

    sentence: str
    """Empty where there is nobody left to read it."""
    exit_code: int


def boundary(error: BaseException) -> ProcessEnd:
    """The end of a process for an error: ours, an interruption, or the machine's. Raises all others again:
    they are faults, and their traceback is wanted.
    """
    match error:
        case AgentFactoryError():
            return ProcessEnd(str(error), error.exit_code)
        case BrokenPipeError():
            return ProcessEnd("", 1)
        case OSError() if sentence := _sentence_of(error):
            return ProcessEnd(sentence, 2)
        case Exception() | SystemExit():
            raise error
    return ProcessEnd("interrupted", INTERRUPTED)  # Ctrl-C, or the cancellation of the task that worked


def _sentence_of(error: OSError) -> str:
    """One sentence for an error of the machine; empty for one that may be a fault of ours."""
    no_temporary_folder = str(error.strerror).startswith("No usable temporary directory")
    if error.errno not in _OF_THE_MACHINE and not no_temporary_folder:
        return ""
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror}"
