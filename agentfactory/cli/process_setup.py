"""Setup of a command's own process: output, descriptors, the working directory."""

import codecs
import os
import re
import resource
import sys
from typing import Final

from ..configs.errors import BadInput

FEWEST_FILES: Final = 256
"""Descriptors that an engine, its sandboxes and a data plane need together."""
ENOUGH_FILES: Final = 65_536
ESCAPE: Final = "agentfactory.escape"
_SIZE: Final = re.compile("[1-9][0-9]{0,3}")
"""Columns or lines that a terminal can have."""


def prepare_process() -> None:
    """Make output and descriptors fit for a command. Raises BadInput where the machine does not allow it."""
    codecs.register_error(ESCAPE, _escape)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=ESCAPE)
    for name in ("COLUMNS", "LINES"):  # of no width nothing would be printed; Rich reads ² as digits
        if not _SIZE.fullmatch(os.environ.get(name, "1")):
            del os.environ[name]
    try:
        os.getcwd()
    except OSError as error:
        raise BadInput("the working directory is gone; change to one that is there") from error
    _raise_file_limit()


def _raise_file_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = ENOUGH_FILES if hard == resource.RLIM_INFINITY else min(hard, ENOUGH_FILES)
    if soft == resource.RLIM_INFINITY or soft >= most >= FEWEST_FILES:
        return
    if most > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    if most < FEWEST_FILES:
        raise BadInput(
            f"only {most} files may be open at once here, and {FEWEST_FILES} are needed; "
            "raise the limit (ulimit -n)"
        )


def _escape(error: UnicodeError) -> tuple[str, int]:
    """Escape what an output cannot show as JSON does, so JSON stays JSON, whatever the encoding."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    wide = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass")
    units = (wide[i : i + 2].hex() for i in range(0, len(wide), 2))
    return "".join(f"\\u{unit}" for unit in units), error.end
