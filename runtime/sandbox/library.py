"""The standard library in memory: what it imports in the middle of a call, when no file can be opened.

Many functions of the library import what they need when they are called (`Counter.most_common` heapq,
`statistics.mode` collections, `singledispatch` typing). A process behind the walls cannot, so the warm
process reads the sources beforehand, and its forks compile what they come to need. Standard library only.
"""

import importlib
import importlib.machinery
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from importlib.abc import InspectLoader, MetaPathFinder
from types import CodeType, ModuleType
from typing import Final, NamedTuple

_LEFT_OUT: Final = frozenset({
    "__pycache__", "config", "distutils", "ensurepip", "idlelib", "lib-dynload", "lib2to3", "pydoc_data",
    "site-packages", "test", "tests", "tkinter", "turtledemo",
})  # fmt: skip
"""Folders that nothing imports on its own."""
_COMPILED: Final = (
    "_bisect", "_blake2", "_contextvars", "_csv", "_datetime", "_decimal", "_heapq", "_json", "_md5",
    "_opcode", "_pickle", "_queue", "_random", "_sha1", "_sha2", "_sha256", "_sha3", "_sha512", "_statistics",
    "_struct", "_typing", "_zoneinfo", "array", "binascii", "cmath", "math", "select", "unicodedata", "zlib",
)  # fmt: skip
"""Its parts that may be shared objects, which only the kernel can load; those for computing."""


class _Source(NamedTuple):
    path: str
    text: bytes
    is_package: bool


class LibraryInMemory(MetaPathFinder, InspectLoader):
    """Finds and loads the library's modules from their sources, read when this is made."""

    def __init__(self) -> None:
        self._sources = dict(_sources(os.path.dirname(os.__file__)))

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
        return None if source is None else source.text.decode("utf-8", "replace")

    def get_code(self, fullname: str) -> CodeType | None:
        """What importing it runs."""
        source = self._sources[fullname]
        return self.source_to_code(source.text, source.path)


def _sources(folder: str, package: str = "") -> Iterator[tuple[str, _Source]]:
    """The modules in a folder and below it, by name."""
    for entry in os.scandir(folder):
        stem, ending = os.path.splitext(entry.name)
        if ending == ".py" and entry.is_file():
            with open(entry.path, "rb") as file:
                text = file.read()
            if stem != "__init__":
                yield package + stem, _Source(entry.path, text, is_package=False)
            elif package:
                yield package[:-1], _Source(entry.path, text, is_package=True)
        elif entry.is_dir() and entry.name.isidentifier() and entry.name not in _LEFT_OUT:
            yield from _sources(entry.path, f"{package}{entry.name}.")
