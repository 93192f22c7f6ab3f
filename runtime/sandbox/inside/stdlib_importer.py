"""The standard library in memory: what it imports in the middle of a call, when no file can be opened.

Many functions of the library import what they need when they are called (`Counter.most_common` heapq,
`statistics.mode` collections, `singledispatch` typing). A confined process cannot, so the warm
process reads the sources beforehand, and its forks compile what they come to need. They lie in a file without
a name, which costs a fork nothing, as so much memory of the process's own would. Standard library only.
"""

import importlib
import importlib.machinery
import mmap
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from importlib.abc import InspectLoader, MetaPathFinder
from types import CodeType, ModuleType
from typing import Final, NamedTuple

from .protocol import write_input

_LEFT_OUT: Final = frozenset({
    "__pycache__", "config", "distutils", "ensurepip", "idlelib", "lib-dynload", "lib2to3", "pydoc_data",
    "site-packages", "test", "tests", "tkinter", "turtledemo",
})  # fmt: skip
"""Folders that nothing imports on its own."""
_COMPILED: Final = (
    "_bisect", "_contextvars", "_csv", "_heapq", "_opcode", "_random", "_struct", "array", "binascii", "math",
    "select", "unicodedata", "zlib",
)  # fmt: skip
"""Its parts that may be shared objects, which only the kernel can load, and that have no like in Python, or a
slow one. Few: each costs every fork some of its time."""


class _Source(NamedTuple):
    path: str
    start: int
    """Where its text begins in the archive."""
    end: int
    is_package: bool


class StdlibImporter(MetaPathFinder, InspectLoader):
    """Finds and loads the library's modules from their sources, read when this is made."""

    def __init__(self) -> None:
        text = bytearray()
        self._sources: dict[str, _Source] = {}
        for name, path, is_package in _modules(os.path.dirname(os.__file__)):
            start = len(text)
            with open(path, "rb") as file:
                text += file.read()
            self._sources[name] = _Source(path, start, len(text), is_package)
        archive = write_input(bytes(text) or b" ")
        # Private: what a fork writes there, once it has made that possible, no other fork may read.
        self._text = mmap.mmap(archive, 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ)
        os.close(archive)

    def install(self) -> None:
        """Load what is no source; be asked for everything else before the files are."""
        for name in _COMPILED:
            with suppress(ImportError):
                importlib.import_module(name)
        at = sys.meta_path.index(importlib.machinery.PathFinder)
        sys.meta_path.insert(at, self)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Called by the import system."""
        source = self._sources.get(fullname)
        if source is None:
            return None
        return importlib.machinery.ModuleSpec(
            fullname, self, origin=source.path, is_package=source.is_package
        )

    def get_source(self, fullname: str) -> str | None:
        """The module's text; None where there is none."""
        source = self._sources.get(fullname)
        return None if source is None else self._read(source).decode("utf-8", "replace")

    def get_code(self, fullname: str) -> CodeType | None:
        """What importing it runs."""
        source = self._sources[fullname]
        return self.source_to_code(self._read(source), source.path)

    def _read(self, source: _Source) -> bytes:
        return self._text[source.start : source.end]


def _modules(folder: str, package: str = "") -> Iterator[tuple[str, str, bool]]:
    """The modules in a folder and below it: name, file, and whether it is a package."""
    for entry in os.scandir(folder):
        stem, ending = os.path.splitext(entry.name)
        if ending == ".py" and entry.is_file():
            if stem != "__init__":
                yield package + stem, entry.path, False
            elif package:
                yield package[:-1], entry.path, True
        elif entry.is_dir() and entry.name.isidentifier() and entry.name not in _LEFT_OUT:
            yield from _modules(entry.path, f"{package}{entry.name}.")
