"""What the tools would say, worked out without any: for the model card and tests.

Only what a well-trained seed model writes is understood; all else is an error, as it mostly is with real
tools.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

from agentfactory.training.tasks import arithmetic
from agentfactory.training.tasks import truth_tables as columns

Call = Callable[[str, str], str]
"""From a tool's name and its input to the observation."""

SYNTAX_ERROR: Final = "Error: SyntaxError"
_SUM: Final = re.compile(r"print\((.+)\)")
_ASSIMILATE: Final = re.compile(r"(file|folder)::([^ ]+) as ([A-Za-z0-9_-]+)")


def calculate(tool: str, code: str) -> str:
    """What python would print for a sum, or for a formula over the columns of a truth table.

    >>> calculate("python", "print(12*3)"), calculate("python", "print((12&10)|5)")
    ('36', '13')
    """
    if tool != "python":
        return f"Error: there is no tool {tool!r}"
    found = _SUM.fullmatch(code)
    if found is None:
        return SYNTAX_ERROR
    joins_columns = any(sign in found[1] for sign in "&|^")
    try:
        return str(columns.evaluate(found[1]) if joins_columns else arithmetic.evaluate(found[1]))
    except ValueError:
        return SYNTAX_ERROR


class SimulatedStore:
    """A store for one errand: what was loaded from the library can be retrieved."""

    def __init__(self, library: Path) -> None:
        self._library = library
        self._blobs: dict[str, str] = {}

    def __call__(self, tool: str, text: str) -> str:
        """Load or fetch."""
        match tool:
            case "assimilate":
                return self._assimilate(text)
            case "retrieve":
                return self._blobs.get(text, f"Error: there is no blob {text!r}")
        return f"Error: there is no tool {tool!r}"

    def _assimilate(self, text: str) -> str:
        found = _ASSIMILATE.fullmatch(text)
        if found is None:
            return "Error: not a source and a tag"
        kind, name, tag = found.groups()
        path = self._library / name
        files = [path] if kind == "file" else sorted(path.glob("*"))
        if not files or not all(file.is_file() for file in files):
            return f"Error: there is no {kind} {name!r}"
        texts = {file.name: file.read_text() for file in files}
        self._blobs |= {f"{tag}/{file}": content.strip() for file, content in texts.items()}
        plural = "" if len(texts) == 1 else "s"
        return f"stored {len(texts)} blob{plural} ({sum(map(len, texts.values()))} bytes) under {tag!r}"
