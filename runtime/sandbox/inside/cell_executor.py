"""The executor of code cells: runs one in a scope, prints its output, says how it ended.

Printed text is the output; where nothing was printed, the value of a last expression is. An error ends it
with one line such as `Error: ZeroDivisionError: division by zero`. Standard library only.
"""

import ast
import io
import os
import sys
from contextlib import suppress
from types import CodeType
from typing import Final, cast

from .protocol import Ending

_MESSAGE_CHARACTERS: Final = 400
_OUT_OF_MEMORY: Final = b"Error: MemoryError"
_SOURCE: Final = "<tool>"


class ForbiddenImport(ImportError):
    """The module is not on the list."""


class StdoutWriter(io.RawIOBase):
    """Standard output, knowing what has gone through it."""

    def __init__(self) -> None:
        self.written = 0
        self.in_line = False
        """Whether the last line is still open."""
        self.discards = False
        """Take what is written to nowhere."""

    def writable(self) -> bool:
        """Always."""
        return True

    def write(self, data: memoryview) -> int:  # type: ignore[override]
        """Write to the pipe; may take less than all."""
        if self.discards:
            return len(data)
        count = os.write(1, data)
        self.written += count
        self.in_line = count > 0 and data[count - 1] != ord("\n")
        return count


class CellExecutor:
    """Runs cells, one after the other, with standard output and standard error as one stream."""

    def __init__(self, forbidden: tuple[type[BaseException], ...] = ()) -> None:
        """`forbidden`: errors that say that the code tried what it must not."""
        self._forbidden = forbidden
        self._raw = StdoutWriter()
        self._output = io.TextIOWrapper(
            io.BufferedWriter(cast(io.FileIO, self._raw)), encoding="utf-8", errors="backslashreplace"
        )

    def run(self, code: str, scope: dict[str, object], value_name: str = "") -> Ending:
        """Run one cell; whatever it raises ends the cell. Its value is kept in the scope as `value_name`."""
        sys.stdout = sys.stderr = self._output
        self._discard_leftover()
        self._raw.written, self._raw.in_line = 0, False
        try:
            self._execute(code, scope, value_name)
            self._output.flush()
        except MemoryError:
            return self._end("memory", _OUT_OF_MEMORY)
        except SystemExit as leaving:
            if leaving.code is None or leaving.code == 0:
                return self._end("ok", b"")
            return self._end("error", describe(leaving))
        except self._forbidden as error:
            return self._end("forbidden", describe(error))
        except BaseException as error:
            return self._end("error", describe(error))
        return "ok"

    def _discard_leftover(self) -> None:
        """Empty the buffers: a thread of an earlier cell may have printed after that cell's last flush."""
        self._raw.discards = True
        with suppress(OSError, ValueError, MemoryError):
            self._output.flush()  # unless that cell has closed or broken its output
        self._raw.discards = False

    def _execute(self, code: str, scope: dict[str, object], value_name: str) -> None:
        body, last = compile_cell(code)
        exec(body, scope)  # noqa: S102 - what this process is for
        if last is None:
            return
        value = eval(last, scope)  # noqa: S307
        self._output.flush()
        if value is None:
            return
        if value_name:
            scope[value_name] = value
        if not self._raw.written:
            self._output.write(repr(value))

    def _end(self, ending: Ending, line: bytes) -> Ending:
        with suppress(OSError, ValueError, MemoryError):
            self._output.flush()  # unless the code has closed or broken its own output
        _write(b"\n" + line if self._raw.in_line and line else line)
        return ending


def compile_cell(code: str) -> tuple[CodeType, CodeType | None]:
    """The statements, and the last one apart if it is an expression."""
    tree = ast.parse(code, _SOURCE)
    last = None
    if tree.body and isinstance(tree.body[-1], ast.Expr):
        expression = ast.Expression(tree.body.pop().value)  # type: ignore[attr-defined]
        last = compile(expression, _SOURCE, "eval", dont_inherit=True)
    return compile(tree, _SOURCE, "exec", dont_inherit=True), last


def describe(error: BaseException) -> bytes:
    """The last line of a traceback; survives whatever the error's own methods do."""
    name = "ImportError" if isinstance(error, ForbiddenImport) else type(error).__name__
    try:
        message = error.msg if isinstance(error, SyntaxError) else str(error)
        line = f"Error: {name}: {message}" if message else f"Error: {name}"
        if len(line) > _MESSAGE_CHARACTERS:
            line = line[:_MESSAGE_CHARACTERS] + "…"
        return line.encode("utf-8", "backslashreplace")
    except BaseException:
        return f"Error: {name}".encode("utf-8", "backslashreplace")


def _write(data: bytes) -> None:
    while data:
        data = data[os.write(1, data) :]
