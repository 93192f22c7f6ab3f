"""Runs Python like one cell of a REPL: what a child of the python sandbox does.

Printed text is the output; where nothing was printed, the value of a last expression is. An error
ends it with one line such as `Error: ZeroDivisionError: division by zero`. The import list is a
courtesy that tells the model what there is; the wall is the kernel's. Standard library only.
"""

import ast
import builtins
import contextlib
import importlib
import io
import os
import sys
import warnings
from _sitebuiltins import Quitter
from collections.abc import Mapping, Sequence
from types import CodeType, ModuleType
from typing import Final, NoReturn, cast

from .fork_server import Job, serve
from .protocol import Ending, Setup
from .stdlib_importer import StdlibImporter

_OFTEN: Final = (
    "__future__", "_strptime", "bisect", "calendar", "copy", "encodings.ascii", "encodings.latin_1",
    "heapq", "traceback", "types", "typing", "weakref",
)  # fmt: skip
"""What the standard library imports in the middle of a call, and often enough to have it ready."""
_MESSAGE_CHARACTERS: Final = 400
OUT_OF_MEMORY: Final = b"Error: MemoryError"
_SOURCE: Final = "<tool>"


class ForbiddenImport(ImportError):
    """The module is not on the list."""


class StdoutWriter(io.RawIOBase):
    """Standard output, knowing what has gone through it."""

    def __init__(self) -> None:
        self.written = 0
        self.in_line = False
        """Whether the last line is still open."""

    def writable(self) -> bool:
        """Always."""
        return True

    def write(self, data: memoryview) -> int:  # type: ignore[override]
        """Write to the pipe; may take less than all."""
        count = os.write(1, data)
        self.written += count
        self.in_line = count > 0 and data[count - 1] != ord("\n")
        return count


class PythonCell:
    """The job of the sandbox: made once in the warm process, called once in each child."""

    def __init__(self, modules: Sequence[str]) -> None:
        self._modules = frozenset(("__future__", *modules))
        self._named = ", ".join(modules)
        self._import = builtins.__import__
        self._raw = StdoutWriter()
        self._output = io.TextIOWrapper(
            io.BufferedWriter(cast(io.FileIO, self._raw)), encoding="utf-8", errors="backslashreplace"
        )
        leave = {name: Quitter(name, "") for name in ("exit", "quit")}
        self._builtins = {**vars(builtins), **leave, "__import__": self._import_allowed}

    @property
    def builtins(self) -> dict[str, object]:
        """What code finds without importing: Python's own, with an `__import__` that keeps to the list."""
        return self._builtins

    def __call__(self, code: str) -> Ending:
        """Run the code, print its output, say how it ended."""
        sys.stdout = sys.stderr = self._output
        try:
            self._run(code)
            self._output.flush()
        except MemoryError:
            return self._end("memory", OUT_OF_MEMORY)
        except SystemExit as leaving:
            if leaving.code is None or leaving.code == 0:
                return self._end("ok", b"")
            return self._end("error", describe(leaving))
        except (ForbiddenImport, PermissionError) as error:
            return self._end("forbidden", describe(error))
        except BaseException as error:
            return self._end("error", describe(error))
        return "ok"

    def _run(self, code: str) -> None:
        body, last = compile_cell(code)
        scope: dict[str, object] = {"__name__": "__main__", "__builtins__": self._builtins}
        exec(body, scope)  # noqa: S102 - what this process is for
        if last is None:
            return
        value = eval(last, scope)  # noqa: S307
        self._output.flush()
        if value is not None and not self._raw.written:
            self._output.write(repr(value))

    def _end(self, ending: Ending, line: bytes) -> Ending:
        with contextlib.suppress(OSError, ValueError, MemoryError):
            self._output.flush()  # unless the code has closed or broken its own output
        _write(b"\n" + line if self._raw.in_line and line else line)
        return ending

    def _import_allowed(
        self,
        name: str,
        globals: Mapping[str, object] | None = None,
        locals: Mapping[str, object] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        """What `import` calls in the cell; modules that it imports do not pass here.

        The library's own functions in C do, where they import something for themselves (`date.strftime`
        the module time): they say so by a list of names, where a statement gives a tuple or None.
        """
        parts = name.split(".")
        heads = (".".join(parts[:count]) for count in range(1, len(parts) + 1))
        listed = isinstance(fromlist, list) or any(head in self._modules for head in heads)
        if level or not listed:
            raise ForbiddenImport(f"{name} cannot be imported here; there are: {self._named}")
        return self._import(name, globals, locals, fromlist or (), level)


def prepare(setup: Setup) -> Job:
    """Load all that a cell may need. Raises ImportError for a module that does not exist."""
    return prepare_python_cell(setup)


def prepare_python_cell(setup: Setup) -> PythonCell:
    """Load all that a cell may need. Raises ImportError for a module that does not exist."""
    for name in (*_OFTEN, *setup["modules"]):
        importlib.import_module(name)
    StdlibImporter().install()
    warnings.simplefilter("ignore")
    compile_cell("1")
    return PythonCell(setup["modules"])


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


def main() -> NoReturn:
    """Be the python sandbox's server."""
    serve(prepare)
