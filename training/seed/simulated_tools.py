"""What the tools would say, worked out without any: for the model card and tests.

Only what a well-trained seed model writes is understood; all else is an error, as it mostly is with real
tools.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

from training.tasks import arithmetic, logic

Call = Callable[[str, str], str]
"""From a tool's name and its input to the observation."""

SYNTAX_ERROR: Final = "Error: SyntaxError"
_VALUE: Final = re.compile(r"((?:[a-z]=[01];)+)print\(bool\(\((.+)\)&1\)\)")
_ROWS: Final = re.compile(r"print\(sum\(\((.+)\)&1 ((?:for [a-z] in\(0,1\))+)\)\)")
_SUM: Final = re.compile(r"print\((.+)\)")
_ASSIMILATE: Final = re.compile(r"(file|folder)::([^ ]+) as ([A-Za-z0-9_-]+)")


def calculate(tool: str, code: str) -> str:
    """What python would print for a sum, the value of a formula, or the number of its true rows.

    >>> calculate("python", "print(12*3)"), calculate("python", "p=1;q=0;print(bool((p&q)&1))")
    ('36', 'False')
    """
    if tool != "python":
        return f"Error: there is no tool {tool!r}"
    try:
        if found := _VALUE.fullmatch(code):
            values = dict(part.split("=") for part in found[1].rstrip(";").split(";"))
            return str(logic.evaluate(found[2], {name: value == "1" for name, value in values.items()}))
        if found := _ROWS.fullmatch(code):
            looped = set(re.findall("for ([a-z])", found[2]))
            idle = looped - set(logic.letters_of(found[1]))
            known = looped >= set(logic.letters_of(found[1]))
            return str(logic.count_rows(found[1]) * 2 ** len(idle)) if known else "Error: NameError"
        found = _SUM.fullmatch(code)
        return str(arithmetic.evaluate(found[1])) if found else SYNTAX_ERROR
    except ValueError:
        return SYNTAX_ERROR


class Shelf:
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
