"""A Python session's own process: runs cell after cell, and keeps what they define.

Consumes, on standard input, `TOKEN LENGTH` and a line's end, then the code; produces its output on
standard output, then a line of NUL, TOKEN and how it ended. Standard library only, and in the sandbox.
"""

import builtins
import io
import os
import sys
from contextlib import suppress
from types import ModuleType
from typing import IO, Final, cast

from runtime.sandbox.cell import OUT_OF_MEMORY, Output, compile_cell, describe
from runtime.sandbox.frames import Ending

MARK: Final = b"\n\0"


class Session:
    """The names of all cells so far."""

    def __init__(self) -> None:
        self._raw = Output()
        self._output = io.TextIOWrapper(
            io.BufferedWriter(cast(io.FileIO, self._raw)), encoding="utf-8", errors="backslashreplace"
        )
        self._module = ModuleType("__main__")
        vars(self._module)["__builtins__"] = builtins
        sys.modules["__main__"] = self._module

    def run(self, code: str) -> Ending:
        """Run one cell, print its output; whatever it raises ends the cell and not the session."""
        sys.stdout = sys.stderr = self._output
        self._raw.written, self._raw.in_line = 0, False
        try:
            self._execute(code)
            self._output.flush()
        except MemoryError:
            return self._end("memory", OUT_OF_MEMORY)
        except SystemExit as leaving:
            return "ok" if not leaving.code else self._end("error", describe(leaving))
        except BaseException as error:
            return self._end("error", describe(error))
        return "ok"

    def _execute(self, code: str) -> None:
        body, last = compile_cell(code)
        scope = vars(self._module)
        exec(body, scope)  # noqa: S102 - what this process is for
        if last is None:
            return
        value = eval(last, scope)  # noqa: S307
        self._output.flush()
        if value is not None:
            scope["_"] = value
            if not self._raw.written:
                self._output.write(repr(value))

    def _end(self, ending: Ending, line: bytes) -> Ending:
        with suppress(OSError, ValueError, MemoryError):
            self._output.flush()
        write_all(b"\n" + line if self._raw.in_line else line)
        return ending


def write_all(data: bytes) -> None:
    """To standard output, past every buffer."""
    while data:
        data = data[os.write(1, data) :]


def main() -> None:
    """Serve until the input ends."""
    requests: IO[bytes] = os.fdopen(os.dup(0), "rb")
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(1, 2)
    session = Session()
    while header := requests.readline():
        token, length = header.split()
        ending = session.run(requests.read(int(length)).decode("utf-8", "surrogatepass"))
        write_all(MARK + token + b" " + ending.encode("ascii") + b"\n")
