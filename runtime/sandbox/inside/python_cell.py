"""Python calls: what a child of the python sandbox runs, like one cell of a REPL.

The import list is a courtesy that tells the model what there is; the wall is the kernel's. Standard library
only.
"""

import builtins
import importlib
import warnings
from _sitebuiltins import Quitter
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Final, NoReturn

from .cell_executor import CellExecutor, ForbiddenImport, compile_cell
from .fork_server import Job, serve
from .protocol import Ending, Setup
from .stdlib_importer import StdlibImporter

_OFTEN: Final = (
    "__future__", "_strptime", "bisect", "calendar", "copy", "encodings.ascii", "encodings.latin_1",
    "heapq", "traceback", "types", "typing", "weakref",
)  # fmt: skip
"""What the standard library imports in the middle of a call, and often enough to have it ready."""


class PythonCell:
    """The job of the sandbox: made once in the warm process, called once in each child."""

    def __init__(self, modules: Sequence[str]) -> None:
        self._modules = frozenset(("__future__", *modules))
        self._named = ", ".join(modules)
        self._import = builtins.__import__
        self._executor = CellExecutor(forbidden=(ForbiddenImport, PermissionError))
        leave = {name: Quitter(name, "") for name in ("exit", "quit")}
        self._builtins = {**vars(builtins), **leave, "__import__": self._import_allowed}

    @property
    def builtins(self) -> dict[str, object]:
        """What code finds without importing: Python's own, with an `__import__` that keeps to the list."""
        return self._builtins

    def __call__(self, code: str) -> Ending:
        """Run the code, print its output, say how it ended."""
        return self._executor.run(code, {"__name__": "__main__", "__builtins__": self._builtins})

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


def main() -> NoReturn:
    """Be the python sandbox's server."""
    serve(prepare)
