"""The library: folders of small text files that data tasks are about.

Pure Python, so that actors, graders and tests can read it anywhere. A blob's name is the file's path from
its folder, as `folder::` gives it.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

from ...configs.errors import BadInput

MAX_FILES: Final = 10_000
MAX_BYTES: Final = 1 << 20
"""A file that is larger makes the folder no part of the library."""
MAX_QUOTE: Final = 120
"""Characters of the longest first line that a task may ask for."""


class Document(NamedTuple):
    """One file."""

    sha256: str
    quote: str
    """Its first line, which answers a task that asks for it; empty where it cannot be asked for."""


Library = Mapping[str, Mapping[str, Document]]
"""Documents by folder and by name."""


def read_library(path: Path) -> Library:
    """Read all folders of a library. Raises BadInput where there is nothing to read."""
    found: dict[str, dict[str, Document]] = {}
    count = 0
    for folder in sorted(entry for entry in path.iterdir() if entry.is_dir()):
        files = sorted(file for file in folder.rglob("*") if file.is_file())
        count += len(files)
        if count > MAX_FILES:
            raise BadInput(f"{path}: a library has at most {MAX_FILES} files")
        if files and all(file.stat().st_size <= MAX_BYTES for file in files):
            found[folder.name] = {file.relative_to(folder).as_posix(): _document(file) for file in files}
    if not found:
        raise BadInput(f"{path}: the library has no folder with small files; data tasks need one")
    return found


def _document(file: Path) -> Document:
    data = file.read_bytes()
    try:
        lines = data.decode().strip().splitlines()
    except UnicodeDecodeError:
        lines = []
    quote = lines[0].strip() if lines else ""
    return Document(hashlib.sha256(data).hexdigest(), quote if len(quote) <= MAX_QUOTE else "")
